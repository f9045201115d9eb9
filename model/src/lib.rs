//! The protocol between WeChat Pay, ingest, broker, workers and database as a machine, and every state that it can
//! reach. In reading order:
//!
//! - [`scenario`]: what is explored, and how the protocol is spoilt on purpose.
//! - [`state`]: one state of everything. [`step`]: everything that can happen. [`few`]: the list that they are made of.
//! - [`protocol`]: the machine. Its parts: [`edge`], [`lane`], [`sweep`], [`relay`], on [`database`].
//! - [`decide`]: the bridge to `worker::plan`, so that the decisions are those of the code that runs.
//! - [`invariants`]: what must hold always, and what must hold in the end.
//! - [`explore`]: the search.
//!
//! Modelled: requests that break off anywhere, with the message lost, stored, or stored later; replies that nobody
//! hears; copies of a message with the same id; delivery in any order; batches of one and two, and two that go one
//! by one; workers that crash between any two steps, lose their broker and go on with what is no longer theirs, or
//! lose their database before, in and after the commit; the order's lock, its time-out, and the conflict on the
//! ledger's key; the sweeper and what has waited too long; the relay with lost publishes and lost confirms; a shop
//! that commits its order late or gives it up.
//!
//! Left out: more than one order (so no deadlocks), the refund rows that the shop writes, partial refunds, keys,
//! what is no callback at all, messages that the database refuses, a second sweeper, replays by a person, and time:
//! what may take too long does so at any moment.
#![expect(clippy::indexing_slicing, reason = "a number that names nothing must stop the check, not bend it")]

pub mod database;
pub mod decide;
pub mod edge;
pub mod explore;
pub mod few;
pub mod invariants;
pub mod lane;
pub mod protocol;
pub mod relay;
pub mod scenario;
pub mod state;
pub mod step;
pub mod sweep;
