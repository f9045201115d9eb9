//! The database: the only home of diesel, under domain names.
//!
//! Reading order: [`database`] (connections), [`statement`] (how a set statement is written), then a file per table.
//! Functions take a connection and return domain types; rows never leave their file. Every multi-row write is sorted
//! by key with one row per key, so that two batches never wait for each other in a circle.

pub mod database;
pub mod events;
pub mod notifications;
pub mod operate;
pub mod orders;
pub mod quarantine;
pub mod schema;
pub mod statement;
pub mod sweep;
