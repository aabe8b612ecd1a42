//! Sessions that PostgreSQL holds to one tenant, and the proof that it does.
//!
//! *Owns*: `idempotency_keys`. *Rules*: a verified token becomes a [`Caller`](crate::access::Caller); a caller that passes the checks
//! of [`TenantScope::enter`] has a scope; only a scope opens a [`TenantTx`]. A transaction that changed something ends with
//! the journal entries of what was done; there is no other commit but `commit_unrecorded`, which says why.

mod attempt;
mod budget;
mod intrusion;
mod network;
mod once;
mod scope;
mod session;
mod verifier;

pub use self::{
    attempt::{Attempt, Outcome, worst},
    budget::{Budgets, Slot},
    network::{EVERYWHERE, NamedNetwork, NetworkRules},
    once::{Conditions, IdempotencyKey},
    scope::{Access, OperatorScope, Standing, TenantScope, may_act},
    session::{Isolation, OperatorTx, ReadTx, TenantTx},
    verifier::{Finding, Rule, rules, verify, verify_catalogue},
};
