//! What every capability stands on and no product rule lives in: database sessions, clock, ids, paging, telemetry.
//!
//! *Rules*: imports nothing from a capability; the wall clock, random bytes and the database pool are reached only here.

pub mod aws;
pub mod calendar;
pub mod clock;
pub mod db;
pub mod digest;
pub mod ids;
pub mod outbound;
pub mod page;
pub mod random;
pub mod reach;
pub mod secret;
pub mod spreadsheet;
pub mod stripes;
pub mod task;
pub mod telemetry;
