//! Proof from the PostgreSQL catalogue that nobody gets past the row policies: [`verify_catalogue`] names each unsafe
//! thing and what to change. The server does not start while there is a [`Finding`].
//!
//! *Owns*: no table. *Rules*: the table in `rule.rs`, one sentence each. Each noun beside it reads facts with a query or
//! two and judges them in plain functions. *Deliberately absent*: anything that reads a tenant's row or changes something.
//!
//! What is looked up is what the catalogue says now, not what a migration meant: an `alter table` by hand is found, too.
//! What is not there counts as broken (roles, schema, guarding triggers), so that an empty database does not pass.

mod facts;
mod functions;
mod grants;
mod keys;
mod policies;
mod roles;
mod rule;
mod schemas;
mod server;
mod tables;
mod triggers;
mod views;

use sea_orm::ConnectionTrait;
use serde::Serialize;

pub use self::rule::{Rule, rules};
use self::facts::Facts;
use crate::{
    error::{Context as _, Result},
    platform::db::Tx,
};

pub(crate) const OWNER: &str = "tenantry_owner";
pub(crate) const TENANT: &str = "tenantry_tenant";
pub(crate) const OPERATOR: &str = "tenantry_operator";

/// One thing that is not as it must be.
#[derive(Clone, Debug, Serialize, PartialEq)]
pub struct Finding {
    /// The id of the broken [`Rule`]; stable.
    pub rule: &'static str,
    /// What breaks it: a role, `schema.table`, a setting.
    pub object: String,
    /// What is wrong with it, as a sentence.
    pub problem: String,
    /// The SQL to run as owner or superuser, or the setting to change.
    pub remedy: String,
}

/// Checks the database behind `tx` for the role that logged in. No finding means safe.
pub async fn verify_catalogue(tx: &Tx) -> Result<Vec<Finding>> {
    let row = tx.row("select session_user::text as login", []).await?.context("find the login role")?;
    let login: String = row.try_get("", "login")?;
    verify(tx, &login).await
}

/// The same for a role that may be another than the one that asks. Sets `search_path` and `jit` until the transaction ends.
pub async fn verify(connection: &impl ConnectionTrait, login: &str) -> Result<Vec<Finding>> {
    let facts = Facts::begin(connection, login).await?;
    let mut findings = server::check(&facts).await?;
    findings.extend(roles::check(&facts).await?);
    findings.extend(schemas::check(&facts).await?);
    findings.extend(tables::check(&facts).await?);
    findings.extend(policies::check(&facts).await?);
    findings.extend(keys::check(&facts).await?);
    findings.extend(grants::check(&facts).await?);
    findings.extend(views::check(&facts).await?);
    findings.extend(functions::check(&facts).await?);
    findings.extend(triggers::check(&facts).await?);
    Ok(findings)
}
