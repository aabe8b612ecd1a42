//! A connection to NATS for one verb: nothing rests on what became of an earlier one, and one that is lost says so at once.

use std::time::Duration;

use async_nats::{Client, ConnectErrorKind, ConnectOptions, Event, jetstream};
use tokio_util::sync::CancellationToken;

use crate::{
    error::{Error, Kind, Result},
    platform::secret::Secret,
};

const PATIENCE: Duration = Duration::from_secs(5);

pub(super) struct Line {
    client: Client,
    lost: CancellationToken,
}

impl Line {
    /// `None` where the server does not know whose account this is, or not who signs for it.
    pub(super) async fn open(url: &str, credentials: &Secret) -> Result<Option<Self>> {
        let lost = CancellationToken::new();
        let lost_later = lost.clone();
        // Not the library's words: they could show the seed.
        let options = ConnectOptions::with_credentials(credentials.expose())
            .map_err(|_| Error::internal("credentials of NATS cannot be read"))?;
        let options = options.name("tenantry").connection_timeout(PATIENCE).request_timeout(Some(PATIENCE));
        // No end at zero, for this library.
        let options = options.max_reconnects(1).event_callback(move |event| {
            let lost = lost_later.clone();
            async move {
                if matches!(event, Event::Disconnected | Event::Closed) {
                    lost.cancel();
                }
            }
        });
        let opened = tokio::time::timeout(PATIENCE, options.connect(url)).await;
        match opened.map_err(|_| failed("NATS does not answer in time"))? {
            Ok(client) => Ok(Some(Self { client, lost })),
            Err(error) if error.kind() == ConnectErrorKind::AuthorizationViolation => Ok(None),
            Err(error) => Err(failed("NATS cannot be reached").because(error)),
        }
    }

    /// Which run of which server this is.
    pub(super) fn server(&self) -> String {
        self.client.server_info().server_id
    }

    pub(super) fn jetstream(&self) -> jetstream::Context {
        let mut api = jetstream::new(self.client.clone());
        api.set_timeout(PATIENCE);
        api
    }

    pub(super) async fn ask(&self, subject: String, body: String) -> Result<String> {
        let answer = self.within(self.client.request(subject, body.into())).await?;
        let answer = answer.map_err(|error| failed("NATS does not answer").because(error))?;
        Ok(String::from_utf8_lossy(&answer.payload).into_owned())
    }

    /// Not longer than the connection lasts.
    pub(super) async fn within<T>(&self, work: impl Future<Output = T>) -> Result<T> {
        tokio::select! {
            done = tokio::time::timeout(PATIENCE, work) => done.map_err(|_| failed("NATS does not answer in time")),
            () = self.lost.cancelled() => Err(failed("the connection to NATS was lost")),
        }
    }
}

pub(super) fn failed(what: &'static str) -> Error {
    Error::new(Kind::Unavailable, what)
}
