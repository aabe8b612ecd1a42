//! Which price is in force when: decided on plain values.

use chrono::{DateTime, Datelike as _, DurationRound as _, TimeDelta, Utc};
use rust_decimal::Decimal;

use super::{super::window::Bounds, price::Price};
use crate::error::{Error, Result};

/// What a tenant was on before it went to another plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PlanChange {
    pub(super) at: DateTime<Utc>,
    pub(super) plan: String,
    pub(super) before: String,
}

/// The plans that a tenant has been on since it was made.
#[derive(Clone, Debug)]
pub(super) struct Plans {
    pub(super) since: DateTime<Utc>,
    pub(super) present: String,
    /// In their order.
    pub(super) changes: Vec<PlanChange>,
}

/// A run of time within one month that has one price.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Span<'a> {
    pub(super) month: Bounds,
    pub(super) bounds: Bounds,
    pub(super) price: &'a Price,
}

/// What totals are kept by: no price begins within one.
const QUARTER: TimeDelta = TimeDelta::minutes(15);

/// The quarter of an hour that a moment is in.
pub(super) fn quarter_of(at: DateTime<Utc>) -> DateTime<Utc> {
    at.duration_trunc(QUARTER).unwrap_or(at)
}

/// Refuses what no price may begin at: within a quarter of an hour, or in a month that is over in any time zone, whose costs have been told.
pub(super) fn check_beginning(at: DateTime<Utc>, now: DateTime<Utc>) -> Result<()> {
    if quarter_of(at) != at {
        return Err(Error::invalid("effectiveFrom", "must be a full quarter of an hour"));
    }
    if at < earliest_beginning(now) {
        return Err(Error::invalid("effectiveFrom", "is in a month that is over: what was priced stays priced"));
    }
    Ok(())
}

/// A month begins up to 14 hours before that of UTC, and ends up to 12 hours after it.
fn earliest_beginning(now: DateTime<Utc>) -> DateTime<Utc> {
    let now = quarter_of(now);
    let begin = |date: chrono::NaiveDate| date.with_day(1).unwrap_or(date).and_time(chrono::NaiveTime::MIN).and_utc();
    let (first, next) = (begin(now.date_naive()), begin((now + TimeDelta::hours(14)).date_naive()));
    // Where another month has begun somewhere, the one before is over there.
    if next > first { now } else { now.min(first + TimeDelta::hours(12)) }
}

impl Plans {
    fn at(&self, at: DateTime<Utc>) -> Option<&str> {
        if at < quarter_of(self.since) {
            return None;
        }
        let gone = self.changes.iter().take_while(|change| quarter_of(change.at) <= at).last();
        let plan = gone.map(|change| &change.plan).or_else(|| self.changes.first().map(|change| &change.before));
        Some(plan.unwrap_or(&self.present))
    }
}

/// The months' spans that have a price, in their order. A plan's own price goes before that of all plans; of each, the latest that has begun.
pub(super) fn spans<'a>(months: &[Bounds], plans: &Plans, prices: &'a [Price]) -> Vec<Span<'a>> {
    let mut spans: Vec<Span<'a>> = Vec::new();
    for month in months {
        let changes = plans.changes.iter().map(|change| quarter_of(change.at)).chain([quarter_of(plans.since)]);
        let mut cuts: Vec<_> = changes.chain(prices.iter().map(|price| price.effective_from)).collect();
        cuts.retain(|cut| month.0 < *cut && *cut < month.1);
        cuts.extend([month.0, month.1]);
        cuts.sort_unstable();
        cuts.dedup();
        for pair in cuts.windows(2) {
            let Some(price) = plans.at(pair[0]).and_then(|plan| in_force(prices, plan, pair[0])) else { continue };
            match spans.last_mut() {
                Some(last)
                    if last.bounds.1 == pair[0] && last.month == *month && last.price.price_id == price.price_id =>
                {
                    last.bounds.1 = pair[1];
                }
                _ => spans.push(Span { month: *month, bounds: (pair[0], pair[1]), price }),
            }
        }
    }
    spans
}

fn in_force<'a>(prices: &'a [Price], plan: &str, at: DateTime<Utc>) -> Option<&'a Price> {
    let latest = |of: Option<&str>| {
        let begun = prices.iter().filter(|price| price.plan.as_deref() == of && price.effective_from <= at);
        begun.max_by_key(|price| price.effective_from)
    };
    latest(Some(plan)).or_else(|| latest(None))
}

/// How much of the month lies between two moments.
pub(in crate::usage) fn share(month: Bounds, begin: DateTime<Utc>, end: DateTime<Utc>) -> Decimal {
    let seconds = |from: DateTime<Utc>, to: DateTime<Utc>| Decimal::from((to - from).num_seconds());
    (seconds(begin, end) / seconds(month.0, month.1)).max(Decimal::ZERO)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{platform::ids::PriceId, usage::costs::currency::Currency};

    fn at(text: &str) -> DateTime<Utc> {
        format!("{text}:00Z").parse().unwrap()
    }

    fn price(plan: Option<&str>, from: &str) -> Price {
        Price {
            price_id: PriceId::generate(),
            plan: plan.map(ToOwned::to_owned),
            currency: Currency::parse("EUR").unwrap(),
            effective_from: at(from),
            components: Vec::new(),
            created_at: at(from),
        }
    }

    fn told(plans: &Plans, prices: &[Price]) -> Vec<String> {
        let month = (at("2026-11-01T00:00"), at("2026-12-01T00:00"));
        let of = |span: &Span<'_>| {
            let place = prices.iter().position(|price| price.price_id == span.price.price_id).unwrap();
            format!("{place} {} {}", span.bounds.0.format("%d %H:%M"), span.bounds.1.format("%d %H:%M"))
        };
        spans(&[month], plans, prices).iter().map(of).collect()
    }

    fn always(plan: &str) -> Plans {
        Plans { since: at("2026-01-01T00:00"), present: plan.to_owned(), changes: Vec::new() }
    }

    #[test]
    fn the_latest_price_of_the_plan_goes_before_that_of_all() {
        let prices = [
            price(None, "2026-01-01T00:00"),
            price(None, "2026-11-05T00:00"),
            price(Some("team"), "2026-11-10T00:00"),
            price(None, "2026-11-20T00:00"),
            price(Some("team"), "2026-12-01T00:00"),
        ];
        assert_eq!(
            told(&always("team"), &prices),
            ["0 01 00:00 05 00:00", "1 05 00:00 10 00:00", "2 10 00:00 01 00:00"]
        );
        assert_eq!(
            told(&always("free"), &prices),
            ["0 01 00:00 05 00:00", "1 05 00:00 20 00:00", "3 20 00:00 01 00:00"]
        );
        assert!(told(&always("team"), &prices[4..]).is_empty());
    }

    #[test]
    fn what_was_used_on_another_plan_is_priced_by_that_one() {
        let prices = [price(Some("free"), "2026-01-01T00:00"), price(Some("team"), "2026-01-01T00:00")];
        let change = |when: &str, plan: &str, before: &str| PlanChange {
            at: at(when),
            plan: plan.to_owned(),
            before: before.to_owned(),
        };
        let mut plans = Plans { changes: vec![change("2026-11-10T10:20", "team", "free")], ..always("team") };
        assert_eq!(told(&plans, &prices), ["0 01 00:00 10 10:15", "1 10 10:15 01 00:00"]);
        plans.changes.push(change("2026-11-12T00:00", "other", "team"));
        plans.since = at("2026-11-03T05:05");
        assert_eq!(told(&plans, &prices), ["0 03 05:00 10 10:15", "1 10 10:15 12 00:00"]);
    }

    #[test]
    fn no_price_begins_in_a_month_that_is_over_anywhere() {
        for (now, earliest) in [
            ("2026-11-26T12:07", "2026-11-01T12:00"),
            ("2026-11-01T12:00", "2026-11-01T12:00"),
            // Somewhere it is October yet.
            ("2026-11-01T07:00", "2026-11-01T07:00"),
            // In Kiritimati it is December.
            ("2026-11-30T10:00", "2026-11-30T10:00"),
            ("2026-11-30T09:59", "2026-11-01T12:00"),
        ] {
            assert!(check_beginning(at(earliest), at(now)).is_ok(), "{now}");
            assert!(check_beginning(at(earliest) - QUARTER, at(now)).is_err(), "{now}");
        }
        assert!(check_beginning(at("2026-12-01T00:01"), at("2026-11-01T12:00")).is_err());
    }
}
