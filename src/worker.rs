//! What runs beside requests, on every replica: the listener, and the schedule. Each step is idempotent and safe to run on
//! several replicas at once.

use chrono::{DateTime, TimeDelta, Utc};
use futures::{FutureExt as _, future::BoxFuture};
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
    tasks.spawn(Listener::new(place.direct_url.clone(), app.isolation.hearing().clone()).run(told));
    let listening = app.clone();
    tasks.spawn(async move {
        // One after the other: what was told has been acted upon before the next, so that who asks whether a change was heard
        // gets a true answer.
        while let Some(told) = told_of.recv().await {
            if let Some(heard) = listening.isolation.hearing().sift(told) {
                hear(&listening, heard).await;
            }
        }
    });
    let renewed = app.clone();
    tasks.spawn(async move {
        loop {
            let owner = renewed.tenancy.snapshots().renew_changed().await;
            renewed.tenant_keys.drop_old(owner).await;
        }
    });
    let (scheduled, schedule) = (app.clone(), Schedule::default());
    tasks.spawn(async move { follow(scheduled, schedule).await });
    let verified = app.clone();
    tasks.spawn(async move { verify(verified).await });
    let (rates, stop) = (app.rates.clone(), app.shutdown.clone());
    tasks.spawn(async move { rates.run(stop).await });
    let (provisioning, interval, stop) = (app.provisioning.clone(), app.config.worker.interval, app.shutdown.clone());
    app.background.spawn(async move { provisioning.run(interval, stop).await });
    let (templates, interval, stop) = (app.templates.clone(), app.config.worker.interval, app.shutdown.clone());
    app.background.spawn(async move { templates.run(interval, stop).await });
    let (moves, interval, stop) = (app.moves.clone(), app.config.worker.interval, app.shutdown.clone());
    app.background.spawn(async move { moves.run(interval, stop).await });
    let (usage, interval, stop) = (app.usage.clone(), app.config.worker.interval, app.shutdown.clone());
    app.background.spawn(async move { usage.run(interval, stop).await });
    if let Some(owner) = place.owner() {
        let (usage, stop) = (app.usage.clone(), app.shutdown.clone());
        app.background.spawn(async move { usage.keep_days(owner, stop).await });
    }
    let (usage, rules, stop) = (app.usage.clone(), app.config.usage_stream.clone(), app.shutdown.clone());
    app.background.spawn(async move { usage.follow_stream(rules, stop).await });
    let (analytics, stop) = (app.analytics.clone(), app.shutdown.clone());
    app.background.spawn(async move { analytics.run(stop).await });
    let (probes, stop) = (app.probes.clone(), app.shutdown.clone());
    app.background.spawn(async move { probes.run(stop).await });
    let (external, stop) = (app.external.clone(), app.shutdown.clone());
    tasks.spawn(async move { external.run(stop).await });
    tasks
}

/// Keys and revocations first: they are about who may ask, and the rest wakes those who do. What is not needed for the next answer
/// to be right is done elsewhere: acknowledgements wait for this.
async fn hear(app: &App, heard: Heard) {
    app.oauth.hear(&heard).await;
    app.members.hear(&heard);
    app.sessions.hear(&heard);
    app.impersonations.hear(&heard);
    app.quotas.hear(&heard);
    app.provisioning.hear(&heard);
    app.tenancy.snapshots().hear(&heard);
    app.tenant_keys.hear(&heard);
}

async fn follow(app: App, mut schedule: Schedule) {
    let mut ticks = tokio::time::interval(app.config.worker.interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        schedule.run_due(&app).await;
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

/// One line of the schedule.
struct Task {
    name: &'static str,
    /// By the App's clock; zero: whenever it is looked for.
    every: TimeDelta,
    run: fn(&App) -> BoxFuture<'_, Result<Left>>,
}

/// What a run left behind.
enum Left {
    Nothing,
    /// As much as one run may take was taken: the next one need not wait.
    More,
}

/// What looks only into memory, or must not wait, is looked for each time.
const TASKS: [Task; 29] = [
    Task {
        name: "suspensions",
        every: TimeDelta::zero(),
        run: |app| async { app.tenancy.run_due_suspensions().await.map(|_| Left::Nothing) }.boxed(),
    },
    Task {
        name: "signing keys",
        every: TimeDelta::zero(),
        run: |app| async { app.oauth.rotate_due_keys().await.map(|_| Left::Nothing) }.boxed(),
    },
    Task {
        name: "revocations",
        every: TimeDelta::zero(),
        run: |app| async { app.oauth.complete_revocations().await.map(|()| Left::Nothing) }.boxed(),
    },
    Task {
        name: "checkpoints",
        every: TimeDelta::zero(),
        run: |app| async { app.audit.sign_checkpoints().await.map(|_| Left::Nothing) }.boxed(),
    },
    Task {
        name: "old usage",
        every: TimeDelta::hours(1),
        run: |app| async { Ok(if app.usage.remove_old().await? { Left::More } else { Left::Nothing }) }.boxed(),
    },
    Task {
        name: "old analytics",
        every: TimeDelta::hours(1),
        run: |app| async { Ok(if app.analytics.remove_old().await? { Left::More } else { Left::Nothing }) }.boxed(),
    },
    Task {
        name: "silent days",
        every: TimeDelta::minutes(10),
        run: |app| async { app.usage.mark_days_that_are_over().await.map(|()| Left::Nothing) }.boxed(),
    },
    Task {
        name: "reservations",
        every: TimeDelta::zero(),
        run: |app| async { app.quotas.expire_due().await.map(|_| Left::Nothing) }.boxed(),
    },
    Task {
        name: "leases",
        every: TimeDelta::zero(),
        run: |app| async { app.quotas.close_due_leases().await.map(|()| Left::Nothing) }.boxed(),
    },
    Task {
        name: "boosts",
        every: TimeDelta::zero(),
        run: |app| async { app.quotas.end_due_boosts().await.map(|()| Left::Nothing) }.boxed(),
    },
    Task {
        name: "burnt grants",
        every: TimeDelta::zero(),
        run: |app| async { app.quotas.settle_due().await.map(|()| Left::Nothing) }.boxed(),
    },
    Task {
        name: "grants",
        every: TimeDelta::zero(),
        run: |app| async { app.entitlements.end_due_grants().await.map(|()| Left::Nothing) }.boxed(),
    },
    Task {
        name: "seats",
        every: TimeDelta::zero(),
        run: |app| async { app.members.settle_left_seats().await.map(|()| Left::Nothing) }.boxed(),
    },
    Task {
        name: "old links",
        every: TimeDelta::minutes(10),
        run: |app| {
            async { app.members.purge_links().await.map(|purged| if purged == 0 { Left::Nothing } else { Left::More }) }
                .boxed()
        },
    },
    Task {
        name: "old sessions",
        every: TimeDelta::minutes(10),
        run: |app| {
            async { app.sessions.purge().await.map(|purged| if purged == 0 { Left::Nothing } else { Left::More }) }
                .boxed()
        },
    },
    Task {
        name: "directories",
        every: TimeDelta::seconds(10),
        run: |app| async { app.directory.sync_due().await.map(|_| Left::Nothing) }.boxed(),
    },
    Task {
        name: "cells",
        every: TimeDelta::zero(), // by `cells.check_interval`
        run: |app| async { check_cells(app).await.map(|()| Left::Nothing) }.boxed(),
    },
    Task {
        name: "growth of cells",
        every: TimeDelta::hours(1),
        run: |app| async { app.cells.note_growth().await.map(|()| Left::Nothing) }.boxed(),
    },
    Task {
        name: "tenants without an environment",
        every: TimeDelta::hours(1),
        run: |app| {
            async { app.provisioning.sweep().await.map(|found| if found == 0 { Left::Nothing } else { Left::More }) }
                .boxed()
        },
    },
    Task {
        name: "credentials",
        every: TimeDelta::seconds(10),
        run: |app| async { app.provisioning.rotate_due().await.map(|_| Left::Nothing) }.boxed(),
    },
    Task {
        name: "ended credentials",
        every: TimeDelta::seconds(10),
        run: |app| async { app.provisioning.retire_due().await.map(|_| Left::Nothing) }.boxed(),
    },
    Task {
        name: "servers of layers",
        every: TimeDelta::seconds(15),
        run: |app| async { app.provisioning.check_layers().await.map(|()| Left::Nothing) }.boxed(),
    },
    Task {
        name: "refusals",
        every: TimeDelta::seconds(10),
        run: |app| async { app.provisioning.collect_denials().await.map(|_| Left::Nothing) }.boxed(),
    },
    Task {
        name: "tenant keys",
        every: TimeDelta::zero(),
        run: |app| {
            async { app.tenant_keys.run_due().await.map(|more| if more { Left::More } else { Left::Nothing }) }.boxed()
        },
    },
    Task {
        name: "drift of tenant keys",
        every: TimeDelta::minutes(1),
        run: |app| async { app.tenant_keys.notice_drift().await.map(|()| Left::Nothing) }.boxed(),
    },
    Task {
        name: "ended reservations",
        every: TimeDelta::minutes(1),
        run: |app| {
            async { app.quotas.purge_ended().await.map(|purged| if purged == 0 { Left::Nothing } else { Left::More }) }
                .boxed()
        },
    },
    Task {
        name: "impersonations",
        every: TimeDelta::minutes(1),
        run: |app| {
            async { app.impersonations.tidy().await.map(|purged| if purged == 0 { Left::Nothing } else { Left::More }) }
                .boxed()
        },
    },
    Task {
        name: "ends of certificates",
        every: TimeDelta::minutes(10),
        run: |app| async { app.pki.tell_of_ends().await.map(|_| Left::Nothing) }.boxed(),
    },
    Task {
        name: "purge",
        every: TimeDelta::minutes(1),
        run: |app| {
            async {
                let purged = app.oauth.purge_expired().await?;
                Ok(if purged.is_cut_short { Left::More } else { Left::Nothing })
            }
            .boxed()
        },
    },
];

/// When each task of a replica ran last. Tests have one of their own, move the clock, and run what is due.
#[derive(Debug, Default)]
pub struct Schedule {
    last: [Option<DateTime<Utc>>; TASKS.len()],
}

impl Schedule {
    /// Everything that is due now, once. A task that fails waits for its next time.
    pub async fn run_due(&mut self, app: &App) {
        for (task, last) in TASKS.iter().zip(&mut self.last) {
            let now = app.clock.now();
            if !is_due(*last, task.every, now) {
                continue;
            }
            let done = (task.run)(app).await;
            *last = if matches!(done, Ok(Left::More)) { None } else { Some(now) };
            finished(task.name, done.map(drop));
        }
    }
}

/// A clock that was set back must not stop what waits for it.
fn is_due(last: Option<DateTime<Utc>>, every: TimeDelta, now: DateTime<Utc>) -> bool {
    last.is_none_or(|last| now - last >= every || now < last)
}

/// What waits for a cell that is back goes on at once.
async fn check_cells(app: &App) -> Result<()> {
    if !app.provisioning.is_on() || !app.cells.is_check_due() {
        return Ok(());
    }
    let changes = app.cells.check_all().await?;
    app.provisioning.cells_changed(&changes).await
}

fn finished(task: &'static str, done: Result<()>) {
    let outcome = if done.is_ok() { "ok" } else { "error" };
    metrics::counter!("tenantry_scheduled_runs_total", "task" => task, "outcome" => outcome).increment(1);
    if let Err(error) = done {
        tracing::warn!(task, %error, cause = error.cause().map(tracing::field::display), "a scheduled task failed; it is tried again");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_is_due_at_first_after_its_time_and_when_the_clock_goes_back() {
        let (now, minute) = (DateTime::<Utc>::UNIX_EPOCH, TimeDelta::minutes(1));
        assert!(is_due(None, minute, now));
        assert!(!is_due(Some(now), minute, now + TimeDelta::seconds(59)));
        assert!(is_due(Some(now), minute, now + minute));
        assert!(is_due(Some(now), minute, now - TimeDelta::seconds(1)));
        assert!(is_due(Some(now), TimeDelta::zero(), now));
    }
}
