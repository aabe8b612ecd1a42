//! What an impersonation is, and what is asked of one.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use crate::{
    access::{Account, Caller, Scope, ScopeSet},
    config,
    error::{Error, Result},
    journal::Stamp,
    platform::ids::{ImpersonationId, SessionId},
};

/// Room for a ticket and why; not for nothing, and not for a letter.
const SHORTEST_REASON: usize = 10;
const LONGEST_REASON: usize = 500;
const SHORTEST: TimeDelta = TimeDelta::seconds(60);
/// Where nobody says how long.
const USUAL: TimeDelta = TimeDelta::seconds(900);

/// An operator inside a tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Impersonation {
    pub id: ImpersonationId,
    /// Subject of the operator's token.
    pub operator: String,
    /// The session that the operator began it in; none for who holds a token of the platform.
    pub operator_session: Option<SessionId>,
    pub reason: String,
    /// Names of scopes.
    pub scopes: Vec<String>,
    /// The tenant's access epoch that it began under.
    pub tenant_epoch: i64,
    pub began_at: DateTime<Utc>,
    /// When it ends by itself.
    pub ends_at: DateTime<Utc>,
    /// When it was ended before that, and by whom.
    pub ended_at: Option<DateTime<Utc>>,
    pub ended_by: Option<Ender>,
}

/// Who ended one, as an actor of the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ender {
    pub kind: String,
    pub name: String,
}

impl Impersonation {
    /// Whether it goes on in a tenant of this access epoch.
    pub(super) fn is_running(&self, epoch: i64, now: DateTime<Utc>) -> bool {
        self.ended_at.is_none() && now < self.ends_at && self.tenant_epoch == epoch
    }

    /// The operator's own account, where it has one.
    pub(super) fn account(&self) -> Option<Account> {
        Some(Account { member: self.operator.parse().ok()?, session: self.operator_session? })
    }

    pub(super) fn ended(&self, by: &Stamp) -> Self {
        let ender = Ender { kind: by.actor.kind.name().to_owned(), name: by.actor.name.clone() };
        Self { ended_at: Some(by.at), ended_by: Some(ender), ..self.clone() }
    }

    /// What of it operators can still take along: a scope that ceased to be one of those is in none, whatever an older row says.
    pub(super) fn scopes(&self) -> ScopeSet {
        self.scopes.iter().filter_map(|name| Scope::parse(name)).filter(|scope| scope.for_impersonators()).collect()
    }
}

/// An impersonation to be.
#[derive(Clone, Debug)]
pub struct NewImpersonation {
    pub reason: String,
    /// How long; a quarter of an hour where nobody says.
    pub seconds: Option<i64>,
    /// Names of scopes; all that is possible where nobody says.
    pub scopes: Option<Vec<String>>,
}

/// The same, once all of it is well formed and allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) reason: String,
    pub(super) length: TimeDelta,
    pub(super) scopes: ScopeSet,
}

impl NewImpersonation {
    pub(super) fn check(&self, possible: ScopeSet, rules: &config::Impersonation) -> Result<Wanted> {
        Ok(Wanted {
            reason: reason(&self.reason)?,
            length: length(self.seconds, rules)?,
            scopes: scopes(self.scopes.as_deref(), possible)?,
        })
    }
}

/// What this operator can take along.
pub(super) fn possible(operator: &Caller) -> ScopeSet {
    operator.scopes.intersection(ScopeSet::for_impersonators())
}

fn reason(given: &str) -> Result<String> {
    let reason = given.trim();
    // It is read in a journal: what moves the line or the letters around it has no place there.
    let fits = (SHORTEST_REASON..=LONGEST_REASON).contains(&reason.chars().count());
    if fits && !reason.chars().any(char::is_control) {
        return Ok(reason.to_owned());
    }
    let rule = format!(
        "is a ticket and why: {SHORTEST_REASON} to {LONGEST_REASON} characters without spaces at its ends, none of them a control character"
    );
    Err(Error::invalid("reason", rule))
}

fn length(seconds: Option<i64>, rules: &config::Impersonation) -> Result<TimeDelta> {
    let longest = TimeDelta::from_std(rules.longest).unwrap_or(TimeDelta::MAX);
    let length = seconds.map_or(Some(USUAL.min(longest)), TimeDelta::try_seconds);
    length.filter(|length| (SHORTEST..=longest).contains(length)).ok_or_else(|| {
        let rule = format!("must be between {} and {}", SHORTEST.num_seconds(), longest.num_seconds());
        Error::invalid("seconds", rule)
    })
}

fn scopes(wanted: Option<&[String]>, possible: ScopeSet) -> Result<ScopeSet> {
    let Some(wanted) = wanted else {
        let nothing = || Error::invalid("scopes", "you have none that can be taken into a tenant");
        return (!possible.is_empty()).then_some(possible).ok_or_else(nothing);
    };
    if wanted.is_empty() {
        return Err(Error::invalid("scopes", "name one at least"));
    }
    let can = |name: &&String| Scope::parse(name).is_some_and(|scope| possible.contains(scope));
    let refused: Vec<_> = wanted.iter().filter(|name| !can(name)).collect();
    if !refused.is_empty() {
        return Err(Error::invalid("scopes", "has some that you cannot take into a tenant").with(
            serde_json::json!({ "scopes": refused, "possible": possible.iter().map(Scope::name).collect::<Vec<_>>() }),
        ));
    }
    Ok(wanted.iter().filter_map(|name| Scope::parse(name)).collect())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        access::{Actor, ActorKind, Role},
        error::Kind,
    };

    fn rules() -> config::Impersonation {
        config::Impersonation { longest: Duration::from_secs(3600), keep: Duration::from_secs(86400) }
    }

    fn new(reason: &str, seconds: Option<i64>, scopes: Option<&[&str]>) -> Result<Wanted> {
        let scopes = scopes.map(|scopes| scopes.iter().map(|&scope| scope.to_owned()).collect());
        let possible = Role::Admin.scopes().intersection(ScopeSet::for_impersonators());
        NewImpersonation { reason: reason.to_owned(), seconds, scopes }.check(possible, &rules())
    }

    fn field<T: std::fmt::Debug>(refused: Result<T>) -> String {
        let error = refused.unwrap_err();
        assert_eq!(error.kind(), Kind::InvalidInput);
        error.field().unwrap().to_owned()
    }

    #[test]
    fn a_reason_says_something_on_one_line() {
        assert_eq!(new("  T-1: why it is  ", None, None).unwrap().reason, "T-1: why it is");
        assert!(new(&"ö".repeat(500), None, None).is_ok());
        for reason in [
            "",
            "         ",
            "T-1",
            "a ticket\nand why",
            "a ticket\0and why",
            "a ticket\u{85}and why",
            &"x".repeat(501),
        ] {
            assert_eq!(field(new(reason, None, None)), "reason", "{reason:?}");
        }
    }

    #[test]
    fn it_lasts_a_minute_to_the_longest_that_is_configured() {
        let length = |seconds| new("a ticket, and why", seconds, None).map(|wanted| wanted.length.num_seconds());
        assert_eq!((length(None).unwrap(), length(Some(60)).unwrap(), length(Some(3600)).unwrap()), (900, 60, 3600));
        for seconds in [59, 3601, 0, -60, i64::MAX, i64::MIN] {
            assert_eq!(field(length(Some(seconds))), "seconds", "{seconds}");
        }
        let short = config::Impersonation { longest: Duration::from_secs(300), ..rules() };
        assert_eq!(super::length(None, &short).unwrap().num_seconds(), 300);
    }

    #[test]
    fn no_more_is_taken_along_than_is_possible_and_never_nothing() {
        let scopes = |scopes: Option<&[&str]>| new("a ticket, and why", None, scopes).map(|wanted| wanted.scopes);
        assert_eq!(scopes(None).unwrap(), ScopeSet::for_impersonators());
        assert_eq!(scopes(Some(&["auth:tenant:read"])).unwrap(), ScopeSet::parse("auth:tenant:read"));
        for refused in [&[][..], &["auth:client:write"], &["auth:tenant:read", "auth:plan:write"], &["nothing"], &[""]]
        {
            assert_eq!(field(scopes(Some(refused))), "scopes", "{refused:?}");
        }
        assert_eq!(field(super::scopes(None, ScopeSet::default())), "scopes");
    }

    #[test]
    fn it_goes_on_until_its_time_its_end_or_another_epoch() {
        let now = DateTime::UNIX_EPOCH;
        let impersonation = Impersonation {
            id: ImpersonationId::generate(),
            operator: "operator".to_owned(),
            operator_session: None,
            reason: "a ticket, and why".to_owned(),
            scopes: vec!["auth:tenant:read".to_owned(), "auth:client:write".to_owned()],
            tenant_epoch: 2,
            began_at: now,
            ends_at: now + TimeDelta::minutes(1),
            ended_at: None,
            ended_by: None,
        };
        assert!(impersonation.is_running(2, now) && !impersonation.is_running(3, now));
        assert!(!impersonation.is_running(2, now + TimeDelta::minutes(1)));
        let actor = Actor { kind: ActorKind::Member, name: "anna".to_owned() };
        let ended = impersonation.ended(&Stamp { actor, at: now, request_id: None, address: None });
        assert!(!ended.is_running(2, now));
        assert_eq!(ended.ended_by.unwrap(), Ender { kind: "MEMBER".to_owned(), name: "anna".to_owned() });
        assert_eq!(impersonation.scopes(), ScopeSet::parse("auth:tenant:read"));
    }
}
