//! What was reached of what is promised, month by month.

use std::cmp::Reverse;

use async_graphql::SimpleObject;
use chrono::{DateTime, TimeDelta, Utc};
use rust_decimal::Decimal;
use sea_orm::FromQueryResult;

use super::{Health, Month, store};
use crate::{
    error::{Error, Result},
    isolation::TenantScope,
    tenancy::Sla,
};

/// Availability in a calendar month (UTC) beside what is promised: 100 × (1 − downtime / time in service).
///
/// Time in service begins with the month, or with the tenant where it was made later, and ends with the month; of the present
/// month it goes until now. Outages that overlap count once, maintenance and withdrawn reports do not count, an outage that
/// lasts counts until now.
#[derive(Clone, Debug, PartialEq, Eq, SimpleObject)]
pub struct SlaAttainment {
    /// Such as `2026-11`.
    month: String,
    /// When time in service begins; null where there is none.
    from: Option<DateTime<Utc>>,
    /// When time in service ends; null where there is none.
    until: Option<DateTime<Utc>>,
    /// The uptime that the tenant's SLA promises today, in per cent, for past months, too.
    promised: Decimal,
    /// Per cent, rounded down to 4 places; null where there was no time in service.
    attained: Option<Decimal>,
    /// Whole seconds, rounded up.
    downtime_seconds: i64,
    /// Whether `attained`, as it stands here, is `promised` or more; null where there was no time in service.
    met: Option<bool>,
    /// Per cent of the month's fee to be given back; 0 where none is due, null where there was no time in service. Until the
    /// month is over it is what would be due if it ended now.
    credit_percent: Option<Decimal>,
}

/// A time in service: from `from` to just before `until`, which is later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) from: DateTime<Utc>,
    pub(super) until: DateTime<Utc>,
}

/// When an outage was; without an end it lasts.
#[derive(Clone, Copy, Debug, FromQueryResult)]
pub(super) struct Span {
    pub(super) began_at: DateTime<Utc>,
    pub(super) ended_at: Option<DateTime<Utc>>,
}

impl Health {
    /// What the tenant was given in `month`; in the present one where none is named.
    pub async fn attainment(&self, scope: &TenantScope, month: Option<Month>) -> Result<SlaAttainment> {
        let now = self.isolation.clock().now();
        let month = month.unwrap_or_else(|| Month::of(now));
        if month.begin() > now {
            return Err(Error::invalid("month", "is in the future"));
        }
        let tenant = self.tenancy.get(scope).await?;
        let sla = self.tenancy.plan(&tenant.plan).await?.sla.with(&tenant.sla);
        let window = in_service(month, tenant.created_at, now);
        let spans = match &window {
            None => Vec::new(),
            Some(window) => {
                let tx = self.isolation.begin(scope).await?;
                let spans = store::downtimes(&tx, scope.tenant(), window).await?;
                tx.commit_unrecorded("a read").await?;
                spans
            }
        };
        Ok(measured(month, window, &spans, &sla))
    }
}

fn measured(month: Month, window: Option<Window>, spans: &[Span], sla: &Sla) -> SlaAttainment {
    let down = window.map_or(TimeDelta::zero(), |window| downtime(window, spans));
    let attained = window.map(|window| availability(window, down));
    SlaAttainment {
        month: month.to_string(),
        from: window.map(|window| window.from),
        until: window.map(|window| window.until),
        promised: sla.uptime,
        attained,
        downtime_seconds: down.num_seconds() + i64::from(down.subsec_nanos() > 0),
        met: attained.map(|attained| attained >= sla.uptime),
        credit_percent: attained.map(|attained| credit(sla, attained)),
    }
}

/// What of the month the tenant was there for, so far.
fn in_service(month: Month, created_at: DateTime<Utc>, now: DateTime<Utc>) -> Option<Window> {
    let (from, until) = (month.begin().max(created_at), month.end().min(now));
    (from < until).then_some(Window { from, until })
}

/// How much of the window lies in any of the spans.
fn downtime(window: Window, spans: &[Span]) -> TimeDelta {
    let mut spans: Vec<_> =
        spans.iter().map(|span| (span.began_at, span.ended_at.unwrap_or(window.until).min(window.until))).collect();
    spans.sort_unstable();
    let (mut down, mut counted) = (TimeDelta::zero(), window.from);
    for (from, until) in spans {
        let from = from.max(counted);
        if from < until {
            down += until - from;
            counted = until;
        }
    }
    down
}

/// Per cent of the window, rounded down to 4 places: in whole microseconds, so that nothing else is rounded.
fn availability(window: Window, down: TimeDelta) -> Decimal {
    let micros = |time: TimeDelta| i128::from(time.num_microseconds().expect("a month fits into 64 bits"));
    let total = micros(window.until - window.from);
    let ten_thousandths = (total - micros(down)) * 1_000_000 / total;
    Decimal::from_i128_with_scale(ten_thousandths, 4)
}

/// What the lowest step that was missed gives back: of `below 99` and `below 99.9` the first where both were.
fn credit(sla: &Sla, attained: Decimal) -> Decimal {
    let missed = sla.credits.iter().filter(|credit| attained < credit.below);
    missed.min_by_key(|credit| (credit.below, Reverse(credit.percent))).map_or(Decimal::ZERO, |credit| credit.percent)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MONTH_SECONDS: i64 = 30 * 86_400;

    fn at(second: i64) -> DateTime<Utc> {
        november().begin() + TimeDelta::seconds(second)
    }

    fn november() -> Month {
        Month::parse("month", "2026-11").unwrap()
    }

    fn span(began_at: i64, ended_at: impl Into<Option<i64>>) -> Span {
        Span { began_at: at(began_at), ended_at: ended_at.into().map(at) }
    }

    fn sla(uptime: &str, credits: &[(&str, &str)]) -> Sla {
        let credits: Vec<_> =
            credits.iter().map(|(below, percent)| serde_json::json!({ "below": below, "percent": percent })).collect();
        serde_json::from_value(serde_json::json!({
            "uptime": uptime, "supportHours": "8x5", "credits": credits,
            "supportResponse": { "critical": "1h", "high": "1h", "normal": "1h" },
        }))
        .unwrap()
    }

    fn whole() -> Window {
        Window { from: at(0), until: at(MONTH_SECONDS) }
    }

    #[test]
    fn time_in_service_is_what_of_the_month_the_tenant_was_there_for() {
        let service = |created_at, now| in_service(november(), at(created_at), at(now));
        assert_eq!(service(-5, MONTH_SECONDS + 5), Some(whole()));
        assert_eq!(service(10, 20), Some(Window { from: at(10), until: at(20) }));
        assert_eq!(service(MONTH_SECONDS, MONTH_SECONDS + 5), None, "made when the month was over");
        assert_eq!(service(-5, 0), None, "the month has not begun");
        assert_eq!(service(7, 7), None, "made now");
    }

    #[test]
    fn no_time_in_service_attains_nothing_and_owes_nothing() {
        let nothing = measured(november(), None, &[], &sla("99.9", &[("99.9", "10")]));
        assert_eq!((nothing.from, nothing.until, nothing.attained), (None, None, None));
        assert_eq!((nothing.met, nothing.credit_percent, nothing.downtime_seconds), (None, None, 0));
    }

    #[test]
    fn outages_count_once_within_the_window_and_until_now_while_they_last() {
        let seconds = |spans: &[Span]| downtime(Window { from: at(100), until: at(1_000) }, spans).num_seconds();
        assert_eq!(seconds(&[]), 0);
        assert_eq!(seconds(&[span(200, 300), span(250, 400), span(260, 270)]), 200, "overlapping");
        assert_eq!(seconds(&[span(200, 300), span(300, 400)]), 200, "adjacent");
        assert_eq!(seconds(&[span(500, 600), span(200, 300)]), 200, "in any order");
        assert_eq!(seconds(&[span(0, 150), span(950, 2_000)]), 100, "over the edges");
        assert_eq!(seconds(&[span(0, 100), span(1_000, 2_000)]), 0, "beside the window");
        assert_eq!(seconds(&[span(900, None), span(950, None)]), 100, "lasting");
        assert_eq!(seconds(&[span(0, None)]), 900, "all of it");
    }

    #[test]
    fn availability_never_claims_more_than_was_reached() {
        let attained = |down: TimeDelta| availability(whole(), down).to_string();
        assert_eq!(attained(TimeDelta::zero()), "100.0000");
        // One microsecond of a month is far less than a place.
        assert_eq!(attained(TimeDelta::microseconds(1)), "99.9999");
        assert_eq!(attained(TimeDelta::minutes(43)), "99.9004"); // 43 of 43,200 minutes: 99.900462…
        assert_eq!(attained(TimeDelta::seconds(2_592)), "99.9000");
        assert_eq!(attained(TimeDelta::seconds(2_593)), "99.8999");
        assert_eq!(attained(whole().until - whole().from), "0.0000");
    }

    #[test]
    fn seconds_of_downtime_are_rounded_up() {
        let short = Span { began_at: at(1), ended_at: Some(at(2) + TimeDelta::microseconds(1)) };
        assert_eq!(measured(november(), Some(whole()), &[short], &sla("99", &[])).downtime_seconds, 2);
        assert_eq!(measured(november(), Some(whole()), &[span(1, 2)], &sla("99", &[])).downtime_seconds, 1);
    }

    #[test]
    fn the_lowest_step_that_was_missed_gives_the_credit() {
        let terms = sla("99.95", &[("99.95", "10"), ("95", "100"), ("99", "25"), ("99", "30")]);
        for (attained, percent) in [
            ("100", "0"),
            ("99.95", "0"),
            ("99.9499", "10"),
            ("99", "10"),
            ("98.9999", "30"),
            ("95", "30"),
            ("0", "100"),
        ] {
            assert_eq!(credit(&terms, attained.parse().unwrap()), percent.parse().unwrap(), "{attained}");
        }
        assert_eq!(credit(&sla("99.95", &[]), Decimal::ZERO), Decimal::ZERO);
    }

    fn spans() -> impl Strategy<Value = Vec<Span>> {
        let one = (-50_i64..250, prop::option::weighted(0.9, 1_i64..80));
        prop::collection::vec(one.prop_map(|(from, length)| span(from, length.map(|length| from + length))), 0..12)
    }

    proptest! {
        /// Second by second, each looked at once.
        #[test]
        fn downtime_is_the_number_of_seconds_in_which_there_was_an_outage(spans in spans(), from in 0_i64..100, length in 1_i64..100) {
            let window = Window { from: at(from), until: at(from + length) };
            let hit = |second: i64| spans.iter().any(|span| span.began_at <= at(second) && span.ended_at.is_none_or(|end| at(second) < end));
            let counted = (from..from + length).filter(|second| hit(*second)).count() as i64;
            prop_assert_eq!(downtime(window, &spans), TimeDelta::seconds(counted));
        }

        /// With `a` ten-thousandths attained and `up` of `total` reached: a ≤ 10⁶ × up ÷ total < a + 1.
        #[test]
        fn availability_is_the_largest_figure_that_was_reached(total in 1_i64..=2_678_400_000_000, part in 0_i64..=1_000_000_007) {
            let up = (i128::from(total) * i128::from(part) / 1_000_000_007) as i64;
            let window = Window { from: at(0), until: at(0) + TimeDelta::microseconds(total) };
            let attained = availability(window, TimeDelta::microseconds(total - up));
            prop_assert_eq!(attained.scale(), 4);
            let (figure, up, total) = (attained.mantissa(), i128::from(up) * 1_000_000, i128::from(total));
            prop_assert!(figure * total <= up && up < (figure + 1) * total, "{} of {}", attained, total);
        }

        /// One more outage never makes the month better, nor the credit smaller where lower steps give back more.
        #[test]
        fn more_downtime_never_pays(spans in spans(), from in -50_i64..250, length in 1_i64..80) {
            let terms = sla("99.9", &[("99.9", "10"), ("90", "25"), ("50", "100")]);
            let window = Window { from: at(0), until: at(200) };
            let before = measured(november(), Some(window), &spans, &terms);
            let more: Vec<_> = spans.iter().copied().chain([span(from, from + length)]).collect();
            let after = measured(november(), Some(window), &more, &terms);
            prop_assert!(after.attained <= before.attained && after.credit_percent >= before.credit_percent);
            prop_assert_eq!(after.met, after.attained.map(|attained| attained >= terms.uptime));
        }
    }
}
