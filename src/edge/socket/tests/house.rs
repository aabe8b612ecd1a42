//! A house that knows two tokens and one toy schema, and counts what runs in it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_graphql::{Context, EmptyMutation, Object, Request, Response, Schema, Subscription};
use futures::stream::{self, BoxStream, Stream};
use futures::{FutureExt, StreamExt};
use serde_json::Value;
use tokio::sync::{broadcast, watch};

use crate::edge::socket::Host;
use crate::error::{Error, Kind, Result};

/// Streams that the tenant may have, over all its sockets.
pub(super) const TENANT_STREAMS: usize = 6;

#[derive(Clone, Default)]
pub(super) struct House(Arc<State>);

struct State {
    verdict: Mutex<Option<Kind>>,
    changed: watch::Sender<()>,
    live: watch::Sender<usize>,
    permits: watch::Sender<usize>,
    produced: AtomicUsize,
    relay: broadcast::Sender<String>,
    ids: AtomicUsize,
}

impl Default for State {
    fn default() -> Self {
        Self {
            verdict: Mutex::default(),
            changed: watch::Sender::default(),
            live: watch::Sender::default(),
            permits: watch::Sender::default(),
            produced: AtomicUsize::default(),
            relay: broadcast::Sender::new(8),
            ids: AtomicUsize::default(),
        }
    }
}

impl House {
    /// From now on every check fails. Nobody is told.
    pub(super) fn refuse(&self, kind: Kind) {
        *self.0.verdict.lock().unwrap() = Some(kind);
    }

    pub(super) fn announce_change(&self) {
        self.0.changed.send_replace(());
    }

    /// An event for every `relayed` subscription.
    pub(super) fn relay(&self, text: &str) {
        self.0.relay.send(text.to_owned()).unwrap();
    }

    /// Waits until so many streams exist and so many permits are held.
    pub(super) async fn running(&self, count: usize) {
        let (mut live, mut permits) = (self.0.live.subscribe(), self.0.permits.subscribe());
        let both = async {
            live.wait_for(|now| *now == count).await.unwrap();
            permits.wait_for(|now| *now == count).await.unwrap();
        };
        tokio::time::timeout(Duration::from_secs(2), both).await.expect("the number of streams");
    }

    /// Events that the streams gave so far.
    pub(super) fn produced(&self) -> usize {
        self.0.produced.load(Ordering::Relaxed)
    }

    fn count(&self) -> One {
        One::of(&self.0.live)
    }
}

/// Counts one for as long as it lives.
pub(super) struct One(watch::Sender<usize>);

impl One {
    fn of(sender: &watch::Sender<usize>) -> Self {
        sender.send_modify(|count| *count += 1);
        Self(sender.clone())
    }
}

impl Drop for One {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

impl Host for House {
    type Session = String;
    type Permit = One;

    async fn authorize(&self, payload: Value) -> Result<String> {
        match payload["Authorization"].as_str() {
            Some("Bearer good") => Ok("tenant".to_owned()),
            Some("Bearer undecided") => std::future::pending().await,
            Some("Bearer untimely") => Err(Error::unavailable("no database")),
            Some("Bearer broken") => Err(Error::internal("a bug")),
            Some("Bearer fatal") => panic!("a worse bug"),
            _ => Err(Error::unauthenticated()),
        }
    }

    fn check(&self, _session: &String) -> Result<()> {
        match *self.0.verdict.lock().unwrap() {
            Some(kind) => Err(Error::new(kind, "no longer")),
            None => Ok(()),
        }
    }

    fn changes(&self, _session: &String) -> BoxStream<'static, ()> {
        let changed = self.0.changed.subscribe();
        stream::unfold(changed, |mut changed| async { changed.changed().await.ok().map(|()| ((), changed)) }).boxed()
    }

    fn request_id(&self) -> String {
        format!("request-{}", self.0.ids.fetch_add(1, Ordering::Relaxed))
    }

    fn admit(&self, _session: &String) -> Result<One> {
        match *self.0.permits.borrow() {
            TENANT_STREAMS => Err(Error::new(Kind::RateLimited, "the tenant has too many streams")),
            _ => Ok(()),
        }?;
        Ok(One::of(&self.0.permits))
    }

    async fn start(
        &self,
        _session: &Arc<String>,
        request: Request,
        _request_id: String,
    ) -> Result<BoxStream<'static, Response>> {
        if request.query.starts_with("mutation") {
            return Err(Error::forbidden("mutations are not served over a socket"));
        }
        let schema = Schema::new(Query, EmptyMutation, Subscriptions);
        Ok(schema.execute_stream(request.data(self.clone())))
    }
}

struct Query;

#[Object]
impl Query {
    async fn hello(&self, name: Option<String>) -> String {
        format!("hello {}", name.as_deref().unwrap_or("world"))
    }

    async fn boom(&self, luck: Option<bool>) -> bool {
        luck.expect("a bug in a resolver")
    }
}

struct Subscriptions;

#[Subscription]
impl Subscriptions {
    /// All at once.
    async fn count(&self, ctx: &Context<'_>, to: usize) -> impl Stream<Item = usize> + use<> {
        let (house, one) = (house(ctx), house(ctx).count());
        stream::iter(1..=to).inspect(move |_| {
            let _live = &one;
            house.0.produced.fetch_add(1, Ordering::Relaxed);
        })
    }

    /// Never.
    async fn silence(&self, ctx: &Context<'_>) -> impl Stream<Item = bool> + use<> {
        let one = house(ctx).count();
        std::future::pending().inspect(move |_: &bool| drop(one)).into_stream()
    }

    /// As fast as it is asked.
    async fn flood(&self, ctx: &Context<'_>, bytes: usize) -> impl Stream<Item = String> + use<> {
        let (house, one) = (house(ctx), house(ctx).count());
        stream::repeat("x".repeat(bytes)).inspect(move |_| {
            let _live = &one;
            house.0.produced.fetch_add(1, Ordering::Relaxed);
        })
    }

    /// What [`House::relay`] says.
    async fn relayed(&self, ctx: &Context<'_>) -> impl Stream<Item = String> + use<> {
        let (relay, one) = (house(ctx).0.relay.subscribe(), house(ctx).count());
        stream::unfold((relay, one), |(mut relay, one)| async {
            relay.recv().await.ok().map(|text| (text, (relay, one)))
        })
    }

    /// One event, then a panic.
    async fn bomb(&self) -> impl Stream<Item = bool> + use<> {
        stream::iter([false, true]).map(|last| if last { panic!("a bug in a stream") } else { last })
    }

    /// One event that is an error.
    async fn failure(&self) -> impl Stream<Item = async_graphql::Result<bool>> + use<> {
        stream::iter([Err("no such thing".into())])
    }
}

fn house(ctx: &Context<'_>) -> House {
    ctx.data_unchecked::<House>().clone()
}
