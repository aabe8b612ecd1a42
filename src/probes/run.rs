//! When the probes run, in which order, and who is told.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    Probes, Round, Standing,
    report::{LayerProbe, OpenThing, OpenThings, ProbesReport},
    store::{self, Holder},
};
use crate::{
    cells::CellState,
    error::{Error, Result},
    isolation::{OperatorScope, Outcome, worst},
    journal::Entry,
    platform::ids::TenantId,
    provisioning::{Layer, Probed},
};

/// How often a server looks whether it is time, and what others found.
const LOOK: Duration = Duration::from_secs(15);
/// How long a server that died keeps others from it, beside the time that the layers of one place may take.
const LEASE: TimeDelta = TimeDelta::minutes(5);
/// Of what was let through, how much an entry of the journal tells.
const TOLD: usize = 20;

impl Probes {
    /// Runs the probes when they are due, until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            if let Err(error) = self.run_due().await {
                tracing::warn!(%error, cause = error.cause().map(tracing::field::display), "the isolation probes did not run; it is tried again");
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    /// Whether they ran: not before `isolation.probe_interval` has passed, nor while another server runs them.
    pub async fn run_due(&self) -> Result<bool> {
        self.look().await?;
        let every = TimeDelta::from_std(self.0.rules.probe_interval).unwrap_or(TimeDelta::MAX);
        if every.is_zero() {
            return Ok(false);
        }
        let scope = OperatorScope::system("isolation-probes");
        let Some(seed) = self.take(&scope, Some(self.0.isolation.clock().now() - every)).await? else {
            return Ok(false);
        };
        self.run_all(&scope, seed, &[]).await?;
        Ok(true)
    }

    /// Runs them now, on an operator's word, to their end whatever becomes of who asked.
    ///
    /// Errors: `conflict` while they run already.
    pub async fn verify(&self, scope: &OperatorScope) -> Result<ProbesReport> {
        let Some(seed) = self.take(scope, None).await? else {
            return Err(Error::conflict("the probes are running; their result is in isolationReport soon"));
        };
        let (probes, scope) = (self.clone(), scope.clone());
        let running = tokio::spawn(async move {
            probes.run_all(&scope, seed, &["IsolationVerified"]).await?;
            probes.last().await
        });
        running.await.map_err(Error::internal)?
    }

    /// What the last run came to.
    pub async fn last(&self) -> Result<ProbesReport> {
        let tx = self.0.isolation.observe_platform().await?;
        let run = store::run(&tx, &self.0.region).await?;
        let layers = store::probes(&tx, &self.0.region).await?;
        tx.end().await?;
        let Some(run) = run else { return Ok(ProbesReport { stale: true, ..ProbesReport::default() }) };
        let valid = TimeDelta::from_std(self.0.rules.probe_validity).unwrap_or(TimeDelta::MAX);
        let now = self.0.isolation.clock().now();
        let stale = run.ended_at.is_none_or(|at| now - at > valid);
        let open = run.open.0.into_iter().collect();
        Ok(ProbesReport { ran_at: run.ended_at, outcome: run.outcome, findings: run.findings, stale, layers, open })
    }

    /// What another server may have found.
    async fn look(&self) -> Result<()> {
        let tx = self.0.isolation.observe_platform().await?;
        let run = store::run(&tx, &self.0.region).await?;
        let not_shown = store::not_shown(&tx, &self.0.region).await?;
        tx.end().await?;
        self.note(Standing { open: run.map(|run| run.open.layers()).unwrap_or_default(), not_shown });
        Ok(())
    }

    fn holder(&self, now: DateTime<Utc>) -> Holder<'_> {
        let patience = TimeDelta::from_std(self.0.patience).unwrap_or(LEASE);
        Holder { region: &self.0.region, name: &self.0.holder, until: now + LEASE + patience * 32 }
    }

    /// Takes the lease; answers the seed, or nothing while another has it or, where `due` is given, they ran since.
    pub async fn take(&self, scope: &OperatorScope, due: Option<DateTime<Utc>>) -> Result<Option<Uuid>> {
        let tx = self.0.isolation.begin_operator(scope).await?;
        let now = tx.stamp().at;
        let taken = store::take(&tx, self.holder(now), now, due).await?;
        tx.commit_unrecorded("a lease").await?;
        Ok(taken.map(|run| run.seed))
    }

    /// Everything, place by place. A place that is down holds up none but itself.
    async fn run_all(&self, scope: &OperatorScope, seed: Uuid, entries: &[&'static str]) -> Result<()> {
        let ran = self.run_each(scope, seed, entries).await;
        if ran.is_err() {
            let tx = self.0.isolation.begin_operator(&OperatorScope::system("isolation-probes")).await?;
            store::release(&tx, self.holder(tx.stamp().at)).await?;
            tx.commit_unrecorded("a lease").await?;
        }
        ran
    }

    async fn run_each(&self, scope: &OperatorScope, seed: Uuid, entries: &[&'static str]) -> Result<()> {
        let findings = self.0.isolation.verify(&OperatorScope::reading("isolation-probes")).await?;
        let mut probes = vec![self.probe_registry(seed).await];
        for mut round in self.rounds(seed).await? {
            round.open().await;
            probes.extend(round.attempt().await);
            if let Err(error) = round.close().await {
                tracing::warn!(%error, "what was made up for the isolation probes cannot be removed; the next run does it");
            }
            let tx = self.0.isolation.begin_operator(&OperatorScope::system("isolation-probes")).await?;
            let holds = store::hold(&tx, self.holder(tx.stamp().at)).await?;
            tx.commit_unrecorded("a lease").await?;
            if !holds {
                return Err(Error::new(crate::error::Kind::Unavailable, "another server runs the probes by now"));
            }
        }
        self.record(scope, (findings.len() as i64, probes), entries).await
    }

    /// Where there is something to try: each cell that is in use here, and all that is beside cells.
    pub async fn rounds(&self, seed: Uuid) -> Result<Vec<Round>> {
        let now = self.0.isolation.clock().now();
        let layers = |places: &[Probed]| -> Vec<Arc<dyn Layer>> {
            self.0.provisioning.layers().iter().filter(|layer| places.contains(&layer.probed())).cloned().collect()
        };
        let (in_cells, beside) = (layers(&[Probed::InCells]), layers(&[Probed::ByItself, Probed::Unmade]));
        let mut rounds = Vec::new();
        if !in_cells.is_empty() {
            for cell in self.0.cells.all().await? {
                if cell.state != CellState::Retired && self.0.cells.is_here(&cell) {
                    rounds.push(Round::new(seed, (Some(cell), in_cells.clone()), self.0.patience, now));
                }
            }
        }
        if !beside.is_empty() {
            rounds.push(Round::new(seed, (None, beside), self.0.patience, now));
        }
        Ok(rounds)
    }

    async fn probe_registry(&self, seed: Uuid) -> LayerProbe {
        let now = self.0.isolation.clock().now();
        let [intruder, victim] = [1_u128, 2].map(|side| TenantId::of_probe((seed.as_u128() ^ side).to_be_bytes()));
        match self.0.isolation.try_rows(intruder, victim).await {
            Ok(attempts) => LayerProbe::of_registry(attempts, now),
            Err(error) => LayerProbe { reason: error.message().to_owned(), ..LayerProbe::of_registry(Vec::new(), now) },
        }
    }

    /// Keeps what came out, and says it loudly where something was let through.
    pub async fn record(
        &self,
        scope: &OperatorScope,
        (findings, probes): (i64, Vec<LayerProbe>),
        entries: &[&'static str],
    ) -> Result<()> {
        for probe in &probes {
            let outcome = format!("{:?}", probe.outcome);
            metrics::counter!("tenantry_isolation_probes_total", "layer" => probe.layer.clone(), "outcome" => outcome)
                .increment(1);
        }
        let outcome = worst(probes.iter().map(|probe| probe.outcome));
        let tx = self.0.isolation.begin_operator(scope).await?;
        let now = tx.stamp().at;
        let was = store::run(&tx, &self.0.region).await?.map(|run| run.open).unwrap_or_default();
        let open = was.after(&probes);
        if !store::end(&tx, self.holder(now), (outcome, findings, &open), &probes, now).await? {
            tx.rollback().await?;
            return Err(Error::new(crate::error::Kind::Unavailable, "another server runs the probes by now"));
        }
        let told = json!({ "outcome": outcome, "findings": findings, "layers": probes.len() });
        let mut entries: Vec<_> = entries
            .iter()
            .map(|event| Entry { after: Some(told.clone()), ..Entry::new(event, "isolation", &self.0.region) })
            .collect();
        tell_open(&probes);
        entries.extend(self.changed(&was, &open));
        match entries.is_empty() {
            true => tx.commit_unrecorded("what was tried is kept as it is").await?,
            false => tx.commit(entries).await?,
        }
        let unshown = probes.into_iter().filter(|probe| probe.outcome == Outcome::Inconclusive);
        self.note(Standing { open: open.layers(), not_shown: unshown.map(|probe| probe.layer).collect() });
        Ok(())
    }

    /// An entry where something else is open than after the run before.
    fn changed(&self, was: &OpenThings, open: &OpenThings) -> Option<Entry> {
        if was == open {
            return None;
        }
        let event = if open.0.is_empty() { "IsolationRestored" } else { "IsolationBreached" };
        let told = |one: &OpenThing| json!({ "layer": one.layer, "cell": one.cell, "what": one.what });
        let through: Vec<_> = open.0.iter().take(TOLD).map(told).collect();
        let after = json!({ "count": open.0.len(), "letThrough": through });
        Some(Entry { after: Some(after), ..Entry::new(event, "isolation", &self.0.region) })
    }
}

/// In the log and in a metric, in each run: it is loud for as long as it is open.
fn tell_open(probes: &[LayerProbe]) {
    for probe in probes {
        for attempt in probe.let_through() {
            metrics::counter!("tenantry_isolation_breaches_total").increment(1);
            tracing::error!(
                layer = probe.layer,
                cell = probe.cell,
                what = attempt.what,
                "one tenant reaches another's things; `isolationReport` says where"
            );
        }
    }
}
