use std::ops::Deref;

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    access::Caller,
    error::Result,
    isolation::{Conditions, Isolation, OperatorScope, OperatorTx, TenantScope, TenantTx},
    journal::{Entry, Stamp},
    platform::{db::Tx, ids::TenantId},
};

/// Whose clients are meant, with the proof that the caller may.
#[derive(Clone, Debug)]
pub enum Owner {
    Tenant(TenantScope),
    /// The platform itself: its clients have the nil tenant.
    Platform(OperatorScope),
}

impl Owner {
    pub fn tenant_id(&self) -> TenantId {
        match self {
            Self::Tenant(scope) => scope.tenant(),
            Self::Platform(_) => TenantId::PLATFORM,
        }
    }

    pub fn caller(&self) -> &Caller {
        match self {
            Self::Tenant(scope) => scope.caller(),
            Self::Platform(scope) => scope.caller(),
        }
    }

    pub(super) async fn begin(&self, isolation: &Isolation) -> Result<OwnerTx> {
        match self {
            Self::Tenant(scope) => isolation.begin(scope).await.map(OwnerTx::Tenant),
            Self::Platform(scope) => isolation.begin_operator(scope).await.map(OwnerTx::Platform),
        }
    }
}

/// A transaction on an owner's rows, recorded in the owner's journal.
#[derive(Debug)]
pub(super) enum OwnerTx {
    Tenant(TenantTx),
    Platform(OperatorTx),
}

impl OwnerTx {
    pub(super) fn stamp(&self) -> &Stamp {
        match self {
            Self::Tenant(tx) => tx.stamp(),
            Self::Platform(tx) => tx.stamp(),
        }
    }

    pub(super) async fn first_answer<T: DeserializeOwned>(&self, conditions: &Conditions) -> Result<Option<T>> {
        match self {
            Self::Tenant(tx) => tx.first_answer(conditions).await,
            Self::Platform(tx) => tx.first_answer(conditions).await,
        }
    }

    pub(super) async fn keep_answer<T: Serialize>(&self, conditions: &Conditions, answer: &T) -> Result<()> {
        match self {
            Self::Tenant(tx) => tx.keep_answer(conditions, answer).await,
            Self::Platform(tx) => tx.keep_answer(conditions, answer).await,
        }
    }

    pub(super) async fn commit(self, entries: impl IntoIterator<Item = Entry>) -> Result<()> {
        match self {
            Self::Tenant(tx) => tx.commit(entries).await,
            Self::Platform(tx) => tx.commit(entries).await,
        }
    }

    pub(super) async fn commit_unrecorded(self, why: &'static str) -> Result<()> {
        match self {
            Self::Tenant(tx) => tx.commit_unrecorded(why).await,
            Self::Platform(tx) => tx.commit_unrecorded(why).await,
        }
    }
}

impl Deref for OwnerTx {
    type Target = Tx;
    fn deref(&self) -> &Tx {
        match self {
            Self::Tenant(tx) => tx,
            Self::Platform(tx) => tx,
        }
    }
}
