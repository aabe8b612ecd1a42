//! What usage costs: the tenant by the price catalogue, and the platform by what it pays.
//!
//! *Owns*: `prices`, `unit_costs`, `tenant_plan_changes`. *Rules*: prices and unit costs are only added, and none begins in a month that is over
//! (`timeline.rs`); what a month costs so far is told of what was used so far (`tariff.rs`, plain values), and a day's cost is the difference
//! between its end and its begin, so days add up to their month (`costing.rs`). Only operators who may set prices see what the platform
//! pays (`margin.rs`).
//!
//! *Emits*: PriceSet, UnitCostSet.

mod costing;
mod currency;
pub mod graphql;
mod margin;
mod price;
mod reading;
mod setting;
mod share_out;
mod store;
mod tariff;
mod timeline;

pub(in crate::usage) use self::{
    costing::Bill,
    reading::{Stretch, figures},
    timeline::share,
};
pub use self::{
    costing::{Asking, Costs, Entered, GroupCost, Per, WindowCosts},
    currency::Currency,
    margin::{Margin, Margins, WindowMargins},
    price::{Price, UnitCost},
    setting::{NewPrice, NewUnitCost},
    tariff::{Component, Kind, Part, Used},
};
