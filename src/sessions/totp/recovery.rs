//! Recovery codes: 80 random bits each, so their SHA-256 is all that is kept.

use super::code::base32;
use crate::platform::{digest::sha256, random, secret::Secret};

const CODES: usize = 10;
const BYTES: usize = 10;
const LETTERS: usize = 16;
const LONGEST: usize = 64;

/// Ten codes, written as `ABCD-EFGH-IJKL-MNOP`.
pub(super) fn generate() -> Vec<Secret> {
    let code = || {
        let text = base32(&random::bytes::<BYTES>());
        let groups: Vec<_> = text.as_bytes().chunks(4).map(|group| String::from_utf8_lossy(group)).collect();
        Secret::new(groups.join("-"))
    };
    std::iter::repeat_with(code).take(CODES).collect()
}

/// What is kept of a code, however it is written; `None` where it cannot be one.
pub(super) fn hash(code: &Secret) -> Option<[u8; 32]> {
    let text = code.expose();
    if text.len() > LONGEST {
        return None;
    }
    let letters: String =
        text.chars().filter(char::is_ascii_alphanumeric).map(|letter| letter.to_ascii_uppercase()).collect();
    (letters.len() == LETTERS).then(|| sha256(letters.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_the_same_however_it_is_written() {
        let codes = generate();
        assert_eq!(codes.len(), CODES);
        let text = codes[0].expose();
        assert_eq!((text.len(), text.matches('-').count()), (19, 3));
        let written = Secret::new(format!(" {} ", text.to_lowercase().replace('-', " ")));
        assert_eq!(hash(&written), hash(&codes[0]));
        assert_ne!(hash(&codes[0]), hash(&codes[1]));
        for wrong in ["", "123456", &text[1..], &"A".repeat(100)] {
            assert_eq!(hash(&Secret::new(wrong)), None, "{wrong}");
        }
    }
}
