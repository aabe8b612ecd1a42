//! What operators permit to a tenant's directory that is not safe by itself.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{Directory, store};
use crate::{
    error::{Error, Result},
    isolation::{Conditions, OperatorScope, TenantScope},
    journal::Entry,
    platform::ids::TenantId,
};

const LONGEST_REASON: usize = 500;

/// Nothing, where no operator has said anything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Permit {
    /// `ldap://` without StartTLS.
    pub plain_text: bool,
    /// Servers' certificates are not looked at.
    pub unverified: bool,
    pub reason: String,
    pub version: i64,
    pub updated_at: DateTime<Utc>,
}

#[derive(Clone, Debug)]
pub struct NewPermit {
    pub plain_text: bool,
    pub unverified: bool,
    pub reason: String,
}

impl Directory {
    /// What is permitted to the tenant.
    pub async fn permit(&self, scope: &TenantScope) -> Result<Permit> {
        let tx = self.isolation.begin(scope).await?;
        let permit = store::find_permit(&tx, tx.tenant()).await?;
        tx.commit_unrecorded("a read").await?;
        Ok(permit.unwrap_or_default())
    }

    /// Permits to a tenant's directory what is not safe by itself, or no longer; it holds from the next connection on.
    pub async fn set_permit(
        &self,
        scope: &OperatorScope,
        tenant: TenantId,
        wanted: NewPermit,
        conditions: &Conditions,
    ) -> Result<Permit> {
        let length = wanted.reason.trim().chars().count();
        if !(1..=LONGEST_REASON).contains(&length) {
            return Err(Error::invalid("reason", format!("has 1 to {LONGEST_REASON} characters")));
        }
        self.tenancy.get(&TenantScope::for_operator(scope, tenant)).await?;
        let tx = self.isolation.begin_operator(scope).await?;
        if let Some(answered) = tx.first_answer(conditions).await? {
            tx.commit_unrecorded("a read").await?;
            return Ok(answered);
        }
        let before = store::lock_permit(&tx, tenant).await?;
        let version = before.as_ref().map_or(0, |before| before.version);
        conditions.check_version(version)?;
        let permit = Permit {
            plain_text: wanted.plain_text,
            unverified: wanted.unverified,
            reason: wanted.reason.trim().to_owned(),
            version: version + 1,
            updated_at: tx.stamp().at,
        };
        store::put_permit(&tx, tenant, &permit).await?;
        tx.keep_answer(conditions, &permit).await?;
        let entry = Entry::new("DirectoryPermitted", "directory", tenant).change(before.as_ref(), Some(&permit))?;
        tx.commit_for(tenant, [entry]).await?;
        Ok(permit)
    }
}
