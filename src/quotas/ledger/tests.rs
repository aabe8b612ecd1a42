use proptest::prelude::*;

use super::*;
use crate::quotas::key::Enforcement;

const LIMITS: [i64; 3] = [10, 25, 0];

fn tenant() -> TenantId {
    TenantId::from_uuid(uuid::Uuid::from_u128(7))
}

fn counter(index: usize) -> CounterKey {
    CounterKey { tenant: tenant(), key: format!("key_{index}"), window: String::new() }
}

fn ledger(enforcement: Enforcement, grace_percent: i32) -> Ledger {
    let terms = |index: usize| {
        let limit = Limit { limit: Some(LIMITS[index]), enforcement, grace_percent };
        (counter(index), Terms { limit, resets_at: None })
    };
    Ledger { terms: (0..3).map(terms).collect(), ..Ledger::default() }
}

fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(second, 0).unwrap()
}

fn reservation(number: u128, lines: &[(usize, i64)], expires: i64) -> Reservation {
    Reservation {
        tenant: tenant(),
        id: ReservationId::from_uuid(uuid::Uuid::from_u128(number)),
        subject: "service".into(),
        state: State::Held,
        holds: lines.iter().map(|(index, amount)| Hold { counter: counter(*index), amount: *amount }).collect(),
        created_at: at(0),
        expires_at: at(expires),
        committed: None,
    }
}

fn id(number: u128) -> (TenantId, ReservationId) {
    (tenant(), ReservationId::from_uuid(uuid::Uuid::from_u128(number)))
}

fn code(result: Result<()>) -> &'static str {
    result.map_or_else(|error| error.kind().code(), |()| "ok")
}

#[test]
fn several_lines_are_held_together_or_not_at_all() {
    let mut ledger = ledger(Enforcement::Hard, 0);
    assert_eq!(code(ledger.reserve(reservation(1, &[(0, 5), (1, 26)], 60))), "quota_exceeded");
    assert_eq!(ledger.counters.get(&counter(0)), None);
    assert_eq!(code(ledger.reserve(reservation(1, &[(0, 5), (1, 25)], 60))), "ok");
    assert_eq!(ledger.counters[&counter(1)], Counter { used: 0, reserved: 25 });
}

#[test]
fn what_is_committed_is_at_most_what_was_reserved_and_the_rest_is_free_again() {
    let mut ledger = ledger(Enforcement::Hard, 0);
    ledger.reserve(reservation(1, &[(0, 8)], 60)).unwrap();
    let actual = |amount: i64| BTreeMap::from([("key_0".to_owned(), amount)]);
    for refused in [9, -1] {
        assert_eq!(code(ledger.commit(id(1), &actual(refused), at(1))), "invalid_input");
    }
    assert_eq!(code(ledger.commit(id(1), &BTreeMap::from([("key_1".to_owned(), 1)]), at(1))), "invalid_input");
    assert_eq!(code(ledger.commit(id(1), &actual(3), at(1))), "ok");
    assert_eq!(ledger.counters[&counter(0)], Counter { used: 3, reserved: 0 });
    assert_eq!(code(ledger.commit(id(1), &actual(3), at(2))), "ok", "repeated");
    assert_eq!(code(ledger.commit(id(1), &actual(2), at(2))), "conflict", "repeated differently");
    assert_eq!(code(ledger.release(id(1), at(2))), "conflict");
    assert_eq!(ledger.counters[&counter(0)], Counter { used: 3, reserved: 0 });
}

#[test]
fn an_expired_reservation_is_not_committed() {
    let mut ledger = ledger(Enforcement::Hard, 0);
    ledger.reserve(reservation(1, &[(0, 8)], 60)).unwrap();
    assert_eq!(code(ledger.commit(id(1), &BTreeMap::new(), at(60))), "conflict");
    ledger.expire(id(1), at(59));
    assert_eq!(ledger.counters[&counter(0)].reserved, 8);
    ledger.expire(id(1), at(60));
    assert_eq!(ledger.counters[&counter(0)].reserved, 0);
    assert_eq!(code(ledger.release(id(1), at(61))), "ok");
}

#[test]
fn grace_lets_in_a_little_more_and_a_soft_limit_everything_once_with_a_record() {
    let mut graceful = ledger(Enforcement::Hard, 10);
    assert_eq!(code(graceful.reserve(reservation(1, &[(0, 12)], 60))), "quota_exceeded");
    assert_eq!(code(graceful.reserve(reservation(1, &[(0, 11)], 60))), "ok");
    let mut soft = ledger(Enforcement::Soft, 0);
    for number in 1..=3 {
        soft.reserve(reservation(number, &[(0, 8)], 60)).unwrap();
    }
    assert_eq!(soft.passed, [counter(0)]);
}

#[test]
fn a_sum_that_cannot_be_counted_is_refused() {
    let mut soft = ledger(Enforcement::Soft, 0);
    soft.reserve(reservation(1, &[(0, i64::MAX - 1)], 60)).unwrap();
    assert_eq!(code(soft.reserve(reservation(2, &[(0, 2)], 60))), "invalid_input");
}

#[derive(Clone, Debug)]
enum Step {
    Reserve(Vec<(usize, i64)>, i64),
    Commit(usize, i64),
    Release(usize),
    Expire(usize),
    Wait(i64),
}

fn step() -> impl Strategy<Value = Step> {
    let lines = proptest::collection::btree_map(0usize..3, 1i64..12, 1..=3);
    prop_oneof![
        (lines, 1i64..20).prop_map(|(lines, lasts)| Step::Reserve(lines.into_iter().collect(), lasts)),
        (0usize..20, 0i64..12).prop_map(|(which, actual)| Step::Commit(which, actual)),
        (0usize..20).prop_map(Step::Release),
        (0usize..20).prop_map(Step::Expire),
        (1i64..10).prop_map(Step::Wait),
    ]
}

proptest! {
    /// Against a second account of the same: what is reserved is the sum of what is held, what is used the sum of what was
    /// committed, and never more than the limit is let in.
    #[test]
    fn nothing_is_admitted_beyond_the_limit_and_nothing_leaks(steps in proptest::collection::vec(step(), 1..60)) {
        let mut ledger = ledger(Enforcement::Hard, 0);
        let (mut now, mut made) = (0, Vec::new());
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Reserve(lines, lasts) => {
                    let number = number as u128 + 1;
                    let before = ledger.counters.clone();
                    if ledger.reserve(reservation(number, &lines, now + lasts)).is_ok() {
                        made.push(number);
                    } else {
                        prop_assert_eq!(&before, &ledger.counters);
                    }
                }
                Step::Commit(which, actual) if which < made.len() => {
                    let actual = BTreeMap::from([("key_0".to_owned(), actual)]);
                    let _ = ledger.commit(id(made[which]), &actual, at(now));
                }
                Step::Release(which) if which < made.len() => { let _ = ledger.release(id(made[which]), at(now)); }
                Step::Expire(which) if which < made.len() => ledger.expire(id(made[which]), at(now)),
                Step::Wait(seconds) => now += seconds,
                _ => {}
            }
            for (index, limit) in LIMITS.into_iter().enumerate() {
                let found = ledger.counters.get(&counter(index)).copied().unwrap_or_default();
                let lines = |state: State| ledger.reservations.values().filter(move |row| row.state == state);
                let held: i64 = lines(State::Held).flat_map(Reservation::lines)
                    .filter(|line| line.counter == counter(index)).map(|line| line.amount).sum();
                let used: i64 = lines(State::Committed).filter_map(|row| row.committed.as_ref()?.get(&counter(index).key)).sum();
                prop_assert_eq!(found, Counter { used, reserved: held });
                prop_assert!(used + held <= limit);
            }
        }
        let all: Vec<_> = ledger.reservations.keys().copied().collect();
        for id in all {
            ledger.expire(id, at(now + 100));
        }
        prop_assert!(ledger.counters.values().all(|counter| counter.reserved == 0));
    }
}
