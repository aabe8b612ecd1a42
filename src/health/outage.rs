use async_graphql::Enum;
use chrono::{DateTime, SubsecRound as _, Utc};
use sea_orm::entity::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Result},
    journal::Stamp,
    platform::ids::{OutageId, TenantId},
};

const LONGEST_SUMMARY: usize = 2_000;

/// Whether it counts as downtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum, EnumIter, DeriveActiveEnum, Serialize, Deserialize)]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "SCREAMING_SNAKE_CASE")]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum OutageKind {
    /// The tenant was not served: downtime.
    Outage,
    /// Work that was announced: no downtime. An outage at the same time still is.
    Maintenance,
}

/// One row of `outages`: a time in which a tenant was not served as usual.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, Serialize, Deserialize)]
#[sea_orm(schema_name = "tenantry", table_name = "outages")]
#[serde(rename_all = "camelCase")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub tenant_id: TenantId,
    #[sea_orm(primary_key, auto_increment = false, column_name = "outage_id")]
    pub id: OutageId,
    pub kind: OutageKind,
    pub began_at: DateTime<Utc>,
    /// `None` while it lasts.
    pub ended_at: Option<DateTime<Utc>>,
    pub summary: String,
    /// Subject of who reported it.
    pub reported_by: String,
    /// When the report turned out to be a mistake; it counts for nothing since.
    pub withdrawn_at: Option<DateTime<Utc>>,
    pub version: i64,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

pub type Outage = Model;

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// An outage as it is reported.
#[derive(Clone, Debug)]
pub struct NewOutage {
    pub began_at: DateTime<Utc>,
    /// `None` while it lasts.
    pub ended_at: Option<DateTime<Utc>>,
    pub kind: OutageKind,
    /// For people, the tenant's included.
    pub summary: String,
}

impl NewOutage {
    /// The outage of `tenant` that this reports, if it can be one.
    pub(super) fn checked(self, tenant: TenantId, stamp: &Stamp) -> Result<Outage> {
        let now = stamp.at;
        let began_at = past("beganAt", self.began_at, now)?;
        check_summary(&self.summary)?;
        Ok(Outage {
            tenant_id: tenant,
            id: OutageId::generate(),
            kind: self.kind,
            began_at,
            ended_at: self.ended_at.map(|end| end_of(began_at, end, now)).transpose()?,
            summary: self.summary,
            reported_by: stamp.actor.name.clone(),
            withdrawn_at: None,
            version: 1,
            created_at: now,
            updated_at: now,
        })
    }
}

impl Outage {
    /// The outage is over since `end`.
    pub(super) fn end(&mut self, end: DateTime<Utc>, now: DateTime<Utc>) -> Result<()> {
        if self.withdrawn_at.is_some() {
            return Err(Error::conflict("the report was withdrawn; make another"));
        }
        if self.ended_at.is_some() {
            return Err(Error::conflict(
                "the outage has ended before; if its end is wrong, withdraw it and report it anew",
            ));
        }
        self.ended_at = Some(end_of(self.began_at, end, now)?);
        Ok(())
    }
}

fn end_of(began_at: DateTime<Utc>, end: DateTime<Utc>, now: DateTime<Utc>) -> Result<DateTime<Utc>> {
    let end = past("endedAt", end, now)?;
    if end > began_at { Ok(end) } else { Err(Error::invalid("endedAt", "must be later than the beginning")) }
}

/// A moment to the microsecond, as PostgreSQL keeps it. Years that it cannot keep are none of ours.
fn past(field: &str, at: DateTime<Utc>, now: DateTime<Utc>) -> Result<DateTime<Utc>> {
    if at > now {
        return Err(Error::invalid(field, "must not be in the future"));
    }
    if at < DateTime::UNIX_EPOCH {
        return Err(Error::invalid(field, "must not be before 1970"));
    }
    Ok(at.trunc_subsecs(6))
}

/// Text of several lines; no other control characters.
fn check_summary(summary: &str) -> Result<()> {
    if summary.trim().is_empty() {
        return Err(Error::invalid("summary", "must not be empty"));
    }
    if summary.chars().count() > LONGEST_SUMMARY {
        return Err(Error::invalid("summary", format!("must have at most {LONGEST_SUMMARY} characters")));
    }
    if summary.chars().any(|letter| letter.is_control() && !matches!(letter, '\n' | '\r' | '\t')) {
        return Err(Error::invalid("summary", "must not hold control characters"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Caller;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn reported(began_at: &str, ended_at: Option<&str>) -> Result<Outage> {
        let stamp = Stamp::new(&Caller::system("test"), at("2026-11-21T12:00:00Z"));
        let summary = "the network is away".to_owned();
        let new = NewOutage { began_at: at(began_at), ended_at: ended_at.map(at), kind: OutageKind::Outage, summary };
        new.checked(TenantId::generate(), &stamp)
    }

    #[test]
    fn an_outage_lies_in_the_past_and_ends_after_it_began() {
        reported("2026-11-21T12:00:00Z", None).unwrap();
        reported("2026-11-21T11:00:00Z", Some("2026-11-21T12:00:00Z")).unwrap();
        for (began_at, ended_at, field) in [
            ("2026-11-21T12:00:00.000001Z", None, "beganAt"),
            ("1969-12-31T23:59:59Z", None, "beganAt"),
            ("-200000-01-01T00:00:00Z", None, "beganAt"),
            ("2026-11-21T11:00:00Z", Some("2026-11-21T12:00:01Z"), "endedAt"),
            ("2026-11-21T11:00:00Z", Some("2026-11-21T11:00:00Z"), "endedAt"),
            ("2026-11-21T11:00:00Z", Some("2026-11-21T10:00:00Z"), "endedAt"),
            // The same microsecond, which is all that PostgreSQL keeps.
            ("2026-11-21T11:00:00.0000001Z", Some("2026-11-21T11:00:00.0000009Z"), "endedAt"),
        ] {
            assert_eq!(reported(began_at, ended_at).unwrap_err().field(), Some(field), "{began_at} {ended_at:?}");
        }
    }

    #[test]
    fn an_outage_ends_once_and_not_after_it_was_withdrawn() {
        let (end, now) = (at("2026-11-21T11:30:00Z"), at("2026-11-21T12:00:00Z"));
        let mut outage = reported("2026-11-21T11:00:00Z", None).unwrap();
        let mut withdrawn = Outage { withdrawn_at: Some(now), ..outage.clone() };
        outage.end(end, now).unwrap();
        assert_eq!(outage.ended_at, Some(end));
        assert!(outage.end(end, now).is_err() && withdrawn.end(end, now).is_err());
    }

    #[test]
    fn a_summary_is_text_that_can_be_kept() {
        for good in ["a", &"ä".repeat(2_000), "first line\nsecond\tline"] {
            check_summary(good).unwrap();
        }
        for bad in ["", " \n", "a\0b", "a\u{7f}", &"a".repeat(2_001)] {
            assert_eq!(check_summary(bad).unwrap_err().field(), Some("summary"), "{bad:.10?}");
        }
    }
}
