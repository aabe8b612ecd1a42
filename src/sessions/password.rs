//! Signing in with a password.

use uuid::Builder;

use super::{Amr, Begun, Method, Proof, Sessions, throttle::Attempt};
use crate::{
    access::Origin,
    error::{Error, Kind, Result},
    isolation::{OperatorScope, TenantScope},
    members::{Member, check_email, only_members},
    platform::{digest::sha256, ids::TenantId, secret::Secret},
};

/// The one answer for a wrong password, and for whatever there is not: tenant, account, password.
fn wrong() -> Error {
    Error::new(Kind::Unauthenticated, "tenant, e-mail or password is wrong")
}

impl Sessions {
    /// Begins a session for who knows the password. `tenant`: its id or its slug.
    pub async fn sign_in(&self, origin: &Origin, tenant: &str, email: &str, password: Secret) -> Result<Begun> {
        check_email("email", email)?;
        let tenant = self.find_tenant(tenant).await?.unwrap_or_else(|| nobodys(tenant));
        self.sign_in_at(origin, tenant, email, password).await
    }

    /// The same for an operator.
    pub async fn sign_in_operator(&self, origin: &Origin, email: &str, password: Secret) -> Result<Begun> {
        self.sign_in_at(origin, TenantId::PLATFORM, email, password).await
    }

    async fn sign_in_at(&self, origin: &Origin, tenant: TenantId, email: &str, password: Secret) -> Result<Begun> {
        let email_key = check_email("email", email)?;
        let attempt = Attempt::of_password(&email_key, origin.address);
        let scope = Self::signing_in(tenant, origin)?;
        self.charge(&scope, &attempt).await?;
        let member = self.members.prove_password(&scope, &email_key, password).await?.ok_or_else(wrong)?;
        let proof = Proof::new(tenant, &member, Method::Password, &[Amr::Pwd], origin);
        // Who may not come in is told no more than who does not know the password.
        let begun = self.begin(proof).await.map_err(|error| match error.kind() {
            Kind::Unauthenticated => wrong(),
            _ => error,
        })?;
        self.forgive(&scope, &attempt, matches!(begun, Begun::SignedIn(_))).await?;
        Ok(begun)
    }

    /// Sets the caller's own password, who knows the one before: also whoever has its session may not guess that. All its sessions end.
    pub async fn change_password(&self, scope: &TenantScope, before: Secret, after: Secret) -> Result<Member> {
        let member = scope.caller().account().ok_or_else(only_members)?.member;
        let attempt = Attempt::of_own_password(member);
        self.charge(scope, &attempt).await?;
        let changed = self.members.change_password(scope, before, after).await?;
        self.forgive(scope, &attempt, false).await?;
        Ok(changed)
    }

    pub(super) async fn find_tenant(&self, text: &str) -> Result<Option<TenantId>> {
        let id = match text.parse::<TenantId>() {
            Ok(id) => Some(id),
            Err(_) => self.tenancy.find_by_slug(&OperatorScope::reading("sign-in"), text).await?,
        };
        let Some(id) = id.filter(|id| !id.is_platform()) else { return Ok(None) };
        Ok(self.tenancy.snapshots().get(id).await?.map(|_| id))
    }
}

/// Where attempts on a tenant that there is not are counted: so they cost as much, and come as seldom, as those on one that there is.
pub(super) fn nobodys(text: &str) -> TenantId {
    let hash = sha256(text.as_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash[..16]);
    TenantId::from_uuid(Builder::from_custom_bytes(bytes).into_uuid())
}
