//! A tenant named in another's request: nothing is told of it, by no face of the server and by no session of PostgreSQL.
//!
//! Everything is generated: operations from the published schema, REST paths from the routes in `src`, tables from the
//! catalogue. What is added later is covered, and counts fail where nothing was covered at all.
//!
//! The answer to one of A's names must be the answer to a name that never existed, in all that a client can tell apart.
//! What differs between two names that never existed (request ids, times, versions) is noise.

mod answer;
mod api;
mod canaries;
mod database;
mod header;
mod neighbours;
pub mod operation;
mod rest;
mod stream;
