//! Moves: a tenant goes from one cell or tier to another, with all its rows, while its services go on.
//!
//! *Owns*: `moves`. *Rules*: the tenant is at the source until one transaction of the registry says that it is at the target; the
//! source takes no writes from before the last change was carried over until it is given up, however often a server dies; what
//! was carried over is compared before the switch; every step may be repeated, and is done under a lease; what a move needs
//! at the source (a slot, a publication) goes with it, whatever it comes to; code of the tenant's own runs with the tenant's rights.
//!
//! *Emits*: MoveStarted, MoveCopied, MoveRestarted, MoveHeldUp, MoveSwitched, MoveConfirmationRequested, MoveConfirmed,
//! MoveRollbackRequested, MoveRolledBack, MoveCancellationRequested, MoveCancelled, MoveFailed; TenantUpdated where the tier is another.

/// The tenant's schemas, as `home`. Values: its own, which is its role's name, too; that of its vectors; that of its graph. A graph that has
/// never had anything in it is not looked at: it stands on nothing, and the target makes its own.
macro_rules! home {
    () => {
        "home as (select oid, nspname from pg_namespace where nspname in ($1, $2) or nspname = $3 and exists (select from pg_class c
           where c.relnamespace = pg_namespace.oid and c.relkind in ('r', 'p', 'v', 'm', 'f')
             and (c.relname not in ('_ag_label_vertex', '_ag_label_edge') or pg_relation_size(c.oid) > 0)))"
    };
}

mod apply;
mod beside;
mod compare;
mod control;
mod copy;
mod decode;
mod dump;
mod ends;
mod graph;
pub mod graphql;
mod journal;
mod order;
mod place;
mod position;
mod source;
mod steps;
mod store;
mod stream;
mod switch;
mod target;
mod work;

use std::sync::Arc;

use tokio::sync::{Notify, Semaphore};

pub use self::{
    control::{Destination, Outlook},
    order::{Move, Phase},
};
use crate::{
    cells::Cells, config, isolation::Isolation, platform::random, provisioning::Provisioning, tenancy::Tenancy,
};

/// The handle of this capability. Clones share it.
#[derive(Clone, Debug)]
pub struct Moves(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    isolation: Isolation,
    tenancy: Tenancy,
    cells: Cells,
    provisioning: Provisioning,
    rules: config::Moves,
    retries: config::Provisioning,
    region: Option<String>,
    /// Who this replica is, in leases.
    holder: String,
    nudge: Notify,
    places: Arc<Semaphore>,
}

impl Moves {
    pub fn new(
        isolation: Isolation,
        tenancy: Tenancy,
        cells: Cells,
        provisioning: Provisioning,
        config: &config::Config,
    ) -> Self {
        Self(Arc::new(Inner {
            isolation,
            tenancy,
            cells,
            provisioning,
            rules: config.moves.clone(),
            retries: config.provisioning.clone(),
            region: Some(config.server.region.clone()).filter(|region| !region.is_empty()),
            holder: format!("{}-{}", std::process::id(), random::token().get(..8).unwrap_or_default()),
            nudge: Notify::new(),
            places: Arc::new(Semaphore::new(config.moves.workers)),
        }))
    }
}
