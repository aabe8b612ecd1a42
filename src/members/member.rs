//! What a member is, and what its life allows.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::role::OWNER;
use crate::{
    error::{Error, Kind, Result},
    platform::ids::MemberId,
};

const LONGEST_EMAIL: usize = 254;
const LONGEST_LOCAL_PART: usize = 64;
const LONGEST_NAME: usize = 200;
const LONGEST_EXTERNAL_ID: usize = 512;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, async_graphql::Enum)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[graphql(name = "MemberStatus")]
pub enum Status {
    /// Has a link, and has not followed it yet.
    Invited,
    Active,
    /// May not sign in; takes no seat.
    Deactivated,
}

impl Status {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Invited => "INVITED",
            Self::Active => "ACTIVE",
            Self::Deactivated => "DEACTIVATED",
        }
    }

    pub(super) fn parse(name: &str) -> Result<Self> {
        let known = [Self::Invited, Self::Active, Self::Deactivated];
        let found = known.into_iter().find(|status| status.name() == name);
        found.ok_or_else(|| Error::internal("a member has a status that there is not"))
    }

    /// Whether a member of this status takes a seat.
    pub const fn takes_seat(self) -> bool {
        !matches!(self, Self::Deactivated)
    }
}

/// Who says that the member is one, and what it is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, async_graphql::Enum)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[graphql(name = "MemberSource")]
pub enum Source {
    /// Who was invited here.
    Local,
    /// The tenant's directory (LDAP).
    Directory,
    /// The tenant's own single sign-on.
    Sso,
    /// The tenant's system of identities (SCIM).
    Scim,
}

impl Source {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Local => "LOCAL",
            Self::Directory => "DIRECTORY",
            Self::Sso => "SSO",
            Self::Scim => "SCIM",
        }
    }

    pub(super) fn parse(name: &str) -> Result<Self> {
        let known = [Self::Local, Self::Directory, Self::Sso, Self::Scim];
        let found = known.into_iter().find(|source| source.name() == name);
        found.ok_or_else(|| Error::internal("a member has a source that there is not"))
    }
}

/// A person who belongs to a tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Member {
    pub id: MemberId,
    pub email: String,
    pub name: String,
    pub status: Status,
    pub source: Source,
    /// What its source calls it.
    pub external_id: Option<String>,
    /// Keys of roles, in order.
    pub roles: Vec<String>,
    /// Grows with whatever ends all sessions of the member.
    pub access_epoch: i64,
    pub version: i64,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

impl Member {
    pub fn is_active_owner(&self) -> bool {
        self.status == Status::Active && self.roles.iter().any(|role| role == OWNER)
    }

    /// The same with another state; its sessions end.
    pub(super) fn with_status(&self, status: Status, now: DateTime<Utc>) -> Self {
        let access_epoch = self.access_epoch + 1;
        Self { status, access_epoch, version: self.version + 1, updated_at: now, ..self.clone() }
    }

    pub(super) fn deactivated(&self, now: DateTime<Utc>) -> Result<Self> {
        match self.status {
            Status::Active => Ok(self.with_status(Status::Deactivated, now)),
            status => Err(refused(status, "only an active member is deactivated; an invitation is revoked")),
        }
    }

    pub(super) fn reactivated(&self, now: DateTime<Utc>) -> Result<Self> {
        match self.status {
            Status::Deactivated => Ok(self.with_status(Status::Active, now)),
            status => Err(refused(status, "only a deactivated member is reactivated")),
        }
    }
}

fn refused(status: Status, rule: &'static str) -> Error {
    Error::new(Kind::InvalidTransition, rule).with(serde_json::json!({ "status": status.name() }))
}

/// Refuses what would leave the tenant without an active owner. `owners`: the active ones, the member perhaps among them.
pub(super) fn check_owners(before: &Member, after: Option<&Member>, owners: &[Member]) -> Result<()> {
    let stays = after.is_some_and(Member::is_active_owner);
    let others = owners.iter().any(|owner| owner.id != before.id);
    if before.is_active_owner() && !stays && !others {
        return Err(Error::conflict("this is the last active owner; make another one first"));
    }
    Ok(())
}

/// An address that keeps to what mail servers take (RFC 5321, section 4.5.3.1), and what it is compared by: one mailbox, whatever its
/// letters' case. Whether it exists is found out by writing to it.
pub(super) fn email(field: &str, address: &str) -> Result<(String, String)> {
    let address = address.trim();
    let fits = address.len() <= LONGEST_EMAIL
        && !address.chars().any(|letter| letter.is_control() || letter.is_whitespace())
        && address.rsplit_once('@').is_some_and(|(local, domain)| {
            (1..=LONGEST_LOCAL_PART).contains(&local.len())
                && !local.contains('@')
                && !domain.is_empty()
                && !domain.starts_with(['.', '-'])
                && !domain.ends_with(['.', '-'])
                && domain.chars().all(|letter| letter.is_alphanumeric() || matches!(letter, '.' | '-'))
        });
    if fits {
        Ok((address.to_owned(), address.to_lowercase()))
    } else {
        Err(Error::invalid(field, "must be one e-mail address, such as anna@example.com, of at most 254 bytes"))
    }
}

pub(super) fn name(field: &str, name: &str) -> Result<String> {
    let name = name.trim();
    if name.chars().count() > LONGEST_NAME || name.chars().any(char::is_control) {
        return Err(Error::invalid(field, format!("has at most {LONGEST_NAME} characters, and no control characters")));
    }
    Ok(name.to_owned())
}

pub(super) fn external_id(field: &str, id: &str) -> Result<String> {
    if (1..=LONGEST_EXTERNAL_ID).contains(&id.chars().count()) && !id.chars().any(char::is_control) {
        Ok(id.to_owned())
    } else {
        let rule = format!("has 1 to {LONGEST_EXTERNAL_ID} characters, and no control characters");
        Err(Error::invalid(field, rule))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(status: Status, roles: &[&str]) -> Member {
        let at = DateTime::UNIX_EPOCH;
        Member {
            id: MemberId::generate(),
            email: "a@example.com".to_owned(),
            name: String::new(),
            status,
            source: Source::Local,
            external_id: None,
            roles: roles.iter().map(|&role| role.to_owned()).collect(),
            access_epoch: 1,
            version: 1,
            created_at: at,
            updated_at: at,
        }
    }

    #[test]
    fn an_address_is_one_mailbox_whatever_its_case() {
        assert_eq!(email("email", " Anna@Example.COM ").unwrap().1, "anna@example.com");
        assert_eq!(email("email", "ÄNNA@Exämple.com").unwrap().1, "änna@exämple.com");
        let long = format!("{}@example.com", "x".repeat(65));
        for address in
            ["", "a", "@a", "a@", "a@b@c", "a b@c", "a@b c", "a@.b", "a@b.", "a@-b", "a\0@b", "a@b\nc", &long]
        {
            assert!(email("email", address).is_err(), "{address:?}");
        }
    }

    #[test]
    fn the_last_active_owner_stays_one() {
        let (owner, other) = (member(Status::Active, &["owner"]), member(Status::Active, &["owner"]));
        let demoted = Member { roles: vec!["admin".to_owned()], ..owner.clone() };
        let deactivated = owner.deactivated(DateTime::UNIX_EPOCH).unwrap();
        for after in [Some(&demoted), Some(&deactivated), None] {
            assert!(check_owners(&owner, after, std::slice::from_ref(&owner)).is_err());
            assert!(check_owners(&owner, after, &[owner.clone(), other.clone()]).is_ok());
        }
        assert!(check_owners(&owner, Some(&owner), std::slice::from_ref(&owner)).is_ok());
        let invited = member(Status::Invited, &["owner"]);
        assert!(check_owners(&invited, None, &[]).is_ok(), "who has not accepted is no owner yet");
    }

    #[test]
    fn a_member_is_deactivated_and_comes_back() {
        let now = DateTime::UNIX_EPOCH;
        let active = member(Status::Active, &["member"]);
        let gone = active.deactivated(now).unwrap();
        assert_eq!((gone.status, gone.access_epoch, gone.version), (Status::Deactivated, 2, 2));
        assert!(!gone.status.takes_seat() && gone.deactivated(now).is_err());
        assert_eq!(gone.reactivated(now).unwrap().status, Status::Active);
        assert!(active.reactivated(now).is_err());
        assert!(member(Status::Invited, &["member"]).deactivated(now).is_err());
    }
}
