//! Where PostgreSQL is installed, and whether it is one that can run our data.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::{
    account::{self, Account},
    error::{EmbeddedError, io},
};

/// The oldest release that is tested.
pub(super) const OLDEST_MAJOR: u32 = 15;

/// A folder of binaries that fit.
#[derive(Clone, Debug)]
pub(super) struct Binaries {
    bin: PathBuf,
    pub(super) major: u32,
}

impl Binaries {
    /// The first that are new enough and match the cluster's release, so that a newer PostgreSQL installed beside the old
    /// one does not lock out existing data. Only `bin` is looked at when it is given.
    pub(super) fn choose(
        bin: Option<&Path>,
        data: Option<(&Path, u32)>,
        account: Option<&Account>,
    ) -> Result<Self, EmbeddedError> {
        let mut refusal = None;
        for bin in bin.map_or_else(installed, |bin| vec![bin.to_owned()]) {
            let checked = major_version(&bin, account).and_then(|major| Self { bin, major }.fit(data));
            match checked {
                Ok(binaries) => return Ok(binaries),
                Err(error) => refusal = refusal.or(Some(error)),
            }
        }
        Err(refusal.unwrap_or(EmbeddedError::NotInstalled))
    }

    fn fit(self, data: Option<(&Path, u32)>) -> Result<Self, EmbeddedError> {
        let Self { bin, major } = self;
        match data {
            _ if major < OLDEST_MAJOR => Err(EmbeddedError::TooOld { bin, major }),
            Some((dir, data)) if data != major => {
                Err(EmbeddedError::VersionMismatch { dir: dir.to_owned(), data, bin, major })
            }
            _ => Ok(Self { bin, major }),
        }
    }

    pub(super) fn postgres(&self) -> PathBuf {
        self.bin.join("postgres")
    }

    pub(super) fn initdb(&self) -> PathBuf {
        self.bin.join("initdb")
    }
}

/// The folder of `postgres` and `initdb`: from PATH, from `pg_config --bindir`, then the newest where Debian, Red Hat and
/// Homebrew put them. The server prefers, among several, those of the release that made its data.
pub fn find_binaries() -> Option<PathBuf> {
    installed().into_iter().next()
}

/// All programs of PostgreSQL's of this name: of the releases that are installed, then those in PATH.
#[expect(clippy::disallowed_methods, reason = "PATH is where programs are, not a setting of ours")]
pub fn find_programs(name: &str) -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = installed().into_iter().chain(std::env::split_paths(&path));
    folders.map(|folder| folder.join(name)).filter(|program| program.is_file()).collect()
}

#[expect(clippy::disallowed_methods, reason = "PATH is where programs are, not a setting of ours")]
fn installed() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = Vec::new();
    if let Some(path) = std::env::var_os("PATH") {
        // a link is followed: PostgreSQL looks for its share/ folder beside the real file
        let followed = std::env::split_paths(&path).filter_map(|folder| fs::canonicalize(folder.join("postgres")).ok());
        folders.extend(followed.filter_map(|file| file.parent().map(Path::to_owned)));
    }
    if let Ok(output) = Command::new("pg_config").arg("--bindir").output() {
        folders.push(String::from_utf8_lossy(&output.stdout).trim().into());
    }
    let mut versioned: Vec<PathBuf> = ["/usr/lib/postgresql", "/opt/homebrew/opt", "/usr/local/opt", "/usr"]
        .iter()
        .flat_map(|base| fs::read_dir(base).into_iter().flatten().flatten())
        .map(|entry| entry.path().join("bin"))
        .collect();
    versioned.sort_by_key(|folder| std::cmp::Reverse(number_in(folder)));
    folders.extend(versioned);
    folders.retain(|folder| folder.join("postgres").is_file() && folder.join("initdb").is_file());
    folders
}

/// 17 for `/usr/lib/postgresql/17/bin` and for `/opt/homebrew/opt/postgresql@17/bin`.
pub(super) fn number_in(folder: &Path) -> Option<u32> {
    folder.to_string_lossy().split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).next_back()
}

fn major_version(bin: &Path, account: Option<&Account>) -> Result<u32, EmbeddedError> {
    let postgres = bin.join("postgres");
    let output = account::command(&postgres, account).arg("--version").output().map_err(io("run", &postgres))?;
    parse_major(&String::from_utf8_lossy(&output.stdout))
        .ok_or_else(|| io("read the version of", &postgres)(std::io::Error::other(format!("{output:?}"))))
}

/// 15 from `postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)`, 19 from `postgres (PostgreSQL) 19beta1`.
pub(super) fn parse_major(version: &str) -> Option<u32> {
    let (_, number) = version.split_once("(PostgreSQL) ")?;
    number.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}
