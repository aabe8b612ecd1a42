use serde::Serialize;

use super::Output;
use crate::{
    app::App,
    config::Config,
    error::{Error, Kind, Result},
    isolation::OperatorScope,
    platform::{clock::Clock, db::Place, telemetry::Telemetry},
};

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Check {
    name: &'static str,
    ok: bool,
    /// What was found, and what to do.
    detail: String,
}

/// Looks at everything that a server needs, and goes on after what fails.
pub(super) async fn run(mut config: Config, output: &Output) -> Result<()> {
    config.telemetry.log_filter = "error".to_owned();
    let _telemetry = Telemetry::install(&config.telemetry)?;
    let mut checks = vec![passed("configuration", "every rule holds".to_owned())];
    examine(config, &mut checks).await;
    let text: Vec<_> = checks
        .iter()
        .map(|check| format!("{} {}: {}", if check.ok { "ok  " } else { "FAIL" }, check.name, check.detail))
        .collect();
    output.object(&checks, &text.join("\n"))?;
    if checks.iter().all(|check| check.ok) {
        Ok(())
    } else {
        Err(Error::new(Kind::Unavailable, "something needs to be mended"))
    }
}

async fn examine(config: Config, checks: &mut Vec<Check>) {
    let place = match Place::join(&config).await {
        Ok(place) => place,
        Err(error) => return checks.push(failed("database", &error)),
    };
    checks.push(passed(
        "database",
        if place.owner_url.is_some() { "found, migrations can be applied" } else { "found" }.to_owned(),
    ));
    let app = match App::new(config, Clock::default(), &place) {
        Ok(app) => app,
        Err(error) => return checks.push(failed("master key", &error)),
    };
    checks.push(passed("master key", app.config.master_key_file().display().to_string()));
    match app.check_database().await {
        Ok(()) => checks.push(passed("roles and policies", "PostgreSQL keeps tenants apart".to_owned())),
        Err(error) => checks.push(failed("roles and policies", &error)),
    }
    checks.push(signing_key(&app).await);
    app.db.close().await;
}

async fn signing_key(app: &App) -> Check {
    match app.oauth.load_keys(&OperatorScope::system("doctor")).await {
        Ok(()) => match app.keyring.signing_kid() {
            Some(kid) => passed("signing key", kid),
            None => Check {
                name: "signing key",
                ok: false,
                detail: "there is none yet; the first `tenantry serve` makes it".to_owned(),
            },
        },
        Err(error) => failed("signing key", &error),
    }
}

fn passed(name: &'static str, detail: String) -> Check {
    Check { name, ok: true, detail }
}

fn failed(name: &'static str, error: &Error) -> Check {
    let cause = error.cause().map(|cause| format!(" ({cause})")).unwrap_or_default();
    Check { name, ok: false, detail: format!("{error}{cause}") }
}
