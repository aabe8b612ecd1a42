use chrono::{DateTime, SecondsFormat, Utc};
use sea_orm::FromQueryResult;

use super::record::hex;
use crate::{
    access::{Detached, KeyRing},
    platform::ids::TenantId,
};

/// The statement "entry `sequence` of this chain had this hash at this time". Signed, it shows what is cut off or rewritten
/// before it later, to whoever keeps it.
#[derive(Clone, Debug, PartialEq, Eq, FromQueryResult)]
pub struct Checkpoint {
    pub tenant_id: TenantId,
    pub sequence: i64,
    pub hash: Vec<u8>,
    pub at: DateTime<Utc>,
}

impl Checkpoint {
    /// What is signed (RS256): five lines of ASCII, each ended by a line feed; the time in UTC with six decimals.
    ///
    /// ```text
    /// tenantry checkpoint 1
    /// tenant 5f0c2a2e-7d0b-4b9e-8a35-0d4f3f4a8c11
    /// sequence 100
    /// hash 3b0c…
    /// at 2026-11-21T07:00:00.000000Z
    /// ```
    ///
    /// So anyone with the public key can check one: `openssl dgst -sha256 -verify key.pem -signature signature.bin lines.txt`.
    pub fn canonical(&self) -> Vec<u8> {
        let (tenant, sequence, hash) = (self.tenant_id, self.sequence, hex(&self.hash));
        let at = self.at.to_rfc3339_opts(SecondsFormat::Micros, true);
        format!("tenantry checkpoint 1\ntenant {tenant}\nsequence {sequence}\nhash {hash}\nat {at}\n").into_bytes()
    }
}

/// A checkpoint as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SignedCheckpoint {
    pub(super) checkpoint: Checkpoint,
    pub(super) signature: Detached,
}

impl SignedCheckpoint {
    /// Whether one of our keys, present or retired, has signed it.
    pub(super) fn is_genuine(&self, keyring: &KeyRing) -> bool {
        keyring.verify_bytes(&self.checkpoint.canonical(), &self.signature)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_signed_never_changes_its_form() {
        let checkpoint = Checkpoint {
            tenant_id: TenantId::PLATFORM,
            sequence: 100,
            hash: vec![0xab; 32],
            at: DateTime::from_timestamp_micros(1_700_000_000_000_001).expect("a time"),
        };
        let lines = format!(
            "tenantry checkpoint 1\ntenant 00000000-0000-0000-0000-000000000000\nsequence 100\nhash {}\nat 2023-11-14T22:13:20.000001Z\n",
            "ab".repeat(32)
        );
        assert_eq!(String::from_utf8(checkpoint.canonical()).expect("ASCII"), lines);
    }
}
