//! Receives WeChat Pay's callbacks: authenticate → publish → reply. Ingest answers SUCCESS only once the broker has confirmed
//! and routed that very callback; every other reply is a failure, sent within 4 s, and WeChat Pay resends the callback.
//!
//! Reading order: [`config`], `server` (the whole process: start, serve, stop), `state` (what a process owns), `callbacks`
//! (what happens to one callback), `body` and `reading` (how much is read at once), `request` and `authenticate` (whether it
//! is WeChat Pay's), `outcome` (how it can end), `refusal` (what an operator learns about it), `rate_limit`, `meters`,
//! `capacity` and `connection` (the public port's sockets), `addresses`.
//! Left out on purpose: a database, and any memory of earlier callbacks. All processes are alike.

pub use crate::connection::HEAD_TIMEOUT;
pub use crate::server::{KEEP_ALIVE, run};

mod addresses;
mod authenticate;
mod body;
mod callbacks;
mod capacity;
pub mod config;
mod connection;
mod meters;
mod outcome;
mod rate_limit;
mod reading;
mod refusal;
mod request;
mod server;
mod state;
