//! Signing in with a certificate, whose key the client has proved to have (`docs/decisions/0037-ways-to-sign-in.md`).
//!
//! Nobody is slowed down here: there is nothing to guess. Who asks is told what is wrong with the certificate by itself, and what its own
//! authority says of it; never what the tenant trusts, nor who is a member.

use chrono::{DateTime, Utc};

use super::{Amr, Begun, Method, Proof, Sessions, password::nobodys};
use crate::{
    access::Origin,
    error::{Error, Kind, Result},
    isolation::TenantScope,
    members::{Member, Status},
    pki::{Certificate, Identity, Reason, Refusal, Target, Verdict},
};

/// Letters of a tenant's name that stand in the log, however long it was sent.
const LONGEST_NAMED: usize = 64;

/// Why nobody was signed in, as operators see it.
#[derive(Debug)]
enum Refused {
    /// For what it is, whichever tenant is asked.
    ByItself(Refusal),
    /// By authorities and policy of the tenant.
    ByTenant(Refusal),
    /// No member has the address or the id that it names.
    Unknown,
    /// Members of several sources have the id.
    Ambiguous,
    /// The member was invited and has not come, or is deactivated.
    Inactive,
    /// Tenant, network, or the server itself.
    Error(Error),
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl Refused {
    /// For metric and log.
    fn outcome(&self) -> String {
        match self {
            Self::ByItself(refusal) | Self::ByTenant(refusal) => match serde_json::to_value(refusal.reason) {
                Ok(serde_json::Value::String(name)) => name.to_lowercase(),
                _ => "refused".to_owned(),
            },
            Self::Unknown => "unknown_member".to_owned(),
            Self::Ambiguous => "ambiguous_member".to_owned(),
            Self::Inactive => "inactive_member".to_owned(),
            Self::Error(error) => error.kind().code().to_owned(),
        }
    }

    fn message(&self) -> String {
        match self {
            Self::ByItself(refusal) | Self::ByTenant(refusal) => refusal.message.clone(),
            Self::Error(error) => error.to_string(),
            Self::Unknown | Self::Ambiguous | Self::Inactive => String::new(),
        }
    }

    /// What the client is told. That it is revoked is found out only of what an authority of the tenant has issued, so its holder may know;
    /// any other reason would say which authorities a tenant trusts, to whoever writes their names into a certificate.
    fn told(self) -> Error {
        let told = |reason: Reason, message: String| {
            Error::new(Kind::Unauthenticated, message).with(serde_json::json!({ "reason": reason }))
        };
        match self {
            Self::Error(error) if error.kind() != Kind::Unauthenticated => error,
            Self::ByItself(refusal) => told(refusal.reason, refusal.message),
            Self::ByTenant(Refusal { reason: reason @ Reason::Revoked, .. }) => {
                told(reason, "the certificate, or an authority that it comes from, has been revoked".to_owned())
            }
            Self::ByTenant(Refusal { reason: reason @ Reason::RevocationUnknown, .. }) => {
                let message = "it cannot be found out whether the certificate has been revoked; try again later";
                told(reason, message.to_owned())
            }
            _ => told(Reason::Untrusted, "this certificate signs nobody in here".to_owned()),
        }
    }
}

impl Sessions {
    /// Begins a session for the member whom the certificate of the connection names. `tenant`: its id or its slug.
    pub async fn sign_in_by_certificate(&self, origin: &Origin, tenant: &str) -> Result<Begun> {
        let begun = Box::pin(self.begin_by_certificate(origin, tenant)).await;
        let outcome = begun.as_ref().map_or_else(Refused::outcome, |_| "ok".to_owned());
        metrics::counter!("tenantry_certificate_sign_ins_total", "outcome" => outcome.clone()).increment(1);
        begun.map_err(|refused| {
            let (tenant, why): (String, _) = (tenant.chars().take(LONGEST_NAMED).collect(), refused.message());
            let by = origin.certificate.as_ref().map(|presented| presented.by);
            tracing::info!(?tenant, reason = outcome, why, ?by, "a certificate signs nobody in");
            refused.told()
        })
    }

    async fn begin_by_certificate(&self, origin: &Origin, tenant: &str) -> Result<Begun, Refused> {
        let now = self.isolation.clock().now();
        let chain = origin.certificate.as_ref().map(|presented| presented.chain.clone()).unwrap_or_default();
        check_by_itself(&chain, now).map_err(Refused::ByItself)?;
        // One that there is not trusts nobody.
        let tenant = self.find_tenant(tenant).await?.unwrap_or_else(|| nobodys(tenant));
        let scope = Self::signing_in(tenant, origin)?;
        let verified = match Box::pin(self.pki.verify(&scope, chain, now)).await? {
            Verdict::Accepted(verified) => verified,
            Verdict::Refused(refusal) => return Err(Refused::ByTenant(refusal)),
        };
        let member = self.named(&scope, &verified.identity).await?;
        // A key of which nobody says where it is kept: `hwk` would claim hardware, which a certificate does not show (RFC 8176, section 2).
        Ok(Box::pin(self.begin(Proof::new(tenant, &member, Method::Certificate, &[Amr::Swk], origin))).await?)
    }

    /// The one active member whom it means.
    async fn named(&self, scope: &TenantScope, identity: &Identity) -> Result<Member, Refused> {
        let tx = self.isolation.begin(scope).await?;
        let mut found: Vec<Member> = match identity.target {
            Target::Email => self.members.find_by_email_in(&tx, &identity.value).await?.into_iter().collect(),
            Target::ExternalId => self.members.find_by_external_id_in(&tx, &identity.value).await?,
        };
        tx.commit_unrecorded("a read").await?;
        let member = found.pop().ok_or(Refused::Unknown)?;
        match member.status {
            _ if !found.is_empty() => Err(Refused::Ambiguous),
            Status::Active => Ok(member),
            Status::Invited | Status::Deactivated => Err(Refused::Inactive),
        }
    }
}

/// What is wrong with the client's own certificate, whichever tenant is asked: telling it tells nothing of a tenant.
fn check_by_itself(chain: &[Vec<u8>], now: DateTime<Utc>) -> Result<(), Refusal> {
    let Some(der) = chain.first() else {
        return Err(Refusal::new(Reason::Missing, "no certificate was presented"));
    };
    let leaf = Certificate::read(der)
        .map_err(|rule| Refusal::new(Reason::Malformed, format!("the certificate that was presented {rule}")))?;
    if now < leaf.not_before {
        let message = format!("the certificate is valid from {} on", leaf.not_before.to_rfc3339());
        return Err(Refusal::new(Reason::NotYetValid, message));
    }
    if now > leaf.not_after {
        let message = format!("the certificate was valid until {}", leaf.not_after.to_rfc3339());
        return Err(Refusal::new(Reason::Expired, message));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_answer_tells_what_a_tenant_trusts_or_who_is_a_member() {
        let told = |refused: Refused| {
            let error = refused.told();
            (error.kind(), error.details().cloned(), error.to_string())
        };
        let stranger = told(Refused::ByTenant(Refusal::new(Reason::Untrusted, "no path")));
        assert_eq!(stranger.1, Some(serde_json::json!({ "reason": "UNTRUSTED" })));
        let judged =
            [Reason::BadSignature, Reason::Expired, Reason::NameConstraints, Reason::NotMapped, Reason::Malformed];
        for refused in [Refused::Unknown, Refused::Ambiguous, Refused::Inactive, Error::unauthenticated().into()]
            .into_iter()
            .chain(judged.map(|reason| Refused::ByTenant(Refusal::new(reason, "of the tenant"))))
        {
            let outcome = refused.outcome();
            assert_eq!(told(refused), stranger, "{outcome}");
        }
        let revoked = told(Refused::ByTenant(Refusal::new(Reason::Revoked, "x")));
        assert_eq!(revoked.1, Some(serde_json::json!({ "reason": "REVOKED" })));
        assert_eq!(Refused::ByTenant(Refusal::new(Reason::NotMapped, "x")).outcome(), "not_mapped");
        assert_eq!(told(Error::new(Kind::TenantSuspended, "closed").into()).0, Kind::TenantSuspended);
    }
}
