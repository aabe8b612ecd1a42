//! AES-256-GCM (NIST SP 800-38D) with a random nonce of 96 bits: nonce, ciphertext, tag.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use zeroize::Zeroizing;

use crate::platform::random;

/// Bytes of a key.
pub(super) const KEY_LEN: usize = 32;
const TAG_LEN: usize = 16;

/// `None` where these are not 32 bytes.
pub(super) fn key(bytes: &[u8]) -> Option<LessSafeKey> {
    UnboundKey::new(&AES_256_GCM, bytes).ok().map(LessSafeKey::new)
}

/// Appends nonce, ciphertext and tag to `header`. The secret is encrypted where it is copied to: no other copy is made.
pub(super) fn seal(key: &LessSafeKey, additional: &[u8], header: &[u8], secret: &[u8]) -> Vec<u8> {
    let nonce = random::bytes::<NONCE_LEN>();
    let mut sealed = Vec::with_capacity(header.len() + NONCE_LEN + secret.len() + TAG_LEN);
    sealed.extend_from_slice(header);
    sealed.extend_from_slice(&nonce);
    let begin = sealed.len();
    sealed.extend_from_slice(secret);
    let tag = key
        .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(additional), &mut sealed[begin..])
        .expect("secrets are far below the cipher's limit");
    sealed.extend_from_slice(tag.as_ref());
    sealed
}

/// Opens nonce, ciphertext and tag; `None` where anything of it is not as it was sealed.
pub(super) fn open(key: &LessSafeKey, additional: &[u8], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (nonce, ciphertext) = sealed.split_at_checked(NONCE_LEN)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
    let mut buffer = Zeroizing::new(ciphertext.to_vec());
    let length = key.open_in_place(nonce, Aad::from(additional), &mut buffer).ok()?.len();
    buffer.truncate(length);
    Some(buffer)
}
