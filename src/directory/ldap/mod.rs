//! LDAP version 3 (RFC 4511) with a server that is not trusted: the library `ldap3` writes requests and reads answers, behind a check
//! of everything that the server sends. Connections and TLS are made here, not by the library, so that each step has its reason and its
//! bounds, and so that the address that was checked is the one that is connected to.

mod answer;
mod ber;
mod entry;
mod session;
mod tls;
mod trouble;
mod wire;

use tokio::net::TcpStream;

pub(super) use self::{
    entry::Entry,
    session::{Search, Session},
    tls::{Shown, Trust},
    trouble::Trouble,
};
use super::settings::{Protection, Server};
use crate::{
    config,
    platform::reach::{self, Reach},
};

/// What a connection is made with.
#[derive(Clone, Debug)]
pub(super) struct Way<'a> {
    pub(super) server: &'a Server,
    pub(super) trust: &'a Trust,
    /// Whether an operator permits to say everything in plain text.
    pub(super) plain_text: bool,
    pub(super) reach: &'a Reach,
    pub(super) limits: &'a config::Directory,
    /// Bytes of all answers of the connection.
    pub(super) most: usize,
}

impl Way<'_> {
    /// All steps: name look-up, connection, TLS.
    pub(super) async fn open(&self) -> Result<Session, Trouble> {
        let connected = async {
            let line = self.dial(&self.resolve().await?).await?;
            self.secure(line, &Shown::default()).await
        };
        within(self.limits.connect_timeout, "connection", connected).await
    }

    /// Addresses that may be connected to.
    pub(super) async fn resolve(&self) -> Result<Vec<std::net::SocketAddr>, Trouble> {
        Ok(self.reach.resolve(self.server.host(), self.server.port(), self.limits.connect_timeout).await?)
    }

    pub(super) async fn dial(&self, addresses: &[std::net::SocketAddr]) -> Result<TcpStream, Trouble> {
        Ok(reach::dial(addresses, self.limits.connect_timeout).await?)
    }

    /// From a connection to a session: behind TLS, but where plain text is permitted. Nothing but the wish for TLS is sent before it.
    pub(super) async fn secure(&self, mut line: TcpStream, shown: &Shown) -> Result<Session, Trouble> {
        let (patience, most) = (self.limits.answer_timeout, self.most);
        match self.server.protection() {
            Protection::PlainText if !self.plain_text => Err(Trouble::PlainText),
            Protection::PlainText => Session::over(line, patience, most).await,
            Protection::Tls => {
                let secured = self.trust.secure(line, self.server.host(), shown);
                Session::over(within(self.limits.connect_timeout, "TLS", secured).await?, patience, most).await
            }
            Protection::StartTls => {
                within(self.limits.connect_timeout, "StartTLS", wire::start_tls(&mut line)).await?;
                let secured = self.trust.secure(line, self.server.host(), shown);
                Session::over(within(self.limits.connect_timeout, "TLS", secured).await?, patience, most).await
            }
        }
    }
}

/// Ends what takes longer.
pub(super) async fn within<T>(
    patience: std::time::Duration,
    step: &'static str,
    work: impl Future<Output = Result<T, Trouble>>,
) -> Result<T, Trouble> {
    tokio::time::timeout(patience, work).await.unwrap_or(Err(Trouble::Slow(step)))
}
