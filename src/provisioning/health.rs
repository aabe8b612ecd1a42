//! Whether the servers of layers that are no cells are well: said once for all tenants, with a reason, and since when.

use async_graphql::SimpleObject;
use chrono::{DateTime, Utc};
use futures::future::join_all;
use sea_orm::FromQueryResult;
use serde_json::json;

use super::{Provisioning, layer::Probe, store};
use crate::{cells::CellHealth, error::Result, isolation::OperatorScope, journal::Entry};

/// What the last look at the server of a layer said.
#[derive(Clone, Debug, FromQueryResult, SimpleObject)]
pub struct LayerHealth {
    /// The layer's name.
    pub layer: String,
    pub health: CellHealth,
    /// Why it is not HEALTHY; empty where it is.
    pub reason: String,
    /// Since when it is as it is.
    pub since: DateTime<Utc>,
    #[graphql(skip)]
    pub(super) mark: String,
}

impl Provisioning {
    /// The servers of this server's layers, by name. Layers in PostgreSQL are as well as their cells are.
    pub async fn layer_health(&self, scope: &OperatorScope) -> Result<Vec<LayerHealth>> {
        let tx = self.0.isolation.begin_operator(scope).await?;
        let known = store::layer_health(&tx).await?;
        tx.commit_unrecorded("a read").await?;
        Ok(known.into_iter().filter(|one| self.0.layers.iter().any(|layer| layer.name() == one.layer)).collect())
    }

    /// Asks every such server for a sign of life. What waits for one that is back goes on at once, and what one that has begun
    /// anew may have forgotten is looked at.
    pub async fn check_layers(&self) -> Result<()> {
        let asked = self.0.layers.iter().map(|layer| async move {
            let probe = tokio::time::timeout(self.0.rules.layer_timeout, layer.probe()).await;
            (layer.name(), probe)
        });
        let tx = self.begin().await?;
        let known = store::layer_health(&tx).await?;
        tx.commit_unrecorded("a read").await?;
        for (layer, answer) in join_all(asked).await {
            let was = known.iter().find(|one| one.layer == layer);
            let (health, reason, mark) = match answer {
                Ok(Ok(Probe::NotNeeded)) => continue,
                Ok(Ok(Probe::Alive { mark })) => (CellHealth::Healthy, String::new(), mark),
                Ok(Err(error)) => (CellHealth::Unhealthy, error.message().to_owned(), mark_of(was)),
                Err(_) => (CellHealth::Unhealthy, "it does not answer in time".to_owned(), mark_of(was)),
            };
            let since = self.0.isolation.clock().now();
            self.note_health(was, LayerHealth { layer: layer.to_owned(), health, reason, since, mark }).await?;
        }
        Ok(())
    }

    async fn note_health(&self, was: Option<&LayerHealth>, is: LayerHealth) -> Result<()> {
        let same = |was: &LayerHealth| was.health == is.health && was.reason == is.reason && was.mark == is.mark;
        metrics::gauge!("tenantry_layer_up", "layer" => is.layer.clone())
            .set(f64::from(is.health == CellHealth::Healthy));
        if was.is_some_and(same) {
            return Ok(());
        }
        let tx = self.0.isolation.begin_operator(&OperatorScope::system("layer-check")).await?;
        if !store::set_layer_health(&tx, &is).await? {
            return tx.rollback().await;
        }
        let is_back = is.health == CellHealth::Healthy && was.is_some();
        if is_back {
            store::look_again_with(&tx, &is.layer, is.since).await?;
        }
        if is.health == CellHealth::Unhealthy {
            tracing::error!(
                layer = is.layer,
                reason = is.reason,
                "the server of a layer is down; what needs it waits, all else goes on"
            );
        }
        let before = was.map(|was| json!({ "health": was.health, "reason": was.reason }));
        let after = json!({ "health": is.health, "reason": is.reason });
        let entry = Entry::new("LayerHealthChanged", "layer", &is.layer).change(before.as_ref(), Some(&after))?;
        tx.commit([entry]).await?;
        if is_back {
            self.0.nudge.notify_one();
        }
        Ok(())
    }
}

/// A server that cannot be asked keeps the mark that it had.
fn mark_of(was: Option<&LayerHealth>) -> String {
    was.map(|was| was.mark.clone()).unwrap_or_default()
}
