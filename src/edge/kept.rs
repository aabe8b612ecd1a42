//! Whether what a token was made for goes on: the one place that says who is asked, for requests and for streams. What is added to [`Kept`]
//! does not compile until it is answered for here.

use crate::{
    access::{Caller, Claims, Kept, Origin},
    app::App,
    error::Result,
};

/// The caller behind a verified token that hangs on something.
pub(super) async fn caller(app: &App, kept: Kept, claims: &Claims, origin: Origin) -> Result<Caller> {
    match kept {
        Kept::Session => app.sessions.caller(claims, origin).await,
        Kept::Impersonation => app.impersonations.caller(claims, origin).await,
    }
}

/// Whether it goes on for a caller that was let in before; from memory alone: `None` where that has no answer.
pub(super) fn check_from_memory(app: &App, claims: &Claims, caller: &Caller) -> Option<Result<()>> {
    match claims.kept() {
        None => Some(Ok(())),
        Some(Kept::Session) => app.sessions.check_from_memory(claims, caller),
        Some(Kept::Impersonation) => app.impersonations.check_from_memory(claims, caller),
    }
}

/// The same, asking the database where memory has no answer.
pub(super) async fn check(app: &App, claims: &Claims, caller: &Caller) -> Result<()> {
    match claims.kept() {
        None => Ok(()),
        Some(Kept::Session) => app.sessions.check(claims, caller).await,
        Some(Kept::Impersonation) => app.impersonations.check(claims, caller).await,
    }
}
