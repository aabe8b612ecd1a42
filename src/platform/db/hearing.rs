//! Until when this replica may answer from memory, and whether all others have heard of a change: together they are why memory
//! is never older than what was acknowledged.
//!
//! *Protocol*: each listening connection has a row in `listeners`, good for [`LEASE`] and renewed over that same connection.
//! PostgreSQL hands a connection every notification of a commit before it answers a statement that was sent after that commit,
//! so a renewal proves that all changes before it were heard. Who has committed a change asks all listed ones, by a
//! notification that follows the change's own, and waits for their answers; one that does not answer is past its time after
//! [`LEASE`]. Who joins answers from memory only when those that were there know of it. Decision 0016 says why this is enough.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    sync::{mpsc, watch},
    time::{sleep, timeout_at},
};

use super::{Db, Heard, Session, Told, Tx};
use crate::{error::Result, platform::ids::ListenerId};

/// How long after it was last renewed a replica answers from memory.
pub(super) const LEASE: Duration = Duration::from_secs(1);
/// By how much clocks of two machines may differ over one lease.
const MARGIN: Duration = Duration::from_millis(20);
/// Between two looks at the list, for who cannot hear answers.
const LOOK: Duration = Duration::from_millis(10);

/// After a crash PostgreSQL may have forgotten the last renewals: all of them count as renewed when it started.
const LISTED: &str = "
    select listener_id, extract(epoch from greatest(good_until, pg_postmaster_start_time() + interval '1 second')
        - clock_timestamp())::double precision as seconds
    from tenantry.listeners where listener_id is distinct from $1";
/// Waits for a renewal that is under way, and then leaves it.
const BURY: &str = "
    delete from tenantry.listeners where listener_id = any($1)
      and greatest(good_until, pg_postmaster_start_time() + interval '1 second') < clock_timestamp()";

/// What this replica knows of its own listening and of the others'. Clones share it.
#[derive(Clone, Debug)]
pub struct Hearing(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    db: Db,
    since: Instant,
    /// Nanoseconds after `since` until which memory may be answered from.
    good_until: AtomicU64,
    state: Mutex<State>,
    /// Raised when a question was answered.
    answered: watch::Sender<()>,
    /// One question at a time; those who wait for it share the next.
    turn: tokio::sync::Mutex<()>,
    begun: AtomicU64,
    ended: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    /// Whether there is, or was, a listener: a command has none, and others hear of it in their time.
    is_used: bool,
    connection: Option<Connection>,
    others: HashSet<ListenerId>,
    /// By number: who has not answered yet.
    questions: HashMap<u64, HashSet<ListenerId>>,
    last_question: u64,
}

#[derive(Clone, Debug)]
struct Connection {
    id: ListenerId,
    /// Since when all others know that this replica answers from memory.
    known_since: Option<Instant>,
    say: mpsc::UnboundedSender<Word>,
}

/// What listeners tell each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Word {
    Joined(ListenerId),
    Left(ListenerId),
    Asks { asker: ListenerId, question: u64 },
    Heard { asker: ListenerId, question: u64, by: ListenerId },
}

impl Word {
    /// The payload of its notification: ids and numbers, nothing that could end a literal.
    pub(super) fn payload(&self) -> String {
        match self {
            Self::Joined(id) => format!("listener joined {id}"),
            Self::Left(id) => format!("listener left {id}"),
            Self::Asks { asker, question } => format!("listener asks {asker} {question}"),
            Self::Heard { asker, question, by } => format!("listener heard {asker} {question} {by}"),
        }
    }

    fn parse(payload: &str) -> Option<Self> {
        let mut words = payload.strip_prefix("listener ")?.split(' ');
        let verb = words.next()?;
        let id = words.next()?.parse().ok()?;
        Some(match verb {
            "joined" => Self::Joined(id),
            "left" => Self::Left(id),
            "asks" => Self::Asks { asker: id, question: words.next()?.parse().ok()? },
            "heard" => {
                Self::Heard { asker: id, question: words.next()?.parse().ok()?, by: words.next()?.parse().ok()? }
            }
            _ => return None,
        })
    }
}

impl Hearing {
    pub fn new(db: Db) -> Self {
        Self(Arc::new(Inner {
            db,
            since: Instant::now(),
            good_until: AtomicU64::new(0),
            state: Mutex::default(),
            answered: watch::Sender::new(()),
            turn: tokio::sync::Mutex::default(),
            begun: AtomicU64::new(0),
            ended: AtomicU64::new(0),
        }))
    }

    /// Whether this replica has heard of everything that was acknowledged.
    pub fn is_sure(&self) -> bool {
        self.nanos(Instant::now()) < self.0.good_until.load(Ordering::Acquire)
    }

    /// Waits until every replica that answers from memory has heard of what is committed by now. Called before a change is
    /// acknowledged; it cannot fail, because a replica that does not answer is soon past its time.
    pub async fn heard_by_all(&self) {
        {
            let state = self.state();
            if !state.is_used || (state.others.is_empty() && self.is_sure()) {
                return;
            }
        }
        let be_sure = async {
            while !self.is_sure() {
                sleep(LOOK).await;
            }
        };
        tokio::select! {
            biased;
            () = be_sure => self.ask_in_turn().await,
            () = self.outlast_listed() => {}
        }
    }

    async fn ask_in_turn(&self) {
        let before = self.0.begun.load(Ordering::Acquire);
        let _turn = self.0.turn.lock().await;
        if self.0.ended.load(Ordering::Acquire) > before {
            return; // one that began later has ended
        }
        let number = self.0.begun.fetch_add(1, Ordering::AcqRel) + 1;
        self.ask().await;
        self.0.ended.store(number, Ordering::Release);
    }

    /// Takes this replica off the list: it stops.
    pub async fn leave(&self) {
        let Some(connection) = self.state().connection.take() else { return };
        self.0.good_until.store(0, Ordering::Release);
        if let Err(error) = self.strike_off(connection.id).await {
            tracing::debug!(cause = ?error.cause(), "other replicas wait until this one's time is over");
        }
    }

    /// Takes what listeners tell each other, once everything before it was acted upon, and answers what is for the others of
    /// this house.
    pub fn sift(&self, told: Told) -> Option<Heard> {
        let heard = match told {
            Told::Heard(heard) => heard,
            Told::Renewed { by, asked } => {
                self.extend(by, asked);
                return None;
            }
        };
        if let Heard::Notified(payload) = &heard
            && let Some(word) = Word::parse(payload)
        {
            self.act_on(word);
            return None;
        }
        Some(heard)
    }

    fn act_on(&self, word: Word) {
        let mut state = self.state();
        let own = state.connection.as_ref().map(|connection| connection.id);
        match word {
            Word::Joined(id) if own != Some(id) => {
                state.others.insert(id);
            }
            Word::Left(id) => {
                state.others.remove(&id);
                for missing in state.questions.values_mut() {
                    missing.remove(&id);
                }
                self.0.answered.send_replace(());
            }
            Word::Asks { asker, question } if own != Some(asker) => {
                if let Some(connection) = &state.connection {
                    let answer = Word::Heard { asker, question, by: connection.id };
                    let _gone = connection.say.send(answer);
                }
            }
            Word::Heard { asker, question, by } if own == Some(asker) => {
                if let Some(missing) = state.questions.get_mut(&question) {
                    missing.remove(&by);
                    self.0.answered.send_replace(());
                }
            }
            Word::Joined(_) | Word::Asks { .. } | Word::Heard { .. } => {}
        }
    }

    fn extend(&self, by: ListenerId, asked: Instant) {
        let state = self.state();
        let stands = state.connection.as_ref().is_some_and(|connection| {
            connection.id == by && connection.known_since.is_some_and(|known_since| asked >= known_since)
        });
        if stands {
            self.0.good_until.store(self.nanos(asked + LEASE), Ordering::Release);
        }
    }

    /// From now on there is a listener, or there soon is.
    pub(super) fn begin(&self) {
        self.state().is_used = true;
    }

    /// The listener is connected, and these others were listed then.
    pub(super) fn connected(&self, id: ListenerId, others: HashSet<ListenerId>, say: mpsc::UnboundedSender<Word>) {
        {
            let mut state = self.state();
            state.connection = Some(Connection { id, known_since: None, say });
            state.others = others;
        }
        let hearing = self.clone();
        tokio::spawn(async move {
            hearing.ask().await;
            let mut state = hearing.state();
            if let Some(connection) = state.connection.as_mut().filter(|connection| connection.id == id) {
                connection.known_since = Some(Instant::now());
            }
        });
    }

    /// The connection is gone, and with it the right to answer from memory.
    pub(super) fn lost(&self) {
        self.0.good_until.store(0, Ordering::Release);
        self.state().connection = None;
    }

    /// Asks all others whether they have heard of everything until now.
    async fn ask(&self) {
        let begun = Instant::now();
        let asked = {
            let mut state = self.state();
            if state.others.is_empty() {
                return;
            }
            state.last_question += 1;
            let (question, others) = (state.last_question, state.others.clone());
            let said = state
                .connection
                .as_ref()
                .is_some_and(|connection| connection.say.send(Word::Asks { asker: connection.id, question }).is_ok());
            said.then(|| state.questions.insert(question, others.clone())).map(|_| (question, others))
        };
        let Some((question, others)) = asked else { return self.outlast_listed().await };
        let mut answered = self.0.answered.subscribe();
        let all = async {
            while self.state().questions.get(&question).is_some_and(|missing| !missing.is_empty()) {
                if answered.changed().await.is_err() {
                    return;
                }
            }
        };
        let in_time = timeout_at((begun + LEASE + MARGIN).into(), all).await.is_ok();
        let missing = self.state().questions.remove(&question).unwrap_or_default();
        if !in_time && let Err(error) = self.bury(others, missing).await {
            tracing::debug!(cause = ?error.cause(), "replicas that are gone are still listed");
        }
    }

    /// For who hears no answers: waits until each that is listed now has left, or is past its time.
    async fn outlast_listed(&self) {
        let Ok(listed) = self.listed().await else { return sleep(LEASE + MARGIN).await };
        let mut waiting: HashMap<ListenerId, Instant> = listed;
        while !waiting.is_empty() {
            sleep(LOOK).await;
            if let Ok(listed) = self.listed().await {
                waiting.retain(|id, _| listed.contains_key(id));
            }
            waiting.retain(|_, good_until| Instant::now() < *good_until + MARGIN);
        }
    }

    /// Other listeners, and until when each of them is good.
    async fn listed(&self) -> Result<HashMap<ListenerId, Instant>> {
        let own = self.state().connection.as_ref().map(|connection| connection.id);
        let tx = self.session(Session::OperatorReadOnly).await?;
        let rows = tx.rows(LISTED, [own.into()]).await?;
        tx.commit().await?;
        let now = Instant::now();
        let read = |row: &sea_orm::QueryResult| {
            let seconds: f64 = row.try_get("", "seconds")?;
            let left = Duration::try_from_secs_f64(seconds).unwrap_or_default();
            Ok::<_, sea_orm::DbErr>((row.try_get("", "listener_id")?, now + left))
        };
        Ok(rows.iter().map(read).collect::<Result<_, _>>()?)
    }

    /// Takes those who have not answered and are past their time off the list. Who is only slow stays: it is asked again.
    async fn bury(&self, asked: HashSet<ListenerId>, missing: HashSet<ListenerId>) -> Result<()> {
        let missing: Vec<ListenerId> = missing.into_iter().collect();
        let tx = self.session(Session::Operator).await?;
        let ids = sea_orm::Value::from(missing.iter().map(|id| id.uuid()).collect::<Vec<_>>());
        let buried = tx.execute(BURY, [ids]).await?;
        tx.commit().await?;
        let listed = self.listed().await?;
        self.state().others.retain(|id| !asked.contains(id) || listed.contains_key(id));
        tracing::warn!(buried, missing = missing.len(), "replicas did not answer in time");
        Ok(())
    }

    async fn strike_off(&self, id: ListenerId) -> Result<()> {
        let tx = self.session(Session::Operator).await?;
        let left = Word::Left(id).payload();
        tx.execute("delete from tenantry.listeners where listener_id = $1", [id.into()]).await?;
        tx.row("select pg_notify('tenantry', $1)::text", [left.into()]).await?;
        tx.commit().await
    }

    #[expect(clippy::disallowed_methods, reason = "its own table, in which there is nothing of tenants")]
    async fn session(&self, session: Session) -> Result<Tx> {
        self.0.db.begin(session).await
    }

    fn nanos(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.0.since).as_nanos()).unwrap_or(u64::MAX)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_listeners_tell_each_other_is_read_as_it_was_said() {
        let (one, other) = (ListenerId::generate(), ListenerId::generate());
        let words = [
            Word::Joined(one),
            Word::Left(one),
            Word::Asks { asker: one, question: 7 },
            Word::Heard { asker: one, question: u64::MAX, by: other },
        ];
        for word in words {
            assert_eq!(Word::parse(&word.payload()), Some(word));
        }
    }

    #[test]
    fn what_others_of_the_channel_say_is_no_word_of_a_listener() {
        let id = ListenerId::generate();
        let others = [
            id.to_string(),
            format!("quota {id} max_users"),
            "listener".to_owned(),
            "listener joined".to_owned(),
            "listener joined nobody".to_owned(),
            format!("listener asks {id}"),
            format!("listener asks {id} -1"),
            format!("listener heard {id} 1"),
            format!("listener shouts {id}"),
        ];
        for payload in others {
            assert_eq!(Word::parse(&payload), None, "{payload}");
        }
    }
}
