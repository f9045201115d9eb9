//! RabbitMQ: how a callback gets into the broker and out of it. The only home of lapin.
//!
//! Reading order: [`envelope`] (a callback's bytes and what rides beside them), [`connection`] (the broker's addresses),
//! [`publisher`] (exact confirms, on lanes), [`consumer`] (batches and their acks).
//! Nothing here declares an exchange or a queue: the topology is data, in `deploy/rabbitmq/definitions.json`.

pub mod connection;
pub mod consumer;
pub mod envelope;
pub mod publisher;

/// Where the broker's exchanges, queues, policies and users are written down; named by every error that misses one.
pub const DEFINITIONS_FILE: &str = "deploy/rabbitmq/definitions.json";
