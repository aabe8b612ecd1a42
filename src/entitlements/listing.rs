//! A tenant's own additions to what its plan allows, and what is taken from it.

use super::{
    Entitlements,
    allow_list::{self, TenantList},
    catalogue::{Items, Resources, check_text},
    defining::{check_items, check_kind},
};
use crate::{
    error::{Error, Result},
    isolation::{Conditions, TenantScope},
    journal::Entry,
};

/// What one tenant may use beside its plan, as it was asked for. It replaces what was said before.
#[derive(Clone, Debug)]
pub struct NewTenantList {
    pub kind: String,
    pub added: Vec<String>,
    pub removed: Vec<String>,
    pub reason: String,
}

impl Entitlements {
    pub async fn set_list(
        &self,
        scope: &TenantScope,
        new: NewTenantList,
        conditions: &Conditions,
    ) -> Result<TenantList> {
        check_text("reason", &new.reason, 1, 2_000)?;
        let catalogue = self.tenancy.snapshots().catalogue().await?;
        let known = catalogue.part::<Resources>()?;
        check_kind("resourceKind", known, &new.kind)?;
        let added = check_items("add", known, &new.kind, new.added)?;
        let removed = check_items("remove", known, &new.kind, new.removed)?;
        check_apart(&added, &removed)?;
        self.tenancy.get(scope).await?;
        let tx = self.isolation.begin(scope).await?;
        if let Some(answered) = tx.first_answer(conditions).await? {
            tx.commit_unrecorded("a read").await?;
            return Ok(answered);
        }
        let before = allow_list::lock(&tx, scope.tenant(), &new.kind).await?;
        conditions.check_version(before.as_ref().map_or(0, |before| before.version))?;
        let now = tx.stamp().at;
        let list = TenantList {
            tenant_id: scope.tenant(),
            kind: new.kind,
            added,
            removed,
            reason: new.reason,
            set_by: tx.stamp().actor.name.clone(),
            version: before.as_ref().map_or(1, |before| before.version + 1),
            created_at: before.as_ref().map_or(now, |before| before.created_at),
            updated_at: now,
        };
        allow_list::put(&tx, &list, before.as_ref()).await?;
        tx.keep_answer(conditions, &list).await?;
        tx.commit([Entry::new("AllowListSet", "allow_list", &list.kind).change(before.as_ref(), Some(&list))?]).await?;
        self.tenancy.snapshots().refresh(scope.tenant()).await;
        Ok(list)
    }
}

fn check_apart(added: &Items, removed: &Items) -> Result<()> {
    match removed.0.iter().position(|item| added.names(item)) {
        Some(place) => Err(Error::invalid("remove", format!("names `{}`, which is added", removed.0[place]))),
        None => Ok(()),
    }
}
