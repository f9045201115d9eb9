//! What Countersign is held against, each as small as it can honestly be.

pub mod bare_publisher;
pub mod pgbench;
pub mod synchronous;
pub mod verifying_server;
