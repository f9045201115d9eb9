//! What `ingest`, `worker` and `simulator` have in common, in reading order:
//!
//! - [`domain`]: pure. Orders, notifications, and `decide`, which says what one does to the other.
//! - [`protocol`]: pure. Bytes from WeChat Pay to authentic notifications, and the replies.
//! - [`messaging`]: RabbitMQ. The only home of lapin.
//! - [`config`], [`merchants_file`], [`telemetry`], [`admin`], [`listener`], [`loopback`], [`process`], [`backoff`],
//!   [`stop`]: what programs need round their work.
//!
//! Arrows go one way: `domain ← protocol ← messaging`.

pub mod admin;
pub mod backoff;
pub mod config;
pub mod domain;
pub mod listener;
pub mod loopback;
pub mod merchants_file;
pub mod messaging;
pub mod process;
pub mod protocol;
pub mod stop;
pub mod telemetry;
