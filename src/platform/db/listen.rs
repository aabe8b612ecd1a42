use std::time::Duration;

use sqlx::postgres::{PgListener, PgPoolOptions};
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};

use super::{connect_options, failure};
use crate::{error::Result, platform::secret::Secret};

/// The channel of all notifications. Payloads are ids only: who hears one reads the row again under its own policy.
const CHANNEL: &str = "tenantry";

/// How long a silent connection is trusted before it is asked for a sign of life.
const HEARTBEAT: Duration = Duration::from_millis(400);

/// What a listener learns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Connected: from now on nothing is missed.
    Connected,
    /// The payload of one notification.
    Notified(String),
    /// The connection is gone: what is known from notifications may be old from now on.
    Lost,
}

/// A connection of its own that hears every committed notification. It reconnects for ever.
#[derive(Debug)]
pub struct Listener {
    url: Secret,
}

impl Listener {
    /// `direct_url` must not go through a transaction-mode pooler.
    pub fn new(direct_url: Secret) -> Self {
        Self { url: direct_url }
    }

    /// Tells of everything until the receiver is gone.
    pub async fn run(self, told: mpsc::Sender<Heard>) {
        let mut pause = Duration::from_millis(50);
        loop {
            match self.connect().await {
                Ok(mut listener) => {
                    pause = Duration::from_millis(50);
                    if told.send(Heard::Connected).await.is_err() {
                        return;
                    }
                    follow(&mut listener, &told).await;
                    if told.send(Heard::Lost).await.is_err() {
                        return;
                    }
                    tracing::warn!("the listener lost its connection; answers come from the database until it is back");
                }
                Err(error) => tracing::warn!(cause = ?error.cause(), "the listener cannot connect"),
            }
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(2));
        }
    }

    async fn connect(&self) -> Result<PgListener> {
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(Duration::from_secs(2))
            .connect_lazy_with(connect_options(&self.url)?);
        let mut listener = PgListener::connect_with(&pool).await.map_err(failure::sqlx_failed)?;
        listener.eager_reconnect(false);
        listener.listen(CHANNEL).await.map_err(failure::sqlx_failed)?;
        Ok(listener)
    }
}

/// Returns when the connection is lost.
async fn follow(listener: &mut PgListener, told: &mpsc::Sender<Heard>) {
    loop {
        match timeout(HEARTBEAT, listener.try_recv()).await {
            Ok(Ok(Some(notification))) => {
                if told.send(Heard::Notified(notification.payload().to_owned())).await.is_err() {
                    return;
                }
            }
            Ok(Ok(None) | Err(_)) => return,
            Err(_silent) => match timeout(HEARTBEAT, listener.listen(CHANNEL)).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return,
            },
        }
    }
}
