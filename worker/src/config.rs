//! The worker's configuration: environment variables, each also an option, all listed by `--help`.
#![expect(clippy::doc_markdown, reason = "the comments on options are the text of --help")]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use secrecy::SecretString;
use shared::merchants_file::{MerchantsFile, Program};
use shared::messaging::connection::AmqpUrls;
use shared::messaging::topology::CALLBACKS_QUEUE;
use shared::process::config::ConfigError;
use shared::process::telemetry::LogFormat;

use crate::operator;
use crate::store::database::Database;
use crate::store::schema;

/// Takes WeChat Pay callbacks from RabbitMQ and applies them to orders in PostgreSQL, once.
#[derive(Debug, Parser)]
#[command(name = "worker", version)]
pub struct Cli {
    /// What to do; the default is `run`
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Where and how.
    #[command(flatten)]
    pub settings: Settings,
}

/// What the binary can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Work until SIGTERM
    Run,
    /// Apply migrations and create the ledger's upcoming partitions; needs a role that may change tables
    Migrate(MigrateArgs),
    /// List, inspect, replay, accept, resolve or abandon held callbacks
    #[command(subcommand)]
    Quarantine(operator::Command),
    /// Ask a running worker's /healthz and exit with 0 or 1
    Healthcheck,
    /// Check the variables and the merchants file, print which merchants have keys, and exit with 0 or 64
    CheckConfig,
}

/// How to migrate.
#[derive(Debug, Args)]
pub struct MigrateArgs {
    /// Total seconds to wait for locks that other sessions hold; then exit with 75
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    wait_max_seconds: u64,
    /// A directory of migrations to apply instead of those in this binary, for tests and drills
    #[arg(long)]
    migrations: Option<PathBuf>,
}

impl MigrateArgs {
    /// These, with a function that prints what the run waits for.
    #[must_use]
    pub fn into_options(self, report: fn(&str)) -> schema::Options {
        let patience = Duration::from_secs(self.wait_max_seconds);
        schema::Options { directory: self.migrations, patience, report }
    }
}

/// Every variable.
#[derive(Debug, Args)]
pub struct Settings {
    /// RabbitMQ, comma separated, tried in turn; off this machine amqps://, or amqp:// with ?plain=yes
    #[arg(long, env = "AMQP_URLS", hide_env_values = true, global = true, default_value = "amqp://127.0.0.1:5672/%2f")]
    amqp_urls: AmqpUrls,
    /// PostgreSQL: postgres://user:password@host:5432/database?sslmode=MODE (required). MODE is verify-full (require is the same), verify-ca or disable; on this machine it may be left out. sslrootcert=FILE names the certificates to trust
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, global = true)]
    database_url: Option<SecretString>,
    /// TOML file with the merchants and their keys; read again on SIGHUP (required)
    #[arg(long, env = "MERCHANTS_FILE", global = true)]
    merchants_file: Option<PathBuf>,
    /// Where /healthz, /readyz and /metrics are served
    #[arg(long, env = "WORKER_ADMIN_ADDR", global = true, default_value = "127.0.0.1:8082")]
    pub admin_addr: SocketAddr,
    /// Lanes per queue: each has a broker channel and a database connection
    #[arg(long, env = "WORKER_LANES", global = true, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
    lanes: u16,
    /// Maximum number of callbacks in one transaction; twice as many are prefetched
    #[arg(long, env = "WORKER_BATCH_MAX", global = true, default_value_t = 1024, value_parser = clap::value_parser!(u16).range(1..=4096))]
    batch_max: u16,
    /// Seconds a callback may wait for its order before it is opened for an operator
    #[arg(long, env = "WAIT_LIMIT_SECONDS", global = true, default_value_t = 900, value_parser = clap::value_parser!(u64).range(1..=604_800))]
    wait_limit_seconds: u64,
    /// Queues to consume, comma separated
    #[arg(long, env = "WORKER_QUEUES", global = true, value_delimiter = ',', default_value = CALLBACKS_QUEUE)]
    queues: Vec<String>,
    /// How logs are written
    #[arg(long, env = "LOG_FORMAT", global = true, default_value = "json")]
    pub log_format: LogFormat,
}

/// What a running worker needs, checked.
pub struct Config {
    /// Where the broker is.
    pub urls: AmqpUrls,
    /// Where the database is.
    pub database: Database,
    /// The keys.
    pub merchants: Arc<MerchantsFile>,
    /// Lanes per queue.
    pub lanes: usize,
    /// The most messages in one transaction.
    pub batch_max: u16,
    /// How long a callback waits before it is opened for an operator.
    pub wait_limit: Duration,
    /// The queues to consume.
    pub queues: Vec<String>,
}

impl Settings {
    /// Checks everything that `run` needs.
    ///
    /// # Errors
    /// Names the first variable that is missing or malformed.
    pub fn config(&self) -> Result<Config, ConfigError> {
        if let Some(bad) = self.queues.iter().find(|queue| queue.trim().is_empty()) {
            let problem = format!("contains an empty queue name: {bad:?}");
            return Err(ConfigError { variable: "WORKER_QUEUES", problem });
        }
        Ok(Config {
            urls: self.amqp_urls.clone(),
            database: self.database()?,
            merchants: Arc::new(self.merchants()?),
            lanes: usize::from(self.lanes),
            batch_max: self.batch_max,
            wait_limit: self.wait_limit(),
            queues: self.queues.iter().map(|queue| queue.trim().to_owned()).collect(),
        })
    }

    /// Where the database is.
    ///
    /// # Errors
    /// When `DATABASE_URL` is missing or malformed.
    pub fn database(&self) -> Result<Database, ConfigError> {
        let url = self.database_url.as_ref().ok_or_else(|| required("DATABASE_URL"))?;
        let wrong = |error: crate::store::database::DatabaseUrlError| ConfigError {
            variable: "DATABASE_URL",
            problem: error.to_string(),
        };
        Database::parse(url).map_err(wrong)
    }

    /// The merchants' keys, retired ones included: what they signed may still be queued.
    ///
    /// # Errors
    /// When `MERCHANTS_FILE` is missing or invalid.
    pub fn merchants(&self) -> Result<MerchantsFile, ConfigError> {
        let path = self.merchants_file.clone().ok_or_else(|| required("MERCHANTS_FILE"))?;
        MerchantsFile::open(path, Program::Worker)
    }

    /// How long a callback waits before it is opened for an operator.
    #[must_use]
    pub fn wait_limit(&self) -> Duration {
        Duration::from_secs(self.wait_limit_seconds)
    }
}

fn required(variable: &'static str) -> ConfigError {
    ConfigError { variable, problem: "is required".to_owned() }
}
