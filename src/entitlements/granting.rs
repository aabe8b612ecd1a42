//! Giving something beside the plan, and taking it back.

use chrono::{DateTime, Utc};

use super::{
    Entitlements,
    catalogue::{self, Resources, check_text},
};
use crate::{
    error::{Error, Kind as ErrorKind, Result},
    grants::{self, Grant, Kind},
    isolation::{Conditions, OperatorScope, TenantScope, TenantTx},
    journal::Entry,
    platform::ids::GrantId,
    quotas::{QuotaKey, QuotaKeys},
    tenancy::Catalogue,
};

/// Grants of one tenant that have not ended.
const MOST_GRANTS: usize = 200;
/// The largest amount, in units of the quota: sums of all grants of a tenant stay countable.
pub(super) const LARGEST_AMOUNT: i64 = 1_000_000_000_000_000;
pub(super) const DEFAULT_PRIORITY: i32 = 100;
/// Grants that a list shows; the newest.
const MOST_LISTED: u64 = 200;

/// A grant as it was asked for.
#[derive(Clone, Debug)]
pub struct NewGrant {
    pub kind: Kind,
    pub key: String,
    pub amount: Option<i64>,
    /// The lowest burns first; 0 to 255.
    pub priority: i32,
    /// At once where none is named.
    pub effective_at: Option<DateTime<Utc>>,
    pub expires_at: Option<DateTime<Utc>>,
    pub reason: String,
}

impl Entitlements {
    pub async fn grant(&self, scope: &TenantScope, new: NewGrant, conditions: &Conditions) -> Result<Grant> {
        let catalogue = self.tenancy.snapshots().catalogue().await?;
        let quota = new.check(&catalogue, self.isolation.clock().now())?;
        self.tenancy.get(scope).await?;
        let tx = self.isolation.begin(scope).await?;
        if let Some(answered) = tx.first_answer(conditions).await? {
            tx.commit_unrecorded("a read").await?;
            return Ok(answered);
        }
        let mut entries = self.settle(&tx, quota.as_ref()).await?;
        let live = grants::live(&tx, tx.tenant()).await?.len() + grants::of_quotas(&tx, tx.tenant(), &[]).await?.len();
        if live >= MOST_GRANTS {
            let sentence = format!("the tenant has {live} grants that have not ended; revoke some");
            return Err(Error::new(ErrorKind::QuotaExceeded, sentence));
        }
        let grant = new.into_grant(&tx);
        grants::insert(&tx, &grant).await?;
        entries.extend(self.settle(&tx, quota.as_ref()).await?);
        entries.push(Entry::new("EntitlementGranted", "grant", grant.grant_id).change(None, Some(&grant))?);
        tx.keep_answer(conditions, &grant).await?;
        tx.commit(entries).await?;
        self.tenancy.snapshots().refresh(scope.tenant()).await;
        Ok(grant)
    }

    /// Ends a grant before its time. What was used of it stays used.
    pub async fn revoke(&self, scope: &TenantScope, grant: GrantId, conditions: &Conditions) -> Result<Grant> {
        let tx = self.isolation.begin(scope).await?;
        if let Some(answered) = tx.first_answer(conditions).await? {
            tx.commit_unrecorded("a read").await?;
            return Ok(answered);
        }
        let (revoked, entries) =
            self.end(&tx, grant, "EntitlementRevoked", conditions).await?.ok_or_else(Error::not_found)?;
        tx.keep_answer(conditions, &revoked).await?;
        tx.commit(entries).await?;
        self.tenancy.snapshots().refresh(scope.tenant()).await;
        Ok(revoked)
    }

    /// Records the end of grants whose time is over: they count for nothing since then, whether this has run or not.
    pub async fn end_due_grants(&self) -> Result<()> {
        let now = self.isolation.clock().now();
        let tx = self.isolation.begin_operator(&OperatorScope::system("entitlements")).await?;
        let due = grants::due(&tx, now).await?;
        tx.commit_unrecorded("a read").await?;
        for (tenant, grant) in due {
            let tx = self.isolation.begin(&TenantScope::system("entitlements", tenant)).await?;
            match self.end(&tx, grant, "EntitlementExpired", &Conditions::default()).await? {
                // Another replica was faster.
                None => tx.commit_unrecorded("nothing was to be done").await?,
                Some((_, entries)) => {
                    tx.commit(entries).await?;
                    self.tenancy.snapshots().refresh(tenant).await;
                }
            }
        }
        Ok(())
    }

    /// The tenant's grants, those that have ended as well; the newest first, at most 200.
    pub async fn grants(&self, scope: &TenantScope) -> Result<Vec<Grant>> {
        self.tenancy.get(scope).await?;
        let tx = self.isolation.begin(scope).await?;
        let found = grants::list(&tx, scope.tenant(), MOST_LISTED).await?;
        tx.commit_unrecorded("a read").await?;
        Ok(found)
    }

    /// The grant after its end, and what has to be recorded; `None` where there is none that has not ended.
    async fn end(
        &self,
        tx: &TenantTx,
        id: GrantId,
        event: &'static str,
        conditions: &Conditions,
    ) -> Result<Option<(Grant, Vec<Entry>)>> {
        let Some(found) = grants::find(tx, tx.tenant(), id).await?.filter(|grant| grant.ended_at.is_none()) else {
            return Ok(None);
        };
        let catalogue = self.tenancy.snapshots().catalogue().await?;
        let quota = match found.kind {
            Kind::Quota => catalogue.part::<QuotaKeys>()?.find(&found.key).cloned(),
            Kind::Feature | Kind::Resource => None,
        };
        // What was used of it is counted while it still counts.
        let mut entries = self.settle(tx, quota.as_ref()).await?;
        let Some(before) = grants::lock(tx, tx.tenant(), id).await?.filter(|grant| grant.ended_at.is_none()) else {
            return Ok(None);
        };
        conditions.check_version(before.version)?;
        let now = tx.stamp().at;
        let at = before.expires_at.filter(|end| *end <= now).unwrap_or(now);
        let after = Grant { ended_at: Some(at), version: before.version + 1, ..before.clone() };
        if !grants::end(tx, tx.tenant(), id, at).await? {
            return Ok(None);
        }
        entries.extend(self.settle(tx, quota.as_ref()).await?);
        entries.push(Entry::new(event, "grant", id).change(Some(&before), Some(&after))?);
        Ok(Some((after, entries)))
    }

    async fn settle(&self, tx: &TenantTx, quota: Option<&QuotaKey>) -> Result<Vec<Entry>> {
        match quota {
            Some(key) => self.quotas.settle_in(tx, key).await,
            None => Ok(Vec::new()),
        }
    }
}

impl NewGrant {
    /// Answers the quota that it is of.
    fn check(&self, catalogue: &Catalogue, now: DateTime<Utc>) -> Result<Option<QuotaKey>> {
        let quota = self.check_key(catalogue)?;
        match (self.kind, self.amount) {
            (Kind::Quota, Some(1..=LARGEST_AMOUNT)) | (Kind::Feature | Kind::Resource, None) => {}
            (Kind::Quota, _) => {
                let rule = format!("of a QUOTA is needed, and must be between 1 and {LARGEST_AMOUNT}");
                return Err(Error::invalid("amount", rule));
            }
            (Kind::Feature | Kind::Resource, Some(_)) => return Err(Error::invalid("amount", "is for a QUOTA alone")),
        }
        if !(0..=255).contains(&self.priority) {
            return Err(Error::invalid("priority", "must be between 0 and 255"));
        }
        if self.effective_at.is_some_and(|begin| begin <= now) {
            return Err(Error::invalid("effectiveAt", "must be in the future; leave it out to begin at once"));
        }
        if self.expires_at.is_some_and(|end| end <= self.effective_at.unwrap_or(now)) {
            return Err(Error::invalid("expiresAt", "must be in the future, and later than effectiveAt"));
        }
        check_text("reason", &self.reason, 1, 2_000)?;
        Ok(quota)
    }

    fn check_key(&self, catalogue: &Catalogue) -> Result<Option<QuotaKey>> {
        match self.kind {
            Kind::Quota => match catalogue.part::<QuotaKeys>()?.find(&self.key) {
                Some(key) => Ok(Some(key.clone())),
                None => Err(Error::invalid("key", "names no quota of the catalogue")),
            },
            Kind::Feature => check_feature("key", &self.key).map(|()| None),
            Kind::Resource => {
                let named = catalogue::split(&self.key).and_then(|(kind, key)| {
                    catalogue.part::<Resources>().map(|resources| resources.find(kind, key)).transpose()
                });
                match named.transpose()? {
                    Some(resource) if !resource.retired => Ok(None),
                    Some(_) => Err(Error::invalid("key", "names a resource that is retired")),
                    None => Err(Error::invalid("key", "names no resource; it is `<kind>/<key>`")),
                }
            }
        }
    }

    fn into_grant(self, tx: &TenantTx) -> Grant {
        let now = tx.stamp().at;
        Grant {
            tenant_id: tx.tenant(),
            grant_id: GrantId::generate(),
            kind: self.kind,
            key: self.key,
            amount: self.amount,
            burnt: 0,
            priority: self.priority,
            effective_at: self.effective_at.unwrap_or(now),
            expires_at: self.expires_at,
            ended_at: None,
            reason: self.reason,
            granted_by: tx.stamp().actor.name.clone(),
            version: 1,
            created_at: now,
        }
    }
}

/// Features are listed by plans and named by flags; there is no catalogue of them.
pub(super) fn check_feature(field: &str, key: &str) -> Result<()> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let well_formed = (1..=128).contains(&key.len())
        && key.bytes().all(allowed)
        && key.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric);
    if well_formed {
        return Ok(());
    }
    Err(Error::invalid(field, "has 1 to 128 letters, digits, '.', '_' or '-', and begins with a letter or digit"))
}
