use std::{
    fmt::Write as _,
    io::{IsTerminal as _, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{House, Output, operator};
use crate::{
    access::permission,
    error::{Context as _, Error, Result},
    isolation::{Conditions, OperatorScope},
    platform::ids::RolloutId,
    templates::{File, NewRollout, NewTemplate, Progress, RolloutState, Rules, Template},
};

/// How often the progress of a rollout is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);
const WIDTH: i64 = 30;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Register a folder of migrations (V0001__items.sql, V0002__notes.sql …), or what was added to it since.
    Register(Register),
    /// Bring all tenants of a template to a version, wave by wave; running servers do the work.
    Rollout(Rollout),
    /// Show templates, the versions that tenants are at, and the last rollout of each.
    Status,
    /// Let a rollout take no more tenants.
    Pause { rollout: RolloutId },
    /// Let a rollout go on, and try those again that failed.
    Resume { rollout: RolloutId },
    /// End a rollout where it is.
    Cancel { rollout: RolloutId },
}

#[derive(Debug, Args)]
pub(super) struct Register {
    folder: PathBuf,
    #[arg(long)]
    name: String,
    /// A plan whose tenants have it; may be given more than once.
    #[arg(long = "plan", value_name = "PLAN")]
    plans: Vec<String>,
    /// Tenants of all other plans have it.
    #[arg(long)]
    default: bool,
}

#[derive(Debug, Args)]
pub(super) struct Rollout {
    template: String,
    /// The version to bring tenants to; without it, the newest.
    #[arg(long)]
    to: Option<i32>,
    /// Per cent of the tenants that are tried by the end of each wave: 1,10,100.
    #[arg(long, value_delimiter = ',')]
    waves: Vec<f64>,
    /// Tenants at once.
    #[arg(long)]
    concurrency: Option<u16>,
    /// Tenants at once on one cell.
    #[arg(long)]
    per_cell: Option<u16>,
    #[arg(long, value_name = "MS")]
    lock_timeout_ms: Option<u32>,
    /// Per cent of the tenants that may fail.
    #[arg(long)]
    failure_rate: Option<f64>,
    /// Only say what would be done.
    #[arg(long)]
    dry_run: bool,
    /// Show the progress until it ends; fails where it does not end well.
    #[arg(long)]
    watch: bool,
}

impl Command {
    pub(super) async fn run(self, house: &House, output: &Output) -> Result<()> {
        let templates = &house.app.templates;
        let none = Conditions::default();
        let rollout = match self {
            Self::Register(register) => return register.run(house, output).await,
            Self::Rollout(rollout) => return rollout.run(house, output).await,
            Self::Status => return status(house, output).await,
            Self::Pause { rollout } => templates.pause(&scope("Mutation", "pauseRollout")?, rollout, &none).await?,
            Self::Resume { rollout } => templates.resume(&scope("Mutation", "resumeRollout")?, rollout, &none).await?,
            Self::Cancel { rollout } => templates.cancel(&scope("Mutation", "cancelRollout")?, rollout, &none).await?,
        };
        let state = serde_json::to_value(rollout.state).context("write the state")?;
        let text = format!("The rollout is {}.", state.as_str().unwrap_or_default());
        output.object(&json!({ "id": rollout.rollout_id, "state": state }), &text)
    }
}

impl Register {
    async fn run(self, house: &House, output: &Output) -> Result<()> {
        let new = NewTemplate {
            files: read(&self.folder)?,
            name: self.name,
            plans: (!self.plans.is_empty()).then_some(self.plans),
            is_default: self.default.then_some(true),
        };
        let scope = scope("Mutation", "registerSchemaTemplate")?;
        let template = house.app.templates.register(&scope, new, &Conditions::default()).await?;
        let Template { name, version, released, .. } = &template;
        let text = format!("{name} has {version} migrations; new tenants get version {released}.");
        output.object(&json!({ "name": name, "version": version, "released": released }), &text)
    }
}

/// Every `.sql` file of the folder itself.
fn read(folder: &Path) -> Result<Vec<File>> {
    let unreadable = |path: &Path, error: std::io::Error| {
        Error::invalid(path.display().to_string(), format!("cannot be read: {error}"))
    };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|error| unreadable(folder, error))? {
        let path = entry.map_err(|error| unreadable(folder, error))?.path();
        if path.extension().is_some_and(|end| end == "sql") {
            let sql = std::fs::read_to_string(&path).map_err(|error| unreadable(&path, error))?;
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            files.push(File { name, sql });
        }
    }
    Ok(files)
}

impl Rollout {
    async fn run(self, house: &House, output: &Output) -> Result<()> {
        let usual = Rules::default();
        let rules = Rules {
            waves: if self.waves.is_empty() { usual.waves } else { self.waves },
            concurrency: self.concurrency.unwrap_or(usual.concurrency),
            per_cell: self.per_cell.or(self.concurrency).unwrap_or(usual.per_cell),
            lock_timeout_ms: self.lock_timeout_ms.unwrap_or(usual.lock_timeout_ms),
            failure_rate: self.failure_rate.unwrap_or(usual.failure_rate),
            ..usual
        };
        let new = NewRollout { template: self.template, target: self.to, rules };
        let (scope, templates) = (scope("Mutation", "rolloutTemplate")?, &house.app.templates);
        if self.dry_run {
            let planned = templates.plan_rollout(&scope, &new).await?;
            let text = format!(
                "To version {}: {} tenants, in waves of {:?}.",
                planned.target,
                planned.waves.iter().sum::<i64>(),
                planned.waves
            );
            return output.object(&json!({ "to": planned.target, "waves": planned.waves }), &text);
        }
        let rollout = templates.roll_out(&scope, new, &Conditions::default()).await?;
        let id = rollout.rollout_id;
        if !self.watch {
            return output.object(&json!({ "id": id, "to": rollout.target }), &format!("The rollout {id} has begun."));
        }
        let progress = watch(house, output, &scope, id).await?;
        let summary = json!({ "id": id, "state": progress.rollout.state, "applied": progress.total().applied,
            "failed": progress.total().failed, "rate": progress.rate });
        output.object(&summary, &line(&progress))?;
        if progress.rollout.state == RolloutState::Completed {
            return Ok(());
        }
        Err(Error::conflict(format!("the rollout has not come to its end: {}", progress.rollout.reason)))
    }
}

/// Until it does not run any more; a line that changes where a person sees it.
async fn watch(house: &House, output: &Output, scope: &OperatorScope, id: RolloutId) -> Result<Progress> {
    let is_seen = !output.is_json() && std::io::stderr().is_terminal();
    loop {
        let progress = house.app.templates.progress(scope, id).await?;
        if is_seen {
            let mut out = std::io::stderr().lock();
            write!(out, "\r\x1b[K{}", line(&progress)).and_then(|()| out.flush()).context("show the progress")?;
        }
        if progress.rollout.state != RolloutState::Running {
            if is_seen {
                writeln!(std::io::stderr()).context("show the progress")?;
            }
            return Ok(progress);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// `[######......] 120 of 200 tenants, 2 failed, wave 2, 35.1 a second, 3 s left`.
fn line(progress: &Progress) -> String {
    let total = progress.total();
    let done = total.all() - total.pending;
    let full = if total.all() == 0 { WIDTH } else { done * WIDTH / total.all() };
    let bar: String = (0..WIDTH).map(|at| if at < full { '#' } else { '.' }).collect();
    let mut line = format!("[{bar}] {done} of {} tenants", total.all());
    if total.failed > 0 {
        let _ = write!(line, ", {} failed", total.failed); // a String takes all
    }
    let _ = write!(line, ", wave {}, {:.1} a second", progress.rollout.wave + 1, progress.rate);
    if let (RolloutState::Running, true) = (progress.rollout.state, progress.rate > 0.0) {
        let _ = write!(line, ", {:.0} s left", total.pending as f64 / progress.rate);
    }
    line
}

async fn status(house: &House, output: &Output) -> Result<()> {
    let (scope, templates) = (scope("Query", "schemaTemplates")?, &house.app.templates);
    let (mut told, mut text): (Vec<Value>, _) = (Vec::new(), String::new());
    for template in templates.list(&scope).await? {
        let Template { name, version, released, .. } = &template;
        let versions = templates.versions(&scope, name).await?;
        let drifted = templates.drifted(&scope, name, 100).await?.len();
        let _ = writeln!(text, "{name}: version {version}, new tenants get {released}, {drifted} schemas have drifted");
        for (at, tenants) in &versions {
            let _ = writeln!(text, "  version {at}: {tenants} tenants");
        }
        let mut last = Value::Null;
        if let Some(rollout) = templates.rollouts(&scope, name, 1).await?.first() {
            let progress = templates.progress(&scope, rollout.rollout_id).await?;
            let state = serde_json::to_value(rollout.state).context("write the state")?;
            let _ = writeln!(
                text,
                "  rollout {} to {}: {} {}",
                rollout.rollout_id,
                rollout.target,
                state.as_str().unwrap_or_default(),
                rollout.reason
            );
            let _ = writeln!(text, "  {}", line(&progress));
            last = json!({ "id": rollout.rollout_id, "to": rollout.target, "state": state, "reason": rollout.reason });
        }
        let versions: Vec<_> =
            versions.iter().map(|(at, tenants)| json!({ "version": at, "tenants": tenants })).collect();
        told.push(json!({ "name": name, "version": version, "released": released, "drifted": drifted, "tenants": versions, "rollout": last }));
    }
    output.object(&told, if text.is_empty() { "There are no templates." } else { &text })
}

fn scope(type_name: &str, field: &str) -> Result<OperatorScope> {
    OperatorScope::enter(&Arc::new(operator()), permission(type_name, field).context("a permission of the table")?)
}
