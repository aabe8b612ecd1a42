//! Two tenants that are made up, in one place, from their first role to the last trace of them.

use std::{collections::BTreeMap, future::Future, sync::Arc, time::Duration};

use aws_lc_rs::digest;
use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use super::report::LayerProbe;
use crate::{
    cells::Cell,
    error::{Error, Kind, Result},
    platform::ids::TenantId,
    provisioning::{Availability, Credential, IssueOrder, Layer, ProbeTenant, Probed, Slot},
};

/// How long their credentials are good for, where nobody takes them away before: the shortest that S3 gives.
const LIFE: TimeDelta = TimeDelta::minutes(15);

/// The two, and what they have.
#[derive(Debug)]
pub struct Round {
    cell: Option<Arc<Cell>>,
    layers: Vec<Arc<dyn Layer>>,
    pub intruder: ProbeTenant,
    pub victim: ProbeTenant,
    /// Layers that could not be made, and why.
    stuck: BTreeMap<&'static str, String>,
    /// Layers of extensions that the cell has not, and why.
    absent: BTreeMap<&'static str, String>,
    patience: Duration,
    now: DateTime<Utc>,
}

impl Round {
    /// In a cell, or on the servers of layers that are no cells.
    pub(super) fn new(
        seed: Uuid,
        (cell, layers): (Option<Arc<Cell>>, Vec<Arc<dyn Layer>>),
        patience: Duration,
        now: DateTime<Utc>,
    ) -> Self {
        let place = cell.as_ref().map(|cell| cell.id.to_string()).unwrap_or_default();
        let tenant = |side: &str| ProbeTenant::new(called(seed, &place, side), cell.clone(), now);
        let (intruder, victim) = (tenant("intruder"), tenant("victim"));
        let serves = |layer: &Arc<dyn Layer>| layer.serves(intruder.site.tenant.isolation_tier);
        let layers = layers.into_iter().filter(serves).collect();
        Self { cell, layers, intruder, victim, stuck: BTreeMap::new(), absent: BTreeMap::new(), patience, now }
    }

    /// Makes both, after what an earlier round has left.
    pub async fn open(&mut self) {
        if let (Err(error), Some(_)) = (self.close().await, &self.cell) {
            let stuck = |layer: &Arc<dyn Layer>| (layer.name(), error.message().to_owned());
            self.stuck = self.layers.iter().map(stuck).collect();
            return;
        }
        let order = IssueOrder { slot: Slot::A, valid_until: self.now + LIFE };
        for layer in made(&self.layers) {
            // In a cell each stands on the one before.
            if let (Some(reason), Some(_)) = (self.stuck.values().next().cloned(), &self.cell) {
                self.stuck.insert(layer.name(), reason);
                continue;
            }
            for tenant in [&mut self.intruder, &mut self.victim] {
                match within(self.patience, make(&*layer, tenant, &order)).await {
                    Ok(Made::Here(Some(credential))) => drop(tenant.credentials.insert(layer.name(), credential)),
                    Ok(Made::Here(None)) => {}
                    Ok(Made::NotHere(why)) => drop(self.absent.insert(layer.name(), why)),
                    Err(error) => drop(self.stuck.insert(layer.name(), error.message().to_owned())),
                }
            }
        }
    }

    /// Lets the one try everything on the other.
    pub async fn attempt(&self) -> Vec<LayerProbe> {
        let mut probes = Vec::with_capacity(self.layers.len());
        let cell = self.cell.as_deref();
        for layer in &self.layers {
            if let Some(reason) = self.stuck.get(layer.name()) {
                probes.push(LayerProbe::not_tried(cell, layer.name(), reason, self.now));
                continue;
            }
            if let Some(reason) = self.absent.get(layer.name()) {
                probes.push(LayerProbe::not_here(cell, layer.name(), reason, self.now));
                continue;
            }
            let tried = within(self.patience, layer.probe_isolation(&self.intruder, &self.victim)).await;
            probes.push(match tried {
                Ok(attempts) => LayerProbe::tried(cell, layer.name(), attempts, self.now),
                Err(error) => LayerProbe::not_tried(cell, layer.name(), error.message(), self.now),
            });
        }
        probes
    }

    /// Removes both, as far as it can be done.
    ///
    /// Errors: the first that there was. What is left is removed by the next round.
    pub async fn close(&self) -> Result<()> {
        let mut outcome = Ok(());
        for layer in made(&self.layers).iter().rev() {
            for tenant in [&self.intruder, &self.victim] {
                let removed = within(self.patience, layer.remove(&tenant.site)).await;
                outcome = outcome.and(removed.map(drop));
                if outcome.is_err() && self.cell.is_some() {
                    return outcome; // one server for all: it would be waited for again
                }
            }
        }
        outcome
    }
}

/// Those that are made for the two, and removed behind them.
fn made(layers: &[Arc<dyn Layer>]) -> Vec<Arc<dyn Layer>> {
    layers.iter().filter(|layer| layer.probed() != Probed::Unmade).cloned().collect()
}

enum Made {
    Here(Option<Credential>),
    NotHere(String),
}

async fn make(layer: &dyn Layer, tenant: &ProbeTenant, order: &IssueOrder) -> Result<Made> {
    if let Availability::NotHere(why) = layer.availability(&tenant.site).await? {
        return Ok(Made::NotHere(why));
    }
    layer.ensure(&tenant.site).await?;
    Ok(Made::Here(layer.issue(&tenant.site, order).await?))
}

/// The same in every round of a place, and nobody's that there is.
fn called(seed: Uuid, place: &str, side: &str) -> TenantId {
    let digest = digest::digest(&digest::SHA256, format!("tenantry probe {seed} {place} {side}").as_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest.as_ref()[..16]);
    TenantId::of_probe(bytes)
}

async fn within<T>(patience: Duration, work: impl Future<Output = Result<T>>) -> Result<T> {
    let late = || Error::new(Kind::Unavailable, "it does not answer in time");
    tokio::time::timeout(patience, work).await.map_err(|_| late())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_who_are_made_up_are_the_same_each_time_and_nobody_that_there_is() {
        let seed = Uuid::from_u128(7);
        let one = called(seed, "a", "intruder");
        assert_eq!(one, called(seed, "a", "intruder"));
        assert!(one.is_probe() && !TenantId::generate().is_probe() && !TenantId::PLATFORM.is_probe());
        let others = [called(seed, "a", "victim"), called(seed, "b", "intruder"), called(Uuid::nil(), "a", "intruder")];
        assert!(others.iter().all(|other| *other != one && other.is_probe()));
    }
}
