//! What the schema says of quotas.

use async_graphql::{ID, Object, SimpleObject};
use chrono::{DateTime, Utc};

use crate::{
    error::{Error, Result},
    quotas::{
        Answer, Boost, Enforcement, Kind, Override, Period, Quota, QuotaKey, Reservation, Standing, ledger::Hold,
    },
};

/// What a tenant may have of something, and has.
#[derive(Clone, Debug)]
pub struct QuotaObject(pub(super) Quota);

#[Object(name = "Quota", serial)]
impl QuotaObject {
    async fn key(&self) -> &str {
        &self.0.key.key
    }

    async fn unit(&self) -> &str {
        &self.0.key.unit
    }

    async fn kind(&self) -> Kind {
        self.0.key.kind
    }

    async fn period(&self) -> Option<Period> {
        self.0.key.period
    }

    async fn description(&self) -> &str {
        &self.0.key.description
    }

    /// What happens at the limit.
    async fn enforcement(&self) -> Enforcement {
        self.0.limit.enforcement
    }

    /// How far above the limit is still let in, in per cent of it.
    async fn grace_percent(&self) -> i32 {
        self.0.limit.grace_percent
    }

    /// The limit as it stands now; null is unlimited.
    async fn limit(&self) -> Option<i64> {
        self.0.limit.limit
    }

    /// The limit without override and boosts; null is unlimited.
    async fn plan_limit(&self) -> Option<i64> {
        self.0.plan_limit
    }

    /// What is used: at this moment of a level, in this period of the others. Zero of what is not counted (rates, concurrency).
    async fn used(&self) -> i64 {
        self.0.counter.used
    }

    /// What is held by reservations.
    async fn reserved(&self) -> i64 {
        self.0.counter.reserved
    }

    /// What is left of the limit, never below zero; null is unlimited.
    async fn remaining(&self) -> Option<i64> {
        self.0.limit.limit.map(|limit| (limit - self.0.counter.used - self.0.counter.reserved).max(0))
    }

    /// Whether more is used or held than the limit allows: after it was lowered, in its grace, or because it is soft.
    async fn over_limit(&self) -> bool {
        self.0.limit.limit.is_some_and(|limit| self.0.counter.used.saturating_add(self.0.counter.reserved) > limit)
    }

    /// When the next period begins; null of what has none.
    async fn resets_at(&self) -> Option<DateTime<Utc>> {
        self.0.resets_at
    }

    /// What the contract says differently from the plan.
    #[graphql(name = "override")]
    async fn contract(&self) -> Option<QuotaOverride<'_>> {
        self.0.contract.as_ref().map(QuotaOverride)
    }

    /// What there is on top, for a while.
    async fn boosts(&self) -> Vec<QuotaBoost> {
        self.0.boosts.iter().cloned().map(QuotaBoost).collect()
    }

    /// What the limit was decided on: positions of the tenant's and of the platform's journal.
    async fn version(&self) -> &str {
        &self.0.version
    }
}

/// What a tenant's contract says differently from its plan.
#[derive(Clone, Debug)]
pub struct QuotaOverride<'a>(pub(super) &'a Override);

#[Object(serial)]
impl QuotaOverride<'_> {
    /// Null is unlimited.
    async fn limit(&self) -> Option<i64> {
        self.0.limit
    }

    async fn expires_at(&self) -> Option<DateTime<Utc>> {
        self.0.expires_at
    }

    async fn reason(&self) -> &str {
        &self.0.reason
    }

    /// Subject of the token that set it.
    async fn set_by(&self) -> &str {
        &self.0.set_by
    }

    async fn version(&self) -> i64 {
        self.0.version
    }

    async fn updated_at(&self) -> DateTime<Utc> {
        self.0.updated_at
    }
}

/// So much more, for a while.
#[derive(Clone, Debug)]
pub struct QuotaBoost(pub(super) Boost);

#[Object(serial)]
impl QuotaBoost {
    async fn id(&self) -> ID {
        self.0.boost_id.into()
    }

    async fn key(&self) -> &str {
        &self.0.key
    }

    async fn amount(&self) -> i64 {
        self.0.amount
    }

    /// From then on it counts for nothing.
    async fn expires_at(&self) -> DateTime<Utc> {
        self.0.expires_at
    }

    async fn ended_at(&self) -> Option<DateTime<Utc>> {
        self.0.ended_at
    }

    /// Subject of the token that gave it.
    async fn approved_by(&self) -> &str {
        &self.0.approved_by
    }

    async fn reason(&self) -> &str {
        &self.0.reason
    }
}

/// Whether something would fit, now. Nothing is held.
#[derive(Clone, Debug, SimpleObject)]
#[graphql(serial)]
pub struct QuotaPreview {
    /// Whether every line does.
    pub(super) fits: bool,
    pub(super) lines: Vec<QuotaPreviewLine>,
}

#[derive(Clone, Debug, SimpleObject)]
#[graphql(serial)]
pub struct QuotaPreviewLine {
    pub(super) key: String,
    pub(super) requested: i64,
    pub(super) fits: bool,
    pub(super) standing: QuotaStanding,
}

/// How a quota stands.
#[derive(Clone, Debug, SimpleObject)]
#[graphql(serial)]
pub struct QuotaStanding {
    pub(super) key: String,
    /// Null is unlimited.
    pub(super) limit: Option<i64>,
    pub(super) used: i64,
    pub(super) reserved: i64,
    /// Never below zero; null is unlimited.
    pub(super) remaining: Option<i64>,
    pub(super) resets_at: Option<DateTime<Utc>>,
    /// What the limit was decided on: positions of the tenant's and of the platform's journal.
    pub(super) version: String,
}

/// A promise: it is held until it is committed, released, or expires.
#[derive(Clone, Debug)]
pub struct QuotaReservation(pub(super) Reservation);

#[Object(serial)]
impl QuotaReservation {
    /// Opaque; it has at most 64 characters.
    async fn id(&self) -> ID {
        match &self.0.ticket {
            Some(ticket) => ticket.text.as_str().into(),
            None => self.0.id.into(),
        }
    }

    /// HELD, COMMITTED, RELEASED or EXPIRED.
    async fn state(&self) -> &str {
        self.0.state.name()
    }

    async fn lines(&self) -> Vec<QuotaReservationLine<'_>> {
        let committed = |key: &str| self.0.committed.as_ref().and_then(|committed| committed.get(key)).copied();
        let line = |hold: &'_ Hold| (hold.amount, committed(&hold.counter.key));
        let lines = self.0.lines().map(|hold| (hold.counter.key.as_str(), line(hold)));
        lines.map(|(key, (amount, committed))| QuotaReservationLine { key, amount, committed }).collect()
    }

    async fn created_at(&self) -> DateTime<Utc> {
        self.0.created_at
    }

    async fn expires_at(&self) -> DateTime<Utc> {
        self.0.expires_at
    }
}

#[derive(Clone, Debug, SimpleObject)]
#[graphql(serial)]
pub struct QuotaReservationLine<'a> {
    pub(super) key: &'a str,
    /// What was reserved.
    pub(super) amount: i64,
    /// What was committed of it.
    pub(super) committed: Option<i64>,
}

/// A reservation after a change, and how its quotas stand.
#[derive(Debug, SimpleObject)]
#[graphql(serial)]
pub struct ReservationPayload {
    pub(super) reservation: QuotaReservation,
    pub(super) quotas: Vec<QuotaStanding>,
}

/// A quota of a tenant after a change.
#[derive(Debug, SimpleObject)]
#[graphql(serial)]
pub struct QuotaPayload {
    pub(super) quota: QuotaObject,
}

/// A boost after a change.
#[derive(Debug, SimpleObject)]
#[graphql(serial)]
pub struct QuotaBoostPayload {
    pub(super) boost: QuotaBoost,
}

/// What can be limited.
#[derive(Clone, Debug, SimpleObject)]
#[graphql(serial)]
pub struct QuotaDefinition {
    pub(super) key: String,
    pub(super) unit: String,
    pub(super) kind: Kind,
    pub(super) period: Option<Period>,
    pub(super) description: String,
    pub(super) enforcement: Enforcement,
    pub(super) grace_percent: i32,
    /// For plans that do not name the key; null is unlimited.
    pub(super) default_limit: Option<i64>,
    pub(super) version: i64,
}

#[derive(Debug, SimpleObject)]
#[graphql(serial)]
pub struct QuotaDefinitionPayload {
    pub(super) definition: QuotaDefinition,
}

impl From<Standing> for QuotaStanding {
    fn from(standing: Standing) -> Self {
        let Standing { key, limit, used, reserved, resets_at, version } = standing;
        let remaining = limit.map(|limit| limit.saturating_sub(used).saturating_sub(reserved).max(0));
        Self { key, limit, used, reserved, remaining, resets_at, version }
    }
}

impl TryFrom<Answer> for ReservationPayload {
    type Error = Error;

    fn try_from(answer: Answer) -> Result<Self, Error> {
        let reservation = answer.reservation.ok_or_else(|| Error::internal("a reservation was decided without one"))?;
        let quotas = answer.standings.into_iter().map(Into::into).collect();
        Ok(Self { reservation: QuotaReservation(reservation), quotas })
    }
}

impl From<QuotaKey> for QuotaDefinition {
    fn from(key: QuotaKey) -> Self {
        let QuotaKey {
            key, unit, kind, period, description, enforcement, grace_percent, default_limit, version, ..
        } = key;
        Self { key, unit, kind, period, description, enforcement, grace_percent, default_limit, version }
    }
}
