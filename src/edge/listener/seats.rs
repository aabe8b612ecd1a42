//! The caps on connections.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use metrics::{counter, gauge};
use tokio_util::task::{TaskTracker, task_tracker::TaskTrackerToken};

/// Counts open connections, in all and per [`origin`]. Clones count together.
#[derive(Clone, Debug)]
pub(super) struct Seats {
    total: usize,
    per_origin: usize,
    taken: Arc<Mutex<Taken>>,
    open: TaskTracker,
}

#[derive(Debug, Default)]
struct Taken {
    total: usize,
    by_origin: HashMap<IpAddr, usize>,
}

/// One open connection; dropping it gives the seat back.
#[derive(Debug)]
pub(super) struct Seat {
    origin: IpAddr,
    seats: Seats,
    _open: TaskTrackerToken,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Total,
    Address,
}

impl Refusal {
    pub(super) fn count(self) {
        let reason = match self {
            Self::Total => "total",
            Self::Address => "address",
        };
        counter!("tenantry_http_connections_refused_total", "reason" => reason).increment(1);
    }
}

impl Seats {
    pub(super) fn new(total: usize, per_origin: usize) -> Self {
        Self { total, per_origin, taken: Arc::default(), open: TaskTracker::new() }
    }

    pub(super) fn take(&self, address: IpAddr) -> Result<Seat, Refusal> {
        let origin = origin(address);
        let mut taken = self.lock();
        if taken.total >= self.total {
            return Err(Refusal::Total);
        }
        if taken.by_origin.get(&origin).is_some_and(|taken| *taken >= self.per_origin) {
            return Err(Refusal::Address);
        }
        taken.total += 1;
        *taken.by_origin.entry(origin).or_default() += 1;
        gauge!("tenantry_http_connections").increment(1.0);
        Ok(Seat { origin, seats: self.clone(), _open: self.open.token() })
    }

    pub(super) fn taken(&self) -> usize {
        self.lock().total
    }

    /// Resolves when nobody sits any more. Call it when nobody is let in any more.
    pub(super) async fn emptied(&self) {
        self.open.close();
        self.open.wait().await;
    }

    /// A panic between two additions cannot happen, so that a poisoned lock still guards right numbers.
    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.lock();
        taken.total -= 1;
        if let Some(count) = taken.by_origin.get_mut(&self.origin) {
            *count -= 1;
            if *count == 0 {
                taken.by_origin.remove(&self.origin);
            }
        }
        gauge!("tenantry_http_connections").decrement(1.0);
    }
}

/// Whom an address counts for. A customer line gets a whole /64 (RFC 6177; RIPE-690), so that counting single IPv6 addresses would
/// cap nobody.
fn origin(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_ipv6_network_counts_as_one_address() {
        let seats = Seats::new(10, 1);
        let _seat = seats.take(address("2001:db8:1:2::1")).unwrap();
        assert_eq!(seats.take(address("2001:db8:1:2:ffff::9")).unwrap_err(), Refusal::Address);
        assert!(seats.take(address("2001:db8:1:3::1")).is_ok());
    }

    #[test]
    fn a_mapped_address_counts_as_the_ipv4_address() {
        let seats = Seats::new(10, 1);
        let _seat = seats.take(address("::ffff:192.0.2.1")).unwrap();
        assert_eq!(seats.take(address("192.0.2.1")).unwrap_err(), Refusal::Address);
    }

    #[test]
    fn a_dropped_seat_is_free_again_and_leaves_nothing_behind() {
        let seats = Seats::new(1, 1);
        let seat = seats.take(address("192.0.2.1")).unwrap();
        assert_eq!(seats.take(address("192.0.2.2")).unwrap_err(), Refusal::Total);
        drop(seat);
        assert_eq!(seats.taken(), 0);
        assert!(seats.lock().by_origin.is_empty());
        assert!(seats.take(address("192.0.2.2")).is_ok());
    }
}
