//! The catalogue of prices, and what the platform pays.

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::{
    super::{Dimensions, Usage, quantity},
    currency::Currency,
    price::{self, Price, UnitCost},
    store, timeline,
};
use crate::{
    error::{Error, Result},
    isolation::{Conditions, OperatorScope},
    journal::Entry,
    platform::ids::PriceId,
};

/// A price to be, as it was sent.
#[derive(Clone, Debug)]
pub struct NewPrice {
    pub plan: Option<String>,
    pub currency: String,
    pub effective_from: DateTime<Utc>,
    pub components: Value,
}

#[derive(Clone, Debug)]
pub struct NewUnitCost {
    pub dimension: String,
    pub currency: String,
    pub effective_from: DateTime<Utc>,
    pub cost: String,
}

impl Usage {
    /// The catalogue; everyone may know what is sold.
    pub async fn prices(&self) -> Result<Vec<Price>> {
        let tx = self.isolation.observe_platform().await?;
        let prices = store::prices(&tx, None).await?;
        tx.end().await?;
        Ok(prices)
    }

    /// Adds a price. What has one already, from the same moment on, is a conflict.
    pub async fn set_price(&self, scope: &OperatorScope, wanted: NewPrice, conditions: &Conditions) -> Result<Price> {
        let catalogue = self.tenancy.snapshots().catalogue().await?;
        let price = Price {
            price_id: PriceId::generate(),
            plan: wanted.plan,
            currency: Currency::parse(&wanted.currency)?,
            effective_from: wanted.effective_from,
            components: price::components(wanted.components, catalogue.part::<Dimensions>()?)?,
            created_at: self.isolation.clock().now(),
        };
        let tx = self.isolation.begin_operator(scope).await?;
        if let Some(answered) = tx.first_answer(conditions).await? {
            return Ok(answered);
        }
        timeline::check_beginning(price.effective_from, tx.stamp().at)?;
        store::insert_price(&tx, &price).await?;
        tx.keep_answer(conditions, &price).await?;
        tx.commit([Entry::new("PriceSet", "price", price.price_id).change(None, Some(&price))?]).await?;
        Ok(price)
    }

    pub async fn unit_costs(&self, scope: &OperatorScope) -> Result<Vec<UnitCost>> {
        let tx = self.isolation.begin_operator(scope).await?;
        let costs = store::unit_costs(&tx, None).await?;
        tx.commit_unrecorded("a read").await?;
        Ok(costs)
    }

    /// Adds what a single quantity costs the platform.
    pub async fn set_unit_cost(
        &self,
        scope: &OperatorScope,
        wanted: NewUnitCost,
        conditions: &Conditions,
    ) -> Result<UnitCost> {
        let catalogue = self.tenancy.snapshots().catalogue().await?;
        let dimension = catalogue.part::<Dimensions>()?.find(&wanted.dimension);
        let dimension =
            dimension.ok_or_else(|| Error::invalid("dimension", "is not in the catalogue of dimensions"))?;
        let cost = quantity::parse(&wanted.cost).map_err(|error| error.at("cost"))?.normalize();
        if cost.is_sign_negative() {
            return Err(Error::invalid("cost", "must not be negative"));
        }
        let cost = UnitCost {
            dimension: wanted.dimension,
            currency: Currency::parse(&wanted.currency)?,
            effective_from: wanted.effective_from,
            cost,
            created_at: self.isolation.clock().now(),
        };
        let tx = self.isolation.begin_operator(scope).await?;
        if let Some(answered) = tx.first_answer(conditions).await? {
            return Ok(answered);
        }
        timeline::check_beginning(cost.effective_from, tx.stamp().at)?;
        store::insert_unit_cost(&tx, dimension, &cost).await?;
        tx.keep_answer(conditions, &cost).await?;
        tx.commit([Entry::new("UnitCostSet", "unitCost", &cost.dimension).change(None, Some(&cost))?]).await?;
        Ok(cost)
    }
}
