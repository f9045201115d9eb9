//! Plays WeChat Pay *and* the merchant's shop, then audits the database against what it was told SUCCESS for.
//!
//! In reading order:
//!
//! - [`config`]: what a run is told. [`scenarios`]: which part of the orders goes which way.
//! - [`plan`]: pure. Every order and every callback of a run, from a seed. [`body`]: a callback's bytes, signed.
//! - [`database`], [`checkout`]: the shop writes its orders.
//! - [`gateway`]: WeChat Pay sends, repeats and notes the answers in the [`book`].
//! - [`fulfilment`]: the merchant's consumer of order events.
//! - [`model`], [`audit`]: pure. What must hold afterwards, from what was sent, against what [`evidence`] found.
//! - [`progress`], [`report`], [`timeline`]: what a person sees meanwhile and at the end, and what a program may draw.
//! - [`at_half`]: the command that disturbs the run half-way.
//! - [`run`]: one run from the first order to the verdict.
//!
//! Arrows go one way: the simulator knows the pipeline by its public sides only (HTTP, SQL, the events queue).
#![allow(missing_docs, clippy::missing_errors_doc, reason = "nothing here ships")]

pub mod at_half;
pub mod audit;
pub mod body;
pub mod book;
pub mod checkout;
pub mod config;
pub mod database;
pub mod evidence;
pub mod fulfilment;
pub mod gateway;
pub mod merchants;
pub mod model;
pub mod plan;
pub mod progress;
pub mod report;
pub mod run;
pub mod scenarios;
pub mod timeline;
