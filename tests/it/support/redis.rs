//! Redis, as Debian has it.

use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use super::folder;

const PASSWORD: &str = "of-the-suite";

/// A server that can be stopped and started again; it ends with this value. Nothing of it outlives its end but what it was told to
/// save of its users, where it keeps them in a file.
pub struct RedisServer {
    pub address: SocketAddr,
    place: PathBuf,
    keeps_users: bool,
    child: Option<Child>,
}

impl RedisServer {
    /// One that forgets its users as it ends.
    pub fn forgetful() -> Self {
        Self::start(false)
    }

    pub fn keeping_users() -> Self {
        Self::start(true)
    }

    fn start(keeps_users: bool) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(1);
        let place = folder().join(format!("redis-{}", COUNT.fetch_add(1, Ordering::Relaxed)));
        std::fs::create_dir_all(&place).unwrap();
        let owner = format!("user tenantry on >{PASSWORD} ~* &* +@all\nuser default off\n");
        std::fs::write(place.join("users.acl"), &owner).unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let users = if keeps_users { format!("aclfile {}\n", place.join("users.acl").display()) } else { owner };
        let settings = format!(
            "bind 127.0.0.1\nport {}\nsave \"\"\nappendonly no\nenable-debug-command local\ndir {}\n{users}",
            address.port(),
            place.display()
        );
        std::fs::write(place.join("redis.conf"), settings).unwrap();
        let mut server = Self { address, place, keeps_users, child: None };
        server.start_again();
        server
    }

    pub fn start_again(&mut self) {
        let child = Command::new("redis-server")
            .arg(self.place.join("redis.conf"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("redis-server is there: scripts/bootstrap.sh test installs it");
        self.child = Some(child);
        for _ in 0..3000 {
            if TcpStream::connect(self.address).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("redis-server does not start (keeps its users: {})", self.keeps_users);
    }

    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// The address as Tenantry has it; `at` may be a proxy's.
    pub fn url_at(&self, at: SocketAddr) -> String {
        format!("redis://tenantry:{PASSWORD}@{at}")
    }

    pub fn url(&self) -> String {
        self.url_at(self.address)
    }

    /// A connection of this user.
    pub async fn connect_as(
        &self,
        user: &str,
        password: &str,
    ) -> redis::RedisResult<redis::aio::MultiplexedConnection> {
        let url = format!("redis://{user}:{password}@{}", self.address);
        redis::Client::open(url)?.get_multiplexed_async_connection().await
    }

    pub async fn connect(&self) -> redis::aio::MultiplexedConnection {
        self.connect_as("tenantry", PASSWORD).await.unwrap()
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.stop();
    }
}
