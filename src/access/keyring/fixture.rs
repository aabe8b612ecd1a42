//! Keys and tokens for the tests of this folder.

use std::sync::LazyLock;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::DateTime;
use zeroize::Zeroizing;

use super::OwnKey;
use crate::{access::claims::Claims, platform::ids::TenantId};

pub(in crate::access) const ISSUER: &str = "https://tenantry.example";
pub(in crate::access) const EXTERNAL: &str = "https://idp.example";
pub(in crate::access) const AUDIENCE: &str = "tenantry";

/// The modulus of an RSA key of 1024 bits, made with OpenSSL, and a token of [`EXTERNAL`] that it has signed properly
/// (`kid` is `small`, valid until 2096): aws-lc makes and uses no such keys.
pub(in crate::access) const SMALL_MODULUS: &str = "zZsZpQW1uW6AfDVlyXpmGsMOOZAw17kd8oDyvgir_HpRdnXBS_F9wbpTjIuaaef6e6VkPkWHMMtK1U1vgyiVn-hFXagEjJiU5kISFj9ORlOao6MgXmc7r_XY\
    PTmbW9DT_xnx4gREhLU9GebK0_Dy_GcGL7LlmCZaifGqsSTc88E";
pub(in crate::access) const SMALL_TOKEN: &str = "eyJhbGciOiJSUzI1NiIsImtpZCI6InNtYWxsIn0.eyJpc3MiOiJodHRwczovL2lkcC5leGFtcGxlIiwic3ViIjoicyIsImF1ZCI6InRlbmFudHJ5IiwiZXhw\
    Ijo0MDAwMDAwMDAwLCJpYXQiOjE3MDAwMDAwMDAsImp0aSI6ImoiLCJyb2xlcyI6WyJhZG1pbiJdfQ.yJLfgHdxTMSXckHfWskdmjm3IERss5bpDbIGKxHFf\
    8E5zR-M-G0MiyFq-mtgSoWulG66nGY0SU-HhdIBqmKxeWqWME7e7CziaH62KsqkaC6tzAkh2RlLR_E9c5zO3GFwdzL_zxEtwrvn1N-fNIxNVTlW49Lccno-y\
    ni8_NEsbwI";

static OWN: LazyLock<Zeroizing<Vec<u8>>> = LazyLock::new(generate);
static OTHER: LazyLock<Zeroizing<Vec<u8>>> = LazyLock::new(generate);

fn generate() -> Zeroizing<Vec<u8>> {
    OwnKey::generate(2048, DateTime::UNIX_EPOCH).and_then(|key| key.pkcs8()).expect("aws-lc makes keys")
}

/// The same key at every call.
pub(in crate::access) fn own_key() -> OwnKey {
    OwnKey::from_pkcs8(&OWN, DateTime::UNIX_EPOCH).expect("aws-lc reads what it wrote")
}

/// The same key at every call, another than `own_key`.
pub(in crate::access) fn other_key() -> OwnKey {
    OwnKey::from_pkcs8(&OTHER, DateTime::UNIX_EPOCH).expect("aws-lc reads what it wrote")
}

/// What an own token of 15 minutes says at `now`.
pub(in crate::access) fn claims(now: i64) -> Claims {
    Claims {
        iss: ISSUER.to_owned(),
        sub: "client".to_owned(),
        aud: vec![AUDIENCE.to_owned()],
        exp: now + 900,
        iat: now,
        nbf: Some(now),
        jti: "0190a0a0".to_owned(),
        scope: "auth:tenant:read auth:tenant:write".to_owned(),
        roles: vec![],
        tenant_id: Some(TenantId::generate()),
        epoch: Some(1),
        client_id: Some("client".to_owned()),
        sid: None,
        amr: vec![],
        act: None,
    }
}

/// A token of exactly these texts, properly signed with RS256.
pub(in crate::access) fn forge(key: &OwnKey, header: &str, claims: &str) -> String {
    let input = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let signature = key.sign(input.as_bytes()).expect("aws-lc signs");
    format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature))
}
