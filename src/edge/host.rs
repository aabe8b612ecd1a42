//! What a WebSocket asks of the house.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use async_graphql::{Request, Response, parser::types::OperationType};
use futures::{StreamExt as _, stream, stream::BoxStream};
use serde_json::Value;
use tokio::sync::watch;

use super::{execute::Engine, kept, request, request_log, socket::Host};
use crate::{
    access::{Caller, Effect, Origin, VerifiedToken},
    app::App,
    error::{Error, Kind, Result},
    platform::{ids::TenantId, random},
    rates::Concurrent,
};

/// One upgrade request: the engine, and where the request came from.
#[derive(Clone)]
pub(super) struct SocketHost {
    pub(super) engine: Arc<Engine>,
    pub(super) origin: Origin,
    pub(super) streams: Streams,
    /// `Authorization` of the upgrade request itself, for clients that can set it.
    pub(super) token: Option<String>,
    /// `X-Tenant-ID` of the upgrade request.
    pub(super) tenant: Option<String>,
}

/// Who speaks on a socket, by which token.
pub(super) struct Session {
    caller: Arc<Caller>,
    token: String,
    asked: Arc<Asked>,
}

/// The answer to "may this session go on?" where memory had none and the database was asked.
#[derive(Default)]
struct Asked {
    running: AtomicBool,
    refused: Mutex<Option<Kind>>,
}

/// Streams that are open, per tenant (the platform counts as one).
#[derive(Clone, Default)]
pub(super) struct Streams(Arc<Mutex<HashMap<TenantId, usize>>>);

/// One open stream; counted until it is dropped.
pub(super) struct StreamPermit {
    streams: Streams,
    tenant: TenantId,
}

impl Streams {
    fn take(&self, tenant: TenantId, most: usize) -> Result<StreamPermit> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(tenant).or_default();
        if *count >= most {
            return Err(Error::new(
                Kind::RateLimited,
                format!("the tenant has {most} streams open on this server, and no more are allowed"),
            ));
        }
        *count += 1;
        Ok(StreamPermit { streams: self.clone(), tenant })
    }
}

impl Drop for StreamPermit {
    fn drop(&mut self) {
        let mut open = self.streams.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.tenant) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.tenant);
            }
        }
    }
}

impl Host for SocketHost {
    type Session = Session;
    type Permit = StreamPermit;

    async fn authorize(&self, payload: Value) -> Result<Session> {
        let token = payload_token(&payload)?.or(self.token.as_deref()).ok_or_else(Error::unauthenticated)?;
        let app = self.engine.app();
        let caller = request::authenticate_token(app, token, self.origin.clone()).await?;
        request::check_tenant(&caller, self.tenant.as_deref())?;
        app.tenancy.admit(&caller, Effect::Read).await?;
        Ok(Session { caller, token: token.to_owned(), asked: Arc::default() })
    }

    /// From memory. Where that has no answer (nobody listens, or the tenant is being read again) the database is asked
    /// beside it, and the next check knows: they come by timer, by change and before each event.
    fn check(&self, session: &Session) -> Result<()> {
        let app = self.engine.app();
        let verified = app.verifier.verify(&session.token)?;
        if let Some(kind) = *session.asked.refused.lock().unwrap_or_else(PoisonError::into_inner) {
            return Err(Error::new(kind, "access has ended"));
        }
        let revoked = app.oauth.revoked_from_memory(&verified.claims);
        let admitted = app.tenancy.admit_from_memory(&session.caller, Effect::Read);
        let goes_on = kept::check_from_memory(app, &verified.claims, &session.caller);
        match (revoked, admitted, goes_on) {
            (Some(true), ..) => Err(Error::unauthenticated()),
            (Some(false), Some(admitted), Some(goes_on)) => admitted.and(goes_on),
            _ => {
                self.ask(session, verified);
                Ok(())
            }
        }
    }

    fn changes(&self, session: &Session) -> BoxStream<'static, ()> {
        let signals = &self.engine.app().signals;
        let own = signals.watch(session.caller.tenant().unwrap_or(TenantId::PLATFORM));
        let platform = signals.watch(TenantId::PLATFORM); // keys and clients of the platform
        stream::select(ticks(own), ticks(platform)).boxed()
    }

    fn request_id(&self) -> String {
        random::uuid_v7().simple().to_string()
    }

    fn admit(&self, session: &Session) -> Result<StreamPermit> {
        let app = self.engine.app();
        self.streams.take(session.caller.tenant().unwrap_or(TenantId::PLATFORM), app.config.socket.streams_per_tenant)
    }

    async fn start(
        &self,
        session: &Arc<Session>,
        request: Request,
        request_id: String,
    ) -> Result<BoxStream<'static, Response>> {
        let caller = Arc::new(Caller {
            origin: Origin { request_id: Some(request_id.clone()), ..session.caller.origin.clone() },
            ..Caller::clone(&session.caller)
        });
        let started = self.operation(caller.clone(), request, request_id);
        let failure = |started: &Result<_>| started.as_ref().err().map(Error::kind);
        request_log::followed_on_socket(&self.engine.app().analytics, &caller, started, failure).await
    }
}

impl SocketHost {
    async fn operation(
        &self,
        caller: Arc<Caller>,
        request: Request,
        request_id: String,
    ) -> Result<BoxStream<'static, Response>> {
        let rates = &self.engine.app().rates;
        rates.admit_operation(&caller).await?;
        let admitted = self.engine.admit(&caller, &request).await?;
        match admitted.operation().kind {
            OperationType::Mutation => Err(Error::invalid("query", "mutations are sent by POST, not over a WebSocket")),
            OperationType::Subscription => {
                let permit = rates.hold(&caller, Concurrent::Streams).await?;
                let held = move |response| (permit.is_some(), response).1; // for as long as the stream
                Ok(self.engine.stream(caller, request, &admitted, request_id).map(held).boxed())
            }
            OperationType::Query => {
                let permit = rates.hold(&caller, Concurrent::Requests).await?;
                let request = match permit {
                    Some(permit) => request.data(permit),
                    None => request,
                };
                let engine = self.engine.clone();
                request_log::note_later();
                let once = async move {
                    let (analytics, asking) = (engine.app().analytics.clone(), caller.clone());
                    let executed = async {
                        request_log::note_operation(&admitted.operation().label);
                        engine.execute(caller, request, admitted, &request_id).await
                    };
                    request_log::followed_on_socket(&analytics, &asking, executed, |_| None).await
                };
                Ok(stream::once(once).boxed())
            }
        }
    }

    /// Asks the database whether the session may go on; one question at a time.
    fn ask(&self, session: &Session, verified: Arc<VerifiedToken>) {
        if session.asked.running.swap(true, Ordering::AcqRel) {
            return;
        }
        let (app, caller, asked) = (self.engine.app().clone(), session.caller.clone(), session.asked.clone());
        tokio::spawn(async move {
            let answer = match app.oauth.revoked(&verified.claims).await {
                Ok(true) => Err(Error::unauthenticated()),
                Ok(false) => may_go_on(&app, &verified, &caller).await,
                Err(error) => Err(error),
            };
            if let Err(error) = answer {
                *asked.refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.kind());
                app.signals.raise(caller.tenant().unwrap_or(TenantId::PLATFORM));
            }
            asked.running.store(false, Ordering::Release);
        });
    }
}

async fn may_go_on(app: &App, verified: &VerifiedToken, caller: &Caller) -> Result<()> {
    app.tenancy.admit(caller, Effect::Read).await?;
    kept::check(app, &verified.claims, caller).await
}

fn ticks(receiver: watch::Receiver<u64>) -> BoxStream<'static, ()> {
    stream::unfold(receiver, |mut receiver| async move { receiver.changed().await.ok().map(|()| ((), receiver)) })
        .boxed()
}

/// `{"Authorization": "Bearer …"}`, whatever the case of the key, or `{"token": "…"}`.
fn payload_token(payload: &Value) -> Result<Option<&str>> {
    let Some(members) = payload.as_object() else { return Ok(None) };
    let named = |wanted: &str| members.iter().find(|(key, _)| key.eq_ignore_ascii_case(wanted)).map(|(_, value)| value);
    let text = |value: &'static str| move || Error::invalid(value, "must be text");
    if let Some(value) = named("authorization") {
        let value = value.as_str().ok_or_else(text("Authorization"))?;
        let token = value
            .split_once(' ')
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map_or(value, |(_, token)| token);
        return Ok(Some(token.trim()));
    }
    named("token").map(|value| value.as_str().ok_or_else(text("token"))).transpose()
}
