//! Connections to PostgreSQL. Each loop owns one for life and makes a new one when it breaks; there is no pool.
//!
//! Time is bounded on the server (`statement_timeout`, `lock_timeout`) and on the wire (`tcp_user_timeout`). What hangs
//! all the same is given up together with its connection: a dropped future does not end a transaction, a closed
//! connection does.

use std::str::FromStr;
use std::time::Duration;

use diesel::result::Error;
use diesel::{ConnectionError, ConnectionResult};
use diesel_async::{AsyncPgConnection, SimpleAsyncConnection};
use secrecy::{ExposeSecret, SecretString};
use shared::telemetry::chain;
use tokio_postgres::config::SslMode;
use tokio_postgres_rustls::MakeRustlsConnect;

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
}

/// Why `DATABASE_URL` is no use. Never holds the URL: it has a password in it.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseUrlError {
    /// Not a PostgreSQL URL.
    #[error("is not a PostgreSQL URL (postgres://user:password@host:5432/database?sslmode=disable|require)")]
    Malformed,
    /// TLS is asked for, but no root certificates can be had.
    #[error("asks for TLS, but this machine has no usable root certificates")]
    NoRoots,
}

impl Database {
    /// Reads a `DATABASE_URL`. `sslmode=require` checks the server's certificate against the machine's roots;
    /// anything else is plain TCP or a Unix socket.
    ///
    /// # Errors
    /// When it is not one, or asks for TLS on a machine without root certificates.
    pub fn parse(url: &SecretString) -> Result<Self, DatabaseUrlError> {
        let mut config =
            tokio_postgres::Config::from_str(url.expose_secret()).map_err(|_| DatabaseUrlError::Malformed)?;
        if config.get_hosts().is_empty() {
            return Err(DatabaseUrlError::Malformed);
        }
        config
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_user_timeout(TCP_USER_TIMEOUT)
            .keepalives_idle(KEEPALIVE_IDLE)
            .application_name("countersign-worker");
        let tls = if config.get_ssl_mode() == SslMode::Require {
            Some(native_tls()?)
        } else {
            config.ssl_mode(SslMode::Disable);
            None
        };
        Ok(Self { config, tls })
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

fn native_tls() -> Result<MakeRustlsConnect, DatabaseUrlError> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(DatabaseUrlError::NoRoots);
    }
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|_| DatabaseUrlError::NoRoots)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}
