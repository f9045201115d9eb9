//! Takes callbacks from RabbitMQ and applies them to orders in PostgreSQL, once. In reading order:
//!
//! - [`message`]: the bytes of one callback, authenticated again and decoded.
//! - [`plan`]: the pure fold of `decide` over a batch.
//! - [`apply`]: the batch transaction. [`settle`]: what to do when one fails.
//! - [`lane`]: the loop round it. [`sweep`]: held messages, decided again. [`relay`]: events to the merchant, and
//!   [`backlog`]: whether it must wait for the lanes.
//! - [`store`]: all SQL. [`app`], [`config`]: what runs them.
//! - [`quarantine`]: the operator's commands.

pub mod app;
pub mod apply;
pub mod backlog;
pub mod config;
pub mod lane;
pub mod message;
pub mod plan;
pub mod quarantine;
pub mod relay;
pub mod settle;
pub mod store;
pub mod sweep;
