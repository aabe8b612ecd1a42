//! Registering a template, and what comes after its last migration.

use serde_json::json;

use super::{
    Templates,
    migration::{self, File, Migration},
    store,
    template::{Plans, Template},
};
use crate::{
    error::{Error, Result},
    isolation::{Conditions, OperatorScope},
    journal::Entry,
};

/// A template as somebody hands it in.
#[derive(Clone, Debug)]
pub struct NewTemplate {
    /// 1 to 63 small letters, digits or '-', from a letter on.
    pub name: String,
    /// All of them, those that are registered included.
    pub files: Vec<File>,
    /// Tenants of these plans have it; none: as it is.
    pub plans: Option<Vec<String>>,
    /// Whether all other tenants have it; none: as it is, and at first where there is no other template.
    pub is_default: Option<bool>,
}

impl Templates {
    /// Registers a template, or appends to one. What is registered never changes: tenants have it.
    ///
    /// Errors: `invalid_input` with file, line and rule; `conflict` where a registered migration is another or missing.
    pub async fn register(&self, scope: &OperatorScope, new: NewTemplate, conditions: &Conditions) -> Result<Template> {
        check_name(&new.name)?;
        let migrations = migration::read(new.files)?;
        let tx = self.0.isolation.begin_operator(scope).await?;
        if let Some(first) = tx.first_answer(conditions).await? {
            tx.commit_unrecorded("asked again").await?;
            return Ok(first);
        }
        let now = tx.stamp().at;
        let (others, known) = (store::all(&tx).await?, store::lock(&tx, &new.name).await?);
        let registered = match &known {
            Some(known) => store::migrations(&tx, &new.name, 1, known.version).await?,
            None => Vec::new(),
        };
        let added = appended(&registered, &migrations)?;
        let version = migrations.last().map_or(0, |last| last.version);
        let plans =
            new.plans.map(Plans).or_else(|| known.as_ref().map(|known| known.plans.clone())).unwrap_or_default();
        let is_default =
            new.is_default.unwrap_or_else(|| known.as_ref().map_or(others.is_empty(), |known| known.is_default));
        let template = Template {
            released: known.as_ref().map_or(version, |known| known.released),
            created_at: known.as_ref().map_or(now, |known| known.created_at),
            name: new.name,
            version,
            plans,
            is_default,
            updated_at: now,
        };
        if let Some(plan) = store::unknown_plan(&tx, &template.plans).await? {
            return Err(Error::invalid("plans", format!("there is no plan {plan}")));
        }
        if let Some(other) = store::other_of(&tx, &template.name, &template.plans).await? {
            return Err(Error::conflict(format!("the template {other} is for one of these plans already")).at("plans"));
        }
        let same = |known: &Template| Template { updated_at: known.updated_at, ..template.clone() } == *known;
        if known.as_ref().is_some_and(same) {
            tx.keep_answer(conditions, &known).await?;
            tx.commit_unrecorded("nothing is new").await?;
            return known.ok_or_else(Error::not_found);
        }
        store::save(&tx, &template).await?;
        store::add_migrations(&tx, &template.name, added).await?;
        tx.keep_answer(conditions, &template).await?;
        let added: Vec<_> = added.iter().map(|one| json!({ "file": one.name, "checksum": one.checksum })).collect();
        let entry = Entry::new("SchemaTemplateRegistered", "template", &template.name);
        let mut entry = entry.change(known.as_ref(), Some(&template))?;
        if let Some(after) = &mut entry.after {
            after["added"] = json!(added);
        }
        tx.commit([entry]).await?;
        Ok(template)
    }
}

fn check_name(name: &str) -> Result<()> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let begins = name.bytes().next().is_some_and(|first| first.is_ascii_lowercase());
    if begins && name.len() <= 63 && name.bytes().all(plain) {
        return Ok(());
    }
    Err(Error::invalid("name", "must be 1 to 63 small letters, digits or '-', from a letter on"))
}

/// What of `all` comes after `registered`, which must be the beginning of it.
fn appended<'a>(registered: &[Migration], all: &'a [Migration]) -> Result<&'a [Migration]> {
    for (position, known) in registered.iter().enumerate() {
        let Some(file) = all.get(position) else {
            let rule = "is registered and missing here; a template only ever grows";
            return Err(Error::conflict(rule).at(known.name.clone()));
        };
        if file.checksum != known.checksum || file.name != known.name {
            let rule =
                format!("differs from {}, which is registered and never changes; add a migration instead", known.name);
            return Err(Error::conflict(rule).at(file.name.clone()));
        }
    }
    Ok(&all[registered.len()..])
}
