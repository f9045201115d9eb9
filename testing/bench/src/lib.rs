//! The benchmark. What is compared is measured in the same rounds on the same servers, for only ratios mean something on a
//! machine that others use too. Reading order:
//!
//! - [`config`]: what a run is told. [`figures`]: what is measured, by name, and how it spreads.
//! - [`requests`], [`generator`]: callbacks signed beforehand, and how they are sent: flat out, or on a schedule. [`commits`], [`fulfilment`], [`first_seen`]: when an order was paid, and when the merchant was told.
//! - [`limits`]: what Countersign is held against: the same server without a broker, a bare publisher, pgbench, and the
//!   synchronous handler that one would write instead.
//! - [`scene`], [`process`]: the servers of a part, its tables emptied between rounds; what the system says of a process.
//!   [`scheduled`]: the whole pipeline under a load on a schedule.
//! - [`parts`]: the measurements. [`report`], [`charts`]: tables, JSON, the guard, and what the documents show.
//!
//! `./dev bench` starts the servers and runs this.
#![allow(missing_docs, clippy::missing_errors_doc, reason = "nothing here ships")]
#![allow(
    clippy::as_conversions,
    clippy::float_arithmetic,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "rates, ratios and latencies are no sums of money"
)]

pub mod charts;
pub mod commits;
pub mod config;
pub mod figures;
pub mod first_seen;
pub mod fulfilment;
pub mod generator;
pub mod limits;
pub mod parts;
pub mod process;
pub mod report;
pub mod requests;
pub mod scene;
pub mod scheduled;
