//! The shop's own access to its database. It shares no code with the worker, because an audit must not depend on the audited
//! program's own view.
//!
//! Survives the database's restarts: a broken connection is replaced by the next call.

use std::str::FromStr;
use std::time::Duration;

use anyhow::Context;
use kit::database::IN_SCHEMA;
use secrecy::{ExposeSecret, SecretString};
use tokio_postgres::{Client, Config, NoTls};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection that is made when it is needed.
#[derive(Debug)]
pub struct Database {
    url: SecretString,
    client: Option<Client>,
}

impl Database {
    /// Not connected yet.
    #[must_use]
    pub fn new(url: SecretString) -> Self {
        Self { url, client: None }
    }

    /// The connection, a fresh one when there is none or the last one broke.
    ///
    /// # Errors
    /// When the URL is none, or the database cannot be reached; never with the password.
    pub async fn client(&mut self) -> anyhow::Result<&mut Client> {
        let client = match self.client.take() {
            Some(client) if !client.is_closed() => client,
            _ => connect(&self.url).await?,
        };
        Ok(self.client.insert(client))
    }
}

async fn connect(url: &SecretString) -> anyhow::Result<Client> {
    let mut config = Config::from_str(url.expose_secret()).ok().context("DATABASE_URL is not a PostgreSQL URL")?;
    config.connect_timeout(CONNECT_TIMEOUT).application_name("simulator").options(IN_SCHEMA);
    let (client, connection) = config.connect(NoTls).await.context("DATABASE_URL: the database cannot be reached")?;
    // Its errors reach the client's callers too.
    tokio::spawn(connection);
    Ok(client)
}
