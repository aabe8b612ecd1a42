//! Proof from the PostgreSQL catalogue that nobody gets past the row policies: [`verify_catalogue`] names each unsafe
//! thing and what to change. The server does not start while there is a [`Finding`].
//!
//! *Owns*: no table. *Rules*: the table in `rule.rs`, one sentence each. Each noun beside it says which facts it
//! needs and judges them in plain functions; one statement reads them all. *Deliberately absent*: anything that reads a
//! tenant's row or changes something.
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

use self::facts::Facts;
pub use self::rule::{Rule, rules};
use crate::{
    error::{Context as _, Result},
    platform::db::Tx,
};

const OWNER: &str = "tenantry_owner";
const TENANT: &str = "tenantry_tenant";
const OPERATOR: &str = "tenantry_operator";

const QUERIES: &[&[facts::Query]] = &[
    server::QUERIES,
    roles::QUERIES,
    schemas::QUERIES,
    tables::QUERIES,
    policies::QUERIES,
    keys::QUERIES,
    grants::QUERIES,
    views::QUERIES,
    functions::QUERIES,
    triggers::QUERIES,
];

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

/// The same for a role that may be another than the one that asks. Sets how statements are
/// planned, and `search_path`, until the transaction ends.
pub async fn verify(connection: &impl ConnectionTrait, login: &str) -> Result<Vec<Finding>> {
    let facts = Facts::read(connection, login, QUERIES).await?;
    let mut findings = server::check(&facts)?;
    findings.extend(roles::check(&facts)?);
    findings.extend(schemas::check(&facts)?);
    findings.extend(tables::check(&facts)?);
    findings.extend(policies::check(&facts)?);
    findings.extend(keys::check(&facts)?);
    findings.extend(grants::check(&facts)?);
    findings.extend(views::check(&facts)?);
    findings.extend(functions::check(&facts)?);
    findings.extend(triggers::check(&facts)?);
    Ok(findings)
}
