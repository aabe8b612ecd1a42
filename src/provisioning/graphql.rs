//! Provisioning's part of the schema.

use async_graphql::{Context, ID, Json, Object, Result, SimpleObject, Subscription};
use chrono::{DateTime, Utc};
use futures::{Stream, StreamExt as _, future::ready};
use serde::de::DeserializeOwned;
use serde_json::Value;

pub use super::planes::graphql::{PlaneMutation, PlaneQuery, PlaneSubscription};
use super::{
    DataplaneCredential, LayerHealth, Observed, PlaneJob, PlannedLayer, Provisioning, Record, Wanted,
    planes::{graphql::ProvisioningJobObject, layer_of},
};
use crate::{
    audit::{Audit, Chain, Cursor, Reach, Row},
    error::Error,
    tenancy::{
        IsolationTier, TenantView,
        graphql::{enter, enter_own_or, enter_platform},
    },
};

/// A part of a tenant's environment.
#[derive(Clone, Debug)]
pub struct LayerObject {
    record: Record,
    job: Option<PlaneJob>,
}

#[Object(name = "Layer")]
impl LayerObject {
    /// `placement`, `role`, `schema` …; `plane:` and its name for an application plane.
    async fn name(&self) -> &str {
        &self.record.layer
    }

    /// Whether the tenant does not become ACTIVE without it.
    async fn essential(&self) -> bool {
        self.record.essential
    }

    /// What is to be.
    async fn wanted(&self) -> Wanted {
        self.record.wanted
    }

    /// What was seen when it was looked at last.
    async fn observed(&self) -> Observed {
        self.record.observed
    }

    /// Since when it is as it is.
    async fn since(&self) -> DateTime<Utc> {
        self.record.since
    }

    /// Failures in a row.
    async fn attempts(&self) -> i32 {
        self.record.attempts
    }

    /// Why it failed, or is not available; empty where it is as it should be.
    async fn last_error(&self) -> &str {
        &self.record.last_error
    }

    /// When it is tried again.
    async fn next_attempt_at(&self) -> Option<DateTime<Utc>> {
        self.record.next_attempt_at
    }

    /// When it was last found as it should be.
    async fn verified_at(&self) -> Option<DateTime<Utc>> {
        self.record.verified_at
    }

    /// What an application plane told of what it has made; null where it has told nothing.
    async fn outputs(&self) -> Option<Json<Value>> {
        self.record.facts.get("outputs").cloned().map(Json)
    }

    /// What an application plane was asked last; null for all other layers.
    async fn job(&self) -> Option<ProvisioningJobObject> {
        self.job.clone().map(Into::into)
    }
}

/// A tenant's environment.
#[derive(Clone, Debug)]
pub struct TenantLayers(pub TenantView);

#[Object]
impl TenantLayers {
    /// What the tenant's environment is made of, in the order in which it is made; none before it was begun.
    ///
    /// Scope: `auth:tenant:read`.
    async fn layers(&self, ctx: &Context<'_>) -> Result<Vec<LayerObject>> {
        let scope = enter(ctx, "Tenant", &self.0.id().into()).await?;
        let (records, mut jobs) = Box::pin(handle(ctx)?.records_and_jobs(&scope)).await?;
        let of = |record: Record| {
            let job = jobs.iter().position(|job| layer_of(&job.plane) == record.layer).map(|at| jobs.swap_remove(at));
            LayerObject { record, job }
        };
        Ok(records.into_iter().map(of).collect())
    }
}

/// One of what a credential consists of besides its secret.
#[derive(Clone, Debug, SimpleObject)]
pub struct CredentialDetail {
    /// `host`, `port`, `database`, `schema`, `user` …
    name: String,
    value: String,
}

/// How a service of the tenant gets into one layer of its data plane.
#[derive(Debug)]
pub struct DataplaneCredentialObject(DataplaneCredential);

#[Object(name = "DataplaneCredential")]
impl DataplaneCredentialObject {
    /// The layer that it is for: `role` is PostgreSQL's.
    async fn layer(&self) -> &str {
        &self.0.layer
    }

    /// Address and user, by name.
    async fn details(&self) -> Vec<CredentialDetail> {
        let details = self.0.details.iter();
        details.map(|(name, value)| CredentialDetail { name: name.clone(), value: value.clone() }).collect()
    }

    /// The password. It is shown here and nowhere else.
    async fn secret(&self) -> &str {
        self.0.secret.expose()
    }

    async fn issued_at(&self) -> DateTime<Utc> {
        self.0.issued_at
    }

    /// No new connections with it after that; those that are open stay.
    async fn valid_until(&self) -> DateTime<Utc> {
        self.0.valid_until
    }
}

/// Something that happened while a tenant's environment was made or taken away.
#[derive(Clone, Debug)]
pub struct ProvisioningEvent(Row);

#[Object]
impl ProvisioningEvent {
    /// What to give as `after` to go on behind this event.
    async fn cursor(&self) -> String {
        self.0.cursor.encode()
    }

    async fn at(&self) -> DateTime<Utc> {
        self.0.record.at
    }

    /// `LayerStarted`, `PlaneJobIssued`, `LayerReady`, `LayerFailed`, `LayerDrifted`, `LayerRemoved`, `ProvisioningSucceeded`, `SchemaMigrated` …
    async fn event(&self) -> &str {
        &self.0.record.event
    }

    /// The name of the same in AWS SaaS Builder Toolkit, where it has one: `onboardingRequest`, `provisionSuccess` …
    async fn toolkit_event(&self) -> Option<String> {
        self.member("sbt")
    }

    /// The layer that it is about; null where it is about all.
    async fn layer(&self) -> Option<String> {
        self.member("layer")
    }

    /// Why a layer failed or is not available, or a move does not go on, begins anew or was given up.
    async fn problem(&self) -> Option<String> {
        self.member("error").or_else(|| self.member("reason"))
    }

    /// How far a move has come; null where it is about none.
    async fn r#move(&self) -> Option<MoveProgress> {
        (self.0.record.subject_kind == "move").then(|| MoveProgress {
            phase: self.member("phase"),
            source_tier: self.member("sourceTier"),
            target_tier: self.member("targetTier"),
            rows_copied: self.member("rows"),
            changes_applied: self.member("changes"),
            pause_ms: self.member("pauseMs"),
            keep_until: self.member("keepUntil"),
        })
    }
}

/// What one event of a move tells; what it does not tell is null.
#[derive(Clone, Debug, SimpleObject)]
pub struct MoveProgress {
    /// Where it is: `COPYING`, `CATCHING_UP`, `SWITCHED` …
    phase: Option<String>,
    source_tier: Option<IsolationTier>,
    target_tier: Option<IsolationTier>,
    /// Rows of the first copy.
    rows_copied: Option<i64>,
    /// Changes of rows that were carried over after it.
    changes_applied: Option<i64>,
    /// How long services were kept out at the switch, in milliseconds: in `MoveSwitched` until the tenant's place changed, in `MoveConfirmed` until
    /// they were let in.
    pause_ms: Option<i64>,
    /// When the source is given up without being asked.
    keep_until: Option<DateTime<Utc>>,
}

impl ProvisioningEvent {
    fn member<T: DeserializeOwned>(&self, member: &str) -> Option<T> {
        let after: Value = serde_json::from_str(self.0.record.after.as_deref()?).ok()?;
        T::deserialize(after.get(member)?).ok()
    }

    fn is_one(row: &Row) -> bool {
        let event = row.record.event.as_str();
        [
            "Layer",
            "PlaneJob",
            "Provisioning",
            "Deprovisioning",
            "TenantPlaced",
            "TenantUnplaced",
            "TenantActivated",
            "SchemaMigrat",
            "Move",
        ]
        .iter()
        .any(|start| event.starts_with(start))
    }
}

#[derive(Debug, Default)]
pub struct ProvisioningQuery;

#[Object]
impl ProvisioningQuery {
    /// Whether the servers of layers that are no cells are well, by name of the layer. While one is down, the tenants' work in it waits, and
    /// all else goes on.
    ///
    /// Scope: `auth:cell:read`, operators only.
    async fn layer_health(&self, ctx: &Context<'_>) -> Result<Vec<LayerHealth>> {
        let scope = enter_platform(ctx, "Query")?;
        Ok(handle(ctx)?.layer_health(&scope).await?)
    }

    /// What would be done for the tenant's environment now: a dry run, by layer.
    ///
    /// Errors: `unavailable` where the tenant's cell does not answer, or no cell can take it.
    ///
    /// Scope: `auth:tenant:read`, operators only.
    async fn provisioning_plan(&self, ctx: &Context<'_>, tenant_id: ID) -> Result<Vec<PlannedLayer>> {
        let scope = enter(ctx, "Query", &tenant_id).await?;
        Ok(handle(ctx)?.plan(&scope).await?)
    }

    /// How the tenant's services get at its data: for each layer that has some, the credential to use now. New ones are made
    /// before it ends: ask again at half of its life. Without an id for the tenant that the token is bound to.
    ///
    /// Errors: `unavailable` until the tenant's environment is there.
    ///
    /// Scope: `auth:dataplane:read`.
    async fn dataplane_credentials(
        &self,
        ctx: &Context<'_>,
        tenant_id: Option<ID>,
    ) -> Result<Vec<DataplaneCredentialObject>> {
        let scope = enter_own_or(ctx, "Query", tenant_id.as_ref()).await?;
        let scope =
            scope.ok_or_else(|| Error::invalid("tenantId", "is needed: an operator's token is bound to no tenant"))?;
        let credentials = handle(ctx)?.credentials(&scope).await?;
        Ok(credentials.into_iter().map(DataplaneCredentialObject).collect())
    }
}

#[derive(Debug, Default)]
pub struct ProvisioningSubscription;

#[Subscription]
impl ProvisioningSubscription {
    /// What happens to the tenant's environment from now on, or since `after`; without an id, of the tenant that the token is
    /// bound to.
    ///
    /// Scope: `auth:tenant:read`.
    async fn provisioning_progress(
        &self,
        ctx: &Context<'_>,
        tenant_id: Option<ID>,
        #[graphql(desc = "Cursor of the last event that you have; without it, the next event is the first.")]
        after: Option<String>,
    ) -> Result<impl Stream<Item = Result<ProvisioningEvent>> + use<>> {
        let scope = enter_own_or(ctx, "Subscription", tenant_id.as_ref()).await?;
        let scope =
            scope.ok_or_else(|| Error::invalid("tenantId", "is needed: an operator's token is bound to no tenant"))?;
        let after = after.as_deref().map(Cursor::decode).transpose()?;
        let audit = ctx.data_opt::<Audit>().ok_or_else(|| Error::internal("the schema has no audit"))?;
        let rows = audit.follow(Reach::Chain(Chain::Tenant(scope)), after).await?;
        Ok(rows.filter_map(|row| {
            ready(match row {
                Ok(row) if !ProvisioningEvent::is_one(&row) => None,
                Ok(row) => Some(Ok(ProvisioningEvent(row))),
                Err(error) => Some(Err(error.into())),
            })
        }))
    }
}

fn handle<'a>(ctx: &Context<'a>) -> crate::error::Result<&'a Provisioning> {
    ctx.data_opt::<Provisioning>().ok_or_else(|| Error::internal("the schema has no provisioning"))
}
