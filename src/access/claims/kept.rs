//! What a token hangs on besides its own times.

use super::Claims;

/// What was begun for somebody, and can end before the tokens that were made for it. Who keeps it is asked at each use of such a token:
/// by requests and streams (`edge/kept.rs`), and by introspection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kept {
    /// A session of a member or, where no tenant is named, of an operator.
    Session,
    /// An operator's impersonation of a tenant.
    Impersonation,
}

impl Claims {
    /// `None`: the token hangs on nothing, and is good until it expires or is revoked.
    pub fn kept(&self) -> Option<Kept> {
        match (&self.act, &self.sid) {
            // Whoever acts for another does so by an impersonation, whatever else is said or missing.
            (Some(_), _) => Some(Kept::Impersonation),
            (None, Some(_)) => Some(Kept::Session),
            (None, None) => None,
        }
    }
}
