//! A model of the protocol between WeChat Pay, ingest, broker, workers, database, shop and operator, and a search of every
//! state that it can reach. In reading order:
//!
//! - [`scenario`]: what is explored. [`mutation`]: the bugs that can be put into the protocol ([`inferred`] is one of them).
//! - [`state`] and [`rows`]: one state of everything. [`step`]: everything that can happen. [`inline_vec`]: the list type of
//!   both.
//! - [`protocol`]: the machine. Its parts: [`edge`], [`lane`], [`sweep`], [`relay`], [`shop`], [`operator`], on [`database`].
//! - [`decide`]: the bridge to `worker::batch::plan`, so that the model decides with the product's own code.
//! - [`invariants`]: what must hold in every state. [`ends`]: what must hold in a final state. [`violation`]: the names of
//!   both.
//! - [`explore`]: the search.
//!
//! Modelled: requests that break off anywhere, with the message lost, stored, or stored later; replies that are
//! lost; copies of a message with the same id; delivery in any order; batches of one and two, and two that go one
//! by one; workers that crash between any two steps, lose their broker and go on with what is no longer theirs, or
//! lose their database before, in and after the commit; messages that are held as a whole; the orders' locks, their time-out,
//! and orders that are passed by; the conflicts on the keys of ledger and payments; payments, refunds and part refunds;
//! combined callbacks; the sweeper and what has waited too long; the relay with lost publishes and lost confirms; a shop that
//! commits its order late, locks it, closes and reopens it, and saves what it read long ago; an operator who replays, accepts,
//! resolves and abandons.
//!
//! Left out: deadlocks (a batch gets the locks of all its orders at once; they are locked in the order of their ids), the
//! refund rows that the shop writes, keys, what is no callback at all, messages that the database refuses, a second sweeper,
//! months that are dropped, and time: what may take too long does so at any moment. Scenarios about money leave ingest and
//! relay out, which know nothing of it: there, everything is in the broker, to be delivered at any moment.
#![allow(missing_docs, clippy::missing_errors_doc, reason = "nothing here ships")]
#![expect(clippy::indexing_slicing, reason = "a number that names nothing must stop the check, not bend it")]

pub mod database;
pub mod decide;
pub mod edge;
pub mod ends;
pub mod explore;
pub mod inferred;
pub mod inline_vec;
pub mod invariants;
pub mod lane;
pub mod mutation;
pub mod operator;
pub mod protocol;
pub mod relay;
pub mod rows;
pub mod scenario;
pub mod shop;
pub mod state;
pub mod step;
pub mod sweep;
pub mod violation;
