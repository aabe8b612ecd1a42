//! Periods that are closed: what they come to stays. What comes later for them, or corrects them, counts in the open one, and is listed.
//!
//! Who closes first says from when on nothing is let in (`closing_until`), which each batch reads in the statement that keeps it, and
//! then waits for those that were under way. Nobody who counts waits for who closes.

mod closing;
mod correction;
pub mod graphql;
mod store;

pub use self::{closing::Closing, correction::Correction};
