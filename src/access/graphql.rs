//! How a resolver learns who calls, and what its field asks of them.

use std::sync::Arc;

use async_graphql::Context;

use super::{Caller, Permission, permission};
use crate::error::{Error, Result};

/// Who sent this request.
pub fn caller(ctx: &Context<'_>) -> Result<Arc<Caller>> {
    ctx.data_opt::<Arc<Caller>>().cloned().ok_or_else(Error::unauthenticated)
}

/// What the present field of `type_name` asks of its caller.
pub fn permission_here(ctx: &Context<'_>, type_name: &str) -> Result<&'static Permission> {
    let field = ctx.field().name();
    permission(type_name, field)
        .ok_or_else(|| Error::internal(format!("{type_name}.{field} is missing in the table of permissions")))
}
