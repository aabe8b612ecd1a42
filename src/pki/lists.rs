//! Revocation lists of a tenant's authorities: added, listed, taken away.

use std::sync::Arc;

use async_graphql::Enum;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{
    Pki,
    certificate::Certificate,
    list::{List, Scope},
    list_store, pem, store,
};
use crate::{
    error::{Error, Result},
    isolation::{Conditions, TenantScope},
    journal::Entry,
    platform::ids::RevocationListId,
};

const LABEL: &str = "X509 CRL";
/// What a tenant may have at once, and what one request may bring.
pub(super) const MOST: usize = 50;
const MOST_AT_ONCE: usize = 10;

/// How a list came here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[graphql(name = "RevocationListSource")]
pub enum Source {
    Uploaded,
    /// From where a certificate says (cRLDistributionPoints).
    Fetched,
}

impl Source {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Uploaded => "UPLOADED",
            Self::Fetched => "FETCHED",
        }
    }

    pub(super) fn parse(name: &str) -> Option<Self> {
        [Self::Uploaded, Self::Fetched].into_iter().find(|source| source.name() == name)
    }
}

/// A list as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Listed {
    pub list_id: RevocationListId,
    pub issuer: String,
    pub scope: Scope,
    pub distribution_points: Vec<String>,
    pub source: Source,
    pub number: Option<String>,
    pub this_update: DateTime<Utc>,
    pub next_update: DateTime<Utc>,
    pub entries: i32,
    pub added_at: DateTime<Utc>,
}

impl Pki {
    pub async fn lists(&self, scope: &TenantScope) -> Result<Vec<Listed>> {
        let tx = self.isolation.begin(scope).await?;
        let found = list_store::lists(&tx).await?;
        tx.commit_unrecorded("a read").await?;
        Ok(found)
    }

    /// Adds all lists of `text`, or none. Each takes the place of an older one about the same.
    pub async fn add_lists(&self, scope: &TenantScope, text: String, conditions: &Conditions) -> Result<Vec<Listed>> {
        let read = tokio::task::spawn_blocking(move || read(&text)).await.map_err(Error::internal)??;
        self.tenancy.get(scope).await?;
        let tx = self.isolation.begin(scope).await?;
        if let Some(answered) = tx.first_answer(conditions).await? {
            tx.commit_unrecorded("a read").await?;
            return Ok(answered);
        }
        store::lock(&tx).await?;
        let now = tx.stamp().at;
        let authorities: Vec<_> = store::anchors(&tx).await?.into_iter().map(|anchor| anchor.certificate).collect();
        let mut ids = Vec::new();
        for (place, (der, list)) in read.iter().enumerate() {
            let refuse = |rule: &str| Error::invalid("pem", format!("list {} {rule}", place + 1));
            if list.next_update < now || list.this_update > now {
                return Err(refuse("is not in force: it has ended, or not begun"));
            }
            let authority = issuer(list, der, &authorities).map_err(|rule| refuse(&rule))?;
            let put = list_store::put(&tx, authority.authority(), list, Source::Uploaded).await?;
            let newer = || Error::conflict(format!("list {} is older than the one that is there", place + 1)).at("pem");
            ids.push(put.ok_or_else(newer)?);
        }
        let all = list_store::lists(&tx).await?;
        if all.len() > MOST {
            return Err(Error::conflict(format!("there can be {MOST} lists; remove some first")).at("pem"));
        }
        let added: Vec<Listed> = all.into_iter().filter(|listed| ids.contains(&listed.list_id)).collect();
        tx.keep_answer(conditions, &added).await?;
        let entry = |listed: &Listed| {
            Entry::new("RevocationListAdded", "revocationList", listed.list_id).change(None, Some(listed))
        };
        let entries: Result<Vec<_>> = added.iter().map(entry).collect();
        tx.commit(entries?).await?;
        Ok(added)
    }

    pub async fn remove_list(
        &self,
        scope: &TenantScope,
        id: RevocationListId,
        conditions: &Conditions,
    ) -> Result<Listed> {
        // What is revoked by it signs in again.
        self.members.check_reach_of_all(scope).await?;
        let tx = self.isolation.begin(scope).await?;
        if let Some(answered) = tx.first_answer(conditions).await? {
            tx.commit_unrecorded("a read").await?;
            return Ok(answered);
        }
        store::lock(&tx).await?;
        let listed = list_store::lists(&tx).await?.into_iter().find(|listed| listed.list_id == id);
        let listed = listed.ok_or_else(|| Error::not_found().at("id"))?;
        list_store::delete(&tx, id).await?;
        tx.keep_answer(conditions, &listed).await?;
        tx.commit([Entry::new("RevocationListRemoved", "revocationList", id).change(Some(&listed), None)?]).await?;
        Ok(listed)
    }
}

fn read(text: &str) -> Result<Vec<(Vec<u8>, List)>> {
    let blocks = pem::read("pem", text, LABEL, MOST_AT_ONCE)?;
    let list = |(place, block): (usize, pem::Block)| {
        let list = List::read(&block.der);
        let list = list.map_err(|rule| Error::invalid("pem", format!("list {} {rule}", place + 1)))?;
        Ok((block.der, list))
    };
    blocks.into_iter().enumerate().map(list).collect()
}

/// Which of the tenant's authorities issued it; else what is wrong with it.
fn issuer<'a>(list: &List, der: &[u8], known: &'a [Arc<Certificate>]) -> Result<&'a Certificate, String> {
    let mut failure = "is of an issuer that is none of the tenant's authorities; add its certificate first".to_owned();
    for authority in known.iter().filter(|authority| authority.subject == list.issuer) {
        match list.check_issuer(der, authority) {
            Ok(()) => return Ok(authority),
            Err(rule) => failure = rule,
        }
    }
    Err(failure)
}
