//! The record of what was done: one append-only table that is audit log, outbox and source of subscriptions.
//!
//! *Owns*: `journal`, `journal_heads`. *Rules*: entries are appended in the transaction of the change, numbered without
//! gaps per tenant, and chained by hash; the platform's own have the nil tenant. Nothing updates or deletes one.
//!
//! This folder writes and checks links; reading, checkpoints and feeds are `audit`'s.

mod append;
mod append_each;
mod chain;
mod entry;
mod signal;

pub use self::{
    append::append,
    append_each::append_each,
    chain::{GENESIS, Hash, Link, link_hash},
    entry::{Entry, Stamp},
    signal::Signals,
};
