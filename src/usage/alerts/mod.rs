//! Alerts on what was used: each fires once for a rule, a threshold and a period.
//!
//! *Owns*: `usage_alert_rules`, `usage_alert_looks`, `usage_alerts`. *Rules*: what goes into totals marks what has to be looked at, in the
//! same transaction (`store.rs` of usage); who looks takes the marks and fires in another (`firing.rs`). Figures are read from totals and
//! inbox together, so a look has everything that was acknowledged before it; what comes later marks anew. What a month
//! costs is looked at in the same way (`budgets`), and so are limits that will be passed (`foreseeing.rs`) and days unlike those before
//! (`comparing.rs`, `anomaly.rs`).
//!
//! *Emits*: AlertRuleSet, AlertRuleDeleted, UsageAlertFired; `tenantry_usage_alerts_total`, `tenantry_usage_alert_failures_total`,
//! `tenantry_usage_alert_look_seconds`.

mod alert;
mod anomaly;
pub mod budgets;
mod comparing;
mod firing;
mod foreseeing;
pub mod graphql;
mod rule;
mod setting;
mod store;
mod threshold;
