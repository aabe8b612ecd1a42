//! Currencies of ISO 4217, with the digits of their minor units.

use std::fmt;

use rust_decimal::{Decimal, RoundingStrategy};
use serde::{Deserialize, Deserializer, Serialize};

use crate::error::{Error, Result};

/// An active currency's alphabetic code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(into = "String")]
pub struct Currency {
    code: &'static str,
    digits: u32,
}

/// ISO 4217, list one, without funds, metals and codes for tests: codes by how many digits their minor unit has.
const CODES: [(u32, &str); 3] = [
    (0, "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX VND VUV XAF XOF XPF"),
    (
        2,
        "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF CNY COP CRC CUP CVE CZK DKK DOP DZD \
         EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL \
         MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR \
         SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD UYU UZS VES WST XCD XCG YER ZAR ZMW ZWG",
    ),
    (3, "BHD IQD JOD KWD LYD OMR TND"),
];

impl Currency {
    pub fn parse(text: &str) -> Result<Self> {
        let known = CODES.iter().flat_map(|(digits, codes)| codes.split_whitespace().map(|code| (*digits, code)));
        let found = known.into_iter().find(|(_, code)| *code == text);
        let (digits, code) =
            found.ok_or_else(|| Error::invalid("currency", "must be the code of a currency of ISO 4217, as EUR"))?;
        Ok(Self { code, digits })
    }

    pub fn code(self) -> &'static str {
        self.code
    }

    /// The one place where money is rounded: half up, to the minor unit.
    pub fn round(self, amount: Decimal) -> Decimal {
        let mut rounded = amount.round_dp_with_strategy(self.digits, RoundingStrategy::MidpointAwayFromZero);
        rounded.rescale(self.digits);
        rounded
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code)
    }
}

impl From<Currency> for String {
    fn from(currency: Currency) -> Self {
        currency.code.to_owned()
    }
}

impl<'de> Deserialize<'de> for Currency {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(|error| serde::de::Error::custom(error.message()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_rounded_half_up_to_the_minor_unit() {
        let rounded =
            |code: &str, amount: &str| Currency::parse(code).unwrap().round(amount.parse().unwrap()).to_string();
        let cases = [
            ("EUR", "0.005", "0.01"),
            ("EUR", "0.0049999999", "0.00"),
            ("EUR", "1", "1.00"),
            ("EUR", "2.675", "2.68"),
            ("JPY", "0.5", "1"),
            ("JPY", "1.4999", "1"),
            ("KWD", "0.0005", "0.001"),
        ];
        for (code, amount, expected) in cases {
            assert_eq!(rounded(code, amount), expected, "{code} {amount}");
        }
    }

    #[test]
    fn what_is_no_code_is_refused() {
        for text in ["", "eur", "EURO", "XXX", "XAU", "ABC", "E R"] {
            assert_eq!(Currency::parse(text).unwrap_err().field(), Some("currency"), "{text}");
        }
        assert_eq!(Currency::parse("XOF").unwrap().code(), "XOF");
    }
}
