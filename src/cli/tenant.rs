use std::{fmt::Write as _, io::IsTerminal as _, path::PathBuf, sync::Arc};

use clap::{Args, ValueEnum};
use serde_json::json;

use super::{House, Output, operator};
use crate::{
    access::permission,
    error::{Context as _, Error, Result},
    isolation::{Conditions, OperatorScope},
    platform::ids::TenantId,
    tenancy::declaration::{Applied, Declaration, DocumentFormat, DryRun},
};

#[derive(Debug, Args)]
pub(super) struct Apply {
    /// The tenant file: .yaml, .yml or .toml.
    #[arg(short, long, value_name = "FILE", required = true)]
    file: Vec<PathBuf>,
    /// Only show the differences.
    #[arg(long)]
    dry_run: bool,
    /// Do not ask.
    #[arg(short, long)]
    yes: bool,
}

#[derive(Debug, Args)]
pub(super) struct Export {
    /// Id or slug.
    tenant: String,
    #[arg(long, value_enum, default_value_t = Format::Yaml)]
    format: Format,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Yaml,
    Toml,
}

impl Apply {
    /// Shows what differs, asks where a person is there to answer, then makes it so. Each file is one change.
    pub(super) async fn run(self, house: &House, output: &Output) -> Result<()> {
        let scope = scope("Mutation", "applyTenant")?;
        let mut done = Vec::new();
        for file in &self.file {
            let named = |error: Error| {
                Error::invalid(
                    format!("{}: {}", file.display(), error.field().unwrap_or("tenant")),
                    error.message().to_owned(),
                )
                .because(error)
            };
            let document = std::fs::read_to_string(file)
                .map_err(|error| Error::invalid(file.display().to_string(), format!("cannot be read: {error}")))?;
            let format = if file.extension().is_some_and(|extension| extension == "toml") {
                DocumentFormat::Toml
            } else {
                DocumentFormat::Yaml
            };
            let declaration = Declaration::parse(&document, format).map_err(named)?;
            let seen = house
                .app
                .tenancy
                .apply(&scope, declaration.clone(), DryRun::Yes, &Conditions::default())
                .await
                .map_err(named)?;
            if !output.is_json() {
                output.text(&describe(file, &seen))?;
            }
            let nothing = seen.tenant.is_some() && seen.differences.is_empty();
            let applied = if self.dry_run || nothing || !self.confirmed(output)? {
                seen
            } else {
                house.app.tenancy.apply(&scope, declaration, DryRun::No, &Conditions::default()).await.map_err(named)?
            };
            if !output.is_json() && !self.dry_run {
                output.text(&applied.tenant.as_ref().map_or_else(
                    || "not applied".to_owned(),
                    |tenant| format!("{} is {} (version {})", tenant.slug, tenant.id, tenant.version),
                ))?;
            }
            done.push(json!({
                "file": file.display().to_string(), "id": applied.tenant.as_ref().map(|tenant| tenant.id),
                "created": applied.created, "differences": applied.differences,
            }));
        }
        if output.is_json() { output.object(&done, "") } else { Ok(()) }
    }

    fn confirmed(&self, output: &Output) -> Result<bool> {
        if self.yes || output.is_json() || !std::io::stdin().is_terminal() {
            return Ok(true);
        }
        output.text("Apply? [y/N]")?;
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer).context("read the answer")?;
        Ok(answer.trim().eq_ignore_ascii_case("y"))
    }
}

impl Export {
    pub(super) async fn run(self, house: &House, output: &Output) -> Result<()> {
        let id = find(house, &self.tenant).await?;
        let permission = permission("Query", "exportTenant").context("the permission to export")?;
        let scope = house.app.tenancy.enter(&Arc::new(operator()), id, permission).await?;
        let tenant = house.app.tenancy.get(&scope).await?;
        let format = match self.format {
            Format::Yaml => DocumentFormat::Yaml,
            Format::Toml => DocumentFormat::Toml,
        };
        let document = Declaration::export(&tenant, format)?;
        output.object(&json!({ "id": id, "document": document }), &document)
    }
}

/// The tenant that a person names by id or slug.
pub(super) async fn find(house: &House, named: &str) -> Result<TenantId> {
    if let Ok(id) = named.parse() {
        return Ok(id);
    }
    let found = house.app.tenancy.find_by_slug(&scope("Query", "tenant")?, named).await?;
    found.ok_or_else(|| Error::invalid("tenant", format!("there is no tenant with the slug {named}")))
}

fn scope(type_name: &str, field: &str) -> Result<OperatorScope> {
    OperatorScope::enter(&Arc::new(operator()), permission(type_name, field).context("a permission of the table")?)
}

fn describe(file: &std::path::Path, applied: &Applied) -> String {
    let mut text = format!("{}: {}", file.display(), if applied.tenant.is_some() { "changes" } else { "a new tenant" });
    if applied.differences.is_empty() {
        text.push_str("\n  nothing differs");
    }
    for difference in &applied.differences {
        let _ = if difference.before.is_null() {
            write!(text, "\n  + {}: {}", difference.path, difference.after.0)
        } else {
            write!(text, "\n  ~ {}: {} -> {}", difference.path, difference.before.0, difference.after.0)
        };
    }
    text
}
