//! The whole pipeline, on real servers and with the real binaries, one promise per test. Reading order:
//!
//! - [`story`]: a callback becomes a paid order. [`verdicts`]: and every other thing it can become.
//! - [`refunds`]: the way back. [`v3`]: the same by API v3. [`rotation`]: keys change under load.
//! - [`concurrency`]: many at once. [`crashes`]: SIGKILL between any two steps. [`outages`]: a server is away.
//! - [`poison`]: what cannot be handled costs itself only. [`healing`]: what waits is decided when its time has come.
//! - [`combined`]: several payments in one callback.
//! - [`payments`]: what an order refused, and what operators and shops do with it. [`locks`]: locked, absent, unavailable.
//! - [`shutdown`], [`configuration`], [`migration`], [`operator`]: what those see who run it.
//! - [`migrate_under_load`]: the schema changes while a shop is at work. [`unroutable`]: events that the broker does not take.
//! - [`rights`], [`roles`], [`limits`]: what the programs and the shop cannot do, whatever they try. [`tls`]: who is not believed.
//! - [`forgery`]: what only looks like a payment, and what only looks like none.
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
