//! Who calls, and what they may do.
//!
//! *Owns*: the vocabulary of callers, scopes, roles and permissions; the ring of signing and verification keys; the check
//! of a bearer token. All of it in memory: tables of clients and keys belong to `oauth`.
//!
//! *Rules*: one table of permissions (`permission.rs`); a field that is not in it is refused. Every bad token gets the same
//! answer, the reason goes to log and metrics.

mod caller;
mod claims;
mod external;
pub mod graphql;
mod keyring;
mod permission;
mod presented;
mod verifier;

pub use self::{
    caller::{Account, Actor, ActorKind, Binding, Caller, Origin},
    claims::{ActorClaim, Claims, Fault, InvalidClaims, Kept},
    external::ExternalKeys,
    keyring::{Detached, KeyRing, OwnKey, OwnKeys, Unusable, VerificationKey},
    permission::{Audience, Effect, PERMISSIONS, Permission, Role, Scope, ScopeSet, permission},
    presented::{MOST_CERTIFICATES, PresentedBy, PresentedCertificate},
    verifier::{
        AcceptedIssuer, Assertion, AssertionRules, ClientKeys, Reason, Rejected, TokenVerifier, VerifiedToken,
        VerifierSettings, verify_assertion,
    },
};
