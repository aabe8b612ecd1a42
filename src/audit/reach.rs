use std::ops::Deref;

use super::Audit;
use crate::{
    error::{Error, Result},
    isolation::{OperatorScope, OperatorTx, TenantScope, TenantTx},
    platform::{db::Tx, ids::TenantId},
};

/// One chain of the journal, with the proof that the caller may read it.
#[derive(Clone, Debug)]
pub enum Chain {
    /// A tenant's.
    Tenant(TenantScope),
    /// The platform's own.
    Platform(OperatorScope),
}

/// What a list, an export or a feed goes over, with the proof that the caller may.
#[derive(Clone, Debug)]
pub enum Reach {
    /// Ordered by `sequence`.
    Chain(Chain),
    /// Every tenant's entries and the platform's own, ordered by (transaction, position).
    All(OperatorScope),
}

impl Chain {
    pub fn tenant(&self) -> TenantId {
        match self {
            Self::Tenant(scope) => scope.tenant(),
            Self::Platform(_) => TenantId::PLATFORM,
        }
    }

    /// A tenant's chain begins with its creation, so where nothing is there is no such tenant. The platform's may be empty.
    pub(super) fn nothing_there(&self) -> Result<()> {
        match self {
            Self::Tenant(_) => Err(Error::not_found()),
            Self::Platform(_) => Ok(()),
        }
    }
}

impl Reach {
    /// Whose chain it is, unless it is everyone's.
    pub(super) fn tenant(&self) -> Option<TenantId> {
        match self {
            Self::Chain(chain) => Some(chain.tenant()),
            Self::All(_) => None,
        }
    }
}

/// A short read: nobody keeps one open between two pages.
#[derive(Debug)]
pub(super) enum Reading {
    Tenant(TenantTx),
    Operator(OperatorTx),
}

impl Audit {
    pub(super) async fn read(&self, reach: &Reach) -> Result<Reading> {
        match reach {
            Reach::Chain(chain) => self.read_chain(chain).await,
            Reach::All(scope) => self.isolation.begin_operator(scope).await.map(Reading::Operator),
        }
    }

    pub(super) async fn read_chain(&self, chain: &Chain) -> Result<Reading> {
        match chain {
            Chain::Tenant(scope) => self.isolation.begin(scope).await.map(Reading::Tenant),
            Chain::Platform(scope) => self.isolation.begin_operator(scope).await.map(Reading::Operator),
        }
    }
}

impl Reading {
    pub(super) async fn end(self) -> Result<()> {
        match self {
            Self::Tenant(tx) => tx.commit_unrecorded("a read").await,
            Self::Operator(tx) => tx.commit_unrecorded("a read").await,
        }
    }
}

impl Deref for Reading {
    type Target = Tx;
    fn deref(&self) -> &Tx {
        match self {
            Self::Tenant(tx) => tx,
            Self::Operator(tx) => tx,
        }
    }
}
