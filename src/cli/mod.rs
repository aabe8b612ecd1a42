//! The command line. Every command opens the same house as the server and calls the same handles, as an administrator:
//! whoever can read the data folder is one.

mod audit;
mod doctor;
mod health;
mod key;
mod operator;
mod output;
mod serve;
mod template;
mod tenant;
mod token;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

use self::output::Output;
use crate::{
    access::Caller,
    app::App,
    config::Config,
    edge,
    error::{Context as _, Error, Result},
    platform::{clock::Clock, db::Place, telemetry::Telemetry},
    provisioning::layers::NatsLayer,
};

/// Tenant control plane: create, configure, supervise and erase the environments of your customers.
///
/// Without any configuration `tenantry serve` starts its own private PostgreSQL under ./data. Every setting is documented in
/// config.toml (`tenantry config`), can be put into a file (--config) and into the environment (TENANTRY__SECTION__KEY).
#[derive(Debug, Parser)]
#[command(name = "tenantry", version, max_term_width = 100)]
struct Cli {
    /// Settings on top of the defaults (TOML).
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print JSON instead of text.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server.
    Serve,
    /// Make roles and schema, and apply pending migrations (needs database.owner_url for an external database).
    Migrate,
    /// Make or change the tenant that a YAML or TOML file names; shows the differences first.
    #[command(after_help = "Example: tenantry apply -f acme.yaml --dry-run")]
    Apply(tenant::Apply),
    /// Write a tenant as a file that `apply` takes.
    Export(tenant::Export),
    /// Print an access token, and nothing else.
    #[command(
        after_help = "Examples:\n  tenantry token --role admin\n  tenantry token --tenant acme --scope \"auth:tenant:read auth:audit:read\" --ttl 15m"
    )]
    Token(token::Token),
    /// List or rotate the keys that sign tokens.
    #[command(subcommand)]
    Key(key::Key),
    /// Invite and manage the people who run the platform.
    #[command(subcommand, after_help = "Example: tenantry operator invite anna@example.com --role admin")]
    Operator(operator::Command),
    /// Register schema templates, and roll them out to all tenants.
    #[command(subcommand)]
    Template(template::Command),
    /// Check the journal's chain of hashes and its signed checkpoints.
    VerifyAudit(audit::VerifyAudit),
    /// Check configuration, database, roles, policies and keys; says what to do.
    Doctor,
    /// Print what a NATS server needs in its configuration to trust the keys of its section `nats`.
    NatsSettings,
    /// Print the GraphQL schema (SDL).
    Schema,
    /// Print the default configuration with its documentation.
    Config,
    /// Ask a running server whether it is ready; for containers.
    Healthcheck,
}

/// Parses the arguments, runs the command, and answers the process's exit code.
pub fn main() -> ExitCode {
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let cli = Cli::parse();
    let output = Output::new(cli.json);
    match run(cli, &output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output.failure(&error);
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli, output: &Output) -> Result<()> {
    match &cli.command {
        Command::Schema => return output.text(&edge::schema::sdl()),
        Command::Config => return output.text(crate::config::DEFAULTS),
        _ => {}
    }
    let config =
        Config::load(cli.config.as_deref()).map_err(|error| Error::invalid("configuration", error.to_string()))?;
    if matches!(cli.command, Command::NatsSettings) {
        let layer = NatsLayer::new(&config.nats, &Clock::default())?;
        return output.text(&layer.server_settings()?);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start the runtime")?;
    runtime.block_on(async {
        match cli.command {
            Command::Serve => serve::run(config, output).await,
            Command::Doctor => doctor::run(config, output).await,
            Command::Healthcheck => health::run(&config).await,
            Command::Migrate => migrate(config, output).await,
            Command::Apply(apply) => apply.run(&open(config).await?, output).await,
            Command::Export(export) => export.run(&open(config).await?, output).await,
            Command::Token(token) => token.run(&open(config).await?, output).await,
            Command::Key(key) => key.run(&open(config).await?, output).await,
            Command::Operator(operator) => operator.run(&open(config).await?, output).await,
            Command::Template(template) => template.run(&open(config).await?, output).await,
            Command::VerifyAudit(verify) => verify.run(&open(config).await?, output).await,
            Command::Schema | Command::Config | Command::NatsSettings => unreachable!("answered above"),
        }
    })
}

/// The house, open for one command; the private database ends with it where this command started it.
struct House {
    app: App,
    place: Place,
    _telemetry: Telemetry,
}

async fn open(mut config: Config) -> Result<House> {
    config.telemetry.log_filter = "warn".to_owned();
    let telemetry = Telemetry::install(&config.telemetry)?;
    let place = Place::join(&config).await?;
    let app = App::new(config, Clock::default(), &place)?;
    app.prepare(&place).await?;
    Ok(House { app, place, _telemetry: telemetry })
}

async fn migrate(config: Config, output: &Output) -> Result<()> {
    let house = open(config).await?;
    if let Some(owner) = house.place.owner() {
        house.app.usage.arrange_days(&owner).await?;
    }
    house.app.db.close().await;
    output.object(&serde_json::json!({ "migrated": true }), "The database has this version's schema.")
}

/// The person at the machine, for the journal.
fn operator() -> Caller {
    let user = nix::unistd::User::from_uid(nix::unistd::Uid::current()).ok().flatten();
    Caller::command_line(&user.map_or_else(|| "unknown".to_owned(), |user| user.name))
}
