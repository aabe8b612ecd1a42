use std::{
    fs,
    path::{Path, PathBuf},
    time::SystemTime,
};

use super::folder::Folder;

/// Files of each kind that are kept: the one that is written, and those before it.
const KEPT: usize = 3;
/// How long a file gets, in KiB.
const LONGEST: &str = "4096";
const KINDS: [&str; 2] = ["log", "json"];

/// What PostgreSQL writes down once it runs. What it says before, it says in `postgres.log`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Log {
    /// Text, into `postgres.log`.
    Text,
    /// Text and lines of JSON, each into files of their own in `log/`: from those of JSON is read what was refused. A supervised
    /// server keeps the newest few.
    Json,
}

impl Log {
    pub(super) fn settings(self, folder: &Folder) -> Vec<(&'static str, String)> {
        if self == Self::Text {
            return Vec::new();
        }
        let fixed = [
            ("logging_collector", "on"),
            ("log_destination", "stderr,jsonlog"),
            ("log_filename", "postgres-%Y%m%dT%H%M%S.log"),
            ("log_rotation_age", "0"),
            ("log_rotation_size", LONGEST),
            ("log_file_mode", "0600"),
        ];
        let mut settings: Vec<_> = fixed.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        settings.push(("log_directory", folder.logs().display().to_string()));
        settings
    }

    /// Removes all but the newest. PostgreSQL begins new files by size, and removes none.
    pub(super) fn prune(self, folder: &Folder) {
        if self == Self::Text {
            return;
        }
        for kind in KINDS {
            for (_, old) in files(&folder.logs(), kind).into_iter().rev().skip(KEPT) {
                if let Err(error) = fs::remove_file(&old) {
                    tracing::warn!(%error, file = %old.display(), "an old log of the private PostgreSQL cannot be removed; it is tried again");
                }
            }
        }
    }
}

/// The file of text that was written last: before it writes into `log/`, PostgreSQL says in `postgres.log` what keeps it from that.
pub(super) fn written_last(folder: &Folder) -> PathBuf {
    let written = |path: &Path| fs::metadata(path).and_then(|file| file.modified()).ok();
    match files(&folder.logs(), "log").pop() {
        Some((at, path)) if written(&folder.log()).is_none_or(|first| first <= at) => path,
        _ => folder.log(),
    }
}

pub(super) fn last_lines(log: &Path) -> String {
    let text = fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(5)..].join("\n")
}

/// The one that was written last comes last: by time, for a clock that was set back makes names that are none.
fn files(dir: &Path, kind: &str) -> Vec<(SystemTime, PathBuf)> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut found: Vec<_> = entries
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == kind))
        .filter_map(|path| Some((fs::metadata(&path).ok()?.modified().ok()?, path)))
        .collect();
    found.sort();
    found
}
