//! A batch of callbacks, from the broker's bytes to committed rows. In reading order:
//!
//! - [`message`]: the bytes of one callback, authenticated again and decoded. [`outcome`]: what it can come to.
//! - [`plan`]: the pure fold of `decide` over a batch.
//! - `fresh`: which messages are new. [`transaction`]: the transaction.
//! - [`isolate`]: what to do when a batch fails, and [`self_check`]: whether the database is to blame.
//!
//! `message`, `outcome` and `plan` are pure; the store reads and writes their types and knows nothing else of this folder.

mod fresh;
pub mod isolate;
pub mod message;
pub mod outcome;
pub mod plan;
pub mod self_check;
pub mod transaction;
