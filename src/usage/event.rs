//! One event by itself: what it must say, and what is made of it.

use aws_lc_rs::digest::{SHA256, digest};
use chrono::{DateTime, TimeDelta, Utc};
use rust_decimal::Decimal;
use serde_json::{Map, Value, value::RawValue};
use uuid::{Builder, Uuid};

use super::{
    dimension::{Aggregation, Dimension, Dimensions},
    label, quantity,
    value_path::ValuePath,
};
use crate::{
    config,
    error::{Error, Result},
    platform::{ids::TenantId, random},
};

/// An event as it was sent, in texts: what is wrong with it is its own answer, and not that of the events beside it.
#[derive(Clone, Debug, Default)]
pub struct RawEvent {
    /// None: the caller's own.
    pub tenant: Option<String>,
    /// What makes a second one a duplicate. None: one is made up, and a repetition counts again.
    pub key: Option<String>,
    /// Who made the key, where keys of several sources may be alike (`source` of CloudEvents).
    pub source: Option<String>,
    pub dimension: String,
    pub quantity: Option<String>,
    pub subject: Option<String>,
    pub labels: Map<String, Value>,
    /// RFC 3339. None: now.
    pub timestamp: Option<String>,
    /// Why it corrects what was counted: a negative quantity has one.
    pub adjustment_reason: Option<String>,
    /// What happened, of which the dimension may say the quantity.
    pub data: Option<Box<RawValue>>,
}

/// An event that will be counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) tenant: TenantId,
    pub(super) key: Uuid,
    pub(super) dimension: i16,
    pub(super) at: DateTime<Utc>,
    pub(super) quantity: Decimal,
    pub(super) labels: String,
    /// Empty where nobody is named.
    pub(super) subject: String,
    /// Empty where it is no adjustment.
    pub(super) reason: String,
}

const LONGEST_KEY: usize = 200;
const LONGEST_REASON: usize = 2000;

impl RawEvent {
    pub(super) fn check(
        &self,
        tenant: TenantId,
        dimensions: &Dimensions,
        rules: &config::Usage,
        now: DateTime<Utc>,
    ) -> Result<Event> {
        let dimension = dimensions.find(&self.dimension);
        let dimension =
            dimension.ok_or_else(|| Error::invalid("dimension", "is not in the catalogue of dimensions"))?;
        let subject = text("subject", self.subject.as_deref(), LONGEST_KEY)?;
        let reason = text("adjustmentReason", self.adjustment_reason.as_deref(), LONGEST_REASON)?;
        let names_one = matches!(dimension.aggregation, Aggregation::UniqueCount | Aggregation::DailyUniqueCount)
            && !subject.is_empty();
        let of_data = if self.quantity.is_none() { self.quantity_of_data(dimension)? } else { None };
        let sent = self.quantity.as_deref().or(of_data.as_deref()).map(quantity::parse).transpose()?;
        let quantity = match sent {
            // Who is named is counted once, however often and with whatever quantity.
            _ if names_one => Decimal::ZERO,
            Some(quantity) => quantity,
            None if dimension.aggregation == Aggregation::Sum => Decimal::ONE,
            None => return Err(Error::invalid("quantity", "is needed for this dimension")),
        };
        if quantity.is_sign_negative() && !quantity.is_zero() {
            if dimension.aggregation != Aggregation::Sum {
                return Err(Error::invalid("quantity", "must not be negative: only sums can be corrected by a part"));
            }
            if reason.is_empty() {
                let rule = "must not be negative, unless `adjustmentReason` says what it corrects";
                return Err(Error::invalid("quantity", rule));
            }
        }
        Ok(Event {
            tenant,
            key: self.key()?,
            dimension: dimension.dimension_id,
            at: self.at(rules, now)?,
            quantity,
            labels: label::group(dimension, &self.labels)?,
            subject,
            reason,
        })
    }

    /// What the event's data say, where the dimension says where.
    fn quantity_of_data(&self, dimension: &Dimension) -> Result<Option<String>> {
        let (Some(path), Some(data)) = (&dimension.value_path, &self.data) else { return Ok(None) };
        let found = ValuePath::parse(path)?.find(data)?;
        found
            .map(Some)
            .ok_or_else(|| Error::invalid("data", format!("has nothing at {path}, where this dimension's quantity is")))
    }

    /// UUIDs stay what they are: those that grow with time lie side by side in the index. Of other keys, and where there is a
    /// source, it is the beginning of a SHA-256.
    fn key(&self) -> Result<Uuid> {
        let Some(key) = &self.key else { return Ok(random::uuid_v7()) };
        if key.is_empty() || key.chars().count() > LONGEST_KEY || key.contains('\0') {
            return Err(Error::invalid("key", "must have 1 to 200 characters, none of them NUL"));
        }
        let source = self.source.as_deref().unwrap_or_default();
        if source.chars().count() > 2000 || source.contains('\0') {
            return Err(Error::invalid("source", "must have at most 2000 characters, none of them NUL"));
        }
        if source.is_empty()
            && let Ok(uuid) = Uuid::try_parse(key)
        {
            return Ok(uuid);
        }
        let hash = digest(&SHA256, format!("{source}\0{key}").as_bytes());
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&hash.as_ref()[..16]);
        Ok(Builder::from_custom_bytes(bytes).into_uuid())
    }

    fn at(&self, rules: &config::Usage, now: DateTime<Utc>) -> Result<DateTime<Utc>> {
        let Some(text) = &self.timestamp else { return Ok(now) };
        let at = DateTime::parse_from_rfc3339(text);
        let at =
            at.map_err(|_| Error::invalid("timestamp", "must be a time of RFC 3339, such as 2026-11-26T09:30:00Z"))?;
        let at = at.with_timezone(&Utc);
        let (late, early) = (span(rules.accept_late), span(rules.accept_early));
        if at < now - late {
            return Err(Error::invalid("timestamp", format!("is more than {} ago", told(rules.accept_late))));
        }
        if at > now + early {
            return Err(Error::invalid("timestamp", format!("is more than {} ahead", told(rules.accept_early))));
        }
        Ok(at)
    }
}

fn span(of: std::time::Duration) -> TimeDelta {
    TimeDelta::from_std(of).unwrap_or(TimeDelta::MAX)
}

fn told(of: std::time::Duration) -> humantime::FormattedDuration {
    humantime::format_duration(of)
}

fn text(field: &str, sent: Option<&str>, longest: usize) -> Result<String> {
    let text = sent.unwrap_or_default();
    if text.chars().count() > longest || text.contains('\0') {
        return Err(Error::invalid(field, format!("must have at most {longest} characters, none of them NUL")));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keyed(key: &str, source: Option<&str>) -> Uuid {
        let raw = RawEvent { key: Some(key.to_owned()), source: source.map(str::to_owned), ..RawEvent::default() };
        raw.key().unwrap()
    }

    #[test]
    fn a_key_is_its_sources_own_and_a_uuid_stays_one() {
        let uuid = "0193f0a4-7c2a-7bb0-9d7e-2f0c3a1b4c5d";
        assert_eq!(keyed(uuid, None), uuid.parse::<Uuid>().unwrap());
        assert_ne!(keyed(uuid, Some("/meter")), keyed(uuid, None));
        assert_eq!(keyed("a", Some("/meter")), keyed("a", Some("/meter")));
        assert_ne!(keyed("a", Some("/meter")), keyed("a", Some("/other")));
        assert_ne!(keyed("a", None), keyed("b", None));
    }

    #[test]
    fn what_has_no_key_is_never_a_repetition() {
        assert_ne!(RawEvent::default().key().unwrap(), RawEvent::default().key().unwrap());
    }
}
