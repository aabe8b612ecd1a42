//! Signing in with a password that the tenant's directory keeps (`docs/decisions/0037-ways-to-sign-in.md`).
//!
//! Each step is boxed: all of them in one another are more than a thread's stack takes in a debug build.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::{Amr, Begun, Method, Proof, Sessions, password::nobodys, throttle::Attempt};
use crate::{
    access::Origin,
    error::{Error, Kind, Result},
    isolation::TenantScope,
    platform::secret::Secret,
};

const LONGEST_LOGIN: usize = 256;
/// Refusals come no sooner. A directory takes its time to say no; where there is none, or no such tenant, nothing else would.
const REFUSED_AFTER: Duration = Duration::from_millis(250);

/// The one answer for a wrong password, and for whatever there is not: tenant, directory, person, active member.
fn wrong() -> Error {
    Error::new(Kind::Unauthenticated, "tenant, login or password is wrong")
}

impl Sessions {
    /// Begins a session for who knows the password of the tenant's directory, as the member that the directory says it is now. `tenant`: its id
    /// or its slug.
    pub async fn sign_in_by_directory(
        &self,
        origin: &Origin,
        tenant: &str,
        login: &str,
        password: &Secret,
    ) -> Result<Begun> {
        if !(1..=LONGEST_LOGIN).contains(&login.len()) || login.contains(char::is_control) {
            let rule = format!("has 1 to {LONGEST_LOGIN} bytes, and no control characters");
            return Err(Error::invalid("login", rule));
        }
        // Nobody guesses with it, so nothing is counted; and no directory is asked, for some take it for nobody's good password.
        if password.is_empty() || password.expose().contains('\0') {
            return Err(wrong());
        }
        let began = Instant::now();
        let done = Box::pin(self.attempt_by_directory(origin, tenant, login, password)).await;
        if done.as_ref().is_err_and(|error| error.kind() == Kind::Unauthenticated) {
            sleep_until(began + REFUSED_AFTER).await;
        }
        done
    }

    async fn attempt_by_directory(
        &self,
        origin: &Origin,
        tenant: &str,
        login: &str,
        password: &Secret,
    ) -> Result<Begun> {
        let tenant = self.find_tenant(tenant).await?.unwrap_or_else(|| nobodys(tenant));
        let attempt = Attempt::of_directory(login, origin.address);
        let scope = Self::signing_in(tenant, origin)?;
        let charged = self.charge(&scope, &attempt).await?;
        match Box::pin(self.begin_by_directory(&scope, origin, login, password)).await {
            Ok(begun) => {
                self.forgive(&scope, &attempt, matches!(begun, Begun::SignedIn(_))).await?;
                Ok(begun)
            }
            // Who may not come in is told no more than who does not know the password.
            Err(error) if error.kind() == Kind::Unauthenticated => Err(wrong()),
            // The password was right, or nobody could say.
            Err(error) => {
                self.take_back(&scope, &charged).await?;
                Err(error)
            }
        }
    }

    async fn begin_by_directory(
        &self,
        scope: &TenantScope,
        origin: &Origin,
        login: &str,
        password: &Secret,
    ) -> Result<Begun> {
        let person = match Box::pin(self.directory.authenticate(scope, login, password)).await {
            Err(error) if error.kind() == Kind::NotFound => return Err(wrong()),
            person => person?,
        };
        self.check_open(scope, origin).await?;
        let member = Box::pin(self.directory.member_of(scope, &person)).await?.ok_or_else(wrong)?;
        Box::pin(self.begin(Proof::new(scope.tenant(), &member, Method::Directory, &[Amr::Pwd], origin))).await
    }

    /// Whether anybody may come in now from there: looked at before a member is written for who may not.
    async fn check_open(&self, scope: &TenantScope, origin: &Origin) -> Result<()> {
        let ground = self.members.ground(scope.tenant()).await?.ok_or_else(wrong)?;
        if let Some(kind) = ground.closed(self.isolation.clock().now()) {
            return Err(Error::new(kind, "nobody of the tenant may sign in now"));
        }
        ground.check_network(origin)
    }
}
