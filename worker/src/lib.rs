//! Takes callbacks from RabbitMQ and applies them to orders in PostgreSQL, once. In reading order:
//!
//! - [`batch`]: a batch of callbacks, from bytes to committed rows, and what to do when one fails.
//! - [`tasks`]: the lanes, which take batches from the broker; the sweeper, which decides held callbacks again; the relay, which
//!   publishes events to the merchant.
//! - [`store`]: all SQL.
//! - [`run`], [`config`]: what runs them.
//! - [`operator`]: the commands of `worker quarantine`, and [`terminal`]: what they may print.

pub mod batch;
pub mod config;
pub mod operator;
pub mod run;
pub mod store;
pub mod tasks;
pub mod terminal;
