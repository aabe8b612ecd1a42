//! PostgreSQL itself, asked by who has stolen the server's login: tables and their columns are read from the catalogue, so a
//! new table is covered when it is made.

mod errors;
mod escalation;
mod rows;
mod session;

pub use self::session::Session;
