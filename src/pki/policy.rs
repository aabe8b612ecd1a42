//! How a tenant's certificates are checked, and whom they name.

use async_graphql::Enum;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{
    Pki,
    mapping::{self, Rule, default_rules},
    store,
};
use crate::{
    error::Result,
    isolation::{Conditions, TenantScope},
    journal::Entry,
};

/// What is done about certificates that may have been revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[graphql(name = "RevocationMode")]
pub enum Revocation {
    /// Nobody is asked.
    Off,
    /// A certificate that is known to be revoked is refused. One of which it cannot be found out is not.
    SoftFail,
    /// A certificate of which it cannot be found out is refused as well.
    HardFail,
}

impl Revocation {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Off => "OFF",
            Self::SoftFail => "SOFT_FAIL",
            Self::HardFail => "HARD_FAIL",
        }
    }

    pub(super) fn parse(name: &str) -> Option<Self> {
        [Self::Off, Self::SoftFail, Self::HardFail].into_iter().find(|mode| mode.name() == name)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Policy {
    pub revocation: Revocation,
    /// Whether responders that certificates name are asked.
    pub ocsp: bool,
    /// Whether lists are fetched from where certificates say.
    pub fetch_lists: bool,
    pub mapping: Vec<Rule>,
    pub version: i64,
    pub updated_at: Option<DateTime<Utc>>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            revocation: Revocation::SoftFail,
            ocsp: false,
            fetch_lists: false,
            mapping: default_rules(),
            version: 0,
            updated_at: None,
        }
    }
}

/// A policy as it was sent.
#[derive(Clone, Debug)]
pub struct NewPolicy {
    pub revocation: Revocation,
    pub ocsp: bool,
    pub fetch_lists: bool,
    /// The server's, where it is none.
    pub mapping: Option<Vec<Rule>>,
}

impl Pki {
    pub async fn policy(&self, scope: &TenantScope) -> Result<Policy> {
        let tx = self.isolation.begin(scope).await?;
        let policy = store::policy(&tx).await?;
        tx.commit_unrecorded("a read").await?;
        Ok(policy)
    }

    pub async fn set_policy(&self, scope: &TenantScope, new: NewPolicy, conditions: &Conditions) -> Result<Policy> {
        let rules = new.mapping.unwrap_or_else(default_rules);
        mapping::check(&rules)?;
        self.tenancy.get(scope).await?;
        self.members.check_reach_of_all(scope).await?;
        let tx = self.isolation.begin(scope).await?;
        if let Some(answered) = tx.first_answer(conditions).await? {
            tx.commit_unrecorded("a read").await?;
            return Ok(answered);
        }
        store::lock(&tx).await?;
        let before = store::policy(&tx).await?;
        conditions.check_version(before.version)?;
        let policy = Policy {
            revocation: new.revocation,
            ocsp: new.ocsp,
            fetch_lists: new.fetch_lists,
            mapping: rules,
            version: before.version + 1,
            updated_at: Some(tx.stamp().at),
        };
        store::put_policy(&tx, &policy).await?;
        tx.keep_answer(conditions, &policy).await?;
        let entry = Entry::new("CertificatePolicySet", "certificatePolicy", tx.tenant());
        let before = (before.version > 0).then_some(&before);
        tx.commit([entry.change(before, Some(&policy))?]).await?;
        Ok(policy)
    }
}
