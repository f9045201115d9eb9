//! Connections to PostgreSQL. Each loop owns one for life and makes a new one when it breaks; there is no pool.
//!
//! Time is bounded on the server (`statement_timeout`, `lock_timeout`) and on the wire (`tcp_user_timeout`). A statement that
//! hangs in spite of both is given up together with its connection, because dropping a future does not end a transaction.

use std::time::Duration;

use diesel::result::Error;
use diesel::{ConnectionError, ConnectionResult};
use diesel_async::{AsyncPgConnection, SimpleAsyncConnection};
use secrecy::{ExposeSecret, SecretString};
use shared::process::telemetry::chain;
use tokio_postgres_rustls::MakeRustlsConnect;

mod tls;
mod url;

pub use tls::TlsError;
pub use url::DatabaseUrlError;
use url::{Encryption, Target};

/// How long a connection attempt may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the other side may leave sent bytes unanswered before the connection counts as dead.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a silent connection waits before it probes the other side.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(10);

/// How long a statement waits for a lock: then the batch goes on without the locked rows.
pub const LOCK_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a statement may run.
pub const STATEMENT_TIMEOUT: Duration = Duration::from_secs(30);
/// If the network silently drops a worker, its open transaction keeps its order locks, or the relay's claim, until the server
/// ends it. A healthy transaction is never idle for more than 10 s: the relay's wait for four batches of confirms.
const IDLE_IN_TRANSACTION_TIMEOUT: Duration = Duration::from_secs(15);

/// The statements that set up a session. Every statement names the schema of its tables, and the path holds no other schema
/// than the system's: a statement that forgets it fails instead of finding a table of the shop's. An asynchronous commit may be lost after it was acknowledged, so a session that has
/// it by default is made durable.
fn session_settings() -> String {
    format!(
        "SET lock_timeout = {}; SET statement_timeout = {}; SET idle_in_transaction_session_timeout = {}; \
         SET TIME ZONE 'UTC'; SET search_path = pg_catalog; SET default_transaction_isolation = 'read committed'; \
         SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') IN ('off', 'local')",
        LOCK_TIMEOUT.as_millis(),
        STATEMENT_TIMEOUT.as_millis(),
        IDLE_IN_TRANSACTION_TIMEOUT.as_millis(),
    )
}

/// How long a statement waits for a lock when its transaction can go on without the locked row.
pub const LITTLE_LOCK_TIMEOUT: Duration = Duration::from_millis(100);

/// Shortens the lock time-out of this transaction: rows that stay locked are skipped.
///
/// # Errors
/// When the database is unavailable.
pub async fn wait_little_for_locks(conn: &mut AsyncPgConnection) -> Result<(), Error> {
    conn.batch_execute(&format!("SET LOCAL lock_timeout = {}", LITTLE_LOCK_TIMEOUT.as_millis())).await
}

/// Where the database is and how to reach it.
#[derive(Clone)]
pub struct Database {
    config: tokio_postgres::Config,
    tls: Option<MakeRustlsConnect>,
    /// The hosts that are not this machine.
    remote: Vec<String>,
}

impl Database {
    /// Reads a `DATABASE_URL`. Its `sslmode` decides how the server's certificate is checked; off this machine it must have one.
    ///
    /// # Errors
    /// When it is not one, would go unencrypted without saying so, or asks for TLS and there are no root certificates.
    pub fn parse(url: &SecretString) -> Result<Self, DatabaseUrlError> {
        let Target { mut config, encryption, remote } = url::parse(url.expose_secret())?;
        config
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_user_timeout(TCP_USER_TIMEOUT)
            .keepalives_idle(KEEPALIVE_IDLE)
            .application_name("countersign-worker");
        let tls = match &encryption {
            Encryption::Plain => None,
            Encryption::Tls { check, roots } => Some(tls::connector(*check, roots)?),
        };
        Ok(Self { config, tls, remote })
    }

    /// Logs the hosts to which everything goes unencrypted although they are not this machine. To be called once, at the start.
    pub fn warn_of_plain(&self) {
        if self.tls.is_none() && !self.remote.is_empty() {
            tracing::warn!(
                database = self.remote.join(", "),
                "DATABASE_URL says sslmode=disable: the connection to this database is not encrypted, so the password is sent in clear text"
            );
        }
    }

    /// A new connection with the session's bounds set.
    ///
    /// # Errors
    /// When the server cannot be reached or refuses.
    pub async fn connect(&self) -> ConnectionResult<AsyncPgConnection> {
        // A server that is stopped or full accepts the connection and then stays silent.
        match tokio::time::timeout(CONNECT_TIMEOUT, self.open()).await {
            Ok(opened) => opened,
            Err(_) => Err(ConnectionError::BadConnection(format!("no answer within {} s", CONNECT_TIMEOUT.as_secs()))),
        }
    }

    async fn open(&self) -> ConnectionResult<AsyncPgConnection> {
        let bad = |error: tokio_postgres::Error| ConnectionError::BadConnection(chain(&error));
        let mut conn = if let Some(tls) = &self.tls {
            let (client, connection) = self.config.connect(tls.clone()).await.map_err(bad)?;
            AsyncPgConnection::try_from_client_and_connection(client, connection).await?
        } else {
            let (client, connection) = self.config.connect(tokio_postgres::NoTls).await.map_err(bad)?;
            AsyncPgConnection::try_from_client_and_connection(client, connection).await?
        };
        conn.batch_execute(&session_settings()).await.map_err(ConnectionError::CouldntSetupConfiguration)?;
        Ok(conn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_set_up_with_the_limits_that_the_code_counts_on() {
        assert_eq!(
            session_settings(),
            "SET lock_timeout = 1000; SET statement_timeout = 30000; SET idle_in_transaction_session_timeout = 15000; \
             SET TIME ZONE 'UTC'; SET search_path = pg_catalog; SET default_transaction_isolation = 'read committed'; \
             SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') IN ('off', 'local')"
        );
        assert!(LITTLE_LOCK_TIMEOUT < LOCK_TIMEOUT && LOCK_TIMEOUT < STATEMENT_TIMEOUT);
    }
}
