//! Where a connection stands, and until when it may stand there. Pure transitions on plain values, and the watch over them.

use std::{
    future::Future as _,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use futures::task::AtomicWaker;
use metrics::counter;
use tokio::time::{Instant, Sleep, sleep_until};

use super::{Limits, WRITE_STALL};

/// RFC 9113, section 3.4.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// A HTTP/2 write below this moves nobody's response: the largest of our control frames, PING and GOAWAY, have 17 bytes, and a peer
/// that opens its window by single bytes is stalling.
const MOVING: usize = 64;
/// Requests that a peer may abandon on one connection before the ratio counts. Abandoning more than it lets finish is the rapid reset
/// (CVE-2023-44487): each costs us a handler's start and never counts as concurrent.
const ABANDONED: u64 = 100;

/// Which deadline passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deadline {
    FirstByte,
    Header,
    Idle,
    Body,
    Write,
    Reset,
}

impl Deadline {
    pub(super) fn count(self) {
        let kind = match self {
            Self::FirstByte => "first_byte",
            Self::Header => "header",
            Self::Idle => "idle",
            Self::Body => "body",
            Self::Write => "write",
            Self::Reset => "reset",
        };
        counter!("tenantry_http_deadline_total", "kind" => kind).increment(1);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    /// So many bytes equal the preface so far.
    Undecided(usize),
    Http1,
    Http2,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Opened,
    Head,
    Busy,
    Idle,
}

/// Each transition answers whether the deadline may have come nearer, that is whether the watch has to look again.
#[derive(Clone, Debug)]
pub(super) struct Progress {
    protocol: Protocol,
    phase: Phase,
    since: Instant,
    in_flight: usize,
    answered: u64,
    abandoned: u64,
    /// HTTP/2 responses with a frame handed over and no room for the next one.
    owed: usize,
    moved: Instant,
}

impl Progress {
    fn opened(now: Instant) -> Self {
        Self {
            protocol: Protocol::Undecided(0),
            phase: Phase::Opened,
            since: now,
            in_flight: 0,
            answered: 0,
            abandoned: 0,
            owed: 0,
            moved: now,
        }
    }

    pub(super) fn received(&mut self, chunk: &[u8], now: Instant) -> bool {
        if let Protocol::Undecided(equal) = self.protocol {
            self.protocol = decide(equal, chunk);
        }
        let next = match (self.phase, self.protocol) {
            (Phase::Opened | Phase::Head, Protocol::Http2) => Phase::Idle,
            // Between streams come PING, SETTINGS and WINDOW_UPDATE too. Half a HEADERS frame ends with the idle deadline.
            (Phase::Opened, _) | (Phase::Idle, Protocol::Http1) => Phase::Head,
            _ => return false,
        };
        self.enter(next, now)
    }

    /// Also moves the idle deadline: the kernel may still be sending a response that hyper has let go of.
    pub(super) fn sent(&mut self, bytes: usize, now: Instant) -> bool {
        if self.protocol != Protocol::Http2 || bytes >= MOVING {
            self.moved = now;
            if self.phase == Phase::Idle {
                self.since = now;
            }
        }
        false
    }

    pub(super) fn began(&mut self, now: Instant) -> bool {
        self.in_flight += 1;
        self.enter(Phase::Busy, now);
        false
    }

    pub(super) fn ended(&mut self, answered: bool, now: Instant) -> bool {
        self.in_flight = self.in_flight.saturating_sub(1);
        if answered {
            self.answered += 1;
        } else {
            self.abandoned += 1;
        }
        if self.in_flight == 0 {
            return self.enter(Phase::Idle, now);
        }
        self.resets_rapidly()
    }

    /// A HTTP/2 response handed over a frame; until it is asked for the next one, the peer has to make room (RFC 9113, section 5.2).
    pub(super) fn owes(&mut self, now: Instant) -> bool {
        self.owed += 1;
        if self.owed > 1 {
            return false;
        }
        self.moved = now;
        true
    }

    pub(super) fn settled(&mut self) -> bool {
        self.owed = self.owed.saturating_sub(1);
        false
    }

    fn enter(&mut self, phase: Phase, now: Instant) -> bool {
        self.phase = phase;
        self.since = now;
        true
    }

    fn resets_rapidly(&self) -> bool {
        self.protocol == Protocol::Http2 && self.abandoned > ABANDONED && self.abandoned > self.answered
    }

    fn deadline(&self, limits: &Limits) -> Option<(Instant, Deadline)> {
        let after = |since: Instant, limit: Duration, deadline| Some((since + limit, deadline));
        match self.phase {
            _ if self.resets_rapidly() => after(self.since, Duration::ZERO, Deadline::Reset),
            Phase::Opened => after(self.since, limits.first_byte, Deadline::FirstByte),
            Phase::Head => after(self.since, limits.header, Deadline::Header),
            Phase::Idle => after(self.since, limits.idle, Deadline::Idle),
            Phase::Busy if self.owed > 0 => after(self.moved, WRITE_STALL, Deadline::Write),
            // The bodies and the wire have deadlines of their own, and how long a handler takes is not the peer's doing.
            Phase::Busy => None,
        }
    }
}

fn decide(equal: usize, chunk: &[u8]) -> Protocol {
    let rest = PREFACE.get(equal..).unwrap_or_default();
    let compared = rest.len().min(chunk.len());
    if rest[..compared] != chunk[..compared] {
        Protocol::Http1
    } else if compared == rest.len() {
        Protocol::Http2
    } else {
        Protocol::Undecided(equal + compared)
    }
}

/// The progress of one connection, shared by its task, its socket and its bodies.
#[derive(Debug)]
pub(super) struct Tracked {
    state: Mutex<State>,
    watch: AtomicWaker,
}

#[derive(Debug)]
struct State {
    progress: Progress,
    /// The connection's task is at work, and will look when it is done.
    attended: bool,
}

/// The connection's own task: it looks after each time it worked, so that what it did itself wakes nobody.
pub(super) struct Watch {
    tracked: Arc<Tracked>,
    timer: Option<Pin<Box<Sleep>>>,
}

pub(super) fn track() -> (Arc<Tracked>, Watch) {
    let state = State { progress: Progress::opened(Instant::now()), attended: false };
    let tracked = Arc::new(Tracked { state: Mutex::new(state), watch: AtomicWaker::new() });
    (Arc::clone(&tracked), Watch { tracked, timer: None })
}

impl Tracked {
    /// Makes a transition, and has the watch look where it would not by itself.
    pub(super) fn note(&self, transition: impl FnOnce(&mut Progress) -> bool) {
        let mut state = self.state();
        let unseen = transition(&mut state.progress) && !state.attended;
        drop(state);
        if unseen {
            self.watch.wake();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watch {
    /// Before the connection's task works.
    pub(super) fn attend(&self) {
        self.tracked.state().attended = true;
    }

    /// After it: resolves with the deadline that passed. Deadlines that move away are noticed when the old one comes, so that a
    /// request costs no timer.
    pub(super) fn poll_expired(&mut self, cx: &mut Context<'_>, limits: &Limits) -> Poll<Deadline> {
        self.tracked.watch.register(cx.waker());
        loop {
            let mut state = self.tracked.state();
            state.attended = false;
            let next = state.progress.deadline(limits);
            drop(state);
            let Some((at, deadline)) = next else { return Poll::Pending };
            if at <= Instant::now() {
                return Poll::Ready(deadline);
            }
            let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(at)));
            if timer.deadline() > at {
                timer.as_mut().reset(at);
            }
            ready!(timer.as_mut().poll(cx));
            self.timer = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn limits() -> Limits {
        Limits {
            first_byte: SECOND,
            header: 2 * SECOND,
            idle: 3 * SECOND,
            max_connections: 1,
            max_connections_per_address: 1,
            shutdown_grace: SECOND,
        }
    }

    /// Seconds after `start`, and which.
    fn deadline(progress: &Progress, start: Instant) -> Option<(u64, Deadline)> {
        progress.deadline(&limits()).map(|(at, deadline)| ((at - start).as_secs(), deadline))
    }

    #[test]
    fn further_bytes_do_not_extend_the_head() {
        let start = Instant::now();
        let mut progress = Progress::opened(start);
        assert_eq!(deadline(&progress, start), Some((1, Deadline::FirstByte)));
        assert!(progress.received(b"G", start));
        assert!(!progress.received(b"ET / HTTP/1.1\r\n", start + SECOND));
        assert_eq!(deadline(&progress, start), Some((2, Deadline::Header)));
    }

    #[test]
    fn a_post_is_no_preface_and_a_preface_may_come_in_pieces() {
        assert_eq!(decide(0, b"P"), Protocol::Undecided(1));
        assert_eq!(decide(1, b"OST / HTTP/1.1"), Protocol::Http1);
        assert_eq!(decide(1, &PREFACE[1..]), Protocol::Http2);
        assert_eq!(decide(0, &[PREFACE, &[0; 40][..]].concat()), Protocol::Http2);
    }

    #[test]
    fn pings_do_not_keep_an_idle_http2_connection() {
        let start = Instant::now();
        let mut progress = Progress::opened(start);
        progress.received(PREFACE, start);
        progress.received(&[0; 17], start + SECOND);
        progress.sent(17, start + SECOND);
        assert_eq!(deadline(&progress, start), Some((3, Deadline::Idle)));
        progress.sent(1000, start + SECOND);
        assert_eq!(deadline(&progress, start), Some((4, Deadline::Idle)));
    }

    #[test]
    fn a_request_in_flight_has_no_deadline_here_until_its_peer_makes_no_room() {
        let start = Instant::now();
        let mut progress = Progress::opened(start);
        progress.received(PREFACE, start);
        progress.began(start);
        assert_eq!(deadline(&progress, start), None);
        assert!(progress.owes(start + SECOND));
        assert_eq!(deadline(&progress, start), Some((1 + WRITE_STALL.as_secs(), Deadline::Write)));
        progress.settled();
        assert_eq!(deadline(&progress, start), None);
        assert!(progress.ended(true, start + SECOND));
        assert_eq!(deadline(&progress, start), Some((4, Deadline::Idle)));
    }

    #[test]
    fn abandoning_most_requests_ends_the_connection() {
        let start = Instant::now();
        let mut progress = Progress::opened(start);
        progress.received(PREFACE, start);
        for _ in 0..ABANDONED {
            progress.began(start);
            progress.ended(false, start);
        }
        assert_eq!(deadline(&progress, start), Some((3, Deadline::Idle)));
        progress.began(start);
        progress.ended(false, start);
        assert_eq!(deadline(&progress, start), Some((0, Deadline::Reset)));
    }
}
