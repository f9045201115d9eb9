//! The benchmark. Whatever is compared is measured in the same rounds on the same servers, because on a shared machine only
//! ratios mean something. Reading order:
//!
//! - [`config`]: the command line. [`figures`]: the measurements by name, with their spread.
//! - [`requests`], [`generator`]: callbacks signed in advance, and how they are sent: flat out, or on a schedule. [`commits`],
//!   [`fulfilment`], [`first_seen`]: when an order was paid, and when the merchant received the event.
//! - [`limits`]: what Countersign is compared with: the same server without a broker, a bare publisher, pgbench, and the
//!   synchronous handler that one would otherwise write.
//! - [`scene`], [`process`]: the servers of a part, whose tables are emptied between rounds; memory and processor time of a process.
//!   [`scheduled`]: the whole pipeline under a load on a schedule.
//! - [`parts`]: the measurements. [`report`], [`charts`]: tables, JSON, the regression check, and the charts of the documents.
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
