//! Connections to PostgreSQL. Each loop owns one for life and makes a new one when it breaks; there is no pool.
//!
//! Time is bounded on the server (`statement_timeout`, `lock_timeout`) and on the wire (`tcp_user_timeout`). What hangs
//! all the same is given up together with its connection: a dropped future does not end a transaction, a closed
//! connection does.

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

/// Bounds for every statement. A lock that somebody holds longer than `lock_timeout` is worked round, not waited for.
/// A transaction whose worker was forgotten on the way holds orders, or the right to relay, until the server ends it: no
/// healthy one is idle for longer than the relay waits for the confirms of its four batches at most, 10 s.
/// An asynchronous commit may be lost after it was acknowledged, so a session that has it by default is made durable.
const SESSION: &str = "SET lock_timeout = '1s'; SET statement_timeout = '30s'; \
     SET idle_in_transaction_session_timeout = '15s'; SET TIME ZONE 'UTC'; \
     SET default_transaction_isolation = 'read committed'; \
     SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') IN ('off', 'local')";

/// How long a statement waits for a lock that its transaction can do without.
pub const LITTLE_LOCK_TIMEOUT: Duration = Duration::from_millis(100);

/// Lets this transaction wait only a little for every lock: what it cannot have is passed by.
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
        // A server that is stopped or full accepts the connection and then says nothing.
        match tokio::time::timeout(CONNECT_TIMEOUT, self.open()).await {
            Ok(opened) => opened,
            Err(_) => Err(ConnectionError::BadConnection("no answer in time".to_owned())),
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
        conn.batch_execute(SESSION).await.map_err(ConnectionError::CouldntSetupConfiguration)?;
        Ok(conn)
    }
}
