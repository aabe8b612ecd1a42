//! Prices of the catalogue.

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use super::{
    super::Dimensions,
    currency::Currency,
    tariff::{Component, Tier},
};
use crate::{
    error::{Error, Result},
    platform::ids::PriceId,
};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Price {
    pub price_id: PriceId,
    /// None: of all plans that have no price of their own.
    pub plan: Option<String>,
    pub currency: Currency,
    pub effective_from: DateTime<Utc>,
    pub components: Vec<Component>,
    pub created_at: DateTime<Utc>,
}

/// What a single quantity costs the platform.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UnitCost {
    pub dimension: String,
    pub currency: Currency,
    pub effective_from: DateTime<Utc>,
    pub cost: Decimal,
    pub created_at: DateTime<Utc>,
}

const MOST_COMPONENTS: usize = 100;
const MOST_TIERS: usize = 20;

/// Components as they were sent; errors name the place.
pub(super) fn components(sent: serde_json::Value, dimensions: &Dimensions) -> Result<Vec<Component>> {
    let read = serde_path_to_error::deserialize::<_, Vec<Component>>(sent);
    let components = read.map_err(|error| {
        let path = error.path().to_string().replace('[', ".").replace(']', "");
        let path = path.trim_start_matches('.');
        let field = if path.is_empty() { "components".to_owned() } else { format!("components.{path}") };
        Error::invalid(field, error.into_inner().to_string())
    })?;
    if components.len() > MOST_COMPONENTS {
        return Err(Error::invalid("components", "has at most 100 components"));
    }
    for (place, component) in components.iter().enumerate() {
        let at = format!("components.{place}");
        if components[..place].iter().any(|before| before.dimension() == component.dimension()) {
            return Err(Error::invalid(at, "is the second base fee, or the second component of its dimension"));
        }
        check(component, &at, dimensions)?;
    }
    Ok(components)
}

fn check(component: &Component, at: &str, dimensions: &Dimensions) -> Result<()> {
    let (kind, rate) = match component {
        Component::Flat { .. } => return Ok(()),
        Component::Seat { .. } => ("seat", None),
        Component::Usage { rate, .. } => ("usage", Some(rate)),
    };
    if component.dimension().and_then(|key| dimensions.find(key)).is_none() {
        return Err(Error::invalid(format!("{at}.{kind}.dimension"), "is not in the catalogue of dimensions"));
    }
    match rate.and_then(|rate| rate.tiers()) {
        Some((model, tiers)) => check_tiers(tiers, &format!("{at}.usage.rate.{model}.tiers")),
        None => Ok(()),
    }
}

fn check_tiers(tiers: &[Tier], at: &str) -> Result<()> {
    if tiers.is_empty() || tiers.len() > MOST_TIERS {
        return Err(Error::invalid(at, "has 1 to 20 tiers"));
    }
    let mut before = Decimal::ZERO;
    for (place, tier) in tiers.iter().enumerate() {
        let field = || format!("{at}.{place}.upTo");
        match tier.up_to {
            None if place + 1 == tiers.len() => {}
            None => return Err(Error::invalid(field(), "is needed for all tiers but the last")),
            Some(_) if place + 1 == tiers.len() => {
                return Err(Error::invalid(field(), "must not be given for the last tier, which has no end"));
            }
            Some(end) if end.0 <= before => {
                return Err(Error::invalid(field(), "must be more than that of the tier before"));
            }
            Some(end) => before = end.0,
        }
    }
    Ok(())
}
