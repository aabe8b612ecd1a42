//! One layer of one tenant: what is to be done, done, and written down.

use std::sync::Arc;

use serde_json::Value;

use super::{
    Provisioning, journal,
    layer::{Availability, Ensured, Layer, Removed, Site, Verdict},
    state::{Observed, Record, Task, Wanted, next_task, pause},
    store::{self, Lease},
    work::{chance, fresh},
};
use crate::{
    error::{Error, Kind, Result},
    journal::Entry,
    tenancy::Tenant,
};

/// A layer, and whose turn it is.
pub(super) struct Step<'a> {
    pub(super) lease: &'a Lease,
    pub(super) layer: &'a Arc<dyn Layer>,
    pub(super) position: usize,
    pub(super) is_essential: bool,
    pub(super) tenant: &'a Arc<Tenant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The layer is as it is wanted, for now.
    Done,
    Waiting,
}

/// What `ensure` came to.
enum Made {
    InPlace {
        ensured: Ensured,
        /// What is different and stays so.
        told: Vec<String>,
    },
    NotHere(String),
}

impl Provisioning {
    /// Does for one layer what its record says is to be done.
    pub(super) async fn step(&self, step: &Step<'_>) -> Result<Outcome> {
        let known = self.record(step).await?;
        let now = self.0.isolation.clock().now();
        let task = next_task(step.lease.wanted, known.as_ref(), now, self.verify_every());
        let is_new = known.is_none();
        let mut record = known.unwrap_or_else(|| fresh(step.layer.name(), step.lease.wanted, now));
        record.wanted = step.lease.wanted;
        // As the configuration has them now.
        record.position = i16::try_from(step.position).unwrap_or(i16::MAX);
        record.essential = step.is_essential;
        match task {
            Task::Nothing => Ok(Outcome::Done),
            Task::Wait(_) => Ok(Outcome::Waiting),
            Task::Verify => self.verify(step, record).await,
            Task::Ensure => {
                if is_new {
                    self.begin_layer(step, &record).await?;
                }
                self.ensure(step, record).await
            }
            Task::Remove => self.remove_layer(step, record).await,
        }
    }

    async fn record(&self, step: &Step<'_>) -> Result<Option<Record>> {
        let tx = self.0.isolation.observe(step.tenant.id).await?;
        let records = store::records(&tx, step.tenant.id).await?;
        tx.end().await?;
        Ok(records.into_iter().find(|record| record.layer == step.layer.name()))
    }

    async fn begin_layer(&self, step: &Step<'_>, record: &Record) -> Result<()> {
        let mut entries = Vec::new();
        if step.position == 0 {
            entries.push(journal::requested(step.tenant.id, &self.0.signature));
        }
        entries.push(journal::started(step.layer.name()));
        self.write(step.lease, record, entries).await
    }

    async fn ensure(&self, step: &Step<'_>, record: Record) -> Result<Outcome> {
        let made = self.within_time(async {
            let site = self.site(step.tenant, Some(&record)).await?;
            if let Availability::NotHere(why) = step.layer.availability(&site).await? {
                return Ok(Made::NotHere(why));
            }
            let ensured = step.layer.ensure(&site).await?;
            self.reinstate(&site, step.layer).await?;
            // The layer `placement` has given it one by now.
            let site = self.site(step.tenant, Some(&record)).await?;
            match step.layer.verify(&site).await? {
                Verdict::InPlace => Ok(Made::InPlace { ensured, told: Vec::new() }),
                Verdict::Told(told) => Ok(Made::InPlace { ensured, told }),
                Verdict::Drifted(left) => Err(still_different(&left)),
            }
        });
        match made.await {
            Ok(Made::InPlace { ensured, told }) => self.note_ready(step, record, (ensured, &told)).await,
            Ok(Made::NotHere(why)) => self.note_unavailable(step, record, &why).await,
            Err(error) => self.note_failure(step, record, &error).await,
        }
    }

    async fn verify(&self, step: &Step<'_>, mut record: Record) -> Result<Outcome> {
        let verdict = self.within_time(async {
            let site = self.site(step.tenant, Some(&record)).await?;
            step.layer.verify(&site).await
        });
        match verdict.await {
            Ok(Verdict::InPlace) => self.note_verified(step, record, &[]).await,
            Ok(Verdict::Told(differences)) => self.note_verified(step, record, &differences).await,
            Ok(Verdict::Drifted(differences)) => {
                metrics::counter!("tenantry_layer_drifts_total", "layer" => step.layer.name()).increment(1);
                tracing::warn!(tenant = %step.tenant.id, layer = step.layer.name(), ?differences, "a layer is not as it should be; it is mended");
                self.turn(&mut record, Observed::Drifted);
                self.write(step.lease, &record, vec![journal::drifted(step.layer.name(), &differences)]).await?;
                self.ensure(step, record).await
            }
            Err(error) => self.note_failure(step, record, &error).await,
        }
    }

    pub(super) async fn remove_layer(&self, step: &Step<'_>, mut record: Record) -> Result<Outcome> {
        let removed = self.within_time(async {
            let site = self.site(step.tenant, Some(&record)).await?;
            step.layer.remove(&site).await
        });
        match removed.await {
            Ok(removed) => {
                let total = added(&record.facts["removed"], &removed);
                record.facts = serde_json::json!({ "removed": total });
                self.turn(&mut record, Observed::Absent);
                settle_record(&mut record);
                record.verified_at = None;
                self.write(step.lease, &record, vec![journal::removed(step.layer.name(), &removed)]).await?;
                Ok(Outcome::Done)
            }
            Err(error) => self.note_failure(step, record, &error).await,
        }
    }

    /// There, with what is different and stays so: that is told when it is news.
    async fn note_verified(&self, step: &Step<'_>, mut record: Record, told: &[String]) -> Result<Outcome> {
        let entry = tell(&mut record, step.layer.name(), told);
        record.verified_at = Some(self.0.isolation.clock().now());
        self.write(step.lease, &record, entry.into_iter().collect()).await?;
        Ok(Outcome::Done)
    }

    async fn note_ready(
        &self,
        step: &Step<'_>,
        mut record: Record,
        (ensured, told): (Ensured, &[String]),
    ) -> Result<Outcome> {
        self.turn(&mut record, Observed::Present);
        let drifted = tell(&mut record, step.layer.name(), told);
        record.verified_at = Some(self.0.isolation.clock().now());
        record.facts = Value::Object(ensured.facts);
        metrics::counter!("tenantry_layers_made_total", "layer" => step.layer.name()).increment(1);
        let entries = [journal::ready(step.layer.name(), &ensured.changes)].into_iter().chain(drifted).collect();
        self.write(step.lease, &record, entries).await?;
        Ok(Outcome::Done)
    }

    /// No failure, but nothing to show either: it is looked at again as often as what is there.
    async fn note_unavailable(&self, step: &Step<'_>, mut record: Record, why: &str) -> Result<Outcome> {
        let is_news = record.observed != Observed::Unavailable;
        self.turn(&mut record, Observed::Unavailable);
        settle_record(&mut record);
        record.last_error = why.to_owned();
        record.next_attempt_at = Some(self.0.isolation.clock().now() + self.verify_every());
        let entries = if is_news { vec![journal::unavailable(step.layer.name(), why)] } else { Vec::new() };
        self.write(step.lease, &record, entries).await?;
        Ok(Outcome::Waiting)
    }

    async fn note_failure(&self, step: &Step<'_>, mut record: Record, error: &Error) -> Result<Outcome> {
        let layer = step.layer.name();
        tracing::warn!(tenant = %step.tenant.id, layer, %error, cause = error.cause().map(tracing::field::display), attempts = record.attempts, "a layer failed; it is tried again");
        metrics::counter!("tenantry_layer_failures_total", "layer" => layer).increment(1);
        let is_news = record.last_error != error.message();
        record.attempts = record.attempts.saturating_add(1);
        record.last_error = error.message().chars().take(500).collect();
        let rules = &self.0.rules;
        let wait = pause(record.attempts, rules.first_retry, rules.longest_retry, chance());
        record.next_attempt_at = Some(self.0.isolation.clock().now() + wait);
        let mut entries = Vec::new();
        if is_news {
            entries.push(journal::failed(layer, error));
            if record.essential && record.attempts == 1 {
                entries.push(match record.wanted {
                    Wanted::Present => journal::provisioning_failed(step.tenant.id, layer),
                    Wanted::Absent => journal::removal_failed(step.tenant.id, layer),
                });
            }
        }
        self.write(step.lease, &record, entries).await?;
        Ok(Outcome::Waiting)
    }

    /// Held to `provisioning.layer_timeout`, which is shorter than the lease.
    async fn within_time<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let timed = tokio::time::timeout(self.0.rules.layer_timeout, work).await;
        timed.unwrap_or_else(|_| Err(Error::new(Kind::Unavailable, "it took longer than provisioning.layer_timeout")))
    }

    pub(super) fn turn(&self, record: &mut Record, observed: Observed) {
        if record.observed != observed {
            record.observed = observed;
            record.since = self.0.isolation.clock().now();
        }
    }
}

pub(super) fn settle_record(record: &mut Record) {
    record.attempts = 0;
    record.last_error.clear();
    record.next_attempt_at = None;
}

/// Settles the record with what is different and stays so; the entry where that is news.
fn tell(record: &mut Record, layer: &str, told: &[String]) -> Option<Entry> {
    let sentences: String = told.join("; ").chars().take(500).collect();
    let is_news = record.last_error != sentences && !told.is_empty();
    settle_record(record);
    record.last_error = sentences;
    is_news.then(|| journal::drifted(layer, told))
}

fn still_different(left: &[String]) -> Error {
    Error::new(Kind::Internal, format!("it was made, and is not as it should be: {}", left.join("; ")))
}

/// What went in earlier attempts counts, too.
fn added(before: &Value, removed: &Removed) -> Removed {
    let mut total: Removed = serde_json::from_value(before.clone()).unwrap_or_default();
    for (kind, count) in &removed.0 {
        *total.0.entry(kind.clone()).or_default() += count;
    }
    total
}

/// For tests and plans: whose site a layer is shown.
impl Provisioning {
    pub async fn site_of(&self, tenant: crate::platform::ids::TenantId) -> Result<Site> {
        let tenant = self.tenant(tenant).await?.ok_or_else(Error::not_found)?;
        self.site(&tenant, None).await
    }
}
