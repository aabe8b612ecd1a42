//! A second factor: time-based codes (RFC 6238), and recovery codes for who has lost the device.
//!
//! The secret is sealed with the tenant's key, an operator's with the master key. A code works once: its step is written where it is later than the last one, so that of two
//! servers that are shown the same code at once, one takes it. The step before and the step behind are good as well, for clocks that differ.

mod code;
mod recovery;
mod renewing;
mod store;
mod vault;

use zeroize::Zeroizing;

use self::code::{SECRET_BYTES, base32};
pub(super) use self::{
    store::{is_set_up, reseal},
    vault::Vault,
};
use super::{Amr, Begun, Factor, Proof, Sessions, throttle::Attempt};
use crate::{
    access::Origin,
    error::{Error, Kind, Result},
    isolation::{TenantScope, TenantTx},
    journal::Entry,
    members::only_members,
    platform::{ids::MemberId, random, secret::Secret},
};

/// A new secret, for the member's device: shown this once.
#[derive(Clone, Debug)]
pub struct Enrollment {
    /// In Base32 (RFC 4648), as people type it.
    pub secret: Secret,
    /// What devices read, as a QR code for instance.
    pub uri: Secret,
}

/// A second factor that is set up.
#[derive(Clone, Debug)]
pub struct Confirmed {
    /// Each works once, in place of a code: shown this once.
    pub recovery_codes: Vec<Secret>,
    /// What signing in has come to, where it was done on the way.
    pub begun: Option<Begun>,
}

/// Whose second factor it is: a member's in its session, or of one who is signing in.
enum Whose {
    Own(TenantScope, MemberId),
    SigningIn(TenantScope, Box<Proof>),
}

impl Whose {
    fn scope(&self) -> &TenantScope {
        match self {
            Self::Own(scope, _) | Self::SigningIn(scope, _) => scope,
        }
    }

    fn member(&self) -> MemberId {
        match self {
            Self::Own(_, member) => *member,
            Self::SigningIn(_, proof) => proof.member,
        }
    }
}

fn wrong() -> Error {
    Error::new(Kind::Unauthenticated, "this code is wrong, over, or was used").at("code")
}

impl Sessions {
    /// Answers a challenge for a second factor: with a time-based code or a recovery code.
    pub async fn complete(&self, origin: &Origin, challenge: &Secret, code: &Secret) -> Result<Begun> {
        let proof = self.challenges.read(challenge, Factor::Totp, origin, self.isolation.clock().now())?;
        let scope = Self::signing_in(proof.tenant, origin)?;
        self.use_code(&scope, proof.member, code).await?;
        self.begin(proof.with(Amr::Otp)).await
    }

    /// Uses a code up, or refuses it.
    async fn use_code(&self, scope: &TenantScope, member: MemberId, code: &Secret) -> Result<()> {
        let attempt = Attempt::of_second_factor(member);
        self.charge(scope, &attempt).await?;
        let used = if code::looks_like_one(code) {
            self.use_step(scope, member, code, store::State::Confirmed).await?
        } else {
            self.use_recovery_code(scope, member, code).await?
        };
        if !used {
            return Err(wrong());
        }
        self.forgive(scope, &attempt, false).await
    }

    /// Whether the code is of a step that was not used yet; the step is used from then on.
    async fn use_step(
        &self,
        scope: &TenantScope,
        member: MemberId,
        code: &Secret,
        state: store::State,
    ) -> Result<bool> {
        let Some(step) = self.matching_step(scope, member, code, state).await? else { return Ok(false) };
        let tx = self.isolation.begin(scope).await?;
        let used = store::use_step(&tx, member, step).await?;
        tx.commit_unrecorded("a code is used up; what it was used for is recorded").await?;
        Ok(used)
    }

    async fn matching_step(
        &self,
        scope: &TenantScope,
        member: MemberId,
        code: &Secret,
        state: store::State,
    ) -> Result<Option<i64>> {
        let tx = self.isolation.begin(scope).await?;
        let found = store::find(&tx, member).await?;
        tx.commit_unrecorded("a read").await?;
        let Some(found) = found.filter(|found| found.state == state) else { return Ok(None) };
        let secret = self.vault.unseal(scope, member, &found.sealed).await?;
        Ok(code::step_of(code, &secret, self.isolation.clock().now()))
    }

    async fn use_recovery_code(&self, scope: &TenantScope, member: MemberId, code: &Secret) -> Result<bool> {
        let Some(hash) = recovery::hash(code) else { return Ok(false) };
        let tx = self.isolation.begin(scope).await?;
        if !store::use_recovery_code(&tx, member, hash).await? {
            tx.commit_unrecorded("there is no such code").await?;
            return Ok(false);
        }
        tx.commit([Entry::new("RecoveryCodeUsed", "member", member)]).await?;
        Ok(true)
    }

    /// Makes a secret for the member's device, in place of one that was not confirmed. In a session, or for who is asked to set a second
    /// factor up while signing in.
    pub async fn enroll(
        &self,
        own: Option<TenantScope>,
        origin: &Origin,
        challenge: Option<&Secret>,
    ) -> Result<Enrollment> {
        let whose = self.whose(own, origin, challenge)?;
        let (scope, member) = (whose.scope(), whose.member());
        let secret = Zeroizing::new(random::bytes::<SECRET_BYTES>());
        let sealed = self.vault.seal(scope, member, &*secret).await?;
        let tx = self.isolation.begin(scope).await?;
        let found = self.members.hold_in(&tx, member).await?.ok_or_else(Error::not_found)?;
        if !store::enroll(&tx, member, &sealed).await? {
            let rule = "a second factor is set up already; switch it off first";
            return Err(Error::conflict(rule));
        }
        tx.commit([Entry::new("TotpEnrolled", "member", member)]).await?;
        let issuer = self.members.ground(scope.tenant()).await?.ok_or_else(Error::not_found)?;
        let secret = base32(&*secret);
        let uri = code::uri(issuer.name(), &found.email, &secret);
        Ok(Enrollment { secret: Secret::new(secret.as_str()), uri: Secret::new(uri.as_str()) })
    }

    /// Shows that the device has the secret; from then on signing in asks for it.
    pub async fn confirm(
        &self,
        own: Option<TenantScope>,
        origin: &Origin,
        challenge: Option<&Secret>,
        code: &Secret,
    ) -> Result<Confirmed> {
        let whose = self.whose(own, origin, challenge)?;
        let (scope, member) = (whose.scope(), whose.member());
        let attempt = Attempt::of_second_factor(member);
        self.charge(scope, &attempt).await?;
        let step = self.matching_step(scope, member, code, store::State::Enrolled).await?.ok_or_else(wrong)?;
        let codes = recovery::generate();
        let tx = self.isolation.begin(scope).await?;
        if !store::confirm(&tx, member, step).await? {
            return Err(wrong());
        }
        store::put_recovery_codes(&tx, member, &codes).await?;
        tx.commit([Entry::new("TotpConfirmed", "member", member)]).await?;
        self.forgive(scope, &attempt, false).await?;
        let begun = match whose {
            Whose::Own(..) => None,
            Whose::SigningIn(_, proof) => Some(self.begin(proof.with(Amr::Otp)).await?),
        };
        Ok(Confirmed { recovery_codes: codes, begun })
    }

    /// Switches the caller's own second factor off, for who has a code of it.
    pub async fn disable(&self, scope: &TenantScope, code: &Secret) -> Result<()> {
        let member = scope.caller().account().ok_or_else(only_members)?.member;
        self.use_code(scope, member, code).await?;
        self.take_away(scope, member).await
    }

    /// Switches another member's off, who has lost its device and its recovery codes. It takes as much as to set the member's password.
    pub async fn disable_of(&self, scope: &TenantScope, member: MemberId) -> Result<()> {
        self.members.check_reach(scope, member).await?;
        self.take_away(scope, member).await
    }

    async fn take_away(&self, scope: &TenantScope, member: MemberId) -> Result<()> {
        let tx: TenantTx = self.isolation.begin(scope).await?;
        self.members.hold_in(&tx, member).await?.ok_or_else(Error::not_found)?;
        if !store::remove(&tx, member).await? {
            return tx.commit_unrecorded("there was none").await;
        }
        tx.commit([Entry::new("TotpDisabled", "member", member)]).await
    }

    fn whose(&self, own: Option<TenantScope>, origin: &Origin, challenge: Option<&Secret>) -> Result<Whose> {
        match (own, challenge) {
            (_, Some(challenge)) => {
                let now = self.isolation.clock().now();
                let proof = self.challenges.read(challenge, Factor::TotpEnrollment, origin, now)?;
                Ok(Whose::SigningIn(Self::signing_in(proof.tenant, origin)?, Box::new(proof)))
            }
            (Some(own), None) => {
                let member = own.caller().account().ok_or_else(only_members)?.member;
                Ok(Whose::Own(own, member))
            }
            (None, None) => Err(Error::unauthenticated()),
        }
    }
}
