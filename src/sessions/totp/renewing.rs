//! New recovery codes for who has the device.

use super::{code, recovery, store, wrong};
use crate::{
    error::{Error, Result},
    isolation::TenantScope,
    journal::Entry,
    members::only_members,
    platform::secret::Secret,
    sessions::{Sessions, throttle::Attempt},
};

impl Sessions {
    /// Ten codes in place of those before, for the caller's own second factor: shown this once. It takes a time-based code; whoever has found
    /// one of the old codes does not get ten.
    pub async fn renew_recovery_codes(&self, scope: &TenantScope, code: &Secret) -> Result<Vec<Secret>> {
        let member = scope.caller().account().ok_or_else(only_members)?.member;
        let tx = self.isolation.begin(scope).await?;
        let is_set_up = store::is_set_up(&tx, member).await?;
        tx.commit_unrecorded("a read").await?;
        if !is_set_up {
            return Err(Error::conflict("no second factor is set up"));
        }
        let attempt = Attempt::of_second_factor(member);
        self.charge(scope, &attempt).await?;
        if !code::looks_like_one(code) {
            return Err(wrong());
        }
        let step = self.matching_step(scope, member, code, store::State::Confirmed).await?.ok_or_else(wrong)?;
        let codes = recovery::generate();
        let tx = self.isolation.begin(scope).await?;
        if !store::use_step(&tx, member, step).await? {
            return Err(wrong());
        }
        store::put_recovery_codes(&tx, member, &codes).await?;
        tx.commit([Entry::new("RecoveryCodesRenewed", "member", member)]).await?;
        self.forgive(scope, &attempt, false).await?;
        Ok(codes)
    }
}
