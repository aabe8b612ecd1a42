use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use sqlx::{
    AssertSqlSafe, Executor as _, Row as _,
    postgres::{PgListener, PgNotification, PgPoolOptions},
};
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval, sleep, timeout},
};

use super::{
    Hearing, connect_options, failure,
    hearing::{LEASE, Word},
};
use crate::{
    error::{Context as _, Result},
    platform::{ids::ListenerId, secret::Secret},
};

/// The channel of all notifications. Payloads are ids only: who hears one reads the row again under its own policy.
const CHANNEL: &str = "tenantry";
/// Between payloads that came as one.
pub const SEPARATOR: &str = ",";

/// How often the lease is renewed.
const BEAT: Duration = Duration::from_millis(200);

/// What a listener learns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Connected: from now on nothing is missed.
    Connected,
    /// The payload of one notification.
    Notified(String),
    /// The connection is gone: what is known from notifications may be old from now on.
    Lost,
}

/// What a listener tells, in order.
#[derive(Debug)]
pub enum Told {
    Heard(Heard),
    /// All that was committed before `asked` has been told before this.
    Renewed {
        by: ListenerId,
        asked: Instant,
    },
}

/// A connection of its own that hears every committed notification. It reconnects for ever.
#[derive(Debug)]
pub struct Listener {
    url: Secret,
    hearing: Hearing,
}

/// One that is connected, and listed under its id.
struct Connected {
    id: ListenerId,
    listener: PgListener,
    words: mpsc::UnboundedReceiver<Word>,
}

impl Listener {
    /// `direct_url` must not go through a transaction-mode pooler.
    pub fn new(direct_url: Secret, hearing: Hearing) -> Self {
        hearing.begin();
        Self { url: direct_url, hearing }
    }

    /// Tells of everything until the receiver is gone.
    pub async fn run(self, told: mpsc::Sender<Told>) {
        let mut pause = Duration::from_millis(50);
        let mut previous = None;
        loop {
            match self.connect(previous).await {
                Ok(mut connected) => {
                    pause = Duration::from_millis(50);
                    previous = Some(connected.id);
                    if told.send(Told::Heard(Heard::Connected)).await.is_err() {
                        return;
                    }
                    connected.follow(&told).await;
                    self.hearing.lost();
                    if told.send(Told::Heard(Heard::Lost)).await.is_err() {
                        return;
                    }
                    tracing::warn!("the listener lost its connection; answers come from the database until it is back");
                }
                Err(error) => tracing::warn!(cause = ?error.cause(), "the listener cannot connect"),
            }
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(2));
        }
    }

    /// Listens, and then enters the list in the place of the connection before.
    async fn connect(&self, previous: Option<ListenerId>) -> Result<Connected> {
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(Duration::from_secs(2))
            .connect_lazy_with(connect_options(&self.url)?.application_name("tenantry listener"));
        let mut listener = PgListener::connect_with(&pool).await.map_err(failure::sqlx_failed)?;
        listener.eager_reconnect(false);
        listener.listen(CHANNEL).await.map_err(failure::sqlx_failed)?;
        let id = ListenerId::generate();
        let others = timeout(LEASE, join(&mut listener, id, previous)).await.context("enter the list of listeners")?;
        let (say, words) = mpsc::unbounded_channel();
        self.hearing.connected(id, others.map_err(failure::sqlx_failed)?, say);
        Ok(Connected { id, listener, words })
    }
}

impl Connected {
    /// Returns when the connection is lost.
    async fn follow(&mut self, told: &mpsc::Sender<Told>) {
        let mut beats = interval(BEAT);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let goes_on = tokio::select! {
                received = self.listener.try_recv() => match received {
                    Ok(Some(heard)) => tell(told, &heard).await,
                    Ok(None) | Err(_) => false,
                },
                Some(word) = self.words.recv() => self.say(word).await,
                _ = beats.tick() => self.renew(told).await,
            };
            if !goes_on {
                return;
            }
        }
    }

    /// Says all that is to be said, in one round trip.
    async fn say(&mut self, first: Word) -> bool {
        let mut words = vec![first];
        while let Ok(word) = self.words.try_recv() {
            words.push(word);
        }
        let sql: String = words.iter().map(|word| format!("NOTIFY {CHANNEL}, '{}';", word.payload())).collect();
        matches!(timeout(LEASE, self.listener.execute(AssertSqlSafe(sql))).await, Ok(Ok(_)))
    }

    /// Proves that nothing was missed: what was committed before is handed out before the answer.
    async fn renew(&mut self, told: &mpsc::Sender<Told>) -> bool {
        let asked = Instant::now();
        let sql = format!(
            "BEGIN; SET LOCAL ROLE tenantry_operator;
             UPDATE tenantry.listeners SET good_until = clock_timestamp() + interval '1 second' WHERE listener_id = '{}'
             RETURNING listener_id; COMMIT",
            self.id
        );
        match timeout(LEASE, self.listener.fetch_all(AssertSqlSafe(sql))).await {
            Ok(Ok(rows)) if rows.len() == 1 => {}
            // Struck off for its silence: others no longer wait for it, so it enters anew.
            Ok(Ok(_) | Err(_)) | Err(_) => return false,
        }
        while let Some(heard) = self.listener.next_buffered() {
            if !tell(told, &heard).await {
                return false;
            }
        }
        told.send(Told::Renewed { by: self.id, asked }).await.is_ok()
    }
}

async fn tell(told: &mpsc::Sender<Told>, heard: &PgNotification) -> bool {
    for payload in heard.payload().split(SEPARATOR) {
        if told.send(Told::Heard(Heard::Notified(payload.to_owned()))).await.is_err() {
            return false;
        }
    }
    true
}

/// Answers who else is listed. Nothing on this connection needs to survive a crash of the database: durability is not waited for.
async fn join(
    listener: &mut PgListener,
    id: ListenerId,
    previous: Option<ListenerId>,
) -> sqlx::Result<HashSet<ListenerId>> {
    let joined = Word::Joined(id).payload();
    let leave = previous.map(|previous| {
        let left = Word::Left(previous).payload();
        format!("DELETE FROM tenantry.listeners WHERE listener_id = '{previous}'; NOTIFY {CHANNEL}, '{left}';")
    });
    let enter = format!(
        "SET synchronous_commit = off; BEGIN; SET LOCAL ROLE tenantry_operator; {}
         DELETE FROM tenantry.listeners
           WHERE greatest(good_until, pg_postmaster_start_time() + interval '1 second') < clock_timestamp();
         INSERT INTO tenantry.listeners (listener_id, good_until) VALUES ('{id}', clock_timestamp() + interval '1 second');
         NOTIFY {CHANNEL}, '{joined}'; COMMIT",
        leave.unwrap_or_default()
    );
    listener.execute(AssertSqlSafe(enter)).await?;
    let others = format!(
        "BEGIN READ ONLY; SET LOCAL ROLE tenantry_operator;
         SELECT listener_id FROM tenantry.listeners WHERE listener_id <> '{id}'; COMMIT"
    );
    let rows = listener.fetch_all(AssertSqlSafe(others)).await?;
    rows.iter().map(|row| row.try_get::<uuid::Uuid, _>(0).map(ListenerId::from_uuid)).collect()
}
