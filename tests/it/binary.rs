//! The real binary as a child process, set up as a deployment would: through the environment alone. Servers die with their guard.

use std::{
    fs::File,
    net::SocketAddr,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use tokio::{
    io::AsyncWriteExt as _,
    process::{Child, Command},
    time::{sleep, timeout},
};

use crate::support::{Client, Database, folder};

/// A debug build on a busy machine; a start takes about half a second where nothing else runs.
const READY_WITHIN: Duration = Duration::from_secs(30);
const ENDS_WITHIN: Duration = Duration::from_secs(30);

/// How the binary is set up.
#[derive(Clone, Debug)]
pub(crate) struct Binary {
    environment: Vec<(String, String)>,
    folder: PathBuf,
}

/// A command that has ended.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A running server; dropped, it is killed.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
    log: PathBuf,
    binary: Binary,
}

impl Binary {
    /// On a database of the suite, with the owner's address.
    pub(crate) fn on(database: &Database) -> Self {
        Self::as_login(&database.login_url()).set("DATABASE__OWNER_URL", database.superuser_url())
    }

    /// With this address of one alone: nothing can be migrated.
    pub(crate) fn as_login(url: &str) -> Self {
        let key = folder().join("master.key").display().to_string();
        Self::private().set("DATABASE__URL", url).set("KEYS__MASTER_KEY_FILE", key)
    }

    /// With a private database in a folder of its own.
    pub(crate) fn private() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(1);
        let folder = folder().join(format!("binary-{}", COUNT.fetch_add(1, Ordering::Relaxed)));
        std::fs::create_dir_all(&folder).unwrap();
        // The issuer of tokens: every server of a test has another port.
        Self { environment: Vec::new(), folder }
            .set("SERVER__PUBLIC_URL", "http://tenantry.test")
            .set("PROVISIONING__LAYERS", "")
            .set("ISOLATION__PROBE_INTERVAL", "0s") // what is listed of a server is what tenants have
    }

    /// Sets what `config.toml` calls `section.key`, written as `SECTION__KEY`.
    pub(crate) fn set(mut self, key: &str, value: impl Into<String>) -> Self {
        let name = format!("TENANTRY__{key}");
        self.environment.retain(|(known, _)| *known != name);
        self.environment.push((name, value.into()));
        self
    }

    /// Without transparent huge pages: memory is then counted in pages of 4 KiB as it is touched, not by 2 MiB.
    pub(crate) fn with_small_pages(mut self) -> Self {
        self.environment.push(("MIMALLOC_ALLOW_THP".to_owned(), "0".to_owned()));
        self
    }

    /// Writes a file into the folder that commands run in.
    pub(crate) fn file(&self, name: &str, content: &str) -> String {
        let path = self.folder.join(name);
        std::fs::write(&path, content).unwrap();
        path.display().to_string()
    }

    /// A file of the folder that commands run in.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Runs a command to its end.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Finished {
        self.run_with("", arguments).await
    }

    /// The same with something to read.
    pub(crate) async fn run_with(&self, input: &str, arguments: &[&str]) -> Finished {
        let mut command = self.command(arguments);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let _ = stdin.write_all(input.as_bytes()).await; // a command that reads nothing may have ended
        drop(stdin);
        let output = timeout(ENDS_WITHIN, child.wait_with_output()).await;
        let output = output.unwrap_or_else(|_| panic!("tenantry {arguments:?} does not end")).unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Finished { status: output.status, stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// Starts a server and waits until it is ready.
    pub(crate) async fn serve(&self) -> Server {
        static COUNT: AtomicU32 = AtomicU32::new(1);
        let log = self.folder.join(format!("serve-{}.log", COUNT.fetch_add(1, Ordering::Relaxed)));
        let mut command = self.clone().set("SERVER__LISTEN", "127.0.0.1:0").command(&["serve"]);
        let (out, err) = (File::create(log.with_extension("out")).unwrap(), File::create(&log).unwrap());
        let child = command.stdin(Stdio::null()).stdout(out).stderr(err).spawn().unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut server = Server { child, address, log, binary: self.clone() };
        server.wait_until_ready().await;
        server
    }

    #[expect(clippy::disallowed_methods, reason = "where a child finds programs and room for files")]
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tenantry"));
        command
            .args(arguments)
            .env_clear()
            .envs(self.environment.iter().cloned())
            .current_dir(&self.folder)
            .kill_on_drop(true);
        for kept in ["PATH", "TMPDIR", "LD_LIBRARY_PATH"] {
            if let Some(value) = std::env::var_os(kept) {
                command.env(kept, value);
            }
        }
        command
    }
}

impl Finished {
    pub(crate) fn ok(self) -> String {
        assert!(self.status.success(), "{} {}{}", self.status, self.stdout, self.stderr);
        self.stdout
    }

    /// What a command that had to fail said.
    pub(crate) fn failed(self) -> String {
        assert_eq!(self.status.code(), Some(1), "{}{}", self.stdout, self.stderr);
        self.stderr
    }

    pub(crate) fn json(self) -> Value {
        let text = self.ok();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }
}

impl Server {
    async fn wait_until_ready(&mut self) {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("the server ended: {status}\n{}", self.log());
            }
            if let Some(address) = bound(&self.log()) {
                self.address = address;
            }
            if self.address.port() != 0
                && let Ok(answer) = self.stranger().request(reqwest::Method::GET, "/readyz").send().await
                && answer.status().is_success()
            {
                return;
            }
            assert!(begun.elapsed() < READY_WITHIN, "the server does not get ready\n{}", self.log());
            sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id().expect("the server runs")
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// What it printed on its output.
    pub(crate) fn printed(&self) -> String {
        std::fs::read_to_string(self.log.with_extension("out")).unwrap()
    }

    /// Sends no token.
    pub(crate) fn stranger(&self) -> Client {
        Client::new(self.url(""), None, None, Default::default())
    }

    pub(crate) fn with_token(&self, token: impl Into<String>) -> Client {
        Client::operator(self.url(""), token.into(), Default::default())
    }

    /// An administrator with a token of the command line.
    pub(crate) async fn admin(&self) -> Client {
        let token = self.binary.run(&["token", "--role", "admin"]).await.ok();
        self.with_token(token.trim())
    }

    /// SIGKILL: as the kernel ends a process that took too much memory.
    pub(crate) async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// SIGTERM, and the exit status.
    pub(crate) async fn stop(mut self) -> ExitStatus {
        kill(Pid::from_raw(self.pid().cast_signed()), Signal::SIGTERM).unwrap();
        timeout(ENDS_WITHIN, self.child.wait()).await.expect("the server stops").unwrap()
    }

    /// Memory that is in use now, in bytes.
    pub(crate) fn resident(&self) -> u64 {
        self.status("VmRSS:")
    }

    /// The most that was in use since [`Server::reset_peak`], in bytes.
    pub(crate) fn peak(&self) -> u64 {
        self.status("VmHWM:")
    }

    /// Sets the peak to what is in use now (proc(5), `/proc/pid/clear_refs`).
    pub(crate) fn reset_peak(&self) {
        std::fs::write(format!("/proc/{}/clear_refs", self.pid()), "5").unwrap();
    }

    fn status(&self, key: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// Time that its threads have been on a processor: other tests and builds do not count.
    pub(crate) fn busy(&self) -> Duration {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid())).unwrap().flatten();
        let nanos = tasks.filter_map(|task| {
            let times = std::fs::read_to_string(task.path().join("schedstat")).ok()?; // a thread may have ended
            times.split(' ').next()?.parse::<u64>().ok()
        });
        Duration::from_nanos(nanos.sum())
    }
}

/// The address that the log says the server took.
fn bound(log: &str) -> Option<SocketAddr> {
    let line = log.lines().find(|line| line.contains("\"listening\""))?;
    serde_json::from_str::<Value>(line).ok()?["address"].as_str()?.parse().ok()
}
