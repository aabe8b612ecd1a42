use chrono::{DateTime, TimeDelta, Utc};

use super::Name;

/// After how many failures attempts have to wait, and for how long: each failure more doubles it, from one second on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sessions) struct Rule {
    free: i32,
    longest: TimeDelta,
}

/// What nobody tried for so long is forgotten.
pub(in crate::sessions) const FORGOTTEN: TimeDelta = TimeDelta::hours(1);

/// One account from one address that it does not know.
pub(super) const PAIR: Rule = Rule { free: 5, longest: TimeDelta::minutes(15) };
/// One account from an address that it has signed in from.
pub(super) const KNOWN_PAIR: Rule = Rule { free: 10, longest: TimeDelta::seconds(2) };
/// One account from everywhere else.
pub(super) const ACCOUNT: Rule = Rule { free: 20, longest: TimeDelta::minutes(1) };
/// All accounts of a tenant from one address.
pub(super) const ADDRESS: Rule = Rule { free: 50, longest: TimeDelta::minutes(15) };
/// All accounts of a tenant from all addresses that they do not know.
pub(super) const TENANT: Rule = Rule { free: 1_000, longest: TimeDelta::seconds(5) };
/// Codes of one member: a million of them, three of which are good at a time.
pub(super) const SECOND_FACTOR: Rule = Rule { free: 5, longest: TimeDelta::minutes(15) };

impl Rule {
    fn delay(self, failures: i32) -> TimeDelta {
        let over = failures - self.free;
        if over <= 0 {
            return TimeDelta::zero();
        }
        TimeDelta::seconds(1_i64 << (over - 1).min(20)).min(self.longest)
    }
}

/// How often something failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sessions) struct Counted {
    pub(super) name: Name,
    pub(super) rule: Rule,
    pub(super) failures: i32,
    pub(super) failed_at: DateTime<Utc>,
    pub(super) until: DateTime<Utc>,
}

impl Counted {
    /// With one failure more.
    pub(super) fn charged(&self, now: DateTime<Utc>) -> Self {
        let before = if now - self.failed_at < FORGOTTEN { self.failures } else { 0 };
        let failures = before.saturating_add(1);
        // Without a wait there is no moment to wait for: attempts at once do not all have the same clock.
        let delay = self.rule.delay(failures);
        let until = if delay.is_zero() { self.until } else { now + delay };
        Self { failures, failed_at: now, until, ..*self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn none(rule: Rule) -> Counted {
        let at = DateTime::UNIX_EPOCH;
        Counted { name: [0; 32], rule, failures: 0, failed_at: at, until: at }
    }

    /// How many guesses somebody has who never stops.
    fn guesses(rule: Rule, within: TimeDelta) -> usize {
        let (mut counted, mut now, mut guesses) = (none(rule), DateTime::UNIX_EPOCH, 0);
        let end = now + within;
        while now < end && guesses < 100_000 {
            counted = counted.charged(now);
            guesses += 1;
            now = now.max(counted.until);
        }
        guesses
    }

    #[test]
    fn waiting_doubles_up_to_its_longest_and_time_forgets() {
        let delays: Vec<_> = (4..20).map(|failures| PAIR.delay(failures).num_seconds()).collect();
        assert_eq!(delays, [0, 0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900, 900, 900]);
        assert_eq!(KNOWN_PAIR.delay(i32::MAX).num_seconds(), 2);
        let now = DateTime::UNIX_EPOCH + TimeDelta::days(1);
        let many = Counted { failures: 1_000, failed_at: now - FORGOTTEN, ..none(PAIR) };
        assert_eq!(many.charged(now).failures, 1);
    }

    #[test]
    fn free_attempts_at_once_do_not_wait_for_each_other() {
        let now = DateTime::UNIX_EPOCH + TimeDelta::days(1);
        let first = none(PAIR).charged(now);
        assert!(first.until < now - TimeDelta::milliseconds(1), "one that was begun a moment before is looked at, too");
        assert_eq!(Counted { failures: 5, ..first }.charged(now).until, now + TimeDelta::seconds(1));
    }

    #[test]
    fn who_never_stops_has_few_guesses_a_day() {
        let day = TimeDelta::days(1);
        assert!(guesses(PAIR, day) < 120, "{}", guesses(PAIR, day));
        assert!(guesses(SECOND_FACTOR, day) < 120);
        assert!(guesses(ACCOUNT, day) < 1_500, "{}", guesses(ACCOUNT, day));
    }
}
