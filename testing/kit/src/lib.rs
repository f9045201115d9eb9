//! The test kit: real servers, real programs, and faults between them on demand. Reading order:
//!
//! - [`servers`]: where PostgreSQL and RabbitMQ are, from the environment that `./dev test` sets.
//! - [`http`], [`management`]: requests to the programs' admin ports, and to RabbitMQ's management API.
//! - [`database`], [`broker`]: a migrated database and a virtual host with the definitions, one of each per test.
//! - [`program`]: the shipped binaries as child processes, with their signals, exit codes and logs. [`ports`]: for them.
//! - [`proxy`]: a TCP proxy that cuts, holds, swallows or strands what passes between a program and a server.
//! - [`merchants`]: two merchants with their keys. [`callback`], [`v3`]: WeChat Pay's side: callbacks of API v2 and v3.
//!   [`mod@post`]: requests to ingest, one by one or all at the same instant.
//!   [`unfinished`]: clients of ingest that never finish what they begin.
//! - [`writer`]: another program that publishes callbacks to the broker, with properties that no ingest would set.
//! - [`consumer`]: the merchant's consumer of order events.
//! - [`test_env`]: the usual set of these, started in one line.
//! - [`mod@until`], [`outcome`]: waiting without sleeping, and failing at the line that failed.
//! - [`latencies`], [`pace`], [`table`], [`svg`]: what the simulator, the drill and the benchmark measure, send and report
//!   with.
//!
//! The kit mocks no part of the pipeline: a test that passes has passed with the real programs and servers.
#![allow(missing_docs, clippy::missing_errors_doc, reason = "nothing here ships")]
#![expect(clippy::panic, reason = "a kit for tests: a broken promise ends the test, with its reason")]

pub mod broker;
pub mod callback;
pub mod consumer;
pub mod database;
pub mod http;
pub mod latencies;
pub mod management;
pub mod merchants;
pub mod outcome;
pub mod pace;
pub mod ports;
pub mod post;
pub mod program;
pub mod proxy;
pub mod servers;
mod signal;
pub mod svg;
pub mod table;
mod teardown;
pub mod test_env;
pub mod unfinished;
pub mod until;
pub mod v3;
pub mod writer;

pub use outcome::TestResult;
pub use until::until;
