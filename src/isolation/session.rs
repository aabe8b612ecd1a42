use std::{collections::BTreeMap, ops::Deref};

use serde::{Serialize, de::DeserializeOwned};

use super::{
    Budgets, OperatorScope, TenantScope,
    budget::Slot,
    once::{self, Conditions, Owner},
    verifier::{Finding, verify_catalogue},
};
use crate::{
    access::Effect,
    error::Result,
    journal::{self, Entry, Stamp},
    platform::{
        clock::Clock,
        db::{Db, Hearing, Session, Tx},
        ids::TenantId,
    },
};

/// Opens sessions. Clones share the pool.
#[derive(Clone, Debug)]
pub struct Isolation {
    pub(super) db: Db,
    hearing: Hearing,
    clock: Clock,
    budgets: Budgets,
}

impl Isolation {
    pub fn new(db: Db, clock: Clock, budgets: Budgets) -> Self {
        Self { hearing: Hearing::new(db.clone()), db, clock, budgets }
    }

    /// What this replica hears of changes, and whether the others have heard of its own.
    pub fn hearing(&self) -> &Hearing {
        &self.hearing
    }

    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// A session that touches this tenant's rows and no others; read-only where the permission is. A service waits where its
    /// tenant's share of the database is in use.
    #[expect(clippy::disallowed_methods, reason = "the scope is the proof that the caller may")]
    pub async fn begin(&self, scope: &TenantScope) -> Result<TenantTx> {
        let tenant = scope.tenant();
        let session = match scope.effect() {
            Effect::Read => Session::TenantReadOnly(tenant),
            Effect::Write => Session::Tenant(tenant),
        };
        let slot = self.budgets.take(scope.shared_caller()).await?;
        let tx = self.db.begin(session).await?;
        let stamp = Stamp::new(scope.caller(), self.clock.now());
        Ok(TenantTx { tx, slot, hearing: self.hearing.clone(), tenant, stamp })
    }

    /// A session over all tenants.
    #[expect(clippy::disallowed_methods, reason = "the scope is the proof that the caller may")]
    pub async fn begin_operator(&self, scope: &OperatorScope) -> Result<OperatorTx> {
        let session = match scope.effect() {
            Effect::Read => Session::OperatorReadOnly,
            Effect::Write => Session::Operator,
        };
        let tx = self.db.begin(session).await?;
        let stamp = Stamp::new(scope.caller(), self.clock.now());
        Ok(OperatorTx { tx, hearing: self.hearing.clone(), stamp })
    }

    /// Checks that PostgreSQL still keeps tenants apart; finds nothing where it does.
    pub async fn verify(&self, scope: &OperatorScope) -> Result<Vec<Finding>> {
        let tx = self.begin_operator(scope).await?;
        let findings = verify_catalogue(&tx).await?;
        tx.commit_unrecorded("a read").await?;
        Ok(findings)
    }

    /// Reads one tenant's own rows to find out what its callers may do: before there can be a scope.
    #[expect(clippy::disallowed_methods, reason = "read-only, and bound to the one tenant")]
    pub async fn observe(&self, tenant: TenantId) -> Result<ReadTx> {
        Ok(ReadTx { tx: self.db.begin(Session::TenantReadOnly(tenant)).await? })
    }

    /// Reads the platform's catalogues for memory.
    #[expect(clippy::disallowed_methods, reason = "read-only, for what every tenant may know")]
    pub async fn observe_platform(&self) -> Result<ReadTx> {
        Ok(ReadTx { tx: self.db.begin(Session::OperatorReadOnly).await? })
    }
}

/// A transaction of one tenant.
#[derive(Debug)]
pub struct TenantTx {
    tx: Tx,
    /// Given back after the connection.
    slot: Option<Slot>,
    hearing: Hearing,
    tenant: TenantId,
    stamp: Stamp,
}

impl TenantTx {
    pub fn tenant(&self) -> TenantId {
        self.tenant
    }

    pub fn stamp(&self) -> &Stamp {
        &self.stamp
    }

    /// The first answer to the request's idempotency key, where it was used before. Asked before anything is changed.
    pub async fn first_answer<T: DeserializeOwned>(&self, conditions: &Conditions) -> Result<Option<T>> {
        let owner = Owner { tenant: self.tenant, subject: &self.stamp.actor.name };
        first_answer(&self.tx, owner, conditions, &self.stamp).await
    }

    /// Keeps the answer with the request's idempotency key.
    pub async fn keep_answer<T: Serialize>(&self, conditions: &Conditions, answer: &T) -> Result<()> {
        let owner = Owner { tenant: self.tenant, subject: &self.stamp.actor.name };
        keep_answer(&self.tx, owner, conditions, answer).await
    }

    /// Writes what was done into the tenant's journal, and commits both or neither. When it returns, no replica answers from
    /// memory that is older.
    pub async fn commit(self, entries: impl IntoIterator<Item = Entry>) -> Result<()> {
        let entries: Vec<_> = entries.into_iter().collect();
        journal::append(&self.tx, self.tenant, &self.stamp, &entries).await?;
        self.tx.commit().await?;
        drop(self.slot);
        self.hearing.heard_by_all().await;
        Ok(())
    }

    /// Commits what needs no record: reads and bookkeeping. `why` is for the reader of the code.
    pub async fn commit_unrecorded(self, _why: &'static str) -> Result<()> {
        self.tx.commit().await
    }
}

/// A transaction of the platform itself, over all tenants.
#[derive(Debug)]
pub struct OperatorTx {
    tx: Tx,
    hearing: Hearing,
    stamp: Stamp,
}

impl OperatorTx {
    pub fn stamp(&self) -> &Stamp {
        &self.stamp
    }

    /// The first answer to the request's idempotency key, where it was used before. Asked before anything is changed.
    pub async fn first_answer<T: DeserializeOwned>(&self, conditions: &Conditions) -> Result<Option<T>> {
        let owner = Owner { tenant: TenantId::PLATFORM, subject: &self.stamp.actor.name };
        first_answer(&self.tx, owner, conditions, &self.stamp).await
    }

    /// Keeps the answer with the request's idempotency key.
    pub async fn keep_answer<T: Serialize>(&self, conditions: &Conditions, answer: &T) -> Result<()> {
        let owner = Owner { tenant: TenantId::PLATFORM, subject: &self.stamp.actor.name };
        keep_answer(&self.tx, owner, conditions, answer).await
    }

    /// Writes what was done into the platform's journal, and commits both or neither. When it returns, no replica answers from
    /// memory that is older.
    pub async fn commit(self, entries: impl IntoIterator<Item = Entry>) -> Result<()> {
        self.commit_for(TenantId::PLATFORM, entries).await
    }

    /// The same into the journal of `tenant`: for what makes it or moves it.
    pub async fn commit_for(self, tenant: TenantId, entries: impl IntoIterator<Item = Entry>) -> Result<()> {
        let entries: Vec<_> = entries.into_iter().collect();
        journal::append(&self.tx, tenant, &self.stamp, &entries).await?;
        self.tx.commit().await?;
        self.hearing.heard_by_all().await;
        Ok(())
    }

    /// The same with one entry in the journal of each of many tenants.
    pub async fn commit_for_each(self, entries: &BTreeMap<TenantId, Entry>) -> Result<()> {
        journal::append_each(&self.tx, &self.stamp, entries).await?;
        self.tx.commit().await?;
        self.hearing.heard_by_all().await;
        Ok(())
    }

    /// Commits what needs no record: reads and bookkeeping. `why` is for the reader of the code.
    pub async fn commit_unrecorded(self, _why: &'static str) -> Result<()> {
        self.tx.commit().await
    }

    /// Commits bookkeeping of several tenants, and of each what of it is worth a record. When it returns, no replica answers from
    /// memory that is older.
    pub async fn commit_bookkeeping(
        self,
        _why: &'static str,
        entries: impl IntoIterator<Item = (TenantId, Vec<Entry>)>,
    ) -> Result<()> {
        for (tenant, entries) in entries {
            journal::append(&self.tx, tenant, &self.stamp, &entries).await?;
        }
        self.tx.commit().await?;
        self.hearing.heard_by_all().await;
        Ok(())
    }

    pub async fn rollback(self) -> Result<()> {
        self.tx.rollback().await
    }
}

/// A read-only transaction of one tenant, or of the platform.
#[derive(Debug)]
pub struct ReadTx {
    tx: Tx,
}

impl ReadTx {
    pub async fn end(self) -> Result<()> {
        self.tx.commit().await
    }
}

async fn first_answer<T: DeserializeOwned>(
    tx: &Tx,
    owner: Owner<'_>,
    conditions: &Conditions,
    stamp: &Stamp,
) -> Result<Option<T>> {
    match &conditions.idempotency {
        Some(key) => once::claim(tx, owner, key, stamp.at).await,
        None => Ok(None),
    }
}

async fn keep_answer<T: Serialize>(tx: &Tx, owner: Owner<'_>, conditions: &Conditions, answer: &T) -> Result<()> {
    match &conditions.idempotency {
        Some(key) => once::answer(tx, owner, key, answer).await,
        None => Ok(()),
    }
}

impl Deref for TenantTx {
    type Target = Tx;
    fn deref(&self) -> &Tx {
        &self.tx
    }
}

impl Deref for OperatorTx {
    type Target = Tx;
    fn deref(&self) -> &Tx {
        &self.tx
    }
}

impl Deref for ReadTx {
    type Target = Tx;
    fn deref(&self) -> &Tx {
        &self.tx
    }
}
