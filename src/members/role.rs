//! Roles: scopes by a name. Five are shipped; a tenant adds its own.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{
    access::{self, Scope, ScopeSet},
    error::{Error, Result},
};

pub const OWNER: &str = "owner";

/// Own roles of one tenant.
pub(super) const MOST_ROLES: usize = 50;
/// Roles of one member.
pub(super) const MOST_OF_MEMBER: usize = 16;
const LONGEST_KEY: usize = 63;
const LONGEST_DESCRIPTION: usize = 500;

/// A role that every tenant has.
#[derive(Clone, Copy, Debug)]
pub struct Shipped {
    pub key: &'static str,
    pub description: &'static str,
    scopes: fn() -> ScopeSet,
}

pub const SHIPPED: [Shipped; 5] = [
    Shipped {
        key: OWNER,
        description: "Everything that a tenant may do. There is always an active one.",
        scopes: ScopeSet::for_tenants,
    },
    Shipped {
        key: "admin",
        description: "Everything in the tenant itself: members, clients, settings. Not what leads to other tenants.",
        scopes: || ScopeSet::for_tenants().without(leading_elsewhere()),
    },
    Shipped {
        key: "member",
        description: "Uses the product: sees the tenant, its features, limits and members.",
        scopes: || viewing().union([Scope::RateCheck].into_iter().collect()),
    },
    Shipped {
        key: "billing",
        description: "Sees the plan, what was used, and what it costs.",
        scopes: || {
            use Scope::*;
            [TenantRead, PlanRead, QuotaRead, UsageRead, EntitlementRead].into_iter().collect()
        },
    },
    Shipped { key: "viewer", description: "Sees what members see, and changes nothing.", scopes: viewing },
];

/// To tenants below, and to those whose partner this one is.
fn leading_elsewhere() -> ScopeSet {
    use Scope::*;
    [ChildrenRead, ChildrenWrite, PartnerRead, PartnerWrite].into_iter().collect()
}

fn viewing() -> ScopeSet {
    use Scope::*;
    [TenantRead, PlanRead, HealthRead, QuotaRead, FlagRead, UsageRead, EntitlementRead, MemberRead]
        .into_iter()
        .collect()
}

impl Shipped {
    pub fn scopes(&self) -> ScopeSet {
        (self.scopes)()
    }

    pub fn find(key: &str) -> Option<&'static Self> {
        SHIPPED.iter().find(|role| role.key == key)
    }
}

/// A role of one tenant's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OwnRole {
    pub key: String,
    pub description: String,
    /// Names of scopes.
    pub scopes: Vec<String>,
    pub version: i64,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

impl OwnRole {
    /// What of it tenants can still hold: a scope that became the platform's is in no role, whatever an older row says.
    pub fn scopes(&self) -> ScopeSet {
        self.scopes.iter().filter_map(|name| Scope::parse(name)).filter(|scope| scope.for_tenants()).collect()
    }
}

/// An own role to be.
#[derive(Clone, Debug)]
pub struct NewRole {
    pub key: String,
    pub description: String,
    pub scopes: Vec<String>,
}

impl NewRole {
    /// Its scopes, once all of it is well formed.
    pub(super) fn check(&self) -> Result<ScopeSet> {
        check_key(&self.key)?;
        if Shipped::find(&self.key).is_some() {
            return Err(Error::invalid("key", "is the name of a role that every tenant has, and that does not change"));
        }
        if self.description.chars().count() > LONGEST_DESCRIPTION || self.description.contains('\0') {
            return Err(Error::invalid(
                "description",
                format!("has at most {LONGEST_DESCRIPTION} characters, and no NUL"),
            ));
        }
        if self.scopes.is_empty() {
            return Err(Error::invalid("scopes", "name one at least"));
        }
        let scope = |(index, name): (usize, &String)| {
            Scope::parse(name)
                .filter(|scope| scope.for_tenants())
                .ok_or_else(|| Error::invalid(format!("scopes[{index}]"), "is no scope that a tenant can hold"))
        };
        self.scopes.iter().enumerate().map(scope).collect()
    }
}

fn check_key(key: &str) -> Result<()> {
    let begins = key.starts_with(|letter: char| letter.is_ascii_lowercase());
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    if begins && key.len() <= LONGEST_KEY && key.bytes().all(fits) {
        Ok(())
    } else {
        let rule = "has 1 to 63 small letters, digits or `_`, a letter first";
        Err(Error::invalid("key", rule))
    }
}

/// The roles that there are to have: those of a tenant, or those of operators.
#[derive(Clone, Copy, Debug)]
pub enum Roles<'a> {
    /// Those that are shipped, and the tenant's own.
    OfTenant(&'a [OwnRole]),
    OfOperators,
}

impl Roles<'_> {
    /// What roles of these keys may do together. Keys that there are not allow nothing.
    pub fn scopes_of<'k>(self, keys: impl IntoIterator<Item = &'k String>) -> ScopeSet {
        keys.into_iter().fold(ScopeSet::default(), |held, key| held.union(self.scopes_of_one(key).unwrap_or_default()))
    }

    fn scopes_of_one(self, key: &str) -> Option<ScopeSet> {
        match self {
            Self::OfTenant(own) => {
                let shipped = Shipped::find(key).map(Shipped::scopes);
                shipped.or_else(|| own.iter().find(|role| role.key == key).map(OwnRole::scopes))
            }
            Self::OfOperators => operator_role(key).map(access::Role::scopes),
        }
    }

    /// The keys in order, each once, all of them known.
    pub(super) fn check(self, field: &str, keys: &[String]) -> Result<Vec<String>> {
        if keys.is_empty() || keys.len() > MOST_OF_MEMBER {
            return Err(Error::invalid(field, format!("name 1 to {MOST_OF_MEMBER}")));
        }
        for (index, key) in keys.iter().enumerate() {
            if self.scopes_of_one(key).is_none() {
                let rule = match self {
                    Self::OfTenant(_) => "is no role of the tenant",
                    Self::OfOperators => "is none of admin, support, billing, auditor",
                };
                return Err(Error::invalid(format!("{field}[{index}]"), rule));
            }
        }
        let mut keys = keys.to_vec();
        keys.sort_unstable();
        keys.dedup();
        Ok(keys)
    }
}

/// A role that a person can have among operators. An application plane is no person.
pub fn operator_role(key: &str) -> Option<access::Role> {
    access::Role::parse(key).filter(|role| *role != access::Role::Plane)
}

/// Nobody gives, changes or takes away more than it has itself.
pub(super) fn check_reach(held: ScopeSet, touched: ScopeSet) -> Result<()> {
    let missing = touched.without(held);
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<_> = missing.iter().map(Scope::name).collect();
    Err(Error::forbidden("this takes scopes that you do not have yourself")
        .with(serde_json::json!({ "scopes": names })))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(key: &str, scopes: &[&str]) -> OwnRole {
        let scopes = scopes.iter().map(|&scope| scope.to_owned()).collect();
        let at = DateTime::UNIX_EPOCH;
        OwnRole { key: key.to_owned(), description: String::new(), scopes, version: 1, created_at: at, updated_at: at }
    }

    fn keys(keys: &[&str]) -> Vec<String> {
        keys.iter().map(|&key| key.to_owned()).collect()
    }

    #[test]
    fn an_owner_has_more_than_an_admin_and_an_admin_more_than_all_others() {
        let [owner, admin, rest @ ..] = SHIPPED.map(|role| role.scopes());
        assert_eq!(owner, ScopeSet::for_tenants());
        assert!(!owner.without(admin).is_empty() && admin.without(owner).is_empty());
        for scopes in rest {
            assert!(scopes.without(admin).is_empty() && !scopes.contains(Scope::MemberWrite));
        }
    }

    #[test]
    fn own_roles_are_made_of_scopes_that_tenants_can_hold() {
        let new = |key: &str, scopes: &[&str]| {
            let scopes = keys(scopes);
            NewRole { key: key.to_owned(), description: String::new(), scopes }.check()
        };
        assert!(new("support_2", &["auth:member:read"]).unwrap().contains(Scope::MemberRead));
        for (key, scopes) in [
            ("owner", &["auth:member:read"][..]),
            ("Support", &["auth:member:read"]),
            ("2nd", &["auth:member:read"]),
            ("", &["auth:member:read"]),
            ("x", &[]),
            ("x", &["auth:lifecycle:write"]),
            ("x", &["auth:nothing:read"]),
        ] {
            assert!(new(key, scopes).is_err(), "{key} {scopes:?}");
        }
        // What an older row says does not make it a tenant's.
        assert!(own("x", &["auth:cell:write"]).scopes().is_empty());
    }

    #[test]
    fn roles_are_known_and_stand_once() {
        let own = [own("support", &["auth:audit:read"])];
        let roles = Roles::OfTenant(&own);
        let checked = roles.check("roles", &keys(&["support", "admin", "support"])).unwrap();
        assert_eq!(checked, ["admin", "support"]);
        assert!(roles.check("roles", &keys(&["nobody"])).is_err());
        assert!(roles.check("roles", &[]).is_err());
        assert!(roles.scopes_of(&checked).contains(Scope::AuditRead));
        assert!(roles.scopes_of(&keys(&["gone"])).is_empty());
    }

    #[test]
    fn roles_of_operators_are_those_of_people() {
        let roles = Roles::OfOperators;
        assert_eq!(roles.check("roles", &keys(&["support", "admin"])).unwrap(), ["admin", "support"]);
        for key in ["owner", "plane", "member", ""] {
            assert_eq!(roles.check("roles", &keys(&[key])).unwrap_err().field(), Some("roles[0]"), "{key}");
            assert!(roles.scopes_of(&keys(&[key])).is_empty(), "{key}");
        }
        assert_eq!(roles.scopes_of(&keys(&["admin"])), ScopeSet::ALL);
    }

    #[test]
    fn nobody_touches_more_than_it_has() {
        let [owner, admin, member, ..] = SHIPPED.map(|role| role.scopes());
        assert!(check_reach(owner, admin).is_ok() && check_reach(admin, member).is_ok());
        assert!(check_reach(admin, owner).is_err() && check_reach(member, admin).is_err());
    }
}
