use std::{
    io,
    path::{Path, PathBuf},
    process::ExitStatus,
    time::Duration,
};

use super::binaries::OLDEST_MAJOR;

/// Why the private PostgreSQL did not start, and what the operator can do about it.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    #[error(
        "PostgreSQL is not installed: run `apt-get install postgresql` (macOS: `brew install postgresql`), \
         or set `database.url` to a server of your own"
    )]
    NotInstalled,

    #[error(
        "{} is PostgreSQL {major}, and {OLDEST_MAJOR} or newer is needed: install a newer `postgresql` package, or name \
         the folder of newer binaries in `database.bin_dir`", bin.display()
    )]
    TooOld { bin: PathBuf, major: u32 },

    #[error(
        "the database in {} was made by PostgreSQL {data} but {} is PostgreSQL {major}: install `postgresql-{data}` \
         beside it, or move the data with pg_upgrade", dir.display(), bin.display()
    )]
    VersionMismatch { dir: PathBuf, data: u32, bin: PathBuf, major: u32 },

    #[error(
        "another process already runs the database in {}: stop it, or set `data.dir` to another folder", dir.display()
    )]
    AlreadyManaged { dir: PathBuf },

    #[error(
        "{} holds files that are not ours and would have to be made private: set `data.dir` to an empty or a new folder",
        dir.display()
    )]
    ForeignFolder { dir: PathBuf },

    #[error(
        "PostgreSQL refuses to run as root, and there is neither an account `postgres` nor `nobody` to run it as: create \
         one, or start the server as an ordinary user"
    )]
    NoAccount,

    #[error(
        "PostgreSQL refuses to run as root, and the account `{account}`, as which it runs instead, may not pass through \
         {}: set `data.dir` to a folder it can reach, such as /var/lib/tenantry, or run `chmod o+x {}`",
        blocked.display(), blocked.display()
    )]
    Unreachable { blocked: PathBuf, account: String },

    #[error("{} is not a private folder of the account that runs PostgreSQL: remove it", dir.display())]
    SocketFolder { dir: PathBuf },

    #[error(
        "a PostgreSQL left by an earlier run still uses {} and does not stop: end process {pid}", dir.display()
    )]
    Leftover { dir: PathBuf, pid: i32 },

    #[error("making the database in {} failed: {message}; remove the cause and start again", dir.display())]
    Initdb { dir: PathBuf, message: String },

    #[error(
        "PostgreSQL ended while starting ({status}): {last_lines}\nThe whole log is {}; remove the cause and start again",
        log.display()
    )]
    Ended { status: ExitStatus, last_lines: String, log: PathBuf },

    #[error(
        "PostgreSQL did not become ready within {} s: see {}, and start again to let it finish recovering",
        within.as_secs(), log.display()
    )]
    NotReady { within: Duration, log: PathBuf },

    #[error("could not {step} {}: check its owner, its permissions and the free space", path.display())]
    Io { step: &'static str, path: PathBuf, source: io::Error },
}

/// For `map_err`: what was tried (present tense, as in "could not {step} {path}") on which path.
pub(super) fn io(step: &'static str, path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> EmbeddedError {
    move |source| EmbeddedError::Io { step, path: path.as_ref().to_owned(), source }
}
