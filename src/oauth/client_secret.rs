//! Secrets of clients. Each is 256 random bits that we made, so one SHA-256 keeps it: slow hashes exist to make guessing
//! what people choose expensive, and nobody guesses 256 bits; here they would only make the token endpoint easy to overload.

use aws_lc_rs::constant_time::verify_slices_are_equal;

use super::sha256;
use crate::platform::{random, secret::Secret};

/// What is kept of a secret.
pub(super) type SecretHash = [u8; 32];

/// Stands in for the hash of a client that does not exist or has no secret, so that both are compared all the same.
const NOBODYS: SecretHash = [0; 32];

/// A new secret: 43 URL-safe characters.
pub(super) fn generate() -> (Secret, SecretHash) {
    let secret = Secret::new(random::token());
    let hash = sha256(secret.expose().as_bytes());
    (secret, hash)
}

/// Whether `given` is the secret behind `kept`. Takes the same time whatever the answer, and whether there is one.
pub(super) fn matches(given: &Secret, kept: Option<&SecretHash>) -> bool {
    let hash = sha256(given.expose().as_bytes());
    let equal = verify_slices_are_equal(&hash, kept.unwrap_or(&NOBODYS)).is_ok();
    equal & kept.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_secret_itself_matches() {
        let ((secret, hash), (other, _)) = (generate(), generate());
        assert_eq!(secret.expose().len(), 43);
        assert!(matches(&secret, Some(&hash)));
        assert!(!matches(&other, Some(&hash)));
        assert!(!matches(&Secret::new(""), Some(&hash)));
        assert!(!matches(&secret, None));
    }
}
