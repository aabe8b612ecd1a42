//! The id of a reservation that a replica has promised out of a lease. It says all that there is to know, so that any replica can
//! commit or release it after the one that made it has died, and nobody but a replica can make one.

use aws_lc_rs::{
    constant_time::verify_slices_are_equal,
    digest::{SHA256, digest},
    hmac,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use uuid::{Builder, Uuid};

use crate::platform::ids::{ReservationId, TenantId};

const VERSION: u8 = 1;
/// Version, lease, serial and amount; behind them 16 bytes of HMAC-SHA-256 (RFC 2104, section 5: half of it is enough).
const BODY: usize = 1 + 16 + 4 + 8;
const TAG: usize = 16;

/// So much out of this lease, once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticket {
    pub lease: ReservationId,
    pub serial: u32,
    pub amount: i64,
    /// As the client knows it.
    pub text: String,
}

impl Ticket {
    /// The id of its own row, which it gets when it is committed or released.
    pub fn id(&self) -> ReservationId {
        let name = digest(&SHA256, &[self.lease.uuid().as_bytes().as_slice(), &self.serial.to_be_bytes()].concat());
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&name.as_ref()[..16]);
        ReservationId::from_uuid(Builder::from_custom_bytes(bytes).into_uuid())
    }
}

/// Makes tickets, and knows its own again. All replicas have the same keys: the first signs, others are of before or to come.
#[derive(Clone, Debug)]
pub struct Stamp(Vec<hmac::Key>);

impl Stamp {
    /// `keys` has at least one.
    pub fn new(keys: Vec<hmac::Key>) -> Self {
        Self(keys)
    }

    pub fn issue(&self, tenant: TenantId, lease: ReservationId, serial: u32, amount: i64) -> Ticket {
        let mut bytes = [0; BODY + TAG];
        bytes[0] = VERSION;
        bytes[1..17].copy_from_slice(lease.uuid().as_bytes());
        bytes[17..21].copy_from_slice(&serial.to_be_bytes());
        bytes[21..BODY].copy_from_slice(&amount.to_be_bytes());
        let tag = tag(&self.0[0], tenant, &bytes[..BODY]);
        bytes[BODY..].copy_from_slice(&tag.as_ref()[..TAG]);
        Ticket { lease, serial, amount, text: URL_SAFE_NO_PAD.encode(bytes) }
    }

    /// The ticket that a client shows; none where it is another tenant's, or made up.
    pub fn read(&self, tenant: TenantId, text: &str) -> Option<Ticket> {
        let bytes: [u8; BODY + TAG] = URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()?;
        let (body, shown) = bytes.split_at(BODY);
        let is_signed_by =
            |key: &hmac::Key| verify_slices_are_equal(&tag(key, tenant, body).as_ref()[..TAG], shown).is_ok();
        if !self.0.iter().any(is_signed_by) {
            return None;
        }
        let lease = ReservationId::from_uuid(Uuid::from_slice(&body[1..17]).ok()?);
        let serial = u32::from_be_bytes(body[17..21].try_into().ok()?);
        let amount = i64::from_be_bytes(body[21..].try_into().ok()?);
        (body[0] == VERSION).then(|| Ticket { lease, serial, amount, text: text.to_owned() })
    }
}

fn tag(key: &hmac::Key, tenant: TenantId, body: &[u8]) -> hmac::Tag {
    let mut context = hmac::Context::with_key(key);
    context.update(tenant.uuid().as_bytes());
    context.update(body);
    context.sign()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(secret: u8) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, &[secret; 32])
    }

    fn stamp(secret: u8) -> Stamp {
        Stamp::new(vec![key(secret)])
    }

    #[test]
    fn a_ticket_is_good_for_its_tenant_as_it_was_made_and_nothing_else() {
        let (tenant, lease) = (TenantId::generate(), ReservationId::generate());
        let ticket = stamp(1).issue(tenant, lease, 7, i64::MAX);
        assert_eq!(stamp(1).read(tenant, &ticket.text), Some(ticket.clone()));
        assert_eq!(stamp(2).read(tenant, &ticket.text), None);
        assert!(Stamp::new(vec![key(2), key(1)]).read(tenant, &ticket.text).is_some(), "while the key is replaced");
        assert_eq!(stamp(1).read(TenantId::generate(), &ticket.text), None);
        let bytes = URL_SAFE_NO_PAD.decode(&ticket.text).unwrap();
        for index in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[index] ^= 1;
            assert_eq!(stamp(1).read(tenant, &URL_SAFE_NO_PAD.encode(changed)), None, "byte {index}");
        }
        for text in ["", "x", &ticket.text[1..], &format!("{}=", ticket.text), &lease.to_string()] {
            assert_eq!(stamp(1).read(tenant, text), None);
        }
    }

    #[test]
    fn every_ticket_of_a_lease_has_a_row_of_its_own() {
        let (tenant, lease) = (TenantId::generate(), ReservationId::generate());
        let ids: std::collections::BTreeSet<_> =
            (0..1000).map(|serial| stamp(1).issue(tenant, lease, serial, 1).id()).collect();
        assert_eq!(ids.len(), 1000);
        assert!(!ids.contains(&lease));
    }
}
