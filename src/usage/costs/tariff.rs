//! What usage costs: components of a price, and the lines that they make of what was used. Plain values.

use rust_decimal::Decimal;
use serde::{Deserialize, Deserializer, Serialize};

use super::{super::quantity, currency::Currency};
/// A decimal number that is not negative, as text: at most 15 digits before the point and 9 after it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Exact(pub Decimal);

impl<'de> Deserialize<'de> for Exact {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let number = quantity::parse(&text).map_err(|error| serde::de::Error::custom(error.message()))?;
        if number.is_sign_negative() && !number.is_zero() {
            return Err(serde::de::Error::custom("must not be negative"));
        }
        Ok(Self(number.normalize()))
    }
}

/// One thing that a price asks for, each month.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Component {
    /// The base fee.
    Flat { amount: Exact },
    /// For each single one of a dimension's figure of the month, whatever unit it is sold in: as for each of `users`.
    Seat {
        dimension: String,
        unit_price: Exact,
        #[serde(default)]
        included: Exact,
    },
    /// For units that are sold of a dimension, beyond those that are included.
    Usage {
        dimension: String,
        #[serde(default)]
        included: Exact,
        rate: Rate,
    },
}

/// What units beyond those that are included cost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Rate {
    PerUnit {
        unit_price: Exact,
    },
    /// Each unit at the price of the tier that it is in.
    Graduated {
        tiers: Vec<Tier>,
    },
    /// All units at the price of the tier that the last one is in.
    Volume {
        tiers: Vec<Tier>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Tier {
    /// The last unit of the tier; none of the last tier.
    #[serde(default)]
    pub up_to: Option<Exact>,
    pub unit_price: Exact,
    /// Once, where a unit is in the tier.
    #[serde(default)]
    pub flat_price: Exact,
}

/// What a line is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, async_graphql::Enum)]
#[graphql(name = "CostKind")]
pub enum Kind {
    /// The base fee.
    Flat,
    Seat,
    Usage,
}

/// What was used of a dimension.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    pub quantity: Decimal,
    /// In units that are sold.
    pub units: Decimal,
}

/// A span's part of its month, from 0 to 1. A price that is in force for a part of a month has that part of its fees, included units and
/// tiers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    pub whole: Decimal,
    /// How much of the month has gone by in it: what is asked of fees so far.
    pub so_far: Decimal,
}

impl Part {
    pub const MONTH: Self = Self { whole: Decimal::ONE, so_far: Decimal::ONE };
}

/// What one component asks for, rounded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub kind: Kind,
    pub dimension: Option<String>,
    pub used: Used,
    pub amount: Decimal,
}

/// No line is more: sums of lines stay within what numbers can hold.
pub(super) const MOST: Decimal = Decimal::from_parts(1_661_992_960, 1_808_227_885, 5, false, 0);

/// A line for each component, in their order. Each is rounded by itself: the sum of lines is exact.
pub fn lines(components: &[Component], currency: Currency, part: Part, used: impl Fn(&str) -> Used) -> Vec<Line> {
    let line = |component: &Component| {
        let (kind, dimension) = (component.kind(), component.dimension());
        let mut used = dimension.map(&used).unwrap_or_default();
        if kind == Kind::Seat {
            used.units = used.quantity;
        }
        let amount = component.cost(used.units, part).map_or(MOST, |amount| amount.min(MOST));
        Line { kind, dimension: dimension.map(ToOwned::to_owned), used, amount: currency.round(amount) }
    };
    components.iter().map(line).collect()
}

impl Component {
    pub fn kind(&self) -> Kind {
        match self {
            Self::Flat { .. } => Kind::Flat,
            Self::Seat { .. } => Kind::Seat,
            Self::Usage { .. } => Kind::Usage,
        }
    }

    pub fn dimension(&self) -> Option<&str> {
        match self {
            Self::Flat { .. } => None,
            Self::Seat { dimension, .. } | Self::Usage { dimension, .. } => Some(dimension),
        }
    }

    /// Before rounding; none where numbers cannot hold it. Less than nothing, as after corrections, costs nothing.
    pub fn cost(&self, units: Decimal, part: Part) -> Option<Decimal> {
        let beyond = |included: Exact| Some((units - included.0.checked_mul(part.whole)?).max(Decimal::ZERO));
        match self {
            Self::Flat { amount } => amount.0.checked_mul(part.so_far),
            Self::Seat { unit_price, included, .. } => beyond(*included)?.checked_mul(unit_price.0),
            Self::Usage { included, rate, .. } => rate.cost(beyond(*included)?, part.whole),
        }
    }
}

impl Rate {
    fn cost(&self, units: Decimal, share: Decimal) -> Option<Decimal> {
        if units.is_zero() {
            return Some(Decimal::ZERO);
        }
        match self {
            Self::PerUnit { unit_price } => units.checked_mul(unit_price.0),
            Self::Graduated { tiers } => {
                let (mut cost, mut below) = (Decimal::ZERO, Decimal::ZERO);
                for tier in tiers {
                    let end = tier.end(share)?.unwrap_or(units);
                    let inside = units.min(end) - below;
                    cost = cost.checked_add(tier.cost(inside, share)?)?;
                    if units <= end {
                        break;
                    }
                    below = end;
                }
                Some(cost)
            }
            Self::Volume { tiers } => {
                for tier in tiers {
                    if tier.end(share)?.is_none_or(|end| units <= end) {
                        return tier.cost(units, share);
                    }
                }
                None
            }
        }
    }

    pub(super) fn tiers(&self) -> Option<(&'static str, &[Tier])> {
        match self {
            Self::PerUnit { .. } => None,
            Self::Graduated { tiers } => Some(("graduated", tiers)),
            Self::Volume { tiers } => Some(("volume", tiers)),
        }
    }
}

impl Tier {
    /// The last unit, none where there is no last one; outer none where numbers cannot hold it.
    fn end(&self, share: Decimal) -> Option<Option<Decimal>> {
        match self.up_to {
            Some(up_to) => up_to.0.checked_mul(share).map(Some),
            None => Some(None),
        }
    }

    fn cost(&self, units: Decimal, share: Decimal) -> Option<Decimal> {
        units.checked_mul(self.unit_price.0)?.checked_add(self.flat_price.0.checked_mul(share)?)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn number(text: &str) -> Decimal {
        text.parse().unwrap()
    }

    fn rate(kind: &str, tiers: &[(Option<i64>, &str, &str)]) -> Rate {
        let tier = |(up_to, unit, flat): &(Option<i64>, &str, &str)| json!({ "upTo": up_to.map(|end| end.to_string()), "unitPrice": unit, "flatPrice": flat });
        let tiers: Vec<_> = tiers.iter().map(tier).collect();
        serde_json::from_value(json!({ kind: { "tiers": tiers } })).unwrap()
    }

    fn cost(rate: &Rate, units: &str) -> String {
        rate.cost(number(units), Decimal::ONE).unwrap().normalize().to_string()
    }

    const TIERS: [(Option<i64>, &str, &str); 3] = [(Some(100), "1", "5"), (Some(1000), "0.5", "0"), (None, "0.1", "7")];

    #[test]
    fn graduated_units_cost_what_their_tier_says() {
        let rate = rate("graduated", &TIERS);
        let cases = [
            ("0", "0"),
            ("1", "6"),
            ("100", "105"),
            ("100.5", "105.25"),
            ("101", "105.5"),
            ("1000", "555"),
            ("1001", "562.1"),
        ];
        for (units, expected) in cases {
            assert_eq!(cost(&rate, units), expected, "{units}");
        }
    }

    #[test]
    fn all_units_cost_what_the_tier_of_the_last_says() {
        let rate = rate("volume", &TIERS);
        let cases = [("0", "0"), ("1", "6"), ("100", "105"), ("101", "50.5"), ("1000", "500"), ("1001", "107.1")];
        for (units, expected) in cases {
            assert_eq!(cost(&rate, units), expected, "{units}");
        }
    }

    #[test]
    fn a_part_of_a_month_has_its_part_of_fees_included_units_and_tiers() {
        let half = Part { whole: number("0.5"), so_far: number("0.25") };
        let component = |value| serde_json::from_value::<Component>(value).unwrap();
        let flat = component(json!({ "flat": { "amount": "40" } }));
        assert_eq!(flat.cost(Decimal::ZERO, half), Some(number("10")));
        let seat = component(json!({ "seat": { "dimension": "users", "unitPrice": "3", "included": "4" } }));
        assert_eq!(seat.cost(number("5"), half), Some(number("9")));
        let tiers = json!([{ "upTo": "100", "unitPrice": "1" }, { "unitPrice": "0.5" }]);
        let usage = component(
            json!({ "usage": { "dimension": "calls", "included": "20", "rate": { "graduated": { "tiers": tiers } } } }),
        );
        // 10 included, 50 at 1, the rest at 0.5.
        assert_eq!(usage.cost(number("80"), half), Some(number("60")));
        assert_eq!(usage.cost(number("80"), Part::MONTH), Some(number("60")));
        assert_eq!(usage.cost(number("10"), half), Some(Decimal::ZERO));
        assert_eq!(usage.cost(number("-10"), half), Some(Decimal::ZERO));
    }

    #[test]
    fn lines_are_rounded_each_by_itself() {
        let eur = Currency::parse("EUR").unwrap();
        let component = |dimension: &str| Component::Usage {
            dimension: dimension.to_owned(),
            included: Exact::default(),
            rate: Rate::PerUnit { unit_price: Exact(number("0.0333")) },
        };
        let used = |_: &str| Used { quantity: number("500"), units: number("0.5") };
        let lines = lines(&[component("a"), component("b")], eur, Part::MONTH, used);
        let amounts: Vec<_> = lines.iter().map(|line| line.amount.to_string()).collect();
        assert_eq!(amounts, ["0.02", "0.02"]);
    }

    #[test]
    fn what_is_beyond_numbers_is_the_most_and_no_panic() {
        let rate = Rate::PerUnit { unit_price: Exact(number("999999999999999.999999999")) };
        assert_eq!(rate.cost(Decimal::MAX, Decimal::ONE), None);
        let component = Component::Usage { dimension: "a".to_owned(), included: Exact::default(), rate };
        let used = |_: &str| Used { quantity: Decimal::MAX, units: Decimal::MAX };
        let line = lines(&[component], Currency::parse("EUR").unwrap(), Part::MONTH, used).remove(0);
        assert_eq!(line.amount, number("100000000000000000000"));
    }

    #[test]
    fn what_is_written_otherwise_is_refused() {
        for bad in [
            json!({ "flat": { "amount": 5 } }),
            json!({ "flat": { "amount": "5", "extra": 1 } }),
            json!({ "flat": { "amount": "-5" } }),
            json!({ "flat": { "amount": "1e3" } }),
            json!({ "fee": { "amount": "5" } }),
            json!({ "flat": { "amount": "5" }, "seat": { "dimension": "users", "unitPrice": "1" } }),
            json!({ "usage": { "dimension": "a", "rate": { "graduated": { "tiers": [{ "upTo": "1", "unitPrice": "1", "price": "1" }] } } } }),
        ] {
            assert!(serde_json::from_value::<Component>(bad.clone()).is_err(), "{bad}");
        }
    }

    /// Ends that grow, and prices with two digits after the point.
    fn tiers() -> impl Strategy<Value = Vec<Tier>> {
        proptest::collection::vec((1i64..1000, 0i64..1000, 0i64..1000), 1..6).prop_map(|steps| {
            let (mut end, last) = (0, steps.len() - 1);
            let tier = |(place, (width, unit, flat)): (usize, (i64, i64, i64))| {
                end += width;
                let up_to = (place < last).then(|| Exact(Decimal::from(end)));
                Tier { up_to, unit_price: Exact(Decimal::new(unit, 2)), flat_price: Exact(Decimal::new(flat, 2)) }
            };
            steps.into_iter().enumerate().map(tier).collect()
        })
    }

    proptest! {
        #[test]
        fn graduated_is_the_sum_of_its_units_and_grows(tiers in tiers(), units in 0i64..4000) {
            let graduated = Rate::Graduated { tiers: tiers.clone() };
            let whole = |units: i64| graduated.cost(Decimal::from(units), Decimal::ONE).unwrap();
            let mut sum = Decimal::ZERO;
            let mut entered = 0;
            for unit in 1..=units {
                let place = tiers.iter().position(|tier| tier.up_to.is_none_or(|end| Decimal::from(unit) <= end.0)).unwrap();
                sum += tiers[place].unit_price.0;
                if place >= entered {
                    sum += tiers[entered..=place].iter().map(|tier| tier.flat_price.0).sum::<Decimal>();
                    entered = place + 1;
                }
            }
            prop_assert_eq!(whole(units), sum);
            prop_assert!(units == 0 || whole(units) >= whole(units - 1));
        }

        #[test]
        fn volume_is_one_price_for_all(tiers in tiers(), units in 1i64..4000) {
            let volume = Rate::Volume { tiers: tiers.clone() }.cost(Decimal::from(units), Decimal::ONE).unwrap();
            let tier = tiers.iter().find(|tier| tier.up_to.is_none_or(|end| Decimal::from(units) <= end.0)).unwrap();
            prop_assert_eq!(volume, tier.unit_price.0 * Decimal::from(units) + tier.flat_price.0);
        }

        #[test]
        fn a_price_that_is_replaced_by_itself_costs_the_same_where_use_is_even(tiers in tiers(), units in 0i64..4000, cut in 1i64..100) {
            let rate = Rate::Graduated { tiers };
            let (first, second) = (Decimal::new(cut, 2), Decimal::ONE - Decimal::new(cut, 2));
            let units = Decimal::from(units);
            let parts = rate.cost(units * first, first).unwrap() + rate.cost(units * second, second).unwrap();
            prop_assert_eq!(parts, rate.cost(units, Decimal::ONE).unwrap());
        }
    }
}
