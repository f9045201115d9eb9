//! The drill: breaks every part of a running Countersign under load and proves that every promise held. Reading order:
//!
//! - [`config`]: the command line. [`fault`], [`schedule`]: which faults there are, and when each is injected (pure).
//! - [`servers`], [`links`], [`fleet`]: the targets: PostgreSQL and the broker's nodes, the connections, the programs.
//! - [`faults`]: how each fault is injected and lifted. Faults that check single orders use the drill's [`own`].
//! - [`record`]: what a fault leaves for the report: its times, its target, and the promises that must hold after it.
//! - [`load`]: the simulator, which sends callbacks, plays the merchant, and audits everything at the end.
//! - [`sampler`], [`timeline`], [`clock`]: what was observed, and when.
//! - [`recovery`], [`checks`], [`report`]: the results.
//! - [`run`]: one drill from start to verdict. [`summary`]: several in one table.
//!
//! `./dev drill` starts the servers and runs this.
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
