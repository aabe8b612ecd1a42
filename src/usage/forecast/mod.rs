//! What usage of a month will come to: what was used so far, exactly, and a forecast of the rest from daily totals.
//!
//! *Rules*: models are plain values (`model.rs`); no history is too short for an answer, which says what it is made of (`telling.rs`). Models
//! are fitted beside the asynchronous runtime, a few at a time.

pub mod graphql;
mod model;
mod telling;

pub(in crate::usage) use self::model::Days;
pub use self::{
    model::Model,
    telling::{CostForecast, Forecast},
};
