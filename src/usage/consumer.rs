//! Events from a stream of NATS JetStream: one is acknowledged when it is counted, and what is delivered again counts once.
//!
//! A message is a CloudEvent (structured, or binary with `ce-` headers; CloudEvents NATS binding), or an event as the meter takes it.
//! Who may publish to the stream is trusted with every tenant, which each event names. What is refused is published to another subject.

use std::time::Duration;

use async_nats::{
    ConnectOptions,
    jetstream::{self, AckKind, Message, consumer::pull},
};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use futures::StreamExt as _;
use tokio_util::sync::CancellationToken;

use super::{
    Outcome, Patience, Refusal, Usage, cloud_event,
    event::RawEvent,
    http::{one, text},
    recording::Sender,
};
use crate::{
    config,
    error::{Error, Kind, Result},
};

/// Messages that are counted together.
const TOGETHER: usize = 1_000;
/// How long a fetch waits for the first of them.
const FETCH: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(5);
/// After this long without an acknowledgement a message is delivered again, to whatever server.
const ACK_WAIT: Duration = Duration::from_secs(30);
/// Between two tries where the stream, or the database, is not to be had.
const PAUSE: Duration = Duration::from_secs(1);

/// What the house demands of the stream's side, and nothing more.
struct Consumer {
    jetstream: jetstream::Context,
    pull: jetstream::consumer::PullConsumer,
    refused: String,
}

impl Usage {
    /// Counts what comes until the server stops. Servers share the consumer: each message goes to one of them.
    pub async fn follow_stream(self, rules: config::UsageStream, stop: CancellationToken) {
        while rules.is_on() && !stop.is_cancelled() {
            let consuming = async {
                if let Err(error) = self.consume(&rules).await {
                    metrics::counter!("tenantry_usage_stream_failures_total").increment(1);
                    tracing::warn!(%error, cause = error.cause().map(tracing::field::display), "the stream of usage is not read; it is tried again");
                }
                tokio::time::sleep(PAUSE).await;
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = consuming => {}
            }
        }
    }

    async fn consume(&self, rules: &config::UsageStream) -> Result<()> {
        let consumer = Consumer::open(rules).await?;
        loop {
            let messages = consumer.next().await?;
            if !messages.is_empty() {
                self.count_messages(&consumer, rules, messages).await?;
            }
        }
    }

    /// Where counting fails, nothing is acknowledged: all of it is delivered again.
    async fn count_messages(
        &self,
        consumer: &Consumer,
        rules: &config::UsageStream,
        messages: Vec<Message>,
    ) -> Result<()> {
        let events = messages.iter().map(|message| event(message, rules)).collect();
        let recorded = self.record_each(Sender::Platform, events, Patience::UntilThereIsRoom).await;
        let recorded = match recorded {
            Ok(recorded) => recorded,
            Err(error) => {
                for message in &messages {
                    // One that is not told so comes back by itself, later.
                    let _ = message.ack_with(AckKind::Nak(Some(PAUSE))).await;
                }
                return Err(error);
            }
        };
        for (message, outcome) in messages.iter().zip(recorded.0) {
            let kind = match outcome {
                Outcome::Accepted | Outcome::Duplicate => AckKind::Ack,
                Outcome::Refused(refusal) => {
                    consumer.tell(message, &refusal).await?;
                    AckKind::Term
                }
            };
            message.ack_with(kind).await.map_err(|error| failed("NATS takes no acknowledgement").because(error))?;
        }
        Ok(())
    }
}

impl Consumer {
    async fn open(rules: &config::UsageStream) -> Result<Self> {
        // Not the library's words: they could show the seed.
        let options = if rules.credentials.is_empty() {
            ConnectOptions::new()
        } else {
            ConnectOptions::with_credentials(rules.credentials.expose())
                .map_err(|_| Error::internal("usage_stream.credentials cannot be read"))?
        };
        let options = options.name("tenantry-usage").connection_timeout(PATIENCE).request_timeout(Some(PATIENCE));
        let client =
            options.connect(&rules.url).await.map_err(|error| failed("NATS cannot be reached").because(error))?;
        let jetstream = jetstream::new(client);
        let stream = jetstream
            .get_stream(&rules.stream)
            .await
            .map_err(|error| failed("NATS has no such stream").because(error))?;
        let wanted = pull::Config {
            durable_name: Some(rules.consumer.clone()),
            ack_wait: ACK_WAIT,
            filter_subject: rules.subject.clone(),
            max_ack_pending: 20 * TOGETHER as i64,
            ..pull::Config::default()
        };
        let pull = stream.get_or_create_consumer(&rules.consumer, wanted).await;
        let pull = pull.map_err(|error| failed("NATS makes no consumer").because(error))?;
        Ok(Self { jetstream, pull, refused: rules.refused.clone() })
    }

    /// What is there; none where nothing comes for a while. The first is waited for, and no other: a server must not deliver to somebody
    /// who has stopped to listen.
    async fn next(&self) -> Result<Vec<Message>> {
        let undelivered = |error: async_nats::Error| failed("NATS delivers nothing").because(error);
        let first = self.pull.batch().max_messages(1).expires(FETCH).messages().await;
        let mut first = first.map_err(|error| failed("NATS delivers nothing").because(error))?;
        let Some(first) = first.next().await else { return Ok(Vec::new()) };
        let mut messages = vec![first.map_err(undelivered)?];
        let rest = self.pull.fetch().max_messages(TOGETHER - 1).messages().await;
        let mut rest = rest.map_err(|error| failed("NATS delivers nothing").because(error))?;
        while let Some(message) = rest.next().await {
            messages.push(message.map_err(undelivered)?);
        }
        Ok(messages)
    }

    /// Tells of a message that is not counted, before that is the end of it.
    async fn tell(&self, message: &Message, refusal: &Refusal) -> Result<()> {
        tracing::warn!(field = refusal.field, reason = refusal.message, subject = %message.subject, "an event of the stream of usage is refused");
        if self.refused.is_empty() {
            return Ok(());
        }
        // With `Nats-Msg-Id` it would be a duplicate of what it is about.
        let sent = message.headers.iter().flat_map(async_nats::HeaderMap::iter);
        let sent = sent.filter(|(name, _)| !name.to_string().starts_with("Nats-"));
        let mut headers: async_nats::HeaderMap =
            sent.flat_map(|(name, values)| values.iter().map(|value| (name.clone(), value.clone()))).collect();
        headers.insert("Tenantry-Code", refusal.kind.code());
        headers.insert("Tenantry-Field", refusal.field.as_deref().unwrap_or_default());
        headers.insert("Tenantry-Message", refusal.message.replace(['\r', '\n'], " ").as_str());
        let sent = self.jetstream.publish_with_headers(self.refused.clone(), headers, message.payload.clone()).await;
        let sent = sent.map_err(|error| failed("NATS takes no refused event").because(error))?;
        sent.await
            .map_err(|error| failed("no stream keeps refused events: see usage_stream.refused").because(error))?;
        Ok(())
    }
}

/// Its key, where it has none of its own, is that of its publisher (`Nats-Msg-Id`), or its place in the stream.
fn event(message: &Message, rules: &config::UsageStream) -> Result<RawEvent> {
    let headers = read(message.headers.as_ref())?;
    let body = text(&message.payload)?;
    let mut event = if cloud_event::is_binary(&headers) {
        cloud_event::binary(&headers, body)?
    } else if is_cloud_event(body) {
        cloud_event::structured(body)?
    } else {
        one(body)?
    };
    if event.key.is_none() {
        let published = message.headers.as_ref().and_then(|headers| headers.get("Nats-Msg-Id"));
        event.key = match published {
            Some(id) => Some(id.to_string()),
            None => {
                let info =
                    message.info().map_err(|error| Error::internal("a message without its place").because(error))?;
                event.source = Some(format!("nats:{}", rules.stream));
                Some(info.stream_sequence.to_string())
            }
        };
    }
    Ok(event)
}

fn is_cloud_event(body: &str) -> bool {
    #[derive(serde::Deserialize)]
    struct Version {
        #[serde(rename = "specversion")]
        _specversion: serde::de::IgnoredAny,
    }
    serde_json::from_str::<Version>(body).is_ok()
}

/// As headers of HTTP, for names that these can have: others are nobody's attributes.
fn read(headers: Option<&async_nats::HeaderMap>) -> Result<HeaderMap> {
    let mut read = HeaderMap::new();
    for (name, values) in headers.into_iter().flat_map(async_nats::HeaderMap::iter) {
        let name: &[u8] = name.as_ref();
        let (Some(value), Ok(name)) = (values.first(), HeaderName::from_bytes(name)) else { continue };
        let value = HeaderValue::from_str(value.as_str());
        let rule = "must be printable ASCII, percent-encoded where it is more (CloudEvents NATS binding, 3.1.3)";
        read.insert(&name, value.map_err(|_| Error::invalid(name.as_str().to_owned(), rule))?);
    }
    Ok(read)
}

fn failed(what: &'static str) -> Error {
    Error::new(Kind::Unavailable, what)
}
