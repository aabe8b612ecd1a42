//! The isolation verifier's face.

use async_graphql::{Context, Object, Result, SimpleObject};

use crate::{
    error::Error,
    isolation::Isolation,
    probes::graphql::{IsolationProbes, handle},
    tenancy::graphql::enter_platform,
};

/// What the verifier found in the database's catalogue, and what the probes came to.
#[derive(Debug, SimpleObject)]
pub struct IsolationReport {
    /// Whether nothing was found.
    safe: bool,
    findings: Vec<IsolationFinding>,
    /// What was tried last, and what came of it.
    probes: IsolationProbes,
}

/// Something that would let one tenant reach another's rows, or an operator lose sight of it.
#[derive(Debug, SimpleObject)]
pub struct IsolationFinding {
    /// Stable name of the rule.
    rule: String,
    /// Table, role, policy or setting.
    object: String,
    problem: String,
    /// What to change.
    remedy: String,
}

#[derive(Debug, Default)]
pub struct IsolationQuery;

#[Object]
impl IsolationQuery {
    /// Checks, now, that PostgreSQL still keeps tenants apart: roles, row-level security, policies, grants, indexes.
    ///
    /// Scope: `auth:audit:read`, operators only.
    async fn isolation_report(&self, ctx: &Context<'_>) -> Result<IsolationReport> {
        let scope = enter_platform(ctx, "Query")?;
        let isolation = ctx.data_opt::<Isolation>().ok_or_else(|| Error::internal("the schema has no isolation"))?;
        let found = isolation.verify(&scope).await?;
        let findings = found.into_iter().map(|finding| IsolationFinding {
            rule: finding.rule.to_owned(),
            object: finding.object,
            problem: finding.problem,
            remedy: finding.remedy,
        });
        let findings: Vec<_> = findings.collect();
        let probes = handle(ctx)?.last().await?.into();
        Ok(IsolationReport { safe: findings.is_empty(), findings, probes })
    }
}
