//! RabbitMQ: how a callback gets into the broker and out of it. The only home of lapin.
//!
//! Reading order: [`topology`] (names of exchanges and queues), [`envelope`] (a callback's bytes and its AMQP properties),
//! [`connection`] (the broker's addresses), [`publisher`] (exact confirms, on lanes), [`consumer`] (batches and their acks).
//! Nothing here declares an exchange or a queue: the topology is data, in `deploy/rabbitmq/definitions.json`.

pub mod connection;
pub mod consumer;
pub mod envelope;
pub mod publisher;
pub mod topology;
