//! Where the real servers are. `./dev test` starts them and exports their URLs; `eval "$(./dev env)"` does for a shell.
//!
//! A test never skips itself: without servers each fails with one sentence that says what to run.

use std::env;

use anyhow::{Context, Result, anyhow};
use url::Url;

/// The URLs that `./dev env` prints.
#[derive(Debug, Clone)]
pub struct Servers {
    /// PostgreSQL, as administrator.
    pub database: Url,
    /// PostgreSQL, with the rights of a worker.
    pub worker_database: Url,
    /// RabbitMQ, as administrator.
    pub amqp: Url,
    /// RabbitMQ, with the rights of ingest.
    pub ingest_amqp: Url,
    /// RabbitMQ, with the rights of a worker.
    pub worker_amqp: Url,
    /// RabbitMQ's management API, as administrator.
    pub management: Url,
}

impl Servers {
    pub fn from_environment() -> Result<Self> {
        Ok(Self {
            database: url("DATABASE_URL")?,
            worker_database: url("WORKER_DATABASE_URL")?,
            amqp: url("AMQP_URLS")?,
            ingest_amqp: url("INGEST_AMQP_URLS")?,
            worker_amqp: url("WORKER_AMQP_URLS")?,
            management: url("RABBITMQ_MANAGEMENT_URL")?,
        })
    }
}

/// The first URL of `variable`.
fn url(variable: &str) -> Result<Url> {
    let value = env::var(variable).map_err(|_| {
        anyhow!("this test needs PostgreSQL and RabbitMQ, but {variable} is not set: run it through ./dev test")
    })?;
    let first = value.split(',').next().unwrap_or_default();
    Url::parse(first).with_context(|| format!("{variable} is no URL"))
}

/// `url` with another path: the name of a database or of a virtual host.
#[must_use]
pub fn with_path(url: &Url, path: &str) -> Url {
    let mut url = url.clone();
    url.set_path(path);
    url
}
