//! Schema templates: what tenants' schemas are made of, as a list of SQL migrations, and how a new one reaches them all.
//!
//! *Owns*: `schema_templates`, `schema_migrations`, `tenant_templates`, `template_rollouts`, `rollout_lanes`, `rollout_tenants`.
//! *Rules*: a registered migration never changes; the version that counts is written in the tenant's schema, in the transaction of
//! the migrations, so that each is applied once whoever dies when; a migration has the rights of the tenant's role and no
//! others (`script.rs`); a schema that is not as its template has it is told, never changed; how a rollout goes on is decided
//! in `rollout.rs` on plain values, and its work is shared by all servers under leases.
//!
//! *Emits*: SchemaTemplateRegistered; RolloutStarted, RolloutPaused, RolloutResumed, RolloutStopped, RolloutCancelled,
//! RolloutCompleted; SchemaMigrated, SchemaMigrationFailed in the tenant's journal.

mod apply;
mod catalogue;
mod control;
pub mod graphql;
mod lane;
mod link;
mod mark;
mod migration;
mod plain;
mod progress;
mod provide;
mod refusal;
mod register;
mod rollout;
mod rollout_store;
mod script;
mod statements;
mod store;
mod template;
mod tokens;
mod watch;
mod work;

use std::sync::Arc;

use tokio::sync::{Notify, Semaphore};

use self::catalogue::Objects;
pub use self::{
    control::{NewRollout, Planned},
    mark::Mark,
    migration::{File, Migration},
    progress::{Progress, Trouble},
    provide::{Emptied, Home, Inspection},
    register::NewTemplate,
    rollout::{Count, Rollout, RolloutState, Rules},
    template::{Plans, SchemaState, Sentences, Template},
};
use crate::{
    cells::Cells,
    config,
    error::Result,
    isolation::{Isolation, OperatorScope, TenantScope},
};

/// The handle of this capability. Clones share it.
#[derive(Clone, Debug)]
pub struct Templates(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    isolation: Isolation,
    cells: Cells,
    rules: config::Templates,
    region: Option<String>,
    /// What templates make: by name, version, and version of PostgreSQL.
    references: moka::sync::Cache<(String, i32, i32), Objects>,
    nudge: Notify,
    /// Connections that this replica may use.
    lanes: Arc<Semaphore>,
}

impl Templates {
    pub fn new(isolation: Isolation, cells: Cells, config: &config::Config) -> Self {
        let rules = config.templates.clone();
        let region = Some(config.server.region.clone()).filter(|region| !region.is_empty());
        let lanes = Arc::new(Semaphore::new(rules.lanes));
        let references = moka::sync::Cache::new(100);
        Self(Arc::new(Inner { isolation, cells, rules, region, references, nudge: Notify::new(), lanes }))
    }

    /// All templates, by name.
    pub async fn list(&self, scope: &OperatorScope) -> Result<Vec<Template>> {
        let tx = self.0.isolation.begin_operator(scope).await?;
        let all = store::all(&tx).await?;
        tx.commit_unrecorded("a read").await?;
        Ok(all)
    }

    /// What the tenant's schema is made of; none where it has no template.
    pub async fn schema_of(&self, scope: &TenantScope) -> Result<Option<SchemaState>> {
        let tx = self.0.isolation.begin(scope).await?;
        let state = store::state(&tx, scope.tenant()).await?;
        tx.commit_unrecorded("a read").await?;
        Ok(state)
    }

    /// The template's migrations, in order.
    pub async fn migrations(&self, scope: &OperatorScope, template: &Template) -> Result<Vec<Migration>> {
        let tx = self.0.isolation.begin_operator(scope).await?;
        let migrations = store::migrations(&tx, &template.name, 1, template.version).await?;
        tx.commit_unrecorded("a read").await?;
        Ok(migrations)
    }

    /// How many tenants are at which version.
    pub async fn versions(&self, scope: &OperatorScope, template: &str) -> Result<Vec<(i32, i64)>> {
        let tx = self.0.isolation.begin_operator(scope).await?;
        let versions = store::versions(&tx, template).await?;
        tx.commit_unrecorded("a read").await?;
        Ok(versions)
    }

    /// Up to `limit` tenants whose schemas were not as the template has them when they were looked at last.
    pub async fn drifted(&self, scope: &OperatorScope, template: &str, limit: u32) -> Result<Vec<SchemaState>> {
        let tx = self.0.isolation.begin_operator(scope).await?;
        let drifted = store::drifted(&tx, template, limit.into()).await?;
        tx.commit_unrecorded("a read").await?;
        Ok(drifted)
    }
}
