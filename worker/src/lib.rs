//! Takes callbacks from RabbitMQ and applies them to orders in PostgreSQL, once. In reading order:
//!
//! - [`batch`]: a batch of callbacks, from bytes to committed rows, and what to do when one fails.
//! - [`tasks`]: the loops that run the batches and all that follows from them.
//! - [`store`]: all SQL, and [`store::session`]: the database session beneath every task.
//! - [`run`], [`config`]: a running worker and its settings.
//! - [`operator`]: the commands of `worker quarantine`, and [`terminal`]: what they may print.
//!
//! # Three kinds of tasks
//!
//! A worker runs three kinds of tasks until it is stopped. Each owns one database session for life and opens it again when it
//! breaks. The tasks share no state but the merchants' keys, a wake-up call for the relay and a note of the last full batch. Any
//! number of workers may run at the same time: row locks share the work between them, not the processes themselves.
//!
//! **[Lanes](tasks::lane)** (`WORKER_LANES` per queue) commit callbacks. A lane owns a broker channel with its prefetched
//! messages. Its transaction locks the orders that the batch names, in the order of their ids, and acknowledges after the commit.
//! Deliveries wake it; an idle lane waits in the consumer. While its database is unavailable it consumes nothing.
//!
//! **The [sweeper](tasks::sweeper)** (one per worker) decides held callbacks again: those whose order, payment, key or lock may
//! have changed, and those that an operator replays. It owns no messages, only rows: its transaction locks the quarantine rows
//! that are due, skipping those of other sweepers, and then their orders, skipping locked ones. A timer wakes it at least twice a
//! second when it is idle. It also opens callbacks that have reached their wait limit, and refreshes the gauges.
//!
//! **The [relay](tasks::relay)** (one per worker, one active per database) publishes the outbox to the merchant's fulfilment. It
//! owns a publisher with one channel. Its transaction locks the only row of the table `relay`, which makes it the active one;
//! then it publishes, and deletes what the broker has confirmed. A commit of a lane or the sweeper that wrote events wakes it, and a
//! timer does so once a second. It holds back while lanes are behind ([`tasks::backlog`]), for a few seconds at most.

pub mod batch;
pub mod config;
pub mod operator;
pub mod run;
pub mod store;
pub mod tasks;
pub mod terminal;
