//! The folder of one private PostgreSQL, and the lock that makes it ours.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io::ErrorKind,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown, lchown},
    path::{Path, PathBuf},
    thread::sleep,
    time::{Duration, Instant},
};

use nix::{
    fcntl::{Flock, FlockArg, OFlag},
    unistd::Uid,
};

use super::{
    account::Account,
    error::{EmbeddedError, io},
};

/// Never listened on: it is part of the socket's name.
pub(super) const PORT: &str = "5432";
/// The socket's file name, as every PostgreSQL client builds it from folder and port.
pub(super) const SOCKET: &str = ".s.PGSQL.5432";
/// Start of the name of a cluster that initdb still works on.
pub(super) const UNFINISHED: &str = "data.new.";
/// What fits into `sockaddr_un.sun_path` with its end mark.
const LONGEST_SOCKET_PATH: usize = if cfg!(target_os = "linux") { 107 } else { 103 };
/// The lock of a killed process goes a few milliseconds after it; a server that is stopping needs a moment.
const LOCK_WITHIN: Duration = Duration::from_secs(2);

/// The folder, locked for as long as this value lives.
#[derive(Debug)]
pub(super) struct Folder {
    dir: PathBuf,
    socket: PathBuf,
    _lock: Flock<File>,
}

impl Folder {
    /// Makes the folder where it is missing, makes it private to `account`, and locks it.
    pub(super) fn open(dir: &Path, account: Option<&Account>) -> Result<Self, EmbeddedError> {
        fs::create_dir_all(dir).map_err(io("create", dir))?;
        let dir = fs::canonicalize(dir).map_err(io("find", dir))?;
        if let Some(account) = account {
            account.check_way_to(&dir)?;
        }
        claim(&dir, account)?;
        let lock = lock(&dir, account)?;
        Ok(Self { socket: socket_folder(&dir), dir, _lock: lock })
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// The folder that holds the socket; always valid UTF-8.
    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }

    pub(super) fn log(&self) -> PathBuf {
        self.dir.join("postgres.log")
    }

    /// Where PostgreSQL writes once it runs, if it is to ([`super::Log`]).
    pub(super) fn logs(&self) -> PathBuf {
        self.dir.join("log")
    }

    /// Who comes in how.
    pub(super) fn rules(&self) -> PathBuf {
        self.dir.join("pg_hba.conf")
    }

    /// Makes room for a new log; the one before it is kept for whoever asks why the server ended.
    pub(super) fn rotate_log(&self) {
        let _ = fs::rename(self.log(), self.dir.join("postgres.log.1")); // there is none the first time
    }

    /// The release that made the cluster, if there is one.
    pub(super) fn data_version(&self) -> Result<Option<(&Path, u32)>, EmbeddedError> {
        let data = self.data();
        if !data.exists() {
            return Ok(None);
        }
        let file = data.join("PG_VERSION");
        let text = fs::read_to_string(&file).map_err(io("read", &file))?;
        let version =
            text.trim().parse().map_err(|_| io("read a version from", &file)(ErrorKind::InvalidData.into()))?;
        Ok(Some((&self.dir, version)))
    }

    /// The postmaster's process id once it takes connections.
    pub(super) fn ready_pid(&self) -> Option<u32> {
        ready_pid(&self.dir)
    }

    /// Makes the socket's folder where it is not the folder itself.
    pub(super) fn prepare_socket(&self, account: Option<&Account>) -> Result<(), EmbeddedError> {
        let socket = &self.socket;
        if *socket == self.dir {
            return Ok(());
        }
        // Anybody can make this name in /tmp before us. The sticky bit keeps others away from it once it is ours.
        match DirBuilder::new().mode(0o700).create(socket) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(io("create", socket)(error)),
            _ => {}
        }
        let owner = account.map_or(Uid::effective(), |account| account.uid);
        if !is_private(socket, owner) && !is_private(socket, Uid::effective()) {
            return Err(EmbeddedError::SocketFolder { dir: socket.clone() });
        }
        if let Some(account) = account {
            let (uid, gid) = (account.uid.as_raw(), account.gid.as_raw());
            lchown(socket, Some(uid), Some(gid)).map_err(io("change the owner of", socket))?;
        }
        Ok(())
    }

    pub(super) fn remove_socket(&self) {
        if self.socket != self.dir {
            let _ = fs::remove_dir(&self.socket); // empty after a clean stop, else left for the next start
        }
    }
}

/// The socket's folder of the server that another process runs in `dir`; `None` too when somebody put a folder of his own in
/// the socket's place, or when the owner is dead and its server only still ending.
pub(super) fn socket_of_running(dir: &Path) -> Option<PathBuf> {
    let dir = fs::canonicalize(dir).ok()?;
    ready_pid(&dir)?;
    let lock = File::open(dir.join("lock")).ok()?;
    if Flock::lock(lock, FlockArg::LockSharedNonblock).is_ok() {
        return None; // nobody holds it; ours goes at once, and a start that meets it tries again
    }
    let socket = socket_folder(&dir);
    let owner = fs::metadata(&dir).ok()?.uid();
    is_private(&socket, Uid::from_raw(owner)).then_some(socket)
}

/// The folder itself, or one in /tmp when a socket's path cannot be that long or a URL cannot spell it (libpq takes a comma
/// for the next host). A function of the path alone: server and command line must agree across builds, so no hash of std.
pub(super) fn socket_folder(dir: &Path) -> PathBuf {
    let bytes = dir.as_os_str().as_encoded_bytes();
    let fits = bytes.len() + 1 + SOCKET.len() <= LONGEST_SOCKET_PATH;
    if fits && dir.to_str().is_some_and(|text| !text.contains(',')) {
        return dir.to_owned();
    }
    // FNV-1a, 64 bits
    let hash = bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    format!("/tmp/tenantry-{hash:016x}").into()
}

/// First line of postmaster.pid: the process id. Last: "ready" once connections are taken, as `pg_ctl --wait` reads it.
fn ready_pid(dir: &Path) -> Option<u32> {
    let text = fs::read_to_string(dir.join("data/postmaster.pid")).ok()?;
    (text.lines().last()?.trim() == "ready").then(|| text.lines().next()?.parse().ok())?
}

fn is_private(folder: &Path, owner: Uid) -> bool {
    fs::symlink_metadata(folder)
        .is_ok_and(|found| found.is_dir() && found.uid() == owner.as_raw() && found.mode() & 0o777 == 0o700)
}

/// Takes over only a folder that is empty or was ours before: a mistyped `data.dir` must not close /srv to everybody.
fn claim(dir: &Path, account: Option<&Account>) -> Result<(), EmbeddedError> {
    if is_private(dir, account.map_or(Uid::effective(), |account| account.uid)) {
        return Ok(());
    }
    let is_empty = fs::read_dir(dir).map_err(io("read", dir))?.next().is_none();
    if !is_empty && !dir.join("lock").exists() {
        return Err(EmbeddedError::ForeignFolder { dir: dir.to_owned() });
    }
    fs::set_permissions(dir, Permissions::from_mode(0o700)).map_err(io("make private", dir))?;
    if let Some(account) = account {
        let (uid, gid) = (account.uid.as_raw(), account.gid.as_raw());
        lchown(dir, Some(uid), Some(gid)).map_err(io("change the owner of", dir))?;
    }
    Ok(())
}

fn lock(dir: &Path, account: Option<&Account>) -> Result<Flock<File>, EmbeddedError> {
    let path = dir.join("lock");
    // Not through a link: the account may write here, and as root we would hand it the file behind the link.
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(OFlag::O_NOFOLLOW.bits())
        .open(&path)
        .map_err(io("open", &path))?;
    if let Some(account) = account {
        let (uid, gid) = (account.uid.as_raw(), account.gid.as_raw());
        fchown(&file, Some(uid), Some(gid)).map_err(io("change the owner of", &path))?;
    }
    let begun = Instant::now();
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((_, error)) if error != nix::Error::EWOULDBLOCK => return Err(io("lock", &path)(error.into())),
            Err(_) if begun.elapsed() > LOCK_WITHIN => {
                return Err(EmbeddedError::AlreadyManaged { dir: dir.to_owned() });
            }
            Err((unlocked, _)) => file = unlocked,
        }
        sleep(Duration::from_millis(20));
    }
}
