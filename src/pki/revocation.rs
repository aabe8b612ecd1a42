//! Whether the certificates of a path have been revoked: asked of responders, of lists that are kept, and of lists that are fetched.

use std::{sync::Arc, time::Duration};

use async_graphql::Enum;
use chrono::{DateTime, Utc};
use moka::sync::Cache;
use tokio::time::{Instant, timeout_at};

use super::{
    Pki,
    certificate::Certificate,
    list::{self, List},
    list_store,
    lists::{self, Source},
    name::hex,
    ocsp,
    path::Path,
    policy::{Policy, Revocation},
    refusal::{Reason, Refusal},
};
use crate::{
    error::Result,
    isolation::TenantScope,
    platform::{ids::TenantId, outbound::Outbound},
};

/// Places that are asked about one certificate.
const MOST_PLACES: usize = 3;
/// Places that are asked for one path, beside what is remembered.
const MOST_QUESTIONS: usize = 8;
/// How long all of them together may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a place is left alone that did not answer.
const REST: Duration = Duration::from_secs(30);
/// How long an answer is remembered at most, however long it says that it is good.
const LONGEST: chrono::TimeDelta = chrono::TimeDelta::hours(1);

/// What was found out about one certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    pub subject: String,
    pub status: Status,
    /// Who said so; none where nobody did.
    pub by: Option<Authority>,
    /// Why it could not be found out.
    pub problem: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(name = "RevocationStatus")]
pub enum Status {
    Good,
    Revoked,
    Unknown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(name = "RevocationAuthority")]
pub enum Authority {
    /// A responder of the Online Certificate Status Protocol (RFC 6960).
    Responder,
    /// A revocation list (RFC 5280, section 5).
    List,
}

/// Answers that are still good, and places that did not answer. Of each tenant by itself, so that nobody learns from another's.
#[derive(Clone, Debug)]
pub(super) struct Remembered {
    answers: Cache<(TenantId, [u8; 32], [u8; 32]), ocsp::Answer>,
    silent: Cache<(TenantId, String), Arc<str>>,
}

impl Default for Remembered {
    fn default() -> Self {
        Self {
            answers: Cache::builder().max_capacity(10_000).time_to_live(Duration::from_secs(3600)).build(),
            silent: Cache::builder().max_capacity(1_000).time_to_live(REST).build(),
        }
    }
}

/// What may still be asked for one path.
struct Allowance {
    questions: usize,
    until: Instant,
}

/// One certificate under an authority that has signed it.
#[derive(Clone, Copy)]
struct Question<'a> {
    scope: &'a TenantScope,
    certificate: &'a Certificate,
    issuer: &'a Certificate,
    now: DateTime<Utc>,
}

impl Pki {
    /// Holds a good path to the tenant's policy. URLs are the authorities' that the tenant trusts, for their signatures have been checked.
    pub(super) async fn check_revocation(
        &self,
        scope: &TenantScope,
        path: &Path,
        policy: &Policy,
        now: DateTime<Utc>,
    ) -> Result<Result<Vec<Checked>, Refusal>> {
        let mut left = Allowance { questions: MOST_QUESTIONS, until: Instant::now() + PATIENCE };
        let mut all = Vec::new();
        if policy.revocation == Revocation::Off {
            return Ok(Ok(all));
        }
        for (certificate, issuer) in path.issued() {
            let question = Question { scope, certificate, issuer, now };
            let checked = self.check_one(question, policy, &mut left).await?;
            match checked.status {
                Status::Revoked => {
                    return Ok(Err(Refusal::of(certificate, Reason::Revoked, "has been revoked by its issuer")));
                }
                Status::Unknown if policy.revocation == Revocation::HardFail => {
                    let why = checked.problem.as_deref().unwrap_or("nobody is asked");
                    let message = format!("cannot be found out to be good: {why}");
                    return Ok(Err(Refusal::of(certificate, Reason::RevocationUnknown, message)));
                }
                Status::Good | Status::Unknown => all.push(checked),
            }
        }
        Ok(Ok(all))
    }

    async fn check_one(&self, question: Question<'_>, policy: &Policy, left: &mut Allowance) -> Result<Checked> {
        let subject = question.certificate.subject.text.clone();
        let told = |status, by| Checked { subject: subject.clone(), status, by: Some(by), problem: None };
        let mut problem = None;
        if policy.ocsp {
            match self.ask_responders(question, left).await {
                Ok(ocsp::Status::Good) => return Ok(told(Status::Good, Authority::Responder)),
                Ok(ocsp::Status::Revoked) => return Ok(told(Status::Revoked, Authority::Responder)),
                Ok(ocsp::Status::Unknown) => problem = Some("the responder does not know it".to_owned()),
                Err(why) => problem = Some(why),
            }
        }
        match self.look_into_lists(question).await? {
            Kept::Fresh { is_revoked: false } => return Ok(told(Status::Good, Authority::List)),
            Kept::Fresh { is_revoked: true } | Kept::Stale { is_revoked: true } => {
                return Ok(told(Status::Revoked, Authority::List));
            }
            Kept::Stale { is_revoked: false } => problem = Some("the list of its authority is too old".to_owned()),
            Kept::None => problem = problem.or_else(|| Some("there is no list of its authority".to_owned())),
        }
        if policy.fetch_lists {
            match self.fetch_list(question, left).await? {
                Ok(is_revoked) => {
                    let status = if is_revoked { Status::Revoked } else { Status::Good };
                    return Ok(told(status, Authority::List));
                }
                Err(why) => problem = Some(why),
            }
        }
        Ok(Checked { subject, status: Status::Unknown, by: None, problem })
    }

    async fn ask_responders(&self, of: Question<'_>, left: &mut Allowance) -> Result<ocsp::Status, String> {
        let key = (of.scope.tenant(), of.certificate.fingerprint, of.issuer.fingerprint);
        if let Some(known) = self.remembered.answers.get(&key).filter(|known| known.fresh_until >= of.now) {
            return Ok(known.status);
        }
        let mut problem = "it names no responder".to_owned();
        for url in of.certificate.ocsp_urls.iter().take(MOST_PLACES) {
            let Some(question) = ocsp::Question::about(of.certificate, of.issuer) else {
                return Err("its serial number cannot be asked about".to_owned());
            };
            let request = (question.der.clone(), url.as_str());
            let answered = self.ask(of.scope.tenant(), request, left).await;
            let judged = answered.and_then(|answer| {
                question.judge(&answer, of.issuer, of.now).map_err(|rule| format!("the responder's answer {rule}"))
            });
            match judged {
                Ok(answer) => {
                    let fresh_until = answer.fresh_until.min(of.now + LONGEST);
                    if answer.status != ocsp::Status::Unknown {
                        self.remembered.answers.insert(key, ocsp::Answer { fresh_until, ..answer });
                    }
                    return Ok(answer.status);
                }
                Err(why) => problem = why,
            }
        }
        Err(problem)
    }

    async fn ask(&self, tenant: TenantId, request: (Vec<u8>, &str), left: &mut Allowance) -> Result<Vec<u8>, String> {
        let (question, url) = request;
        self.reach(tenant, url, left, async |outbound| {
            outbound.post(url, "application/ocsp-request", question, ocsp::MOST_BYTES).await
        })
        .await
        .map_err(|why| format!("the responder cannot be asked: {why}"))
    }

    async fn look_into_lists(&self, of: Question<'_>) -> Result<Kept> {
        let tx = self.isolation.begin(of.scope).await?;
        let found = list_store::about(&tx, of.issuer.authority(), &hex(&of.certificate.serial)).await?;
        tx.commit_unrecorded("a read").await?;
        let about =
            |known: &&list_store::About| list::is_about(known.scope, &known.distribution_points, of.certificate);
        let (mut fresh, mut stale) = (None, None);
        for known in found.iter().filter(about) {
            let place = if known.next_update >= of.now { &mut fresh } else { &mut stale };
            *place = Some(place.unwrap_or(false) || known.is_revoked);
        }
        Ok(match (fresh, stale) {
            // Once revoked is revoked, whatever else may be known.
            (_, Some(true)) => Kept::Stale { is_revoked: true },
            (Some(is_revoked), _) => Kept::Fresh { is_revoked },
            (None, Some(is_revoked)) => Kept::Stale { is_revoked },
            (None, None) => Kept::None,
        })
    }

    /// Whether the certificate is on a list that is fetched now, and kept; else why there is none.
    async fn fetch_list(&self, of: Question<'_>, left: &mut Allowance) -> Result<Result<bool, String>> {
        let mut problem = "it names no place of a list".to_owned();
        for url in of.certificate.crl_urls.iter().take(MOST_PLACES) {
            let fetched = self
                .reach(of.scope.tenant(), url, left, async |outbound| outbound.get(url, list::MOST_BYTES).await)
                .await;
            let der = match fetched {
                Ok(der) => der,
                Err(why) => {
                    problem = format!("the list of its authority cannot be fetched: {why}");
                    continue;
                }
            };
            match self.take_list(of, der).await? {
                Ok(list) => return Ok(Ok(list.revoked.contains(&hex(&of.certificate.serial)))),
                Err(rule) => problem = format!("the list of its authority {rule}"),
            }
        }
        Ok(Err(problem))
    }

    async fn take_list(&self, of: Question<'_>, der: Vec<u8>) -> Result<Result<List, String>> {
        let issuer = of.issuer.clone();
        let read = move || {
            let list = List::read(&der)?;
            list.check_issuer(&der, &issuer).map(|()| list)
        };
        let list = match tokio::task::spawn_blocking(read).await.map_err(crate::error::Error::internal)? {
            Ok(list) => list,
            Err(rule) => return Ok(Err(rule)),
        };
        if list.next_update < of.now || list.this_update > of.now {
            return Ok(Err("is not in force".to_owned()));
        }
        if !list.is_about(of.certificate) {
            return Ok(Err("is about other certificates".to_owned()));
        }
        // Whoever asks may be one who may only read.
        let tx = self.isolation.begin(&TenantScope::system("revocation-lists", of.scope.tenant())).await?;
        // Who has as many lists as there can be is served, and fetches again.
        if list_store::lists(&tx).await?.len() < lists::MOST {
            list_store::put(&tx, of.issuer.authority(), &list, Source::Fetched).await?;
        }
        tx.commit_unrecorded("a copy of what the authority publishes").await?;
        Ok(Ok(list))
    }

    /// Asks one place, unless it was silent a moment ago or enough was asked already.
    async fn reach<T>(
        &self,
        tenant: TenantId,
        url: &str,
        left: &mut Allowance,
        ask: impl AsyncFnOnce(&Outbound) -> std::result::Result<T, crate::platform::outbound::Failure>,
    ) -> Result<T, String> {
        let key = (tenant, url.to_owned());
        if let Some(why) = self.remembered.silent.get(&key) {
            return Err(why.to_string());
        }
        left.questions = left.questions.checked_sub(1).ok_or("too many places would have to be asked")?;
        let answered = timeout_at(left.until, ask(&self.outbound)).await;
        let answered = answered.map_err(|_| "what was asked before has taken all of the time")?;
        answered.map_err(|failure| {
            let why = failure.to_string();
            self.remembered.silent.insert(key, why.as_str().into());
            why
        })
    }
}

/// What the lists say that are kept.
enum Kept {
    Fresh { is_revoked: bool },
    Stale { is_revoked: bool },
    None,
}
