use crate::error::{Error, Result};

/// A DNS label of 3 to 63 characters (RFC 1035, section 2.3.1) that nobody has reserved. Never made fit by itself: what a
/// person typed is refused, not changed.
pub(super) fn check(field: &str, slug: &str, reserved: &[String]) -> Result<()> {
    if !(3..=63).contains(&slug.len()) {
        return Err(Error::invalid(field, format!("must have 3 to 63 characters, not {}", slug.chars().count())));
    }
    if slug.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err(Error::invalid(field, "must not have capital letters"));
    }
    if !slug.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-') {
        return Err(Error::invalid(field, "must have small letters, digits and '-' only"));
    }
    if slug.starts_with('-') || slug.ends_with('-') {
        return Err(Error::invalid(field, "must begin and end with a letter or a digit"));
    }
    if slug.starts_with("xn--") || slug.get(2..4) == Some("--") {
        return Err(Error::invalid(
            field,
            "must not look like an internationalised domain name (RFC 5891, section 4.2.3.1)",
        ));
    }
    if reserved.iter().any(|word| word == slug) {
        return Err(Error::invalid(field, "is a reserved word"));
    }
    Ok(())
}
