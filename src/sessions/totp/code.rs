//! Codes by HMAC (RFC 4226, section 5.3) over time (RFC 6238, section 4): six digits, SHA-1, steps of thirty seconds, which is what every
//! device knows.

use aws_lc_rs::{constant_time::verify_slices_are_equal, hmac};
use chrono::{DateTime, Utc};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use zeroize::Zeroizing;

use crate::platform::secret::Secret;

pub(super) const PERIOD: i64 = 30;
/// As long as what the HMAC makes (RFC 4226, section 4, R6).
pub(super) const SECRET_BYTES: usize = 20;
const DIGITS: usize = 6;
/// Clocks differ, and people type (RFC 6238, section 5.2).
const STEPS_AROUND: i64 = 1;

/// The code of a step.
fn code(secret: &[u8], step: i64, digits: usize, algorithm: hmac::Algorithm) -> String {
    let tag = hmac::sign(&hmac::Key::new(algorithm, secret), &step.to_be_bytes());
    let tag = tag.as_ref();
    let offset = usize::from(tag[tag.len() - 1] & 0xf);
    let number = u32::from_be_bytes([tag[offset] & 0x7f, tag[offset + 1], tag[offset + 2], tag[offset + 3]]);
    format!("{:0digits$}", number % 10_u32.pow(digits as u32))
}

/// Six digits, blanks between them or around.
pub(super) fn looks_like_one(code: &Secret) -> bool {
    let text = digits(code);
    text.len() == DIGITS && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn digits(code: &Secret) -> Zeroizing<String> {
    Zeroizing::new(code.expose().chars().filter(|letter| !letter.is_whitespace()).take(DIGITS + 1).collect())
}

/// The step that the code is of, if it is near `now`.
pub(super) fn step_of(given: &Secret, secret: &[u8], now: DateTime<Utc>) -> Option<i64> {
    let (given, present) = (digits(given), now.timestamp().div_euclid(PERIOD));
    let is_of = |step: &i64| {
        let expected = code(secret, *step, DIGITS, hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY);
        verify_slices_are_equal(expected.as_bytes(), given.as_bytes()).is_ok()
    };
    // All are compared, so that it takes the same time.
    (present - STEPS_AROUND..=present + STEPS_AROUND)
        .fold(None, |found, step| if is_of(&step) { Some(step) } else { found })
}

/// Base32 without padding (RFC 4648, section 6).
pub(super) fn base32(bytes: &[u8]) -> Zeroizing<String> {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let (mut text, mut bits, mut held) = (Zeroizing::new(String::new()), 0_u32, 0_u32);
    for byte in bytes {
        bits = (bits << 8 | u32::from(*byte)) & 0xffff;
        held += 8;
        while held >= 5 {
            held -= 5;
            text.push(char::from(ALPHABET[(bits >> held & 31) as usize]));
        }
    }
    if held > 0 {
        text.push(char::from(ALPHABET[(bits << (5 - held) & 31) as usize]));
    }
    text
}

/// What devices read (Key URI Format).
pub(super) fn uri(issuer: &str, account: &str, secret: &str) -> Zeroizing<String> {
    let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let (issuer, account) = (encode(issuer), encode(account));
    Zeroizing::new(format!(
        "otpauth://totp/{issuer}:{account}?secret={secret}&issuer={issuer}&algorithm=SHA1&digits={DIGITS}&period={PERIOD}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHA1: hmac::Algorithm = hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY;
    const SECRET: &[u8] = b"12345678901234567890";

    #[test]
    fn codes_are_those_of_rfc_4226() {
        let expected =
            ["755224", "287082", "359152", "969429", "338314", "254676", "287922", "162583", "399871", "520489"];
        for (step, expected) in (0..).zip(expected) {
            assert_eq!(code(SECRET, step, 6, SHA1), expected, "appendix D, count {step}");
        }
    }

    #[test]
    fn codes_are_those_of_rfc_6238() {
        let sha256 = b"12345678901234567890123456789012".as_slice();
        let sha512 = b"1234567890123456789012345678901234567890123456789012345678901234".as_slice();
        let (two, five) = (hmac::HMAC_SHA256, hmac::HMAC_SHA512);
        for (seconds, one, other, third) in [
            (59, "94287082", "46119246", "90693936"),
            (1_111_111_109, "07081804", "68084774", "25091201"),
            (1_111_111_111, "14050471", "67062674", "99943326"),
            (1_234_567_890, "89005924", "91819424", "93441116"),
            (2_000_000_000, "69279037", "90698825", "38618901"),
            (20_000_000_000_i64, "65353130", "77737706", "47863826"),
        ] {
            let step = seconds / PERIOD;
            assert_eq!(code(SECRET, step, 8, SHA1), one, "appendix B, {seconds}");
            assert_eq!(code(sha256, step, 8, two), other, "appendix B, {seconds}, SHA-256");
            assert_eq!(code(sha512, step, 8, five), third, "appendix B, {seconds}, SHA-512");
        }
    }

    #[test]
    fn the_step_before_and_the_step_behind_are_good_and_no_others() {
        let now = DateTime::from_timestamp(1_111_111_109, 0).unwrap();
        let present = now.timestamp() / PERIOD;
        for around in -3..=3 {
            let code = Secret::new(code(SECRET, present + around, 6, SHA1));
            let expected = (around.abs() <= 1).then_some(present + around);
            assert_eq!(step_of(&code, SECRET, now), expected, "{around}");
        }
        let spaced = code(SECRET, present, 6, SHA1);
        assert_eq!(step_of(&Secret::new(format!(" {} {} ", &spaced[..3], &spaced[3..])), SECRET, now), Some(present));
        for wrong in ["", "000000", "81804", "0081804", "a", "081804x"] {
            assert_eq!(step_of(&Secret::new(wrong), SECRET, now), None, "{wrong}");
        }
    }

    #[test]
    fn secrets_are_written_in_base32() {
        for (bytes, expected) in [
            ("", ""),
            ("f", "MY"),
            ("fo", "MZXQ"),
            ("foo", "MZXW6"),
            ("foob", "MZXW6YQ"),
            ("fooba", "MZXW6YTB"),
            ("foobar", "MZXW6YTBOI"),
        ] {
            assert_eq!(*base32(bytes.as_bytes()), expected, "RFC 4648, section 10");
        }
        let uri = uri("acme", "anna+x@example.com", "MZXW6");
        assert_eq!(
            *uri,
            "otpauth://totp/acme:anna%2Bx%40example%2Ecom?secret=MZXW6&issuer=acme&algorithm=SHA1&digits=6&period=30"
        );
    }
}
