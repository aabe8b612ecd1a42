//! What a killed owner leaves behind. Called with the lock held, so whatever still runs here has no owner.

use std::{
    fs,
    io::ErrorKind,
    path::Path,
    process::Command,
    thread::sleep,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{
    error::{EmbeddedError, io},
    folder::{Folder, SOCKET, UNFINISHED},
};

const FAST_WITHIN: Duration = Duration::from_secs(10);
const GONE_WITHIN: Duration = Duration::from_secs(20);

/// Ends what still runs on the cluster, then removes the files that would keep PostgreSQL from starting.
///
/// PostgreSQL itself replaces the files of a dead process, but refuses when the process id in them exists: given to another
/// process meanwhile, or an unreaped zombie (a container without an init).
pub(super) fn clear(folder: &Folder) -> Result<(), EmbeddedError> {
    let data = folder.data();
    let pid_file = data.join("postmaster.pid");
    let begun = Instant::now();
    loop {
        let running = processes_in(&fs::canonicalize(&data).unwrap_or_else(|_| data.clone()));
        let Some(any) = running.first() else { break };
        if begun.elapsed() > GONE_WITHIN {
            return Err(EmbeddedError::Leftover { dir: folder.dir().to_owned(), pid: any.as_raw() });
        }
        end(&running, postmaster_of(&pid_file), begun.elapsed());
        sleep(Duration::from_millis(10));
    }
    for file in [pid_file, folder.socket().join(SOCKET), folder.socket().join(format!("{SOCKET}.lock"))] {
        match fs::remove_file(&file) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(io("remove", &file)(error)),
            _ => {}
        }
    }
    remove_unfinished(folder.dir());
    Ok(())
}

/// Waits until no process of the cluster runs any more, but not for longer than `patience`.
pub(super) fn until_gone(folder: &Folder, patience: Duration) {
    let data = fs::canonicalize(folder.data()).unwrap_or_else(|_| folder.data());
    let begun = Instant::now();
    while begun.elapsed() < patience && !processes_in(&data).is_empty() {
        sleep(Duration::from_millis(5));
    }
}

/// What of this fails (an initdb that has not noticed yet) is repeated at the next start.
fn remove_unfinished(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Asks the postmaster, which ends the others; the others directly only where it is dead. Asking again does no harm.
fn end(running: &[Pid], postmaster: Option<Pid>, waited: Duration) {
    let (targets, signal) = match postmaster.filter(|pid| running.contains(pid)) {
        Some(pid) if waited < FAST_WITHIN => (vec![pid], Signal::SIGINT),
        Some(pid) => (vec![pid], Signal::SIGQUIT),
        None => (running.to_vec(), Signal::SIGQUIT),
    };
    for pid in targets {
        let _ = kill(pid, signal); // gone meanwhile, or of another account: then the wait runs out
    }
}

fn postmaster_of(pid_file: &Path) -> Option<Pid> {
    fs::read_to_string(pid_file).ok()?.lines().next()?.parse().ok().map(Pid::from_raw)
}

/// Every PostgreSQL process has the cluster as its working directory; a zombie has none. Its name is compared as well, for
/// a person's shell may stand there. Where there is no /proc only the postmaster is found, by its command line.
fn processes_in(data: &Path) -> Vec<Pid> {
    if !Path::new("/proc/self/cwd").exists() {
        let output = Command::new("ps").args(["-axww", "-o", "pid=", "-o", "args="]).output();
        return output.map(|output| postmasters_in(&String::from_utf8_lossy(&output.stdout), data)).unwrap_or_default();
    }
    let is_ours = |process: &Path| {
        fs::read_link(process.join("cwd")).is_ok_and(|folder| folder == data)
            && fs::read_to_string(process.join("comm")).is_ok_and(|name| name.trim() == "postgres")
    };
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path())))
        .filter(|(_, process)| is_ours(process))
        .map(|(pid, _)| Pid::from_raw(pid))
        .collect()
}

/// The lines of `ps -o pid=,args=` that are a `postgres -D <data> ...`.
pub(super) fn postmasters_in(listing: &str, data: &Path) -> Vec<Pid> {
    let arguments = format!("/postgres -D {} ", data.display());
    listing
        .lines()
        .filter_map(|line| line.trim_start().split_once(' '))
        .filter(|(_, command)| command.contains(&arguments))
        .filter_map(|(pid, _)| pid.parse().ok().map(Pid::from_raw))
        .collect()
}
