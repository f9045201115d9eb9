//! The drill: breaks every part of a running Countersign under load and proves that every promise held. Reading order:
//!
//! - [`config`]: what a drill is told. [`fault`], [`schedule`]: what is done to it and when; pure.
//! - [`servers`], [`links`], [`fleet`]: what can be hit: PostgreSQL and the broker's nodes, the ways between, the programs.
//! - [`faults`]: how each fault is done and undone, on orders of the drill's [`own`] where it looks at single ones.
//! - [`record`]: what a fault leaves for the report: when, what, and the promises that must hold after it.
//! - [`load`]: the simulator, which sends, plays the merchant, and audits by sets in the end.
//! - [`sampler`], [`timeline`], [`clock`]: what was seen, and when.
//! - [`recovery`], [`checks`], [`report`]: what it comes to.
//! - [`run`]: one drill from start to verdict. [`summary`]: several in one table.
//!
//! `./dev drill` makes the servers and runs this.
#![allow(missing_docs, clippy::missing_errors_doc, reason = "nothing here ships")]

pub mod checks;
pub mod clock;
pub mod config;
pub mod fault;
pub mod faults;
pub mod fleet;
pub mod links;
pub mod load;
pub mod own;
pub mod record;
pub mod recovery;
pub mod report;
pub mod run;
pub mod sampler;
pub mod schedule;
pub mod servers;
pub mod summary;
pub mod timeline;
