//! Plays WeChat Pay *and* the merchant's shop, then audits the database: every callback that ingest answered SUCCESS must be
//! in it, with the right result.
//!
//! In reading order:
//!
//! - [`config`]: the command line. [`scenarios`]: the share of the orders that each scenario gets.
//! - [`plan`]: every order and every callback of a run, drawn from a seed (pure). [`body`]: a callback's signed bytes.
//! - [`database`], [`checkout`]: the shop writes its orders.
//! - [`gateway`]: WeChat Pay's side. It sends, repeats and records the answers in the [`request_log`].
//! - [`fulfilment`]: the merchant's consumer of order events.
//! - [`model`], [`audit`]: what the callbacks must lead to, compared with what [`snapshot`] found (pure).
//! - [`progress`], [`report`], [`timeline`]: the output during a run and at its end, and every request for charts.
//! - [`midpoint`]: the command that disturbs the run at its midpoint.
//! - [`run`]: one run, from the first order to the verdict.
//!
//! Dependencies point one way: the simulator uses only the public interfaces of the pipeline (HTTP, SQL, the events queue).
#![allow(missing_docs, clippy::missing_errors_doc, reason = "nothing here ships")]

pub mod audit;
pub mod body;
pub mod checkout;
pub mod config;
pub mod database;
pub mod fulfilment;
pub mod gateway;
pub mod merchants;
pub mod midpoint;
pub mod model;
pub mod plan;
pub mod progress;
pub mod report;
pub mod request_log;
pub mod run;
pub mod scenarios;
pub mod snapshot;
pub mod timeline;
