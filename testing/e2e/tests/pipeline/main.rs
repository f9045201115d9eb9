//! The whole pipeline, with real servers and the real binaries, one promise per test. Reading order:
//!
//! - [`story`]: a callback becomes a paid order. [`verdicts`]: every other outcome.
//! - [`refunds`]: the way back. [`v3`]: the same with API v3. [`rotation`]: keys change under load.
//! - [`concurrency`]: many at once. [`crashes`]: SIGKILL between any two steps. [`outages`]: a server is unavailable.
//! - [`poison`]: a message that cannot be handled harms no other. [`healing`]: a callback that waits is decided once its
//!   cause is gone.
//! - [`combined`]: several payments in one callback.
//! - [`payments`]: what an order refused, and what operators and shops do with it. [`locks`]: orders that are locked, absent, or out of reach.
//! - [`shutdown`], [`configuration`], [`migration`], [`operator`]: running the programs.
//! - [`migrate_under_load`]: the schema changes while a shop is at work. [`unroutable`]: events that the broker cannot route.
//! - [`rights`], [`roles`], [`limits`]: what the programs and the shop cannot do, whatever they try. [`tls`]: which servers
//!   the programs do not trust.
//! - [`forgery`]: callbacks that only look like payments, and payments that do not look like any.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests fail like tests")]

mod combined;
mod concurrency;
mod configuration;
mod crashes;
mod forgery;
mod healing;
mod limits;
mod locks;
mod migrate_under_load;
mod migration;
mod operator;
mod outages;
mod payments;
mod poison;
mod refunds;
mod rights;
mod roles;
mod rotation;
mod shutdown;
mod story;
mod tls;
mod unroutable;
mod v3;
mod verdicts;
