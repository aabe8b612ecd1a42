//! What a tenant asks of the sessions of its members.

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::QueryResult;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Sessions, store};
use crate::{
    access::{Scope, ScopeSet},
    config,
    error::{Error, Result},
    isolation::{Conditions, TenantScope},
    journal::Entry,
    members::Ground,
    platform::{db::Tx, ids::TenantId},
    tenancy::{Part, TenantPart},
};

/// Who needs a second factor to sign in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, async_graphql::Enum)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum MultiFactor {
    /// Nobody is asked for one.
    Off,
    /// Who has set one up is asked for it.
    Optional,
    /// Everybody. Who has none sets it up while signing in.
    Required,
    /// Whoever may change members (`auth:member:write`), and who has set one up.
    RequiredForAdmins,
}

impl MultiFactor {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Off => "OFF",
            Self::Optional => "OPTIONAL",
            Self::Required => "REQUIRED",
            Self::RequiredForAdmins => "REQUIRED_FOR_ADMINS",
        }
    }

    fn parse(name: &str) -> Result<Self> {
        let known = [Self::Off, Self::Optional, Self::Required, Self::RequiredForAdmins];
        let found = known.into_iter().find(|policy| policy.name() == name);
        found.ok_or_else(|| Error::internal("a tenant has a policy that there is not"))
    }

    /// Whether who may do this needs a second factor, set up or not.
    pub(super) fn is_required(self, scopes: ScopeSet) -> bool {
        match self {
            Self::Off | Self::Optional => false,
            Self::Required => true,
            Self::RequiredForAdmins => scopes.contains(Scope::MemberWrite),
        }
    }
}

/// The rules of one tenant's sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Policy {
    /// How long a session lasts at most, in seconds.
    pub session_seconds: i64,
    /// How long it lasts without being refreshed, in seconds.
    pub idle_seconds: i64,
    /// Of one member; one more ends the oldest.
    pub most_sessions: i32,
    pub multi_factor: MultiFactor,
    /// 0: the server's own rules.
    pub version: i64,
    pub updated_at: Option<DateTime<Utc>>,
}

impl Policy {
    fn of_server(rules: &config::Sessions) -> Self {
        Self {
            session_seconds: seconds(rules.length),
            idle_seconds: seconds(rules.idle),
            most_sessions: rules.most_of_member,
            multi_factor: MultiFactor::Optional,
            version: 0,
            updated_at: None,
        }
    }

    /// Operators always have a second factor: what they can do is more than any tenant's members can.
    fn of_operators(rules: &config::Operators) -> Self {
        Self {
            session_seconds: seconds(rules.session_length),
            idle_seconds: seconds(rules.session_idle),
            most_sessions: rules.most_sessions,
            multi_factor: MultiFactor::Required,
            version: 0,
            updated_at: None,
        }
    }

    pub(super) fn length(&self) -> TimeDelta {
        TimeDelta::try_seconds(self.session_seconds).unwrap_or(TimeDelta::MAX)
    }

    pub(super) fn idle(&self) -> TimeDelta {
        TimeDelta::try_seconds(self.idle_seconds).unwrap_or(TimeDelta::MAX)
    }
}

/// What is to be changed of a policy.
#[derive(Clone, Copy, Debug, Default)]
pub struct NewPolicy {
    pub session_seconds: Option<i64>,
    pub idle_seconds: Option<i64>,
    pub most_sessions: Option<i32>,
    pub multi_factor: Option<MultiFactor>,
}

fn seconds(time: std::time::Duration) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
}

const YEAR: i64 = 366 * 24 * 60 * 60;

impl NewPolicy {
    fn apply(self, before: Policy, now: DateTime<Utc>) -> Result<Policy> {
        let policy = Policy {
            session_seconds: self.session_seconds.unwrap_or(before.session_seconds),
            idle_seconds: self.idle_seconds.unwrap_or(before.idle_seconds),
            most_sessions: self.most_sessions.unwrap_or(before.most_sessions),
            multi_factor: self.multi_factor.unwrap_or(before.multi_factor),
            version: before.version + 1,
            updated_at: Some(now),
        };
        if !(60..=YEAR).contains(&policy.session_seconds) {
            return Err(Error::invalid("sessionSeconds", format!("must be between 60 and {YEAR}")));
        }
        if !(60..=policy.session_seconds).contains(&policy.idle_seconds) {
            return Err(Error::invalid("idleSeconds", "must be between 60 and sessionSeconds"));
        }
        if !(1..=1000).contains(&policy.most_sessions) {
            return Err(Error::invalid("mostSessions", "must be between 1 and 1000"));
        }
        Ok(policy)
    }
}

/// A tenant's own rules, in memory; none where the server's hold.
#[derive(Debug, Default)]
pub struct OwnPolicy(pub Option<Policy>);

const COLUMNS: &str = "session_seconds, idle_seconds, most_sessions, multi_factor, version, updated_at";

impl Part for OwnPolicy {
    async fn load(tx: &Tx, owner: TenantId) -> Result<Self> {
        find(tx, owner).await.map(Self)
    }

    fn weight(&self) -> usize {
        64
    }
}

impl TenantPart for OwnPolicy {
    async fn load_several(tx: &Tx, owners: &[TenantId]) -> Result<HashMap<TenantId, Self>> {
        let ids: Vec<Uuid> = owners.iter().map(|owner| owner.uuid()).collect();
        let find = format!("select tenant_id, {COLUMNS} from tenantry.session_policies where tenant_id = any($1)");
        let rows = tx.rows(&find, [ids.into()]).await?;
        rows.iter().map(|row| Ok((row.try_get("", "tenant_id")?, Self(Some(policy(row)?))))).collect()
    }
}

async fn find(tx: &Tx, tenant: TenantId) -> Result<Option<Policy>> {
    let find = format!("select {COLUMNS} from tenantry.session_policies where tenant_id = $1");
    tx.row(&find, [tenant.into()]).await?.as_ref().map(policy).transpose()
}

fn policy(row: &QueryResult) -> Result<Policy> {
    Ok(Policy {
        session_seconds: row.try_get("", "session_seconds")?,
        idle_seconds: row.try_get("", "idle_seconds")?,
        most_sessions: row.try_get("", "most_sessions")?,
        multi_factor: MultiFactor::parse(&row.try_get::<String>("", "multi_factor")?)?,
        version: row.try_get("", "version")?,
        updated_at: row.try_get("", "updated_at")?,
    })
}

impl Sessions {
    pub(super) fn policy_of(&self, ground: &Ground) -> Result<Policy> {
        match ground {
            Ground::Tenant(known) => Ok(known.part::<OwnPolicy>()?.0.unwrap_or_else(|| Policy::of_server(&self.rules))),
            Ground::Platform(_) => Ok(Policy::of_operators(&self.operators)),
        }
    }

    pub async fn policy(&self, scope: &TenantScope) -> Result<Policy> {
        let tx = self.isolation.begin(scope).await?;
        let own = find(&tx, scope.tenant()).await?;
        tx.commit_unrecorded("a read").await?;
        Ok(own.unwrap_or_else(|| Policy::of_server(&self.rules)))
    }

    /// Sets the tenant's rules. Sessions that run are held to them when they are refreshed next.
    pub async fn set_policy(&self, scope: &TenantScope, wanted: NewPolicy, conditions: &Conditions) -> Result<Policy> {
        self.tenancy.get(scope).await?;
        let tx = self.isolation.begin(scope).await?;
        if let Some(answered) = tx.first_answer(conditions).await? {
            tx.commit_unrecorded("a read").await?;
            return Ok(answered);
        }
        store::lock_policy(&tx).await?;
        let before = find(&tx, scope.tenant()).await?.unwrap_or_else(|| Policy::of_server(&self.rules));
        conditions.check_version(before.version)?;
        let policy = wanted.apply(before, tx.stamp().at)?;
        store::put_policy(&tx, &policy).await?;
        tx.keep_answer(conditions, &policy).await?;
        let entry = Entry::new("SessionPolicySet", "sessionPolicy", scope.tenant());
        tx.commit([entry.change(Some(&before), Some(&policy))?]).await?;
        self.tenancy.snapshots().refresh(scope.tenant()).await;
        Ok(policy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_keeps_to_its_bounds() {
        let before = Policy {
            session_seconds: 43_200,
            idle_seconds: 3_600,
            most_sessions: 20,
            multi_factor: MultiFactor::Optional,
            version: 0,
            updated_at: None,
        };
        let apply = |wanted: NewPolicy| wanted.apply(before, DateTime::UNIX_EPOCH).map(|policy| policy.version);
        assert_eq!(apply(NewPolicy { multi_factor: Some(MultiFactor::Required), ..NewPolicy::default() }).unwrap(), 1);
        for wrong in [
            NewPolicy { session_seconds: Some(59), ..NewPolicy::default() },
            NewPolicy { session_seconds: Some(YEAR + 1), ..NewPolicy::default() },
            NewPolicy { session_seconds: Some(600), ..NewPolicy::default() }, // shorter than it may be idle
            NewPolicy { idle_seconds: Some(43_201), ..NewPolicy::default() },
            NewPolicy { idle_seconds: Some(0), ..NewPolicy::default() },
            NewPolicy { most_sessions: Some(0), ..NewPolicy::default() },
        ] {
            assert!(apply(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn who_may_change_members_is_an_admin() {
        let [admin, viewer] = [Scope::MemberWrite, Scope::MemberRead].map(|scope| ScopeSet::from_iter([scope]));
        let required = |policy: MultiFactor| [policy.is_required(admin), policy.is_required(viewer)];
        assert_eq!(required(MultiFactor::Off), [false, false]);
        assert_eq!(required(MultiFactor::Optional), [false, false]);
        assert_eq!(required(MultiFactor::Required), [true, true]);
        assert_eq!(required(MultiFactor::RequiredForAdmins), [true, false]);
    }
}
