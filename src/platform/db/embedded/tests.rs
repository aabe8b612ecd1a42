use std::{
    io::{BufRead as _, BufReader, Read as _},
    os::unix::fs::{PermissionsExt as _, symlink},
    process::{ChildStdout, Command},
    sync::atomic::{AtomicU32, Ordering},
};

use super::{
    binaries::{number_in, parse_major},
    leftovers::postmasters_in,
    *,
};

/// A folder in the temporary folder, removed with everything in it.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("tenantry-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let dir = std::env::temp_dir().join(name);
        fs::create_dir(&dir).unwrap();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
        Self(dir)
    }

    /// In a folder whose name every layer has to quote in its own way: PostgreSQL's setting, the shell, the URL.
    fn settings(&self) -> Settings {
        settings(self.0.join("a \"b\" 100% & $c ü"))
    }
}

fn settings(dir: PathBuf) -> Settings {
    let (trusted, log) = (Trusted::Only(&["postgres"]), Log::Text);
    Settings { dir, bin: None, durable: false, trusted, log, settings: Vec::new() }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Another process that owns a server, to be killed.
struct Owner {
    process: Child,
    postmaster: u32,
    _output: BufReader<ChildStdout>,
}

impl Owner {
    fn start(dir: &Path) -> Self {
        let (_, module) = module_path!().split_once("::").unwrap();
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture", &format!("{module}::owner")])
            .env(OWNER, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        writeln!(process.stdin.as_mut().unwrap(), "{}", dir.display()).unwrap();
        let mut output = BufReader::new(process.stdout.take().unwrap());
        let pid = (&mut output).lines().find_map(|line| line.unwrap().strip_prefix("pid ").map(str::to_owned));
        let postmaster = pid.expect("the owner's server starts").parse().unwrap();
        Self { process, postmaster, _output: output }
    }

    fn kill(mut self) -> u32 {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        self.postmaster
    }
}

/// Enough for a few attempts to start what cannot be started.
const FIRST_TRIES: Duration = Duration::from_secs(1);
/// Tells a process of this test binary that it is the one to be killed.
const OWNER: &str = "TENANTRY_TEST_OWNER";

/// Run by [`Owner`] in a process of its own; among the other tests it has nothing to do.
#[test]
#[expect(clippy::disallowed_methods, reason = "how a process of the suite learns its part")]
fn owner() {
    if std::env::var_os(OWNER).is_none() {
        return;
    }
    let mut dir = String::new();
    std::io::stdin().read_line(&mut dir).unwrap();
    let server = EmbeddedPostgres::start(settings(dir.trim().into())).unwrap();
    println!("\npid {}", server.pid());
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}

fn exists(pid: u32) -> bool {
    let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !state.is_empty() && !state.contains(") Z ")
}

fn wait_for(what: &str, holds: impl Fn() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(5), "{what}");
        sleep(POLL);
    }
}

/// One value, asked with the psql that belongs to the server.
fn query(url: &str, sql: &str) -> String {
    ask(url, sql).unwrap()
}

/// Without a password, other than in `url`.
fn ask(url: &str, sql: &str) -> Result<String, String> {
    let psql = find_binaries().unwrap().join("psql");
    let output = Command::new(psql).args(["-wXAtq", "-d", url, "-c", sql]).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

#[test]
fn a_server_starts_stops_and_keeps_its_data() {
    let scratch = Scratch::new();
    let mut settings = scratch.settings();
    settings.settings = vec![("max_connections".into(), "17".into()), ("listen_addresses".into(), "*".into())];
    assert_eq!(url_of_running(&settings.dir, "postgres", "postgres"), None);

    let server = EmbeddedPostgres::start(settings.clone()).unwrap();
    let (url, pid) = (server.url("postgres", "postgres"), server.pid());
    assert_eq!(url_of_running(&settings.dir, "postgres", "postgres"), Some(url.clone()));
    assert_eq!(query(&url, "show server_version_num").parse::<u32>().unwrap() / 10_000, server.major_version());
    for (setting, value) in [
        ("max_connections", "17"),
        ("listen_addresses", ""),
        ("shared_buffers", "128MB"),
        ("timezone", "UTC"),
        ("jit", "off"),
        ("data_checksums", "on"),
        ("server_encoding", "UTF8"),
    ] {
        assert_eq!(query(&url, &format!("show {setting}")), value, "{setting}");
    }
    assert_eq!(fs::metadata(&settings.dir).unwrap().permissions().mode() & 0o777, 0o700);
    query(&url, "create table kept as select 42 as answer");
    drop(server);
    assert!(!exists(pid));
    assert_eq!(url_of_running(&settings.dir, "postgres", "postgres"), None);

    settings.durable = true;
    let server = EmbeddedPostgres::start(settings).unwrap();
    let url = server.url("postgres", "postgres");
    assert_eq!(query(&url, "select answer from kept"), "42");
    assert_eq!(query(&url, "show fsync"), "on");
}

#[test]
fn a_login_that_is_not_trusted_is_asked_for_its_password_whatever_the_rules_were_before() {
    let scratch = Scratch::new();
    let settings = scratch.settings();
    let rules = settings.dir.join("pg_hba.conf");
    let server = EmbeddedPostgres::start(settings.clone()).unwrap();
    query(&server.url("postgres", "postgres"), "create role tenant login password 'right'");
    drop(server);
    // A link of the account's own leads nowhere.
    let outside = scratch.0.join("outside");
    fs::write(&outside, "local all all trust\n").unwrap();
    fs::remove_file(&rules).unwrap();
    symlink(&outside, &rules).unwrap();
    symlink(&outside, rules.with_extension("new")).unwrap();

    let server = EmbeddedPostgres::start(settings).unwrap();
    assert_eq!(fs::read_to_string(&outside).unwrap(), "local all all trust\n");
    assert_eq!(fs::symlink_metadata(&rules).unwrap().permissions().mode() & 0o777, 0o600, "whatever the umask");
    let url = server.url("postgres", "tenant");
    let refused = ask(&url, "select 1").unwrap_err();
    assert!(refused.contains("no password supplied"), "{refused}");
    let refused = ask(&format!("{url}&password=wrong"), "select 1").unwrap_err();
    assert!(refused.contains("password authentication failed"), "{refused}");
    assert_eq!(ask(&format!("{url}&password=right"), "select 1").unwrap(), "1");
}

/// Files of `log/` with this ending, and their bytes.
fn logs(dir: &Path, ending: &str) -> (usize, u64) {
    let files = fs::read_dir(dir.join("log")).into_iter().flatten().flatten();
    let sizes: Vec<_> = files
        .filter(|file| file.file_name().to_string_lossy().ends_with(ending))
        .filter_map(|file| Some(file.metadata().ok()?.len()))
        .collect();
    (sizes.len(), sizes.iter().sum())
}

#[test]
fn what_is_written_down_as_json_stays_bounded() {
    let scratch = Scratch::new();
    let small = vec![("log_rotation_size".into(), "64".into())];
    let settings = Settings { log: Log::Json, settings: small, ..scratch.settings() };
    let server = Supervised::start(settings.clone()).unwrap();
    let url = server.url("postgres", "postgres");
    let file = query(&url, "select pg_current_logfile('jsonlog')");
    assert!(file.ends_with(".json") && Path::new(&file).starts_with(settings.dir.join("log")), "{file}");
    // Each warning is 32 KiB. A file has the second in its name when it was begun.
    let warn = "do $$ begin raise warning '%', repeat('x', 32768); end $$";
    let begun = Instant::now();
    let mut written = 0;
    while begun.elapsed() < Duration::from_secs(8) {
        query(&url, &[warn; 4].join(";"));
        written += 4 * 32768;
        sleep(Duration::from_millis(100));
    }
    for ending in [".json", ".log"] {
        wait_for("old files go", || logs(&settings.dir, ending).0 <= 3);
        let (files, bytes) = logs(&settings.dir, ending);
        assert!(files >= 2 && bytes < written / 2, "{ending}: {files} files of {bytes} bytes, of {written}");
    }
    let file = query(&url, "select pg_current_logfile('jsonlog')");
    assert!(fs::read_to_string(file).unwrap().contains("xxxx"), "the newest is kept");
}

#[test]
fn a_server_that_writes_json_still_says_why_it_did_not_start() {
    let scratch = Scratch::new();
    let settings = Settings { log: Log::Json, ..scratch.settings() };
    drop(EmbeddedPostgres::start(settings.clone()).unwrap());
    let bad = vec![("shared_buffers".into(), "plenty".into())];
    let refused = EmbeddedPostgres::start(Settings { settings: bad, ..settings.clone() }).unwrap_err();
    assert!(refused.to_string().contains("shared_buffers"), "before there is a log of its own: {refused}");
    for entry in fs::read_dir(settings.dir.join("data/pg_wal")).unwrap().flatten() {
        if entry.file_type().unwrap().is_file() {
            fs::remove_file(entry.path()).unwrap();
        }
    }
    let refused = EmbeddedPostgres::start(settings).unwrap_err().to_string();
    assert!(refused.contains("checkpoint record") && refused.contains("/log/postgres-"), "{refused}");
}

#[test]
fn another_process_holds_the_folder_until_it_is_killed_and_postgres_ends_with_it() {
    let scratch = Scratch::new();
    let dir = scratch.settings().dir;
    let owner = Owner::start(&dir);
    let refused = EmbeddedPostgres::start(scratch.settings()).unwrap_err();
    assert!(matches!(refused, EmbeddedError::AlreadyManaged { .. }), "{refused}");
    assert_eq!(query(&url_of_running(&dir, "postgres", "postgres").unwrap(), "select 1"), "1");
    let postmaster = owner.kill();
    assert_eq!(url_of_running(&dir, "postgres", "postgres"), None, "a server without an owner is no place to go");
    wait_for("postgres outlives its owner", || !exists(postmaster));

    Owner::start(&dir).kill();
    let server = EmbeddedPostgres::start(scratch.settings()).unwrap(); // at once, while the old one is still ending
    assert_eq!(query(&server.url("postgres", "postgres"), "select 1"), "1");
}

#[test]
fn a_failed_start_names_the_setting_and_stale_files_do_not_hinder_the_next() {
    let scratch = Scratch::new();
    let dir = scratch.settings().dir;
    let bad = vec![("shared_buffers".into(), "plenty".into())];
    let refused = EmbeddedPostgres::start(Settings { settings: bad, ..scratch.settings() }).unwrap_err();
    assert!(refused.to_string().contains("shared_buffers"), "{refused}");

    let living = std::process::id();
    let pid_file = format!("{living}\n{}\n0\n5432\n", dir.join("data").display());
    fs::write(dir.join("data/postmaster.pid"), pid_file).unwrap();
    fs::write(dir.join(".s.PGSQL.5432.lock"), format!("{living}\n")).unwrap();
    fs::create_dir(dir.join("data.new.1")).unwrap();
    EmbeddedPostgres::start(scratch.settings()).unwrap();
    assert!(!dir.join("data.new.1").exists());
}

#[test]
fn a_folder_is_taken_over_after_postgres_was_killed() {
    let scratch = Scratch::new();
    let durable = Settings { durable: true, ..scratch.settings() };
    let server = EmbeddedPostgres::start(durable.clone()).unwrap();
    query(&server.url("postgres", "postgres"), "create table kept ()");
    // a backend that will not notice by itself that its postmaster is gone
    let busy = format!("{}&application_name=busy", server.url("postgres", "postgres"));
    let mut psql = Command::new(find_binaries().unwrap().join("psql"))
        .args(["-XAtq", "-d", &busy, "-c", "do $$ begin loop end loop; end $$"])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let url = server.url("postgres", "postgres");
    wait_for("the busy backend", || {
        query(&url, "select count(*) from pg_stat_activity where application_name = 'busy' and state = 'active'") == "1"
    });
    kill(Pid::from_raw(server.pid().cast_signed()), Signal::SIGKILL).unwrap();
    drop(server);
    let server = EmbeddedPostgres::start(durable.clone()).unwrap();
    assert_eq!(query(&server.url("postgres", "postgres"), "select count(*) from kept"), "0");
    assert!(!psql.wait().unwrap().success());

    // both at once
    drop(server);
    let owner = Owner::start(&scratch.settings().dir);
    kill(Pid::from_raw(owner.postmaster.cast_signed()), Signal::SIGKILL).unwrap();
    owner.kill();
    EmbeddedPostgres::start(durable).unwrap();
}

#[test]
fn a_supervised_server_comes_back_until_it_is_dropped() {
    let scratch = Scratch::new();
    let durable = Settings { durable: true, ..scratch.settings() };
    let pid_file = durable.dir.join("data/postmaster.pid");
    let pid = || fs::read_to_string(&pid_file).ok()?.lines().next()?.parse::<u32>().ok();
    let server = Supervised::start(durable.clone()).unwrap();
    let url = server.url("postgres", "postgres");
    query(&url, "create table kept ()");
    let mut known = pid().unwrap();
    for _ in 0..2 {
        kill(Pid::from_raw(known.cast_signed()), Signal::SIGKILL).unwrap();
        wait_for("the server comes back", || {
            pid() != Some(known) && url_of_running(&durable.dir, "postgres", "postgres").is_some()
        });
        assert_eq!(query(&url, "select count(*) from kept"), "0");
        known = pid().unwrap();
    }
    drop(server);
    assert!(!exists(known));

    // while it waits to try again
    let server = Supervised::start(durable.clone()).unwrap();
    let known = pid().unwrap();
    fs::rename(durable.dir.join("data"), durable.dir.join("elsewhere")).unwrap();
    kill(Pid::from_raw(known.cast_signed()), Signal::SIGKILL).unwrap();
    wait_for("the server ends", || !exists(known));
    sleep(FIRST_TRIES);
    let begun = Instant::now();
    drop(server);
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    fs::rename(durable.dir.join("elsewhere"), durable.dir.join("data")).unwrap();
    let server = EmbeddedPostgres::start(durable).unwrap();
    assert_eq!(query(&server.url("postgres", "postgres"), "select count(*) from kept"), "0");
}

#[test]
fn a_folder_too_long_for_a_socket_gets_one_elsewhere() {
    let scratch = Scratch::new();
    let mut settings = scratch.settings();
    settings.dir = scratch.0.join("many words, \"quoted\" & 100% long ".repeat(3)).join("postgres");
    let server = EmbeddedPostgres::start(settings.clone()).unwrap();
    let socket = server.folder.socket().to_owned();
    assert!(socket.starts_with("/tmp") && socket != settings.dir, "{}", socket.display());
    let url = url_of_running(&settings.dir, "postgres", "postgres").unwrap();
    assert_eq!(url, server.url("postgres", "postgres"));
    assert_eq!(query(&url, "select 1"), "1");
    drop(server);
    assert!(!socket.exists());

    // somebody else's folder, or a link to one, is not used
    symlink(&scratch.0, &socket).unwrap();
    let refused = EmbeddedPostgres::start(settings.clone()).unwrap_err();
    fs::remove_file(&socket).unwrap();
    assert!(matches!(refused, EmbeddedError::SocketFolder { .. }), "{refused}");
}

#[test]
fn data_of_another_release_is_left_alone() {
    let scratch = Scratch::new();
    let dir = scratch.settings().dir;
    fs::create_dir_all(dir.join("data")).unwrap();
    fs::write(dir.join("data/PG_VERSION"), "14\n").unwrap();
    fs::write(dir.join("lock"), "").unwrap();
    let refused = EmbeddedPostgres::start(scratch.settings()).unwrap_err();
    assert!(matches!(refused, EmbeddedError::VersionMismatch { data: 14, .. }), "{refused}");
}

#[test]
fn binaries_that_are_too_old_or_missing_are_refused() {
    let scratch = Scratch::new();
    let mut settings = scratch.settings();
    settings.bin = Some(scratch.0.clone());
    let refused = EmbeddedPostgres::start(settings.clone()).unwrap_err();
    assert!(matches!(refused, EmbeddedError::Io { step: "run", .. }), "{refused}");

    settings.bin = Some(scratch.0.join("bin"));
    let postgres = scratch.0.join("bin/postgres");
    fs::create_dir(scratch.0.join("bin")).unwrap();
    fs::write(&postgres, "#!/bin/sh\necho 'postgres (PostgreSQL) 14.9'\n").unwrap();
    fs::set_permissions(&postgres, fs::Permissions::from_mode(0o755)).unwrap();
    let refused = EmbeddedPostgres::start(settings).unwrap_err();
    assert!(matches!(refused, EmbeddedError::TooOld { major: 14, .. }), "{refused}");
}

#[test]
fn a_folder_with_files_of_others_is_not_taken() {
    let scratch = Scratch::new();
    fs::write(scratch.0.join("thesis.odt"), "").unwrap();
    let refused = EmbeddedPostgres::start(Settings { dir: scratch.0.clone(), ..scratch.settings() }).unwrap_err();
    assert!(matches!(refused, EmbeddedError::ForeignFolder { .. }), "{refused}");
    assert_eq!(fs::metadata(&scratch.0).unwrap().permissions().mode() & 0o777, 0o755);
}

#[test]
fn a_closed_parent_is_named_when_root_starts_it() {
    if !nix::unistd::Uid::effective().is_root() {
        return; // only root runs PostgreSQL as another account
    }
    let scratch = Scratch::new();
    fs::set_permissions(&scratch.0, fs::Permissions::from_mode(0o700)).unwrap();
    let refused = EmbeddedPostgres::start(scratch.settings()).unwrap_err();
    assert!(refused.to_string().contains(&format!("pass through {}:", scratch.0.display())), "{refused}");
}

#[test]
fn versions_and_listings_are_read() {
    assert_eq!(parse_major("postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)\n"), Some(15));
    assert_eq!(parse_major("postgres (PostgreSQL) 19beta1\n"), Some(19));
    assert_eq!(parse_major("postgres (EnterpriseDB) 15"), None);
    assert_eq!(number_in(Path::new("/usr/lib/postgresql/17/bin")), Some(17));
    assert_eq!(number_in(Path::new("/opt/homebrew/opt/postgresql@16/bin")), Some(16));
    assert_eq!(number_in(Path::new("/usr/local/bin")), None);

    let listing =
        "  7 /bin/sh -c x\n 41 /usr/bin/postgres -D /d/data -c jit=off\n 42 /usr/bin/postgres -D /d/data2 -c\n";
    assert_eq!(postmasters_in(listing, Path::new("/d/data")), [Pid::from_raw(41)]);
}

#[test]
fn a_url_spells_any_path() {
    assert_eq!(
        url_of(Path::new("/a b/ü&c+d%"), "db", "postgres"),
        "postgres:///db?host=/a%20b/%C3%BC%26c%2Bd%25&user=postgres"
    );
}

#[test]
fn the_socket_moves_only_when_it_must() {
    let longest = PathBuf::from(format!("/{}", "x".repeat(92)));
    assert_eq!(folder::socket_folder(&longest), longest);
    let too_long = PathBuf::from(format!("/{}", "x".repeat(93)));
    assert_eq!(folder::socket_folder(Path::new("/a,b")).parent(), Some(Path::new("/tmp")));
    assert_eq!(folder::socket_folder(&too_long), Path::new("/tmp/tenantry-1a64466ae32de832"));
}
