//! The whole pipeline, on real servers and with the real binaries, one promise per test. Reading order:
//!
//! - [`story`]: a callback becomes a paid order. [`verdicts`]: and every other thing it can become.
//! - [`refunds`]: the way back. [`v3`]: the same by API v3. [`rotation`]: keys change under load.
//! - [`concurrency`]: many at once. [`crashes`]: SIGKILL between any two steps. [`outages`]: a server is away.
//! - [`poison`]: what cannot be handled costs itself only. [`healing`]: what waits is decided when its time has come.
//! - [`shutdown`], [`configuration`], [`migration`], [`operator`]: what those see who run it.
//! - [`forgery`]: what only looks like a payment, and what only looks like none.
//! - [`rights`]: what the programs and the shop cannot do, whatever they try.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests fail like tests")]

mod concurrency;
mod configuration;
mod crashes;
mod forgery;
mod healing;
mod migration;
mod operator;
mod outages;
mod poison;
mod refunds;
mod rights;
mod rotation;
mod shutdown;
mod story;
mod v3;
mod verdicts;
