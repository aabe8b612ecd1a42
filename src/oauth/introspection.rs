//! What a token is worth, for who may know (RFC 7662).

use std::sync::{Arc, PoisonError};

use serde_json::{Value, json};

use super::{OAuth, client::Client, refusal::Refusal};
use crate::{
    access::{Binding, Caller, Claims, Effect, Kept, Origin, ScopeSet, VerifiedToken},
    error::{Error, Kind, Result},
    isolation::{Access, EVERYWHERE, Standing, may_act},
};

impl OAuth {
    /// The answer of the introspection endpoint (section 2.2). A tenant's client learns about tokens of its own tenant; all
    /// that it may not see is as inactive as what is no token.
    pub(super) async fn introspect(&self, client: &Client, token: &str) -> Result<Value, Refusal> {
        self.check_asker(client).await?;
        let Some(verified) = self.own_token(token) else { return Ok(inactive()) };
        let claims = &verified.claims;
        let visible = client.tenant_id.is_platform() || claims.tenant_id == Some(client.tenant_id);
        if !visible || !self.is_active(claims).await? {
            return Ok(inactive());
        }
        let Some(kept) = claims.kept() else { return Ok(active(claims)) };
        match self.kept_scopes(kept, claims).await {
            Ok(scopes) => Ok(active(&Claims { scope: scopes.to_string(), ..claims.clone() })),
            Err(error) if error.kind() == Kind::Unauthenticated => Ok(inactive()),
            Err(error) => Err(error.into()),
        }
    }

    /// What such a token is good for is decided by what holds now, not by what it says: a member's by its roles.
    async fn kept_scopes(&self, kept: Kept, claims: &Claims) -> Result<ScopeSet> {
        let check = self.0.keepers.read().unwrap_or_else(PoisonError::into_inner).get(&kept).cloned();
        match check {
            Some(check) => check(claims).await,
            None => Err(Error::unauthenticated()),
        }
    }

    /// A token of ours that has not expired; whether it was revoked is not looked at.
    pub(super) fn own_token(&self, token: &str) -> Option<Arc<VerifiedToken>> {
        self.0.verifier.verify(token).ok()
    }

    /// A tenant that is shut out learns nothing more.
    async fn check_asker(&self, client: &Client) -> Result<(), Refusal> {
        if client.tenant_id.is_platform() {
            return Ok(());
        }
        let tenant = self.0.tenancy.snapshots().get(client.tenant_id).await?;
        match tenant.map(|known| known.tenant.standing().access) {
            Some(Access::Open | Access::ReadOnly) => Ok(()),
            Some(Access::Closed(kind)) => Err(Refusal::tenant_closed(kind)),
            None => Err(Refusal::tenant_closed(Kind::Unauthenticated)),
        }
    }

    /// Whether a request with this token would be let in for reading: not revoked, of the tenant's present epoch and state.
    async fn is_active(&self, claims: &Claims) -> Result<bool> {
        if self.revoked(claims).await? {
            return Ok(false);
        }
        let Some(id) = claims.tenant_id else { return Ok(true) };
        let Some(known) = self.0.tenancy.snapshots().get(id).await? else { return Ok(false) };
        let binding = Binding::Tenant { id, epoch: claims.epoch, issued_at: claims.iat };
        let caller =
            Caller { subject: claims.sub.clone(), binding, scopes: ScopeSet::default(), origin: Origin::default() };
        // From where the token will come, who asks has to see.
        let standing = Standing { network: &EVERYWHERE, ..known.tenant.standing() };
        Ok(may_act(&caller, &standing, Effect::Read).is_ok())
    }
}

fn inactive() -> Value {
    json!({ "active": false })
}

fn active(claims: &Claims) -> Value {
    let mut answer = serde_json::to_value(claims).unwrap_or_default();
    answer["active"] = true.into();
    answer["token_type"] = "Bearer".into();
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_active_token_is_told_with_all_its_claims() {
        let claims = Claims {
            iss: "https://tenantry.example".to_owned(),
            sub: "client".to_owned(),
            aud: vec!["tenantry".to_owned()],
            exp: 2,
            iat: 1,
            nbf: Some(1),
            jti: "j".to_owned(),
            scope: "auth:tenant:read".to_owned(),
            roles: vec![],
            tenant_id: None,
            epoch: None,
            client_id: Some("client".to_owned()),
            sid: None,
            amr: vec![],
            act: None,
        };
        let expected = json!({
            "active": true, "token_type": "Bearer", "iss": "https://tenantry.example", "sub": "client", "aud": "tenantry", "exp": 2,
            "iat": 1, "nbf": 1, "jti": "j", "scope": "auth:tenant:read", "roles": [], "client_id": "client"
        });
        assert_eq!(active(&claims), expected);
        assert_eq!(inactive().as_object().map(serde_json::Map::len), Some(1));
    }
}
