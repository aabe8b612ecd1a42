//! The server's own private PostgreSQL, for an installation that was given no `database.url`.
//!
//! Finds installed binaries, makes a cluster once, runs it behind a Unix socket and stops it with the server. Everything
//! blocks: call it before the runtime starts, or from a blocking thread.
//!
//! *Owns* one folder: `data/` (the cluster), `lock`, `pg_hba.conf`, `postgres.log` with its predecessor `postgres.log.1`, `log/` with
//! what it writes once it runs, the socket.
//!
//! *Rules*: one process per folder, held by a file lock. No TCP; the 0700 folder of the socket is the gate, and behind it the
//! server's own logins alone come in without a password ([`Trusted`]): tenants' logins are asked for theirs. The rules of who comes
//! in are written anew at each start. A folder left behind by any kill is taken over: what still runs is ended, stale files go.
//! Never runs as root; started as root it runs as the owner of the data, else `postgres`, else `nobody`.
//! One that dies under a living server is started again where it was ([`Supervised`]), with growing pauses until it stays.

mod account;
mod binaries;
mod error;
mod folder;
mod leftovers;
mod log;
mod supervised;
mod trusted;

use std::{
    ffi::OsString,
    fmt::Write as _,
    fs,
    io::Write as _,
    os::unix::{net::UnixStream, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ExitStatus, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use self::{account::Account, binaries::Binaries, folder::Folder};
pub use self::{
    binaries::{find_binaries, find_programs},
    error::EmbeddedError,
    log::Log,
    supervised::Supervised,
    trusted::Trusted,
};

const READY_WITHIN: Duration = Duration::from_secs(120); // crash recovery replays up to max_wal_size
const POLL: Duration = Duration::from_millis(5);
/// For the process that writes logs to end after the server.
const WRITES_WITHIN: Duration = Duration::from_secs(2);

/// Ends PostgreSQL when this process ends, however it ends.
///
/// The shell forks a watcher that reads from a pipe whose other end only we hold, then becomes PostgreSQL. A line means
/// "released"; end of file means that we are gone, so the watcher stops the process whose id the shell had. The watcher
/// exists before PostgreSQL does, hence there is no moment without it, and it is no child of PostgreSQL (forked twice),
/// which would take its end for a crashed backend. It ignores what systemd sends to a whole control group.
///
/// Needs `/bin/sh` and nothing else, on every Unix. `PR_SET_PDEATHSIG` would be Linux only and tied to the *thread* that
/// spawned. Should the watcher itself be killed, the next start still clears what was left (`leftovers`).
const LAUNCH: &str = r#"
exec 3<&0 </dev/null >>"$1" 2>&1
shift
( { trap '' HUP INT TERM; read -r _ <&3 || kill -INT $$; } & )
exec "$@" 3<&-
"#;

/// Where and how the private PostgreSQL runs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Holds everything that belongs to the server; created with mode 0700. Give it to nothing else.
    pub dir: PathBuf,
    /// The folder of `postgres` and `initdb`; searched when `None`, see [`find_binaries`].
    pub bin: Option<PathBuf>,
    /// `false` switches off everything that makes a commit survive a power cut: for tests only.
    pub durable: bool,
    pub trusted: Trusted,
    pub log: Log,
    /// PostgreSQL settings by name; they win over our defaults, but not over the place of the socket.
    pub settings: Vec<(String, String)>,
}

/// A running private PostgreSQL. Dropping it stops the server: a fast shutdown, after 10 s an immediate one.
#[derive(Debug)]
pub struct EmbeddedPostgres {
    child: Child,
    /// See [`LAUNCH`]. Close-on-exec like every pipe of std, so no other child of ours keeps it open.
    lifeline: Option<ChildStdin>,
    binaries: Binaries,
    account: Option<Account>,
    settings: Settings,
    folder: Folder, // last: the lock goes after the server
}

impl EmbeddedPostgres {
    /// Starts the server, making the cluster first when there is none, and returns when it takes connections.
    ///
    /// Blocks: about a second the first time, some 50 ms later; 2 s when another process holds the folder; longer
    /// when an earlier server has to be ended or recovered. May be called on any thread.
    pub fn start(settings: Settings) -> Result<Self, EmbeddedError> {
        let begun = Instant::now();
        let account = Account::choose(&settings.dir)?;
        let folder = Folder::open(&settings.dir, account.as_ref())?;
        let binaries = Binaries::choose(settings.bin.as_deref(), folder.data_version()?, account.as_ref())?;
        leftovers::clear(&folder)?;
        if !folder.data().exists() {
            make_cluster(&folder, &binaries, account.as_ref(), settings.durable)?;
        }
        folder.prepare_socket(account.as_ref())?;
        folder.rotate_log();
        let mut child = launch(&folder, &binaries, account.as_ref(), &settings)?;
        let mut server = Self { lifeline: child.stdin.take(), child, binaries, account, settings, folder };
        server.wait_until_ready()?;
        tracing::info!(
            dir = %server.folder.dir().display(), version = server.major_version(), pid = server.pid(),
            milliseconds = begun.elapsed().as_millis(), "private PostgreSQL is ready"
        );
        Ok(server)
    }

    /// The connection URL of a database over the socket, for libpq and for sqlx.
    pub fn url(&self, database: &str, user: &str) -> String {
        url_of(self.folder.socket(), database, user)
    }

    /// Process id of the postmaster.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The PostgreSQL release, for example 17.
    pub fn major_version(&self) -> u32 {
        self.binaries.major
    }

    /// Starts the server again after it has ended, and does not wait until it is ready. What the dead one left is cleared as
    /// at any start; the log is continued.
    fn relaunch(&mut self) -> Result<(), EmbeddedError> {
        leftovers::clear(&self.folder)?;
        self.folder.prepare_socket(self.account.as_ref())?;
        self.child = launch(&self.folder, &self.binaries, self.account.as_ref(), &self.settings)?;
        self.lifeline = self.child.stdin.take();
        Ok(())
    }

    /// How it ended, if it has. Its watcher is released then: the process id may soon be a stranger's.
    fn ended(&mut self) -> Option<ExitStatus> {
        let status = self.child.try_wait().ok().flatten()?;
        self.release();
        Some(status)
    }

    fn is_ready(&self) -> bool {
        self.folder.ready_pid() == Some(self.child.id())
    }

    fn release(&mut self) {
        if let Some(mut lifeline) = self.lifeline.take() {
            let _ = lifeline.write_all(b"\n"); // a watcher that was killed reads nothing
        }
    }

    fn wait_until_ready(&mut self) -> Result<(), EmbeddedError> {
        let begun = Instant::now();
        while !self.is_ready() {
            if let Some(status) = self.child.try_wait().map_err(error::io("wait for", self.folder.log()))? {
                return Err(self.why_it_ended(status));
            }
            if begun.elapsed() > READY_WITHIN {
                return Err(EmbeddedError::NotReady { within: READY_WITHIN, log: log::written_last(&self.folder) });
            }
            sleep(POLL);
        }
        Ok(())
    }

    fn why_it_ended(&self, status: ExitStatus) -> EmbeddedError {
        let (log, last_lines) = self.last_words();
        EmbeddedError::Ended { status, last_lines, log }
    }

    /// Of a server that has ended: where it wrote last, and what. Another process may still be writing it down.
    fn last_words(&self) -> (PathBuf, String) {
        leftovers::until_gone(&self.folder, WRITES_WITHIN);
        let log = log::written_last(&self.folder);
        let lines = log::last_lines(&log);
        (log, lines)
    }

    fn ends_within(&mut self, patience: Duration) -> bool {
        let begun = Instant::now();
        loop {
            match self.child.try_wait() {
                Ok(None) if begun.elapsed() < patience => sleep(POLL),
                Ok(None) => return false,
                Ok(Some(_)) | Err(_) => return true,
            }
        }
    }
}

impl Drop for EmbeddedPostgres {
    fn drop(&mut self) {
        // The watcher is released before the child can be reaped here: afterwards its process id may be a stranger's.
        self.release();
        let ended = self.ends_within(Duration::ZERO);
        let postmaster = Pid::from_raw(self.child.id().cast_signed());
        if !ended {
            let _ = kill(postmaster, Signal::SIGINT);
        }
        if !ended && !self.ends_within(Duration::from_secs(10)) {
            tracing::warn!(
                pid = self.pid(),
                "private PostgreSQL does not stop: immediate shutdown, it will recover at the next start"
            );
            let _ = kill(postmaster, Signal::SIGQUIT);
            if !self.ends_within(Duration::from_secs(10)) {
                let _ = self.child.kill();
                let _ = self.child.wait();
            }
        }
        self.folder.remove_socket();
    }
}

/// The URL of the private PostgreSQL that another process (the running server) manages in `dir`; `None` when none answers
/// there or this account may not reach it. For the command line.
pub fn url_of_running(dir: &Path, database: &str, user: &str) -> Option<String> {
    let socket = folder::socket_of_running(dir)?;
    UnixStream::connect(socket.join(folder::SOCKET)).ok()?;
    Some(url_of(&socket, database, user))
}

fn launch(
    folder: &Folder,
    binaries: &Binaries,
    account: Option<&Account>,
    settings: &Settings,
) -> Result<Child, EmbeddedError> {
    settings.trusted.write(folder, account)?;
    account::command(Path::new("/bin/sh"), account)
        .args(["-c", LAUNCH, "sh"])
        .arg(folder.log())
        .arg(binaries.postgres())
        .args(arguments(folder, settings))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0) // Ctrl-C in a terminal is for us: we finish our work, then stop PostgreSQL
        .spawn()
        .map_err(error::io("run", "/bin/sh"))
}

/// initdb, then rename: a killed initdb leaves no half cluster. The name is our own, for the initdb of an owner that was just
/// killed may still be writing to its.
fn make_cluster(
    folder: &Folder,
    binaries: &Binaries,
    account: Option<&Account>,
    durable: bool,
) -> Result<(), EmbeddedError> {
    let fresh = folder.dir().join(format!("{}{}", folder::UNFINISHED, std::process::id()));
    let mut initdb = account::command(&binaries.initdb(), account);
    initdb.args(["--username=postgres", "--auth=trust", "--no-locale", "--encoding=UTF8", "--data-checksums"]);
    if !durable {
        initdb.arg("--no-sync");
    }
    let output = initdb.arg("-D").arg(&fresh).output().map_err(error::io("run", binaries.initdb()))?;
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(EmbeddedError::Initdb { dir: folder.dir().to_owned(), message });
    }
    fs::rename(&fresh, folder.data()).map_err(error::io("rename", &fresh))?;
    if durable {
        // else a power cut could bring the old name back, and the next start removes that
        fs::File::open(folder.dir()).and_then(|dir| dir.sync_all()).map_err(error::io("sync", folder.dir()))?;
    }
    Ok(())
}

/// What comes later wins: our defaults, the caller's settings, then what the caller must not change.
fn arguments(folder: &Folder, settings: &Settings) -> Vec<OsString> {
    let defaults = [
        ("max_connections", "200"),
        ("shared_buffers", "128MB"),
        ("timezone", "UTC"),
        ("log_timezone", "UTC"),
        ("jit", "off"),           // costs more than it gains on short queries
        ("wal_level", "logical"), // tenants of the first cell can be moved away
    ];
    let careless = [("fsync", "off"), ("synchronous_commit", "off"), ("full_page_writes", "off")];
    let quoted = folder.socket().display().to_string().replace('"', "\"\""); // the setting is a list
    let fixed = [
        ("hba_file", folder.rules().display().to_string()),
        ("listen_addresses", String::new()),
        ("port", folder::PORT.to_owned()),
        ("unix_socket_directories", format!("\"{quoted}\"")),
    ];

    let mut arguments: Vec<OsString> = vec!["-D".into(), folder.data().into()];
    let mut set = |name: &str, value: &str| arguments.extend(["-c".into(), format!("{name}={value}").into()]);
    defaults.iter().for_each(|(name, value)| set(name, value));
    if !settings.durable {
        careless.iter().for_each(|(name, value)| set(name, value));
    }
    settings.log.settings(folder).iter().for_each(|(name, value)| set(name, value));
    settings.settings.iter().for_each(|(name, value)| set(name, value));
    fixed.iter().for_each(|(name, value)| set(name, value));
    arguments
}

fn url_of(socket: &Path, database: &str, user: &str) -> String {
    let (database, user) = (percent_encoded(database), percent_encoded(user));
    format!("postgres:///{database}?host={}&user={user}", percent_encoded(&socket.to_string_lossy()))
}

fn percent_encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
        encoded
    })
}

#[cfg(test)]
mod tests;
