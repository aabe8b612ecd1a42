use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::{
    access::{Caller, ClientKeys, Role, ScopeSet},
    error::{Error, Result},
    platform::ids::{ClientId, TenantId},
};

/// Largest key set of a client, as JSON: 16 keys fit well.
const MAX_JWKS_BYTES: usize = 32 * 1024;
/// The public members of a key (RFC 7517, section 4; RFC 7518, section 6). No other is kept: private ones have other names.
const PUBLIC_MEMBERS: [&str; 10] = ["kty", "use", "key_ops", "alg", "kid", "n", "e", "crv", "x", "y"];

/// A client of the token endpoint: a tenant's own service, or one of the platform. Never its secret.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Client {
    pub id: ClientId,
    /// Whose it is: a tenant's, or the platform's own.
    pub tenant_id: TenantId,
    pub name: String,
    /// What its tokens may be good for at most.
    #[serde(with = "scope_names")]
    pub scopes: ScopeSet,
    /// Operator roles of the platform's clients; none for a tenant's.
    pub roles: Vec<Role>,
    pub has_secret: bool,
    /// Its public keys (RFC 7517, section 5), for `private_key_jwt`.
    pub jwks: Option<Value>,
    pub created_at: DateTime<Utc>,
    pub expires_at: Option<DateTime<Utc>>,
    pub disabled_at: Option<DateTime<Utc>>,
    /// Accurate to a minute.
    pub last_used_at: Option<DateTime<Utc>>,
    pub version: i64,
}

impl Client {
    /// Whether it can prove itself at all.
    pub fn is_in_force(&self, now: DateTime<Utc>) -> bool {
        self.disabled_at.is_none() && self.expires_at.is_none_or(|end| now < end)
    }
}

/// A client to be.
#[derive(Clone, Debug)]
pub struct NewClient {
    pub name: String,
    pub scopes: ScopeSet,
    pub roles: Vec<Role>,
    pub secret: NewSecret,
    /// A JSON Web Key Set of public keys.
    pub jwks: Option<Value>,
    pub expires_at: Option<DateTime<Utc>>,
}

/// Whether a secret is made for a new client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewSecret {
    Make,
    /// It proves itself with its keys alone.
    None,
}

impl NewClient {
    /// Checks what `creator` asks for on behalf of `owner`, and fills in what was left out: a platform client without scopes
    /// has those of its roles.
    pub(super) fn checked(mut self, creator: &Caller, owner: TenantId, now: DateTime<Utc>) -> Result<Self> {
        check_name(&self.name)?;
        self.jwks = self.jwks.map(public_keys).transpose()?;
        if self.secret == NewSecret::None && self.jwks.is_none() {
            return Err(Error::invalid("jwks", "is needed for a client without a secret"));
        }
        if self.expires_at.is_some_and(|end| end <= now) {
            return Err(Error::invalid("expiresAt", "must be in the future"));
        }
        self.roles.sort_by_key(|role| role.name());
        self.roles.dedup();
        let allowed = if owner.is_platform() { self.platform_scopes(creator)? } else { self.tenant_scopes()? };
        if self.scopes.is_empty() {
            return Err(Error::invalid("scopes", "names none"));
        }
        if let Some(scope) = self.scopes.iter().find(|scope| !allowed.contains(*scope)) {
            return Err(Error::invalid("scopes", format!("`{scope}` cannot be held by this client")));
        }
        if let Some(scope) = self.scopes.iter().find(|scope| !creator.scopes.contains(*scope)) {
            return Err(Error::forbidden(format!("you do not have the scope `{scope}` yourself")).at("scopes"));
        }
        Ok(self)
    }

    fn tenant_scopes(&self) -> Result<ScopeSet> {
        if self.roles.is_empty() {
            Ok(ScopeSet::for_tenants())
        } else {
            Err(Error::invalid("roles", "are for clients of the platform"))
        }
    }

    /// A role can be asked for by its name in every token, so its creator must hold all of it.
    fn platform_scopes(&mut self, creator: &Caller) -> Result<ScopeSet> {
        if self.roles.is_empty() {
            return Err(Error::invalid("roles", "a client of the platform needs at least one"));
        }
        let held = self.roles.iter().fold(ScopeSet::default(), |held, role| held.union(role.scopes()));
        if let Some(scope) = held.iter().find(|scope| !creator.scopes.contains(*scope)) {
            return Err(Error::forbidden(format!(
                "a role includes the scope `{scope}`, which you do not have yourself"
            ))
            .at("roles"));
        }
        if self.scopes.is_empty() {
            self.scopes = held;
        }
        Ok(held)
    }
}

fn check_name(name: &str) -> Result<()> {
    let fit = (1..=200).contains(&name.chars().count()) && name.trim() == name && !name.chars().any(char::is_control);
    if fit {
        Ok(())
    } else {
        Err(Error::invalid("name", "has 1 to 200 characters, no control characters, no space at either end"))
    }
}

/// The key set with its public members only, after every key was found usable.
fn public_keys(jwks: Value) -> Result<Value> {
    let json = jwks.to_string();
    if json.len() > MAX_JWKS_BYTES {
        return Err(Error::invalid("jwks", "is larger than 32 KiB"));
    }
    ClientKeys::parse(json.as_bytes())
        .map_err(|unusable| Error::invalid("jwks", format!("cannot be used: {unusable}")))?;
    let keys = jwks.get("keys").and_then(Value::as_array).into_iter().flatten();
    Ok(json!({ "keys": keys.map(public_members).collect::<Vec<_>>() }))
}

fn public_members(key: &Value) -> Map<String, Value> {
    let known = PUBLIC_MEMBERS.into_iter().filter_map(|name| Some((name.to_owned(), key.get(name)?.clone())));
    known.collect()
}

mod scope_names {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::access::{Scope, ScopeSet};

    pub(super) fn serialize<S: Serializer>(scopes: &ScopeSet, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(scopes.iter().map(Scope::name))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ScopeSet, D::Error> {
        let names = Vec::<String>::deserialize(deserializer)?;
        Ok(names.iter().filter_map(|name| Scope::parse(name)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        access::{Binding, Origin, Scope},
        error::Kind,
        platform::clock::Clock,
    };

    /// The public half of the example key of RFC 7515, appendix A.3.1.
    fn jwks() -> Value {
        json!({ "keys": [{
            "kty": "EC", "crv": "P-256", "use": "sig", "kid": "1", "x5t": "anything",
            "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
        }] })
    }

    fn service(scopes: impl IntoIterator<Item = Scope>) -> Caller {
        let binding = Binding::Tenant { id: TenantId::generate(), epoch: Some(1), issued_at: 0 };
        Caller {
            subject: "service".to_owned(),
            binding,
            scopes: scopes.into_iter().collect(),
            origin: Origin::default(),
        }
    }

    fn new(scopes: impl IntoIterator<Item = Scope>) -> NewClient {
        let scopes = scopes.into_iter().collect();
        NewClient {
            name: "billing export".to_owned(),
            scopes,
            roles: vec![],
            secret: NewSecret::Make,
            jwks: None,
            expires_at: None,
        }
    }

    fn check(client: NewClient, creator: &Caller, owner: TenantId) -> Result<NewClient, (Kind, Option<String>)> {
        let now = Clock::default().now();
        client.checked(creator, owner, now).map_err(|error| (error.kind(), error.field().map(str::to_owned)))
    }

    fn refused(kind: Kind, field: &str) -> Option<(Kind, Option<String>)> {
        Some((kind, Some(field.to_owned())))
    }

    #[test]
    fn a_client_has_no_more_scopes_than_a_tenant_and_its_creator() {
        let (tenant, creator) = (TenantId::generate(), service([Scope::TenantRead, Scope::ClientWrite]));
        assert!(check(new([Scope::TenantRead]), &creator, tenant).is_ok());
        assert_eq!(check(new([Scope::AuditRead]), &creator, tenant).err(), refused(Kind::Forbidden, "scopes"));
        assert_eq!(check(new([]), &creator, tenant).err(), refused(Kind::InvalidInput, "scopes"));
        let operator = Caller::command_line("root");
        assert_eq!(check(new([Scope::LifecycleWrite]), &operator, tenant).err(), refused(Kind::InvalidInput, "scopes"));
        let with_role = NewClient { roles: vec![Role::Support], ..new([Scope::TenantRead]) };
        assert_eq!(check(with_role, &operator, tenant).err(), refused(Kind::InvalidInput, "roles"));
    }

    #[test]
    fn a_client_of_the_platform_has_roles_and_no_more_than_they_allow() {
        let operator = Caller::command_line("root");
        let with = |roles: &[Role], scopes: &[Scope]| NewClient { roles: roles.to_vec(), ..new(scopes.to_vec()) };
        let check = |client| check(client, &operator, TenantId::PLATFORM);
        assert_eq!(check(with(&[Role::Auditor], &[])).unwrap().scopes, Role::Auditor.scopes());
        assert_eq!(check(with(&[Role::Auditor, Role::Auditor], &[Scope::AuditRead])).unwrap().roles, [Role::Auditor]);
        assert_eq!(check(with(&[], &[Scope::TenantRead])).err(), refused(Kind::InvalidInput, "roles"));
        assert_eq!(check(with(&[Role::Support], &[Scope::AuditRead])).err(), refused(Kind::InvalidInput, "scopes"));
        let narrow = Caller { scopes: [Scope::ClientWrite].into_iter().collect(), ..Caller::command_line("root") };
        let beyond =
            super::NewClient::checked(with(&[Role::Support], &[]), &narrow, TenantId::PLATFORM, Clock::default().now());
        assert_eq!(beyond.unwrap_err().kind(), Kind::Forbidden);
    }

    #[test]
    fn a_client_can_prove_itself_in_one_way_at_least() {
        let (tenant, creator) = (TenantId::generate(), service([Scope::TenantRead]));
        let with = |secret, jwks| check(NewClient { secret, jwks, ..new([Scope::TenantRead]) }, &creator, tenant);
        assert_eq!(with(NewSecret::None, None).err(), refused(Kind::InvalidInput, "jwks"));
        assert!(with(NewSecret::None, Some(jwks())).is_ok());
        assert!(with(NewSecret::Make, Some(jwks())).is_ok());
        assert_eq!(with(NewSecret::Make, Some(json!({ "keys": [] }))).err(), refused(Kind::InvalidInput, "jwks"));
        let mut private = jwks();
        private["keys"][0]["d"] = json!("AQAB");
        assert_eq!(with(NewSecret::None, Some(private)).err(), refused(Kind::InvalidInput, "jwks"));
    }

    #[test]
    fn only_public_members_of_a_key_are_kept() {
        let mut set = jwks();
        set["keys"][0]["p"] = json!("a prime");
        set["comment"] = json!("secret");
        let kept = public_keys(set).unwrap().to_string();
        assert!(
            !kept.contains("prime") && !kept.contains("secret") && !kept.contains("anything") && kept.contains("P-256")
        );
    }

    #[test]
    fn names_and_ends_are_checked() {
        let (tenant, creator) = (TenantId::generate(), service([Scope::TenantRead]));
        for name in ["", " x", "x ", "a\nb", &"x".repeat(201)] {
            let client = NewClient { name: name.to_owned(), ..new([Scope::TenantRead]) };
            assert_eq!(check(client, &creator, tenant).err(), refused(Kind::InvalidInput, "name"), "{name:?}");
        }
        let past = NewClient { expires_at: Some(DateTime::UNIX_EPOCH), ..new([Scope::TenantRead]) };
        assert_eq!(check(past, &creator, tenant).err(), refused(Kind::InvalidInput, "expiresAt"));
    }
}
