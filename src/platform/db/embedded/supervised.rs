//! A private PostgreSQL that comes back: killed by hand or by the kernel, crashed beyond its own recovery, or ended by an
//! error of the disk that has passed meanwhile.

use std::{
    path::PathBuf,
    process::ExitStatus,
    sync::mpsc::{self, Receiver, RecvTimeoutError, Sender},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::{EmbeddedError, EmbeddedPostgres, Settings, error::io, url_of};

const WATCH: Duration = Duration::from_millis(50);
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How often old logs are looked for.
const PRUNE: Duration = Duration::from_secs(1);
/// Who stays up for this long begins with the first pause again.
const STEADY: Duration = Duration::from_secs(60);

/// A running private PostgreSQL with a thread that owns it and starts it again when it ends by itself, in the same folder
/// and on the same socket. Dropping it stops both.
#[derive(Debug)]
pub struct Supervised {
    socket: PathBuf,
    /// Nothing is ever sent: the thread notices that this end is gone.
    asked: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Supervised {
    /// Starts it as [`EmbeddedPostgres::start`] does. A failure here is final: only what has run once is started again.
    pub fn start(settings: Settings) -> Result<Self, EmbeddedError> {
        let server = EmbeddedPostgres::start(settings)?;
        let (socket, dir) = (server.folder.socket().to_owned(), server.folder.dir().to_owned());
        let (asked, stop) = mpsc::channel();
        let watch = Watch { server, stop, started: Instant::now(), pause: FIRST_PAUSE };
        let thread = thread::Builder::new()
            .name("private-postgresql".to_owned())
            .spawn(move || watch.run())
            .map_err(io("watch the server in", dir))?;
        Ok(Self { socket, asked: Some(asked), thread: Some(thread) })
    }

    /// The connection URL of a database over the socket, for libpq and for sqlx. It stays the same.
    pub fn url(&self, database: &str, user: &str) -> String {
        url_of(&self.socket, database, user)
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        drop(self.asked.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that watches the private PostgreSQL panicked");
        }
    }
}

struct Watch {
    server: EmbeddedPostgres,
    stop: Receiver<()>,
    /// The last time that it was started.
    started: Instant,
    pause: Duration,
}

/// The server is to stop.
struct Asked;

impl Watch {
    /// Returns when it is asked to stop; the server is dropped, and so stopped, with this value.
    fn run(mut self) {
        while let Ok(status) = self.until_ended() {
            if self.recover(status).is_err() {
                return;
            }
        }
    }

    fn until_ended(&mut self) -> Result<ExitStatus, Asked> {
        let mut pruned = Instant::now();
        loop {
            self.wait(WATCH)?;
            if pruned.elapsed() > PRUNE {
                self.server.settings.log.prune(&self.server.folder);
                pruned = Instant::now();
            }
            if let Some(status) = self.server.ended() {
                return Ok(status);
            }
        }
    }

    /// Starts it until it is ready. It takes the time that recovery takes.
    fn recover(&mut self, status: ExitStatus) -> Result<(), Asked> {
        if self.started.elapsed() > STEADY {
            self.pause = FIRST_PAUSE;
        }
        // A server that is just being stopped may see PostgreSQL go first: that is no news.
        self.wait(FIRST_PAUSE)?;
        let (log, last_lines) = self.server.last_words();
        tracing::error!(
            %status, log = %log.display(), last_lines,
            "private PostgreSQL ended by itself and is started again"
        );
        metrics::counter!("tenantry_private_database_ends_total").increment(1);
        let begun = Instant::now();
        let mut waited = FIRST_PAUSE;
        loop {
            let pause = self.next_pause();
            self.wait(pause.saturating_sub(waited))?;
            let Err(problem) = self.attempt()? else { break };
            tracing::warn!(%problem, "private PostgreSQL does not start again; it is tried until it does");
            waited = Duration::ZERO;
        }
        tracing::info!(
            pid = self.server.pid(),
            milliseconds = begun.elapsed().as_millis(),
            "private PostgreSQL is ready again"
        );
        Ok(())
    }

    fn attempt(&mut self) -> Result<Result<(), EmbeddedError>, Asked> {
        self.started = Instant::now();
        if let Err(error) = self.server.relaunch() {
            return Ok(Err(error));
        }
        while !self.server.is_ready() {
            self.wait(WATCH)?;
            if let Some(status) = self.server.ended() {
                return Ok(Err(self.server.why_it_ended(status)));
            }
        }
        Ok(Ok(()))
    }

    fn next_pause(&mut self) -> Duration {
        let next = (self.pause * 2).min(LONGEST_PAUSE);
        std::mem::replace(&mut self.pause, next)
    }

    fn wait(&self, pause: Duration) -> Result<(), Asked> {
        match self.stop.recv_timeout(pause) {
            Err(RecvTimeoutError::Timeout) => Ok(()),
            Ok(()) | Err(RecvTimeoutError::Disconnected) => Err(Asked),
        }
    }
}
