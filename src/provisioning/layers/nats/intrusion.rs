//! What a tenant's NATS user tries on another tenant's subjects and stream.
//!
//! NATS answers nothing to what it takes, and says of what it refuses as soon as it can. So everything is sent, then something that
//! comes back; what no refusal has come of a while after that was let through.

use std::time::Duration;

use async_nats::{Client, ConnectErrorKind, ConnectOptions, Event, Subscriber};
use futures::StreamExt as _;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::{super::super::ProbeTenant, NatsLayer, line::failed};
use crate::{
    error::{Error, Result},
    isolation::Attempt,
    platform::random,
};

const PATIENCE: Duration = Duration::from_secs(5);

/// Subjects that the intruder publishes to; `B` is the victim's stem. In an account of its own none of it harms anybody.
const PUBLISHED: &[&str] = &[
    "B.news",
    "$JS.API.STREAM.INFO.B",
    "$JS.API.STREAM.CREATE.B",
    "$JS.API.STREAM.DELETE.B",
    "$JS.API.STREAM.PURGE.B",
    "$JS.API.STREAM.MSG.GET.B",
    "$JS.API.STREAM.LIST",
    "$JS.API.CONSUMER.CREATE.B",
    "$JS.API.CONSUMER.MSG.NEXT.B.reader",
    "$JS.ACK.B.reader.1.1.1.1.1",
    "$SYS.REQ.CLAIMS.LIST",
    "$SYS.REQ.SERVER.PING",
];

/// Subjects that it subscribes to.
const HEARD: &[&str] = &["B.>", "B.news", ">", "*.news", "$SYS.>", "$JS.API.>"];

struct Visitor {
    client: Client,
    told: UnboundedReceiver<String>,
    echo: Subscriber,
    inbox: String,
}

impl Visitor {
    async fn come(url: &str, tenant: &ProbeTenant) -> Result<Self> {
        let credentials = &tenant.credential("nats")?.secret;
        let (tell, told) = unbounded_channel();
        let options = ConnectOptions::with_credentials(credentials.expose())
            .map_err(|_| Error::internal("credentials of NATS cannot be read"))?;
        let options = options.name("tenantry-probe").connection_timeout(PATIENCE).max_reconnects(1);
        let options = options.event_callback(move |event| {
            let tell = tell.clone();
            async move {
                if matches!(event, Event::ServerError(_)) {
                    let _ = tell.send(event.to_string().to_lowercase());
                }
            }
        });
        let opened = tokio::time::timeout(PATIENCE, options.connect(url)).await;
        let client =
            opened.map_err(|_| failed("NATS does not answer in time"))?.map_err(|error| match error.kind() {
                ConnectErrorKind::AuthorizationViolation => failed("NATS does not let a tenant's user in"),
                _ => failed("NATS cannot be reached").because(error),
            })?;
        let inbox = format!("_INBOX.{}", random::token());
        let echo =
            client.subscribe(format!("{inbox}.>")).await.map_err(|error| failed("NATS is gone").because(error))?;
        let mut visitor = Self { client, told, echo, inbox };
        visitor.hear_back().await?;
        Ok(visitor)
    }

    /// Waits until the server has dealt with all that was sent before.
    async fn hear_back(&mut self) -> Result<()> {
        self.send(format!("{}.echo", self.inbox)).await?;
        let heard = tokio::time::timeout(PATIENCE, self.echo.next()).await;
        heard.ok().flatten().map(drop).ok_or_else(|| failed("NATS does not bring a tenant its own messages"))
    }

    async fn send(&self, subject: String) -> Result<()> {
        let sent = self.client.publish(subject, "{}".into()).await;
        sent.map_err(|error| failed("the connection to NATS was lost").because(error))
    }

    /// Of these subjects those that no refusal has come of.
    async fn not_refused(&mut self, kind: &str, mut subjects: Vec<String>) -> Result<Vec<String>> {
        self.hear_back().await?;
        let late = tokio::time::Instant::now() + PATIENCE;
        while !subjects.is_empty() {
            let Ok(Some(told)) = tokio::time::timeout_at(late, self.told.recv()).await else { break };
            let refused = |subject: &String| {
                told.contains("permissions violation")
                    && told.contains(kind)
                    && told.contains(&format!("\"{}\"", subject.to_lowercase()))
            };
            if let Some(at) = subjects.iter().position(refused) {
                subjects.swap_remove(at);
            }
        }
        Ok(subjects)
    }
}

impl NatsLayer {
    pub(super) async fn intrude(&self, intruder: &ProbeTenant, victim: &ProbeTenant) -> Result<Vec<Attempt>> {
        let mut theirs = Visitor::come(&self.rules.url, victim).await?;
        let mut own = Visitor::come(&self.rules.url, intruder).await?;
        let stem = victim.site.names.stem();
        let mut heard = theirs.client.subscribe(format!("{stem}.>")).await.map_err(|_| failed("NATS is gone"))?;
        theirs.hear_back().await?;

        let named = |subject: &str| {
            subject.split('.').map(|word| if word == "B" { stem } else { word }).collect::<Vec<_>>().join(".")
        };
        for subject in PUBLISHED {
            own.send(named(subject)).await?;
        }
        let through = own.not_refused("publish", PUBLISHED.iter().map(|subject| named(subject)).collect()).await?;
        let mut attempts = told("publish to", PUBLISHED, named, &through);
        let mut kept = Vec::new();
        for subject in HEARD {
            let listening = own.client.subscribe(named(subject)).await;
            kept.push(listening.map_err(|error| failed("the connection to NATS was lost").because(error))?);
        }
        let through = own.not_refused("subscription", HEARD.iter().map(|subject| named(subject)).collect()).await?;
        attempts.extend(told("listen to", HEARD, named, &through));
        // What it hears of its own says that it would have heard the other's.
        theirs.send(format!("{stem}.last")).await?;
        let first = tokio::time::timeout(PATIENCE, heard.next()).await.ok().flatten();
        let what = "be heard by the other tenant";
        attempts.push(match first {
            Some(message) if message.subject.as_str() == format!("{stem}.last") => Attempt::refused(what),
            Some(_) => Attempt::let_through(what),
            None => Attempt::inconclusive(what, "NATS does not bring a tenant its own messages"),
        });
        Ok(attempts)
    }
}

fn told(verb: &str, tried: &[&str], named: impl Fn(&str) -> String, through: &[String]) -> Vec<Attempt> {
    let attempt = |subject: &&str| {
        let what = format!("{verb} {}", subject.replace('B', "<other>"));
        if through.contains(&named(subject)) { Attempt::let_through(what) } else { Attempt::refused(what) }
    };
    tried.iter().map(attempt).collect()
}
