//! The names of the broker's exchanges and queues. Nothing declares them here: `deploy/rabbitmq/definitions.json` does.

/// Where the broker's exchanges, queues, policies and users are defined; every error about a missing one names this file.
pub const DEFINITIONS_FILE: &str = "deploy/rabbitmq/definitions.json";

/// Where ingest publishes callbacks.
pub const CALLBACKS_EXCHANGE: &str = "wechatpay.callbacks";
/// The routing key of the one queue behind [`CALLBACKS_EXCHANGE`]; more queues would get more keys.
pub const CALLBACKS_ROUTING_KEY: &str = CALLBACKS_QUEUE;
/// Where workers consume callbacks.
pub const CALLBACKS_QUEUE: &str = "wechatpay.callbacks.v1";
/// Where the relay publishes order events.
pub const EVENTS_EXCHANGE: &str = "order.events";
/// Where the merchant's fulfilment consumes order events.
pub const EVENTS_QUEUE: &str = "order.events.v1";
