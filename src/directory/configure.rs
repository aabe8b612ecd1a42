//! A tenant's directory as a whole: set, shown, removed.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::{Directory, NewSettings, Settings, seal, store};
use crate::{
    error::{Error, Result},
    isolation::{Conditions, TenantScope},
    journal::Entry,
    members::{Roles, Shipped, Source},
    platform::secret::Secret,
    tenant_keys::Sealed,
};

const LONGEST_SECRET: usize = 1024;

/// A tenant's directory as it is shown. Of the secret there is when it was set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct View {
    pub settings: Settings,
    pub secret_set_at: DateTime<Utc>,
    /// When it is synchronised by itself the next time.
    pub next_sync_at: Option<DateTime<Utc>>,
    pub version: i64,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

/// The password of the bind DN, where it is sent.
#[derive(Clone, Debug)]
pub struct NewSecret(Option<Secret>);

impl NewSecret {
    /// A bind without a password is a bind of nobody, which servers answer with success (RFC 4513, section 5.1.2).
    pub fn check(sent: Option<String>) -> Result<Self> {
        let secret = sent.map(Secret::new);
        match &secret {
            Some(secret) if secret.is_empty() || secret.expose().len() > LONGEST_SECRET => {
                Err(Error::invalid("bindSecret", format!("has 1 to {LONGEST_SECRET} bytes")))
            }
            Some(secret) if secret.expose().contains('\0') => Err(Error::invalid("bindSecret", "holds no NUL")),
            _ => Ok(Self(secret)),
        }
    }
}

impl Directory {
    /// The tenant's directory; none where none is configured.
    pub async fn find(&self, scope: &TenantScope) -> Result<Option<View>> {
        let tx = self.isolation.begin(scope).await?;
        let found = store::find(&tx).await?;
        tx.commit_unrecorded("a read").await?;
        Ok(found.map(|configured| configured.view))
    }

    /// Sets the tenant's directory as a whole. No server is asked. Without a secret the one before stays, unless servers, StartTLS,
    /// certificate authorities or bind DN change.
    pub async fn configure(
        &self,
        scope: &TenantScope,
        wanted: NewSettings,
        secret: NewSecret,
        conditions: &Conditions,
    ) -> Result<View> {
        let settings = wanted.check(&self.reach, self.isolation.clock().now())?;
        self.tenancy.get(scope).await?;
        self.check_roles(scope, &settings).await?;
        for is_last in [false, true] {
            let sealed = match &secret.0 {
                Some(secret) => Some(self.keys.seal(scope, seal::PURPOSE, secret.expose().as_bytes()).await?),
                None => None,
            };
            if let Some(view) = self.store_settings(scope, &settings, sealed.as_ref(), conditions).await? {
                return Ok(view);
            }
            if !is_last {
                // This replica had not heard for so long that the key is gone meanwhile.
                self.tenancy.snapshots().reread(scope.tenant()).await?;
            }
        }
        Err(Error::unavailable("a data key was destroyed before what it sealed was stored"))
    }

    /// Roles have to be there, and nobody gives more than it has itself. Nor does anybody say where those sign in who have more: who
    /// names the servers could be any of them.
    async fn check_roles(&self, scope: &TenantScope, settings: &Settings) -> Result<()> {
        let own = self.members.own_roles(scope).await?;
        let is_known = |role: &String| Shipped::find(role).is_some() || own.iter().any(|known| known.key == *role);
        let mut given = Vec::new();
        for (field, roles) in settings.roles() {
            if !roles.iter().all(is_known) {
                return Err(Error::invalid(field, "names a role that the tenant has not"));
            }
            given.extend(roles);
        }
        let held = scope.caller().scopes;
        if !Roles::OfTenant(&own).scopes_of(given).without(held).is_empty() {
            let rule = "the roles of roleMappings and defaultRoles have scopes that you do not have yourself";
            return Err(Error::forbidden(rule));
        }
        let tx = self.isolation.begin(scope).await?;
        let members = self.members.of_source(&tx, Source::Directory).await?;
        tx.commit_unrecorded("a read").await?;
        let roles: BTreeSet<&String> = members.iter().flat_map(|member| &member.roles).collect();
        if !Roles::OfTenant(&own).scopes_of(roles).without(held).is_empty() {
            let rule = "members of the directory have scopes that you do not have yourself, so where they sign in is not yours to say";
            return Err(Error::forbidden(rule));
        }
        Ok(())
    }

    /// None where the data key is gone.
    async fn store_settings(
        &self,
        scope: &TenantScope,
        settings: &Settings,
        sealed: Option<&Sealed>,
        conditions: &Conditions,
    ) -> Result<Option<View>> {
        let tx = self.isolation.begin(scope).await?;
        if let Some(answered) = tx.first_answer(conditions).await? {
            tx.commit_unrecorded("a read").await?;
            return Ok(Some(answered));
        }
        let before = store::lock(&tx).await?.map(|configured| configured.view);
        conditions.check_version(before.as_ref().map_or(0, |before| before.version))?;
        if settings.is_plain_text() && !store::find_permit(&tx, tx.tenant()).await?.unwrap_or_default().plain_text {
            let rule = "plain text is not permitted to this tenant; use ldaps://, or ldap:// with StartTLS";
            return Err(Error::invalid("servers", rule));
        }
        check_secret(settings, before.as_ref(), sealed)?;
        let now = tx.stamp().at;
        let view = View {
            settings: settings.clone(),
            secret_set_at: before.as_ref().filter(|_| sealed.is_none()).map_or(now, |before| before.secret_set_at),
            next_sync_at: settings.sync_interval_minutes.map(|minutes| now + TimeDelta::minutes(minutes.into())),
            version: before.as_ref().map_or(1, |before| before.version + 1),
            created_at: before.as_ref().map_or(now, |before| before.created_at),
            updated_at: now,
        };
        if !store::put(&tx, &view, sealed).await? {
            return Ok(None);
        }
        tx.keep_answer(conditions, &view).await?;
        let entry = Entry::new("DirectoryConfigured", "directory", tx.tenant());
        tx.commit([entry.change(before.as_ref(), Some(&view))?]).await?;
        Ok(Some(view))
    }

    /// Forgets the tenant's directory with its secret. Members stay as they are; nobody signs in by it any more.
    pub async fn remove(&self, scope: &TenantScope, conditions: &Conditions) -> Result<View> {
        let tx = self.isolation.begin(scope).await?;
        if let Some(answered) = tx.first_answer(conditions).await? {
            tx.commit_unrecorded("a read").await?;
            return Ok(answered);
        }
        let view = store::lock(&tx).await?.ok_or_else(none)?.view;
        conditions.check_version(view.version)?;
        store::delete(&tx).await?;
        tx.keep_answer(conditions, &view).await?;
        let entry = Entry::new("DirectoryRemoved", "directory", tx.tenant());
        tx.commit([entry.change(Some(&view), None)?]).await?;
        Ok(view)
    }
}

/// The tenant has no directory.
pub(super) fn none() -> Error {
    Error::new(crate::error::Kind::NotFound, "the tenant has no directory")
}

fn check_secret(settings: &Settings, before: Option<&View>, sealed: Option<&Sealed>) -> Result<()> {
    match before {
        _ if sealed.is_some() => Ok(()),
        None => Err(Error::invalid("bindSecret", "is needed: the directory has none yet")),
        Some(before) if settings.leads_elsewhere(&before.settings) => Err(Error::invalid(
            "bindSecret",
            "has to be sent again where servers, StartTLS, certificate authorities or bind DN change",
        )),
        Some(_) => Ok(()),
    }
}
