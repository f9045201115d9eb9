//! What `ingest`, `worker` and the simulator have in common, in reading order:
//!
//! - [`domain`]: pure. Orders, notifications, and `decide`, which says what one does to the other.
//! - [`protocol`]: pure. Bytes from WeChat Pay to authentic notifications, and the replies.
//! - [`process`]: what a program needs around its work: configuration, logs, metrics, the admin port, shutdown.
//! - [`merchants_file`]: the merchants and their keys, read from a file and re-read on SIGHUP.
//! - [`messaging`]: RabbitMQ. The only home of lapin.
//!
//! Arrows go one way: `domain ← protocol ← merchants_file, messaging`; both of these also use `process`, which uses none
//! of the others. A test (`tests/tidy.rs`) holds them.

pub mod domain;
pub mod merchants_file;
pub mod messaging;
pub mod process;
pub mod protocol;
