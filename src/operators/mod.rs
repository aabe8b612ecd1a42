//! Operators: the people who run the platform.
//!
//! They are members of the platform itself, whose id is the nil UUID where others' tenant stands: the same invitations, passwords, second
//! factors and sessions (`members`, `sessions`), with the platform's own roles, and a second factor that no setting takes away. This room
//! is how they are seen and managed. *Rules*: nobody makes an operator who may do more than itself. The first one is invited from the
//! command line (`tenantry operator invite`).
//!
//! *Owns*: nothing. *Emits*: what `members` and `sessions` do, in the platform's journal.

pub mod graphql;

use std::sync::Arc;

use crate::{
    access::{Caller, permission},
    error::{Error, Result},
    isolation::TenantScope,
    platform::ids::TenantId,
};

/// The way among operators, for what a mutation or a query of the schema asks.
pub fn enter(caller: &Arc<Caller>, type_name: &str, field: &str) -> Result<TenantScope> {
    let permission = permission(type_name, field)
        .ok_or_else(|| Error::internal(format!("{type_name}.{field} is missing in the table of permissions")))?;
    TenantScope::enter_as_operator(caller, TenantId::PLATFORM, permission)
}
