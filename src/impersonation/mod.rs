//! Impersonation: an operator acts inside a tenant, with a reason, for a time, and in the tenant's sight.
//!
//! *Owns*: `impersonations`. *Rules*: an operator takes no scope along that it does not have itself, and none that would outlive the
//! impersonation or lead out of the tenant (`Scope::for_impersonators`); inside, it is held to all that the tenant's services are held to, and
//! is no operator; its one token is good while the impersonation, and the operator's own session, go on, which is
//! looked up in memory at each use (`live.rs`), and for no more than the operator may do by then; operators and
//! the tenant end it, on every replica at once, and the tenant's journal says who, why, and what was done.
//!
//! *Emits*: ImpersonationBegan, ImpersonationEnded. When one runs out is said as it begins: nothing is written then.

mod beginning;
mod ending;
pub mod graphql;
mod jobs;
mod live;
mod store;
mod terms;

use std::sync::Arc;

use futures::FutureExt as _;

use self::live::Live;
pub use self::{
    beginning::Begun,
    terms::{Ender, Impersonation, NewImpersonation},
};
use crate::{
    access::Kept, config, isolation::Isolation, members::Members, oauth::OAuth, sessions::Sessions, tenancy::Tenancy,
};

/// The handle of this capability. Clones share it.
#[derive(Clone, Debug)]
pub struct Impersonations {
    isolation: Isolation,
    tenancy: Tenancy,
    members: Members,
    oauth: OAuth,
    live: Arc<Live>,
    rules: Arc<config::Impersonation>,
}

impl Impersonations {
    pub fn new(
        isolation: Isolation,
        tenancy: Tenancy,
        members: Members,
        sessions: &Sessions,
        oauth: OAuth,
        rules: config::Impersonation,
    ) -> Self {
        let operators = sessions.of_operators();
        let live = Arc::new(Live::new(isolation.clone(), tenancy.clone(), members.clone(), operators));
        let asked = live.clone();
        oauth.ask_with(
            Kept::Impersonation,
            Arc::new(move |claims| {
                let asked = asked.clone();
                async move { asked.scopes_of(claims).await }.boxed()
            }),
        );
        Self { isolation, tenancy, members, oauth, live, rules: Arc::new(rules) }
    }
}
