//! Authorities of a tenant: added, listed, taken away, and handed to gateways.

use std::sync::Arc;

use async_graphql::Enum;
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::{
    Pki, acceptance,
    certificate::{Certificate, sha256},
    name::hex,
    pem, store,
};
use crate::{
    error::{Error, Result},
    isolation::{Conditions, OperatorScope, TenantScope},
    journal::Entry,
    platform::{
        ids::{TenantId, TrustAnchorId},
        page::{Page, PageRequest},
    },
};

/// What a tenant may have at once, and what one request may bring.
pub const MOST: usize = 100;
/// Certificates that a calendar of all tenants shows.
const MOST_LISTED: usize = 500;

/// What a stored certificate is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[graphql(name = "TrustAnchorRole")]
pub enum Role {
    /// It is trusted, and whatever it has issued.
    Anchor,
    /// It is a link that clients need not present; by itself it is not trusted.
    Intermediate,
}

impl Role {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Anchor => "ANCHOR",
            Self::Intermediate => "INTERMEDIATE",
        }
    }

    pub(super) fn parse(name: &str) -> Option<Self> {
        [Self::Anchor, Self::Intermediate].into_iter().find(|role| role.name() == name)
    }
}

#[derive(Clone, Debug)]
pub struct Anchor {
    pub anchor_id: TrustAnchorId,
    pub role: Role,
    pub certificate: Arc<Certificate>,
    pub added_at: DateTime<Utc>,
    pub added_by: String,
}

impl Anchor {
    /// Whole days until it ends; below 0 once it has.
    pub fn days_left(&self, now: DateTime<Utc>) -> i64 {
        (self.certificate.not_after - now).num_seconds().div_euclid(86_400)
    }
}

/// What the journal says of one, and what is kept with an idempotency key.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Told {
    id: TrustAnchorId,
    role: Role,
    subject: String,
    issuer: String,
    serial: String,
    fingerprint: String,
    not_before: DateTime<Utc>,
    not_after: DateTime<Utc>,
    added_at: DateTime<Utc>,
    added_by: String,
    pem: String,
}

impl From<&Anchor> for Told {
    fn from(anchor: &Anchor) -> Self {
        let certificate = &anchor.certificate;
        Self {
            id: anchor.anchor_id,
            role: anchor.role,
            subject: certificate.subject.text.clone(),
            issuer: certificate.issuer.text.clone(),
            serial: hex(&certificate.serial),
            fingerprint: hex(&certificate.fingerprint),
            not_before: certificate.not_before,
            not_after: certificate.not_after,
            added_at: anchor.added_at,
            added_by: anchor.added_by.clone(),
            pem: pem::write(LABEL, &certificate.der),
        }
    }
}

impl TryFrom<Told> for Anchor {
    type Error = Error;

    fn try_from(told: Told) -> Result<Self> {
        let der = pem::read("pem", &told.pem, LABEL, 1)?.remove(0).der;
        let certificate = Arc::new(Certificate::read(&der).map_err(Error::internal)?);
        Ok(Self { anchor_id: told.id, role: told.role, certificate, added_at: told.added_at, added_by: told.added_by })
    }
}

pub(super) const LABEL: &str = "CERTIFICATE";

/// Certificates of authorities as one text, and what changes whenever it does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    pub pem: String,
    /// SHA-256 of the text, in hexadecimal digits.
    pub tag: String,
    pub certificates: usize,
}

impl Pki {
    /// Adds all certificates of `text`, or none.
    pub async fn add_anchors(
        &self,
        scope: &TenantScope,
        text: String,
        role: Role,
        conditions: &Conditions,
    ) -> Result<Vec<Anchor>> {
        let now = self.isolation.clock().now();
        // A megabyte of certificates takes its time.
        let read = tokio::task::spawn_blocking(move || accepted(&text, now)).await.map_err(Error::internal)??;
        self.tenancy.get(scope).await?;
        self.members.check_reach_of_all(scope).await?;
        let tx = self.isolation.begin(scope).await?;
        if let Some(answered) = tx.first_answer::<Vec<Told>>(conditions).await? {
            tx.commit_unrecorded("a read").await?;
            return answered.into_iter().map(Anchor::try_from).collect();
        }
        store::lock(&tx).await?;
        let known = store::anchors(&tx).await?;
        if known.len() + read.len() > MOST {
            let message = format!("there are {} certificates, and there can be {MOST}; remove some first", known.len());
            return Err(Error::conflict(message).at("pem"));
        }
        let mut added = Vec::with_capacity(read.len());
        for (place, certificate) in read.into_iter().enumerate() {
            if let Some(same) = known.iter().find(|known| known.certificate.fingerprint == certificate.fingerprint) {
                let message = format!("certificate {} is there already, as {}", place + 1, same.anchor_id);
                return Err(Error::conflict(message).at("pem"));
            }
            let (added_at, added_by) = (tx.stamp().at, tx.stamp().actor.name.clone());
            let anchor_id = TrustAnchorId::generate();
            let anchor = Anchor { anchor_id, role, certificate, added_at, added_by };
            store::insert_anchor(&tx, &anchor).await?;
            added.push(anchor);
        }
        let told: Vec<_> = added.iter().map(Told::from).collect();
        tx.keep_answer(conditions, &told).await?;
        let entries: Result<Vec<_>> = told
            .iter()
            .map(|told| Entry::new("TrustAnchorAdded", "trustAnchor", told.id).change(None, Some(told)))
            .collect();
        tx.commit(entries?).await?;
        Ok(added)
    }

    /// From now on it is not trusted, nor whatever it has issued.
    pub async fn remove_anchor(
        &self,
        scope: &TenantScope,
        id: TrustAnchorId,
        conditions: &Conditions,
    ) -> Result<Anchor> {
        let tx = self.isolation.begin(scope).await?;
        if let Some(answered) = tx.first_answer::<Told>(conditions).await? {
            tx.commit_unrecorded("a read").await?;
            return answered.try_into();
        }
        store::lock(&tx).await?;
        let anchor = store::anchors(&tx).await?.into_iter().find(|anchor| anchor.anchor_id == id);
        let anchor = anchor.ok_or_else(|| Error::not_found().at("id"))?;
        store::delete_anchor(&tx, id).await?;
        let told = Told::from(&anchor);
        tx.keep_answer(conditions, &told).await?;
        tx.commit([Entry::new("TrustAnchorRemoved", "trustAnchor", id).change(Some(&told), None)?]).await?;
        Ok(anchor)
    }

    /// All of the tenant, in the order in which they were added.
    pub async fn anchors(&self, scope: &TenantScope, request: &PageRequest) -> Result<Page<Anchor>> {
        let after: Option<TrustAnchorId> = request.key()?;
        let tx = self.isolation.begin(scope).await?;
        let found = store::anchors_after(&tx, after, request.first + 1).await?;
        tx.commit_unrecorded("a read").await?;
        Ok(request.page(found))
    }

    /// Those that end before `until`, the next to end first.
    pub async fn expiring(&self, scope: &TenantScope, days: i32) -> Result<Vec<(TenantId, Anchor)>> {
        let until = self.horizon(days)?;
        let tx = self.isolation.begin(scope).await?;
        let mut found = store::anchors(&tx).await?;
        tx.commit_unrecorded("a read").await?;
        found.retain(|anchor| anchor.certificate.not_after < until);
        found.sort_by_key(|anchor| anchor.certificate.not_after);
        Ok(found.into_iter().map(|anchor| (scope.tenant(), anchor)).collect())
    }

    /// The same of all tenants.
    pub async fn all_expiring(&self, scope: &OperatorScope, days: i32) -> Result<Vec<(TenantId, Anchor)>> {
        let until = self.horizon(days)?;
        let tx = self.isolation.begin_operator(scope).await?;
        let found = store::expiring_of_all(&tx, until, MOST_LISTED).await?;
        tx.commit_unrecorded("a read").await?;
        Ok(found)
    }

    fn horizon(&self, days: i32) -> Result<DateTime<Utc>> {
        if !(0..=3660).contains(&days) {
            return Err(Error::invalid("withinDays", "must be between 0 and 3660"));
        }
        Ok(self.isolation.clock().now() + TimeDelta::days(days.into()))
    }

    /// The certificates that are trusted at present, for gateways that check certificates themselves.
    pub async fn bundle(&self, scope: &TenantScope) -> Result<Bundle> {
        let now = self.isolation.clock().now();
        let tx = self.isolation.begin(scope).await?;
        let mut found = store::anchors(&tx).await?;
        tx.commit_unrecorded("a read").await?;
        found.retain(|anchor| anchor.role == Role::Anchor && anchor.certificate.not_after >= now);
        found.sort_by_key(|anchor| anchor.certificate.fingerprint);
        let pem: String = found.iter().map(|anchor| pem::write(LABEL, &anchor.certificate.der)).collect();
        let tag = hex(&sha256(pem.as_bytes()));
        Ok(Bundle { pem, tag, certificates: found.len() })
    }
}

/// All certificates of a text; else which of them is not taken, and why.
fn accepted(text: &str, now: DateTime<Utc>) -> Result<Vec<Arc<Certificate>>> {
    let blocks = pem::read("pem", text, LABEL, MOST)?;
    let mut read: Vec<Arc<Certificate>> = Vec::with_capacity(blocks.len());
    for (place, block) in blocks.iter().enumerate() {
        let (number, line) = (place + 1, block.line);
        let refuse = |rule: String| {
            let message = format!("certificate {number}, in line {line}, {rule}");
            Error::invalid("pem", message).with(serde_json::json!({ "certificate": number, "line": line }))
        };
        let certificate = Certificate::read(&block.der).map_err(|rule| refuse(rule.to_owned()))?;
        if let Some(rule) = acceptance::refused(&certificate, now) {
            return Err(refuse(format!("{:?}, {rule}", certificate.subject.text)));
        }
        if let Some(first) = read.iter().position(|other| other.fingerprint == certificate.fingerprint) {
            return Err(refuse(format!("is the same as certificate {}", first + 1)));
        }
        read.push(Arc::new(certificate));
    }
    Ok(read)
}
