//! Takes callbacks from RabbitMQ and applies them to orders in PostgreSQL, once. In reading order:
//!
//! - [`message`]: the bytes of one callback, authenticated again and decoded. [`outcome`]: what it can come to.
//! - [`plan`]: the pure fold of `decide` over a batch.
//! - [`apply`]: the transaction. [`batch`]: the one of a batch from the broker. [`settle`]: what to do when one fails, and
//!   [`rehearsal`]: whether the database is to blame.
//! - [`lane`]: the loop round it. [`sweep`]: held messages, decided again. [`relay`]: events to the merchant, and
//!   [`backlog`]: whether it must wait for the lanes.
//! - [`store`]: all SQL. [`app`], [`config`]: what runs them.
//! - [`quarantine`]: the operator's commands, and [`terminal`]: what they may print.

pub mod app;
pub mod apply;
pub mod backlog;
pub mod batch;
pub mod config;
pub mod lane;
pub mod message;
pub mod outcome;
pub mod plan;
pub mod quarantine;
pub mod rehearsal;
pub mod relay;
pub mod settle;
pub mod store;
pub mod sweep;
pub mod terminal;
