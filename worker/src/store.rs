//! The database: the only home of SQL, under domain names. The rest of the worker only passes connections on.
//!
//! Reading order: [`database`] (connections), [`session`] (what an error on one means), [`statement`] (how a set statement is
//! written), then a file per table; the table `quarantine` has three: [`held`] (batches), [`due`] (the sweeper), [`operator`].
//! [`schema`] is `worker migrate`. Functions take a connection and return domain types; rows never leave their file. Orders
//! are locked in the order of their ids and inserts are sorted by key, so that two batches never wait in a circle.

pub mod database;
pub mod due;
pub mod held;
pub mod ledger;
pub mod operator;
pub mod orders;
pub mod outbox;
pub mod payments;
pub mod refunds;
pub mod schema;
pub mod session;
pub mod statement;
