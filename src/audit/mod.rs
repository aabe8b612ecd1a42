//! The reading side of the journal: lists, export, the proof that nothing was changed, signed checkpoints, feeds.
//!
//! *Owns*: `journal_checkpoints`, and of `journal_heads` the columns `checkpoint` and `unsigned_since`.
//!
//! *Rules*: whatever is read is read in short transactions, a page each; none stays open between two pages. A reader of one
//! chain follows `sequence`, which its head's row lock puts in the order of commits. A reader over all tenants follows
//! (transaction, position) below the oldest running transaction. Both skip nothing and need nothing kept for them. What a
//! tenant can hold on to (cursors) tells it nothing of other tenants.
//!
//! *Emits*: no event; `tenantry_journal_checkpoints_total`.

mod checkpoint;
mod export;
mod feed;
mod follow;
pub mod graphql;
mod jobs;
mod list;
mod origin;
mod pulse;
mod reach;
mod record;
mod verify;
mod walk;

use std::sync::Arc;

use tokio::sync::Semaphore;

pub use self::{
    checkpoint::Checkpoint,
    export::{Export, ExportFormat, Exporter},
    feed::{Ahead, Batch, Feed},
    list::{Filter, Order},
    origin::Sought,
    reach::{Chain, Reach},
    record::{Cursor, Record, Row},
    walk::{Problem, ProblemKind, Report},
};
use crate::{access::KeyRing, config, isolation::Isolation, journal::Signals};

/// Reads of subscriptions that run at once on this replica, however many there are: they leave connections to requests.
const FOLLOWERS_READING: usize = 4;
/// Verifications and exports that run at once on this replica.
const LONG_READS: usize = 2;

/// The handle of this capability. Clones share it.
#[derive(Clone, Debug)]
pub struct Audit {
    isolation: Isolation,
    signals: Signals,
    keyring: Arc<KeyRing>,
    settings: config::Journal,
    pulse: Arc<pulse::Pulse>,
    followers: Arc<Semaphore>,
    long: Arc<Semaphore>,
}

impl Audit {
    pub fn new(isolation: Isolation, signals: Signals, keyring: Arc<KeyRing>, settings: config::Journal) -> Self {
        let permits = |count| Arc::new(Semaphore::new(count));
        let (followers, long) = (permits(FOLLOWERS_READING), permits(LONG_READS));
        Self { isolation, signals, keyring, settings, pulse: Arc::default(), followers, long }
    }
}
