//! What runs beside requests, on every replica: the listener, and the schedule. Each step is idempotent and safe to run on
//! several replicas at once.

use tokio::{sync::mpsc, task::JoinSet};

use crate::{
    app::App,
    error::Result,
    isolation::OperatorScope,
    platform::db::{Heard, Listener, Place},
};

/// Starts everything; it runs until the returned set is dropped or aborted.
pub fn start(app: &App, place: &Place) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let (told, mut told_of) = mpsc::channel(1024);
    tasks.spawn(Listener::new(place.direct_url.clone()).run(told));
    let listening = app.clone();
    tasks.spawn(async move {
        while let Some(heard) = told_of.recv().await {
            hear(&listening, heard).await;
        }
    });
    let scheduled = app.clone();
    tasks.spawn(async move { schedule(scheduled).await });
    let verified = app.clone();
    tasks.spawn(async move { verify(verified).await });
    let (external, stop) = (app.external.clone(), app.shutdown.clone());
    tasks.spawn(async move { external.run(stop).await });
    tasks
}

/// Keys and revocations first: they are about who may ask, and the rest wakes those who do.
async fn hear(app: &App, heard: Heard) {
    app.oauth.hear(&heard).await;
    app.tenancy.snapshots().hear(heard).await;
}

async fn schedule(app: App) {
    let mut ticks = tokio::time::interval(app.config.worker.interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        run_due(&app).await;
    }
}

/// Looks again and again whether the database still keeps tenants apart; what is found needs a person.
async fn verify(app: App) {
    let mut ticks = tokio::time::interval(app.config.isolation.verify_interval);
    ticks.tick().await; // start-up has looked already
    loop {
        ticks.tick().await;
        match app.isolation.verify(&OperatorScope::system("isolation-verifier")).await {
            Ok(findings) => {
                metrics::gauge!("tenantry_isolation_findings").set(findings.len() as f64);
                for found in findings {
                    tracing::error!(
                        rule = found.rule,
                        object = found.object,
                        remedy = found.remedy,
                        "{}",
                        found.problem
                    );
                }
            }
            Err(error) => finished("isolation verifier", Err(error)),
        }
    }
}

/// Everything that is due now, once. Tests move the clock and call it.
pub async fn run_due(app: &App) {
    finished("suspensions", app.tenancy.run_due_suspensions().await.map(drop));
    finished("signing keys", app.oauth.rotate_due_keys().await.map(drop));
    finished("checkpoints", app.audit.sign_checkpoints().await.map(drop));
    finished("purge", app.oauth.purge_expired().await.map(drop));
}

fn finished(task: &'static str, done: Result<()>) {
    let outcome = if done.is_ok() { "ok" } else { "error" };
    metrics::counter!("tenantry_scheduled_runs_total", "task" => task, "outcome" => outcome).increment(1);
    if let Err(error) = done {
        tracing::warn!(task, %error, cause = error.cause().map(tracing::field::display), "a scheduled task failed; it is tried again");
    }
}
