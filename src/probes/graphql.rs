//! The probes' part of the schema.

use async_graphql::{Context, Object, Result, SimpleObject};
use chrono::{DateTime, Utc};

use super::{LayerProbe, OpenThing, Probes, ProbesReport};
use crate::{
    error::Error,
    isolation::{Attempt, Outcome},
    tenancy::{
        TenantView,
        graphql::{enter, enter_platform},
    },
};

/// What came of trying, with real credentials of tenants that were made up for it, what one tenant can do to another.
#[derive(Debug, SimpleObject)]
pub struct IsolationProbes {
    /// When it was tried last; null where it was not yet.
    ran_at: Option<DateTime<Utc>>,
    /// What all came to: LET_THROUGH where anything was.
    outcome: Option<Outcome>,
    /// Whether that is too long ago to show anything (`isolation.probe_validity`).
    stale: bool,
    /// By cell and layer.
    layers: Vec<IsolationProbe>,
    /// What was let through, in this run or an earlier one, and was not refused since: a run in which a server is down shuts nothing.
    open: Vec<IsolationOpening>,
}

/// Something of one tenant's that another reaches.
#[derive(Debug, SimpleObject)]
pub struct IsolationOpening {
    /// `registry`, or the name of a layer.
    layer: String,
    /// The cell's name; null where the layer is on a server that is no cell.
    cell: Option<String>,
    /// What was let through.
    what: String,
}

/// What was tried on one layer in one place.
#[derive(Debug, SimpleObject)]
pub struct IsolationProbe {
    /// `registry`, or the name of a layer.
    layer: String,
    /// The cell's name; null where the layer is on a server that is no cell.
    cell: Option<String>,
    outcome: Outcome,
    /// Why it is INCONCLUSIVE or NOT_HERE; empty where it is neither.
    reason: String,
    attempts: Vec<IsolationAttempt>,
    at: DateTime<Utc>,
}

/// One thing that was tried.
#[derive(Debug, SimpleObject)]
pub struct IsolationAttempt {
    what: String,
    outcome: Outcome,
    /// Why it is INCONCLUSIVE; empty where it is not.
    reason: String,
}

impl From<ProbesReport> for IsolationProbes {
    fn from(report: ProbesReport) -> Self {
        let layers = report.layers.into_iter().map(Into::into).collect();
        let open = report.open.into_iter().map(Into::into).collect();
        Self { ran_at: report.ran_at, outcome: report.outcome, stale: report.stale, layers, open }
    }
}

impl From<OpenThing> for IsolationOpening {
    fn from(OpenThing { layer, cell, what, .. }: OpenThing) -> Self {
        Self { layer, cell: Some(cell).filter(|cell| !cell.is_empty()), what }
    }
}

impl From<LayerProbe> for IsolationProbe {
    fn from(probe: LayerProbe) -> Self {
        let attempt = |Attempt { what, outcome, reason }| IsolationAttempt { what, outcome, reason };
        Self {
            layer: probe.layer,
            cell: Some(probe.cell).filter(|cell| !cell.is_empty()),
            outcome: probe.outcome,
            reason: probe.reason,
            attempts: probe.attempts.0.into_iter().map(attempt).collect(),
            at: probe.at,
        }
    }
}

/// What the probes came to.
#[derive(Debug, SimpleObject)]
pub struct VerifyIsolationPayload {
    probes: IsolationProbes,
}

#[derive(Debug, Default)]
pub struct ProbesMutation;

#[Object]
impl ProbesMutation {
    /// Tries now, on every server, with real credentials of two tenants that are made up for it and removed again, what one tenant can
    /// do to another. It goes on where the caller does not wait for it.
    ///
    /// Errors: `conflict` while it runs already.
    ///
    /// Scope: `auth:cell:write`, operators only.
    async fn verify_isolation(&self, ctx: &Context<'_>) -> Result<VerifyIsolationPayload> {
        let scope = enter_platform(ctx, "Mutation")?;
        Ok(VerifyIsolationPayload { probes: handle(ctx)?.verify(&scope).await?.into() })
    }
}

/// What can be shown of a tenant's isolation.
#[derive(Clone, Debug)]
pub struct TenantAttestation(pub TenantView);

#[Object]
impl TenantAttestation {
    /// A signed statement (JWS, RS256, `typ` is `isolation-attestation+jwt`, verifiable with the published keys) that the tenant is kept
    /// apart: where it is, the rules that the registry was checked by, its layers and when each was verified, what was tried and
    /// refused in its cell and on the servers beside it, and until when this counts. It opens nothing.
    ///
    /// Errors: `unavailable` with what is missing, where something was let through, could not be tried, or was tried too long ago.
    ///
    /// Scope: `auth:tenant:read`.
    async fn isolation_attestation(&self, ctx: &Context<'_>) -> Result<String> {
        let scope = enter(ctx, "Tenant", &self.0.id().into()).await?;
        Ok(Box::pin(handle(ctx)?.attest(&scope)).await?)
    }
}

pub(crate) fn handle<'a>(ctx: &Context<'a>) -> crate::error::Result<&'a Probes> {
    ctx.data_opt::<Probes>().ok_or_else(|| Error::internal("the schema has no probes"))
}
