//! The settings of ingest, from the environment or the command line. See `ingest --help`.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use shared::merchants_file::{MerchantsFile, Program};
use shared::messaging::connection::AmqpUrls;
use shared::process::config::ConfigError;
use shared::process::listener;
use shared::process::telemetry::LogFormat;

/// Receives WeChat Pay's callbacks, authenticates them, and stores them in the broker before it answers SUCCESS.
///
/// Every setting is an environment variable. SIGHUP re-reads the merchants file; SIGTERM stops after the callbacks in flight.
/// `RUST_LOG` selects what is logged (default: info).
#[derive(Debug, clap::Parser)]
#[command(version)]
pub struct Cli {
    /// What to do instead of serving.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// The settings.
    #[command(flatten)]
    pub config: Config,
}

/// What ingest does besides serving.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::Subcommand)]
pub enum Command {
    /// Ask the ingest on this machine whether it is alive; exit 0 if it is
    Healthcheck,
    /// Check the settings and the merchants file and print the fingerprint of every key; exit 0, or 64 with the reason
    CheckConfig,
}

/// The settings.
#[derive(Debug, Clone, clap::Args)]
pub struct Config {
    /// The broker: AMQP URLs of one or more of its nodes, comma separated; for other machines amqps://, or amqp:// with ?plain=yes
    #[arg(long, env = "AMQP_URLS", hide_env_values = true, default_value = "amqp://127.0.0.1:5672/%2f")]
    pub amqp_urls: AmqpUrls,
    /// The merchants and their keys: a TOML file, re-read on SIGHUP
    #[arg(long, env = "MERCHANTS_FILE")]
    pub merchants_file: PathBuf,
    /// Address and port that receive callbacks
    #[arg(long, env = "INGEST_ADDR", default_value = "0.0.0.0:8080")]
    pub ingest_addr: SocketAddr,
    /// Address and port of /healthz, /readyz and /metrics
    #[arg(long, env = "INGEST_ADMIN_ADDR", default_value = "127.0.0.1:8081")]
    pub ingest_admin_addr: SocketAddr,
    /// Channels that publish to the broker, 1 to 8
    #[arg(long, env = "PUBLISH_LANES", default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=8))]
    pub publish_lanes: u8,
    /// Most authentic callbacks published at once, 1 to 65536; further ones are answered 503
    #[arg(long, env = "IN_FLIGHT_MAX", default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub in_flight_max: u32,
    /// Memory for bodies being read, in MiB, 1 to 4096; further requests are answered 503 unread
    #[arg(long, env = "READING_MIB_MAX", default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub reading_mib_max: u32,
    /// Seconds between "not ready" and closing the port on SIGTERM, 0 to 60: long enough for load balancers to notice
    #[arg(long, env = "READINESS_GRACE_SECONDS", default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=60))]
    pub readiness_grace_seconds: u8,
    /// Format of log lines
    #[arg(long, env = "LOG_FORMAT", default_value = "json")]
    pub log_format: LogFormat,
}

impl Config {
    /// Reads the merchants and the keys that ingest needs.
    ///
    /// # Errors
    /// Names `MERCHANTS_FILE` and what is wrong with it.
    pub fn open_merchants(&self) -> Result<MerchantsFile, ConfigError> {
        MerchantsFile::open(self.merchants_file.clone(), Program::Ingest)
    }

    /// Opens the public port.
    ///
    /// # Errors
    /// Names the variable and the address.
    pub fn listen(&self) -> Result<TcpListener, ConfigError> {
        bind("INGEST_ADDR", self.ingest_addr)
    }

    /// Opens the admin port.
    ///
    /// # Errors
    /// Names the variable and the address.
    pub fn listen_admin(&self) -> Result<TcpListener, ConfigError> {
        bind("INGEST_ADMIN_ADDR", self.ingest_admin_addr)
    }

    pub(crate) fn readiness_grace(&self) -> Duration {
        Duration::from_secs(self.readiness_grace_seconds.into())
    }

    /// `ingest check-config`: prints the settings as understood.
    #[must_use]
    pub fn check(&self) -> ExitCode {
        let merchants = match self.open_merchants() {
            Ok(merchants) => merchants,
            Err(error) => return error.report(),
        };
        println!("broker: {}", self.amqp_urls.hosts());
        for line in merchants.describe() {
            println!("{line}");
        }
        ExitCode::SUCCESS
    }
}

fn bind(variable: &'static str, addr: SocketAddr) -> Result<TcpListener, ConfigError> {
    listener::listen(addr).map_err(|error| ConfigError { variable, problem: format!("{addr}: {error}") })
}
