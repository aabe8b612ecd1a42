//! Budgets: alerts on what a month costs, of one dimension or of everything.
//!
//! *Owns*: `usage_budgets`. *Rules*: what goes into totals marks what has to be looked at for budgets as for rules; the look compares the
//! month's cost with the budget (`spending.rs`), and what is reached is an alert like any other, in money.
//!
//! *Emits*: BudgetSet, BudgetDeleted.

mod budget;
pub mod graphql;
mod setting;
mod spending;
mod store;

pub use self::budget::{Budget, NewBudget};
