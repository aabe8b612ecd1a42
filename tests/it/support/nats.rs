//! A NATS server with JetStream, as Debian has it.

use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use tenantry::{
    config::Config,
    platform::{clock::Clock, ids::TenantId},
    provisioning::layers::NatsLayer,
};

use super::folder;

/// The suite's own seeds of an operator and of its system account.
const OPERATOR: &str = "SOAFC5OEMSKVLG6RMMGHVFBGHIFRLHDWSBFYFZ5DUIUBYKSNZEXCMTIEHU";
const SYSTEM: &str = "SAAH2MO6ISNLT6MVKQOLGKSZHPF4CQSS3WCCKZ42IASPT5LN5I3BEEND34";

/// A server that can be stopped and started again; it ends with this value.
pub struct NatsServer {
    pub address: SocketAddr,
    place: PathBuf,
    child: Option<Child>,
}

impl NatsServer {
    pub fn start() -> Self {
        Self::with(|server| {
            let (trusted, place) = (server.keeper().server_settings().unwrap(), server.place.display());
            format!(
                "resolver: {{ type: full, dir: \"{place}/accounts\", allow_delete: true, interval: \"2m\" }}\n{trusted}"
            )
        })
    }

    /// One that asks nobody who it is.
    pub fn open() -> Self {
        Self::with(|_| String::new())
    }

    fn with(accounts: impl Fn(&Self) -> String) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(1);
        let place = folder().join(format!("nats-{}", COUNT.fetch_add(1, Ordering::Relaxed)));
        std::fs::create_dir_all(&place).unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut server = Self { address, place, child: None };
        let (accounts, place) = (accounts(&server), server.place.display());
        let settings = format!(
            "listen: \"{address}\"\njetstream: {{ store_dir: \"{place}/streams\", max_file: 10GB, max_mem: 64MB }}\n{accounts}"
        );
        std::fs::write(server.place.join("nats.conf"), settings).unwrap();
        server.start_again();
        server
    }

    pub fn start_again(&mut self) {
        let log = std::fs::File::create(self.place.join("log")).unwrap();
        // Where Debian has it, which is not in everybody's PATH.
        let debians = std::path::Path::new("/usr/sbin/nats-server");
        let child = Command::new(if debians.exists() { debians } else { "nats-server".as_ref() })
            .arg("-c")
            .arg(self.place.join("nats.conf"))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("nats-server is there: scripts/bootstrap.sh test installs it");
        self.child = Some(child);
        for _ in 0..3000 {
            if TcpStream::connect(self.address).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("nats-server does not start");
    }

    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Forgets accounts and streams, while it is stopped.
    pub fn wipe(&self) {
        assert!(self.child.is_none());
        for folder in ["streams", "accounts"] {
            std::fs::remove_dir_all(self.place.join(folder)).unwrap();
        }
    }

    /// Who holds the keys.
    fn keeper(&self) -> NatsLayer {
        let rules = Config::from_toml(&[&self.settings()]).unwrap().nats;
        NatsLayer::new(&rules, &Clock::default()).unwrap()
    }

    /// Credentials for everything within the tenant's account.
    pub fn all_rights(&self, tenant: TenantId) -> tenantry::platform::secret::Secret {
        self.keeper().keeper_credentials(tenant).unwrap()
    }

    /// Within the tenant's account, with all rights.
    pub async fn owner_of(&self, tenant: TenantId) -> async_nats::Client {
        let credentials = self.keeper().keeper_credentials(tenant).unwrap();
        let options = async_nats::ConnectOptions::with_credentials(credentials.expose()).unwrap();
        options.connect(format!("nats://{}", self.address)).await.unwrap()
    }

    /// The settings (TOML) of a server that provisions there; `at` may be a proxy's address.
    pub fn settings_at(&self, at: SocketAddr) -> String {
        format!(
            "[nats]\nurl = \"nats://{at}\"\noperator_seed = \"{OPERATOR}\"\nsystem_seed = \"{SYSTEM}\"\nstream_bytes = 1048576\n"
        )
    }

    pub fn settings(&self) -> String {
        self.settings_at(self.address)
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        self.stop();
    }
}
