//! One line to a running server: `let app = TestApp::start().await`.

pub mod again;
mod app;
pub mod bombs;
mod canary;
mod client;
mod database;
pub mod moto;
pub mod nats;
pub mod pace;
pub mod redis;
pub mod slapd;
mod socket;
pub mod softhsm;
mod sweep;
pub mod transit;

pub use self::{
    app::{Tenant, TestApp},
    client::{Answer, Client},
    database::{Database, LOGIN, database, folder},
    socket::{Received, Socket},
};
