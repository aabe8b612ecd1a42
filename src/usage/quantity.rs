//! Exact quantities, as they were written.

use rust_decimal::Decimal;

use crate::error::{Error, Result};

/// Digits before the point and after it. Sums of more of them than anyone sends stay within what a decimal of 96 bits holds.
const WHOLE: usize = 15;
const FRACTION: usize = 9;

/// A decimal number from its text, which no floating point has touched.
pub(super) fn parse(text: &str) -> Result<Decimal> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(whole) || !is_number(fraction) || whole.len() > WHOLE || fraction.len() > FRACTION {
        let rule = "must be a decimal number of at most 15 digits before the point and 9 after it, without an exponent";
        return Err(Error::invalid("quantity", rule));
    }
    Decimal::from_str_exact(text).map_err(|cause| Error::invalid("quantity", "must be a decimal number").because(cause))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_no_plain_decimal_number_is_refused() {
        for text in ["", "-", ".", "1.", ".5", "+1", "1e3", "NaN", "inf", "Infinity", "0x10", "1,5", " 1", "1 ", "--1"]
        {
            assert_eq!(parse(text).unwrap_err().field(), Some("quantity"), "{text}");
        }
        assert!(parse(&"9".repeat(40)).is_err());
        assert!(parse("1234567890123456").is_err());
        assert!(parse("0.1234567891").is_err());
    }

    proptest! {
        #[test]
        fn a_number_is_what_was_written(whole in 0i64..1_000_000_000_000_000, fraction in "[0-9]{1,9}", is_negative: bool) {
            let text = format!("{}{whole}.{fraction}", if is_negative { "-" } else { "" });
            let read = parse(&text).unwrap();
            prop_assert_eq!(read.abs().to_string(), format!("{whole}.{fraction}"));
        }
    }
}
