//! The only source of randomness.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use uuid::Uuid;

#[expect(clippy::disallowed_methods, reason = "the one place that makes random ids")]
pub fn uuid_v4() -> Uuid {
    Uuid::new_v4()
}

#[expect(clippy::disallowed_methods, reason = "the one place that makes time-ordered ids")]
pub fn uuid_v7() -> Uuid {
    Uuid::now_v7()
}

/// `N` bytes from the operating system's generator.
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).expect("the operating system always has random bytes");
    bytes
}

/// A secret of 256 bits in 43 URL-safe characters.
pub fn token() -> String {
    URL_SAFE_NO_PAD.encode(bytes::<32>())
}
