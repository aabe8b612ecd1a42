//! One line to a running server: `let app = TestApp::start().await`.

mod app;
pub mod bombs;
mod canary;
mod client;
mod database;
mod socket;
mod sweep;

pub use self::{
    app::{Tenant, TestApp},
    client::{Answer, Client},
    database::{Database, database, folder},
    socket::{Received, Socket},
};
