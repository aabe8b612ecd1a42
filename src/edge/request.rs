//! From a request's headers to its caller: the token, the tenant header, the idempotency key, where it came from.

use std::{net::IpAddr, sync::Arc};

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use chrono::TimeDelta;
use ipnet::IpNet;

use super::{admission::Digest, kept, listener::Peer, request_log};
use crate::{
    access::{Binding, Caller, Claims, Effect, Origin, Role, ScopeSet},
    app::App,
    error::{Error, Kind, Result},
    isolation::IdempotencyKey,
    platform::random,
};

pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
pub(super) const TENANT_ID: HeaderName = HeaderName::from_static("x-tenant-id");
pub(super) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Proxies of a tenant's own that stand one behind the other at most.
const HOPS: usize = 10;

/// The client's own request id where it is fit for a log, else a new one.
pub(super) fn request_id(headers: &HeaderMap) -> String {
    let sent = single(headers, &REQUEST_ID).ok().flatten();
    let fit = |id: &&str| {
        (1..=64).contains(&id.len())
            && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    sent.filter(fit).map_or_else(|| random::uuid_v7().simple().to_string(), str::to_owned)
}

/// The client's address: the peer's, or what trusted proxies say, each taken off the right end; and what stands before it.
pub(super) fn addresses(peer: Option<Peer>, headers: &HeaderMap, trusted: &[IpNet]) -> (Option<IpAddr>, Vec<IpAddr>) {
    let Some(peer) = peer else { return (None, Vec::new()) };
    let mut address = peer.0.ip().to_canonical();
    let forwarded = headers.get_all(&FORWARDED_FOR).iter().filter_map(|value| value.to_str().ok());
    let hops: Vec<&str> = forwarded.flat_map(|value| value.split(',')).map(str::trim).collect();
    let readable = hops.into_iter().rev().map_while(|hop| hop.parse::<IpAddr>().ok());
    let mut hops = readable.map(|hop| hop.to_canonical()).peekable();
    while let Some(earlier) = hops.next_if(|_| trusted.iter().any(|network| network.contains(&address))) {
        address = earlier;
    }
    (Some(address), hops.take(HOPS).collect())
}

/// Who sends this request, after every check that does not depend on what is asked.
pub(super) async fn authenticate(app: &App, headers: &HeaderMap, origin: Origin) -> Result<Arc<Caller>> {
    let token = bearer(headers)?;
    let caller = authenticate_token(app, token, origin).await?;
    request_log::note_caller(&caller);
    check_tenant(&caller, named_tenant(headers)?)?;
    Ok(caller)
}

/// The same, of who may do anything at all: for plain HTTP, whose handlers ask for the rest.
pub(super) async fn authenticate_and_admit(app: &App, headers: &HeaderMap, origin: Origin) -> Result<Arc<Caller>> {
    let caller = authenticate(app, headers, origin).await?;
    app.tenancy.admit(&caller, Effect::Read).await?;
    Ok(caller)
}

/// The same where there may be no token at all: then the caller is anonymous. A token that is sent must be good.
pub(super) async fn authenticate_if_named(app: &App, headers: &HeaderMap, origin: Origin) -> Result<Arc<Caller>> {
    if headers.contains_key(header::AUTHORIZATION) {
        return authenticate(app, headers, origin).await;
    }
    named_tenant(headers)?;
    Ok(Arc::new(Caller::anonymous(origin)))
}

/// What the header `X-Tenant-ID` says.
pub(super) fn named_tenant(headers: &HeaderMap) -> Result<Option<&str>> {
    single(headers, &TENANT_ID)
}

/// A service may name its own tenant. An operator's token is bound to none, so there the header says nothing.
pub(super) fn check_tenant(caller: &Caller, named: Option<&str>) -> Result<()> {
    match (caller.tenant(), named) {
        (Some(bound), Some(named)) if named.parse() != Ok(bound) => {
            Err(Error::new(Kind::TenantMismatch, "the header X-Tenant-ID names another tenant than the token"))
        }
        _ => Ok(()),
    }
}

/// The caller behind a token: verified, not revoked.
pub(super) async fn authenticate_token(app: &App, token: &str, origin: Origin) -> Result<Arc<Caller>> {
    let verified = app.external.verify_or_refresh(&app.verifier, token).await?;
    if app.oauth.revoked(&verified.claims).await? {
        return Err(Error::unauthenticated());
    }
    if let Some(kept) = verified.claims.kept() {
        return kept::caller(app, kept, &verified.claims, origin).await.map(Arc::new);
    }
    if verified.claims.tenant_id.is_none() && !makes_operators(app, &verified.claims.iss) {
        return Err(Error::unauthenticated());
    }
    Ok(Arc::new(caller(&verified.claims, origin)?))
}

fn makes_operators(app: &App, issuer: &str) -> bool {
    app.keyring.issuer() == issuer
        || app.config.auth.external_issuers.iter().any(|known| known.issuer == issuer && known.platform_roles)
}

fn caller(claims: &Claims, origin: Origin) -> Result<Caller> {
    let asked = ScopeSet::parse(&claims.scope);
    let (binding, scopes) = match claims.tenant_id {
        Some(id) => (
            Binding::Tenant { id, epoch: claims.epoch, issued_at: claims.iat },
            asked.intersection(ScopeSet::for_tenants()),
        ),
        None => {
            let roles: Vec<Role> = claims.roles.iter().filter_map(|role| Role::parse(role)).collect();
            if roles.is_empty() {
                return Err(Error::unauthenticated());
            }
            let held = roles.iter().fold(ScopeSet::default(), |held, role| held.union(role.scopes()));
            // An operator's token may be made for less than its roles allow; without `scope` it is good for all of it.
            let scopes = if claims.scope.trim().is_empty() { held } else { held.intersection(asked) };
            (Binding::Platform { roles, account: None }, scopes)
        }
    };
    Ok(Caller { subject: claims.sub.clone(), binding, scopes, origin })
}

/// The key of the request, bound to the SHA-256 of the bytes that it was sent with.
pub(super) fn idempotency_key(
    headers: &HeaderMap,
    request_hash: Digest,
    retention: TimeDelta,
) -> Result<Option<IdempotencyKey>> {
    let Some(key) = single(headers, &IDEMPOTENCY_KEY)? else { return Ok(None) };
    if !(1..=200).contains(&key.len()) || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Error::invalid("Idempotency-Key", "has 1 to 200 printable ASCII characters"));
    }
    Ok(Some(IdempotencyKey { key: key.to_owned(), request_hash, retention }))
}

/// The token of `Authorization: Bearer …` (RFC 6750, section 2.1); sent once, in no other way.
fn bearer(headers: &HeaderMap) -> Result<&str> {
    let value = single(headers, &header::AUTHORIZATION).map_err(|_| Error::unauthenticated())?;
    let (scheme, token) = value.and_then(|value| value.split_once(' ')).ok_or_else(Error::unauthenticated)?;
    if scheme.eq_ignore_ascii_case("bearer") { Ok(token.trim()) } else { Err(Error::unauthenticated()) }
}

/// A header that may be sent once.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>> {
    let mut values = headers.get_all(name).iter();
    let first: Option<&HeaderValue> = values.next();
    if values.next().is_some() {
        return Err(Error::invalid(name.as_str(), "must be sent once"));
    }
    first.map(|value| value.to_str().map_err(|_| Error::invalid(name.as_str(), "must be printable ASCII"))).transpose()
}
