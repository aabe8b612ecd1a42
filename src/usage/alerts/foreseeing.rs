//! Fires before a limit is passed, where the month is forecast to pass it.

use rust_decimal::Decimal;

use super::{
    super::{Dimensions, Usage, Window, window::Bounds},
    alert::{Alert, Kind},
    firing::{Known, alert},
    rule::Rule,
    store,
    threshold::{Crossing, Threshold},
};
use crate::{
    error::{Error, Result},
    isolation::TenantTx,
};

impl Usage {
    /// None where it has fired in the present month, the limit is passed already, or will not be.
    pub(super) async fn foreseen(
        &self,
        tx: &TenantTx,
        known: &Known,
        rule: &Rule,
        (_, last): Bounds,
    ) -> Result<Option<Alert>> {
        let (Some(forecast), now) = (rule.forecast_id, tx.stamp().at) else { return Ok(None) };
        let month = Window::Month.around(now, known.zone);
        // Late events of another month.
        if last < month.0 || store::fired(tx, forecast, month.0).await?.contains_key(&month.0) {
            return Ok(None);
        }
        let Some(limit) = self.limit_of(known, rule).await? else { return Ok(None) };
        let dimension = known.catalogue.part::<Dimensions>()?.find(&rule.dimension);
        let dimension = dimension.ok_or_else(|| Error::internal("a rule of a dimension that there is not"))?;
        let Some(passing) = self.passing(tx, (dimension, known.zone), limit, now).await? else { return Ok(None) };
        let crossing = Crossing { threshold: Threshold::Percent(Decimal::ONE_HUNDRED), quantity: limit };
        let told = alert(rule, month, crossing, (passing.so_far, Some(limit)), now);
        let (expected, passes_at) = (Some(passing.expected), Some(passing.at));
        Ok(Some(Alert { kind: Kind::Forecast, rule_id: forecast, expected, passes_at, ..told }))
    }
}
