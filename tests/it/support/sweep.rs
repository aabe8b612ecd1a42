//! Folders of runs go with them.

use std::{
    fs,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Command, Stdio},
};

use nix::{errno::Errno, sys::signal::kill, unistd::Pid};

/// Waits for the end of this process, for what runs in the folder to end too, and removes it.
const SWEEP: &str = r#"
trap '' HUP INT TERM
read -r _
waited=0
while [ -n "$(find "$1" -name postmaster.pid 2>/dev/null)" ] && [ $waited -lt 100 ]; do
    waited=$((waited + 1))
    sleep 0.1
done
rm -rf "$1"
"#;

/// A static is never dropped, so a shell does it: its input is a pipe whose other end goes with this process.
pub(super) fn at_the_end(folder: &Path) {
    let sweeper = Command::new("/bin/sh")
        .args(["-c", SWEEP, "sh"])
        .arg(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .unwrap();
    std::mem::forget(sweeper);
}

/// Removes what runs have left that were killed together with their shell.
pub(super) fn leftovers() {
    for entry in fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten() {
        let pid = entry.file_name().to_str().and_then(|name| name.strip_prefix("tenantry-it-")?.parse().ok());
        if pid.is_some_and(|pid| kill(Pid::from_raw(pid), None) == Err(Errno::ESRCH)) {
            let _ = fs::remove_dir_all(entry.path()); // what another run removes at the same time is gone all the same
        }
    }
}
