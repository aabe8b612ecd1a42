use std::{
    fs::{self, OpenOptions},
    io::{ErrorKind, Write as _},
    os::unix::fs::{OpenOptionsExt as _, fchown},
};

use super::{
    account::Account,
    error::{EmbeddedError, io},
    folder::Folder,
};

/// Who comes in over the socket without a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trusted {
    /// These logins; whoever else comes is asked for a password.
    Only(&'static [&'static str]),
    /// Whoever reaches the socket.
    Everybody,
}

impl Trusted {
    /// Writes the rules, in place of whatever they were, for the account that runs PostgreSQL to read.
    pub(super) fn write(self, folder: &Folder, account: Option<&Account>) -> Result<(), EmbeddedError> {
        let (path, fresh) = (folder.rules(), folder.rules().with_extension("new"));
        match fs::remove_file(&fresh) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(io("remove", &fresh)(error)),
            _ => {}
        }
        // A file of our own making, and never one behind a link: the account may write in this folder.
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh).map_err(io("create", &fresh))?;
        file.write_all(self.rules().as_bytes()).map_err(io("write", &fresh))?;
        if let Some(account) = account {
            let (uid, gid) = (account.uid.as_raw(), account.gid.as_raw());
            fchown(&file, Some(uid), Some(gid)).map_err(io("change the owner of", &fresh))?;
        }
        fs::rename(&fresh, &path).map_err(io("rename", &fresh))
    }

    fn rules(self) -> String {
        let head = "# Written by Tenantry at each start.\n";
        match self {
            Self::Only(logins) => {
                let own: String =
                    logins.iter().map(|login| format!("local all,replication \"{login}\" trust\n")).collect();
                format!("{head}{own}local all all scram-sha-256\n")
            }
            Self::Everybody => format!("{head}local all,replication all trust\n"),
        }
    }
}
