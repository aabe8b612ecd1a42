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
        lease: Lease::None,
        ticket: None,
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

fn lease(number: u128, amount: i64) -> Reservation {
    Reservation { lease: Lease::Open { until: at(10) }, ..reservation(number, &[(0, amount)], 60) }
}

fn ticket(of: u128, serial: u32, amount: i64) -> Ticket {
    Ticket { lease: id(of).1, serial, amount, text: String::new() }
}

#[test]
fn a_lease_is_no_reservation_that_a_client_could_end() {
    let mut ledger = ledger(Enforcement::Hard, 0);
    ledger.reserve(lease(1, 8)).unwrap();
    assert_eq!(code(ledger.commit(id(1), &BTreeMap::new(), at(1))), "not_found");
    assert_eq!(code(ledger.release(id(1), at(1))), "not_found");
    assert_eq!(ledger.counters[&counter(0)].reserved, 8);
}

#[test]
fn a_ticket_is_taken_once_and_not_after_its_lease() {
    let mut ledger = ledger(Enforcement::Hard, 0);
    ledger.reserve(lease(1, 8)).unwrap();
    let first = ticket(1, 1, 3);
    for _ in 0..2 {
        ledger.present(tenant(), &first, at(1)).unwrap();
        assert_eq!(code(ledger.commit((tenant(), first.id()), &BTreeMap::new(), at(1))), "ok");
        assert_eq!(ledger.counters[&counter(0)], Counter { used: 3, reserved: 5 });
    }
    assert_eq!(code(ledger.present(tenant(), &ticket(2, 1, 3), at(1))), "conflict", "of a lease that was forgotten");
    assert_eq!(code(ledger.present(tenant(), &ticket(1, 2, 3), at(60))), "conflict");
    ledger.expire(id(1), at(60));
    assert_eq!(ledger.counters[&counter(0)], Counter { used: 3, reserved: 0 });
    assert_eq!(code(ledger.present(tenant(), &ticket(1, 2, 3), at(1))), "conflict");
    assert_eq!(code(ledger.present(tenant(), &first, at(61))), "ok", "what was committed stays so");
}

#[test]
fn a_closed_lease_gives_back_what_is_idle_once_and_ends_with_its_last_ticket() {
    let mut ledger = ledger(Enforcement::Hard, 0);
    ledger.reserve(lease(1, 8)).unwrap();
    for _ in 0..2 {
        ledger.close(id(1), 5);
        assert_eq!(ledger.counters[&counter(0)].reserved, 3);
    }
    let last = ticket(1, 1, 3);
    ledger.present(tenant(), &last, at(20)).unwrap();
    assert_eq!(code(ledger.release((tenant(), last.id()), at(20))), "ok");
    assert_eq!(ledger.counters[&counter(0)], Counter::default());
    assert_eq!(ledger.reservations[&id(1)].state, State::Released);
}

proptest! {
    /// Leases beside plain reservations, tickets that are committed, released, shown again or never, leases that are closed or whose
    /// holder has died: what is admitted stays within the limit, and nothing is held for ever.
    #[test]
    fn leases_admit_nothing_beyond_the_limit_and_leak_nothing(
        steps in proptest::collection::vec((0usize..6, 0usize..12, 1i64..6, 0i64..6), 1..80)
    ) {
        let mut ledger = ledger(Enforcement::Soft, 0);
        ledger.terms.insert(counter(0), Terms { limit: Limit { limit: Some(40), enforcement: Enforcement::Hard, grace_percent: 0 }, resets_at: None });
        // What the holder of each lease has in memory, and the tickets that clients have.
        let (mut holders, mut tickets, mut now) = (Vec::<(u128, i64, u32)>::new(), Vec::<Ticket>::new(), 0);
        for (number, (what, which, amount, actual)) in steps.into_iter().enumerate() {
            let fresh = number as u128 + 1;
            match what {
                0 => if ledger.reserve(Reservation { expires_at: at(now + 30), ..lease(fresh, amount * 2) }).is_ok() {
                    holders.push((fresh, amount * 2, 0));
                },
                1 | 2 if !holders.is_empty() => {
                    let place = which % holders.len();
                    let (of, left, serial) = &mut holders[place];
                    if *left >= amount {
                        (*left, *serial) = (*left - amount, *serial + 1);
                        tickets.push(ticket(*of, *serial, amount));
                    }
                }
                3 if !tickets.is_empty() => {
                    let shown = tickets[which % tickets.len()].clone();
                    if ledger.present(tenant(), &shown, at(now)).is_ok() {
                        let id = (tenant(), shown.id());
                        let used = BTreeMap::from([("key_0".to_owned(), actual.min(shown.amount))]);
                        let _ = if actual == 0 { ledger.release(id, at(now)) } else { ledger.commit(id, &used, at(now)) };
                    }
                }
                4 if !holders.is_empty() => {
                    let (of, left, _) = holders.swap_remove(which % holders.len());
                    if actual > 0 { // else its holder has died
                        ledger.close(id(of), left);
                    }
                }
                _ => {
                    now += amount;
                    let all: Vec<_> = ledger.reservations.keys().copied().collect();
                    all.into_iter().for_each(|id| ledger.expire(id, at(now)));
                }
            }
            let found = ledger.counters.get(&counter(0)).copied().unwrap_or_default();
            let held: i64 = ledger.reservations.values().filter(|row| row.state == State::Held)
                .flat_map(Reservation::lines).map(|line| line.amount).sum();
            let used: i64 = ledger.reservations.values().filter_map(|row| row.committed.as_ref()?.get("key_0")).sum();
            prop_assert_eq!(found, Counter { used, reserved: held });
            prop_assert!(used + held <= 40);
        }
        let all: Vec<_> = ledger.reservations.keys().copied().collect();
        all.into_iter().for_each(|id| ledger.expire(id, at(now + 100)));
        prop_assert_eq!(ledger.counters.get(&counter(0)).copied().unwrap_or_default().reserved, 0);
    }
}
