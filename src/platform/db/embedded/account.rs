//! Who runs PostgreSQL. It refuses root, so a server that is root picks another account for it.

use std::{
    ffi::OsString,
    fs,
    os::unix::{ffi::OsStringExt as _, fs::MetadataExt as _, process::CommandExt as _},
    path::Path,
    process::{Command, Stdio},
};

use nix::unistd::{Gid, Uid, User};

use super::error::{EmbeddedError, io};

/// An account other than our own.
#[derive(Clone, Debug)]
pub(super) struct Account {
    pub(super) uid: Uid,
    pub(super) gid: Gid,
    name: String,
}

impl Account {
    /// `None` when we are not root: PostgreSQL then runs as ourselves. For root the owner of an existing cluster, because
    /// no other account may open it.
    pub(super) fn choose(dir: &Path) -> Result<Option<Self>, EmbeddedError> {
        if !Uid::effective().is_root() {
            return Ok(None);
        }
        if let Ok(data) = fs::symlink_metadata(dir.join("data"))
            && data.uid() != 0
        {
            let (uid, gid) = (Uid::from_raw(data.uid()), Gid::from_raw(data.gid()));
            let name = User::from_uid(uid).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name);
            return Ok(Some(Self { uid, gid, name }));
        }
        ["postgres", "nobody"]
            .iter()
            .find_map(|name| User::from_name(name).ok().flatten())
            .map(|user| Some(Self { uid: user.uid, gid: user.gid, name: user.name }))
            .ok_or(EmbeddedError::NoAccount)
    }

    /// Fails when a folder on the way to `dir` is closed to the account, as /root usually is.
    ///
    /// Asks the kernel as that account: mode bits alone would be wrong where there are access control lists.
    pub(super) fn check_way_to(&self, dir: &Path) -> Result<(), EmbeddedError> {
        let mut way: Vec<&Path> = dir.ancestors().skip(1).collect();
        way.reverse();
        let output = command(Path::new("/bin/sh"), Some(self))
            .args(["-c", r#"for folder do test -x "$folder" || { printf %s "$folder"; exit 1; }; done"#, "sh"])
            .args(way)
            .output()
            .map_err(io("run", "/bin/sh"))?;
        if output.status.success() {
            return Ok(());
        }
        Err(EmbeddedError::Unreachable {
            blocked: OsString::from_vec(output.stdout).into(),
            account: self.name.clone(),
        })
    }
}

/// A command that runs as `account`, without supplementary groups, and sees nothing of our environment (a stray PGDATA or
/// PGOPTIONS would be obeyed).
pub(super) fn command(program: &Path, account: Option<&Account>) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("LC_ALL", "C").env("PATH", "/usr/bin:/bin").current_dir("/").stdin(Stdio::null());
    if let Some(account) = account {
        command.uid(account.uid.as_raw()).gid(account.gid.as_raw());
    }
    command
}
