//! Who was proved, and how: what every way of signing in comes to.

use serde::{Deserialize, Serialize};

use crate::{
    access::Origin,
    members::Member,
    platform::ids::{MemberId, TenantId},
};

/// By what a member was proved at first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, async_graphql::Enum)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[graphql(name = "SignInMethod")]
pub enum Method {
    Password,
    /// The tenant's directory (LDAP).
    Directory,
    /// A client certificate.
    Certificate,
    /// The tenant's own single sign-on.
    Sso,
}

impl Method {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Password => "PASSWORD",
            Self::Directory => "DIRECTORY",
            Self::Certificate => "CERTIFICATE",
            Self::Sso => "SSO",
        }
    }

    pub(super) fn parse(name: &str) -> Option<Self> {
        [Self::Password, Self::Directory, Self::Certificate, Self::Sso].into_iter().find(|method| method.name() == name)
    }
}

/// Values of the registry of RFC 8176, section 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Amr {
    /// A password.
    Pwd,
    /// A one-time password.
    Otp,
    /// A key in hardware.
    Hwk,
    /// A key in software.
    Swk,
    /// More than one factor.
    Mfa,
}

impl Amr {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pwd => "pwd",
            Self::Otp => "otp",
            Self::Hwk => "hwk",
            Self::Swk => "swk",
            Self::Mfa => "mfa",
        }
    }

    pub(super) fn parse(name: &str) -> Option<Self> {
        [Self::Pwd, Self::Otp, Self::Hwk, Self::Swk, Self::Mfa].into_iter().find(|amr| amr.name() == name)
    }
}

/// A member that was proved.
#[derive(Clone, Debug)]
pub struct Proof {
    pub tenant: TenantId,
    pub member: MemberId,
    /// The member's access epoch when it was proved: what ended its sessions since then ends this, too.
    pub member_epoch: i64,
    pub method: Method,
    pub amr: Vec<Amr>,
    pub origin: Origin,
}

impl Proof {
    pub fn new(tenant: TenantId, member: &Member, method: Method, amr: &[Amr], origin: &Origin) -> Self {
        let (id, epoch) = (member.id, member.access_epoch);
        Self { tenant, member: id, member_epoch: epoch, method, amr: amr.to_vec(), origin: origin.clone() }
    }

    /// The same with a second factor.
    pub(super) fn with(mut self, factor: Amr) -> Self {
        self.amr.extend([factor, Amr::Mfa]);
        self.amr.sort_unstable();
        self.amr.dedup();
        self
    }
}

/// Whether these are two factors: a second one was asked for here, or whoever proved the member says so.
pub(super) fn is_multi_factor(amr: &[Amr]) -> bool {
    amr.contains(&Amr::Mfa)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::ids::TenantId;

    #[test]
    fn a_second_factor_makes_it_two() {
        let proof = Proof {
            tenant: TenantId::generate(),
            member: MemberId::generate(),
            member_epoch: 1,
            method: Method::Password,
            amr: vec![Amr::Pwd],
            origin: Origin::default(),
        };
        assert!(!is_multi_factor(&proof.amr));
        let proof = proof.with(Amr::Otp).with(Amr::Otp);
        assert!(is_multi_factor(&proof.amr));
        assert_eq!(proof.amr, [Amr::Pwd, Amr::Otp, Amr::Mfa]);
        assert!(proof.amr.iter().all(|amr| Amr::parse(amr.name()) == Some(*amr)));
    }
}
