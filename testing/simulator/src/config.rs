//! The command line: flags for what is simulated, environment variables for where the pipeline is.
//!
//! Secrets are `SecretString` from the first line they exist, and `--help` never shows their values.

use std::convert::Infallible;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand};
use secrecy::SecretString;

use crate::merchants::PLATFORM_KEYS;
use crate::scenarios::Mix;

/// Plays WeChat Pay and the merchant's shop against Countersign, then audits what the pipeline made of it.
#[derive(Debug, Parser)]
#[command(version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create orders, send their callbacks, wait until all are handled, audit and report; exit 0 only if the books balance
    Run(Box<Options>),
    /// Write a merchants file with random keys, and next to it the platform keys that this program signs with
    NewMerchants {
        /// The file to write; it must not exist
        file: PathBuf,
    },
}

/// One run.
#[derive(Debug, Args)]
pub struct Options {
    /// Number of orders
    #[arg(long, default_value = "20000", value_name = "N")]
    pub orders: NonZeroUsize,
    /// Requests per second, repeats included, on a fixed schedule that does not wait for answers [default: as fast as answers arrive]
    #[arg(long, value_name = "R")]
    pub rate: Option<NonZeroU32>,
    /// Keep-alive connections; without --rate, this many requests are in flight
    #[arg(long, default_value = "64", value_name = "N")]
    pub connections: NonZeroUsize,
    /// Seed that makes scenarios, amounts and bodies repeatable; order numbers stay unique to the run [default: random, and printed]
    #[arg(long, value_name = "S")]
    pub seed: Option<u64>,
    /// Shell command to run once in the background when half of the callbacks have been sent; if it fails, the run fails
    #[arg(long, value_name = "COMMAND")]
    pub at_half: Option<String>,
    /// Divide WeChat Pay's retry schedule (15 s, 15 s, 30 s, 3 min and so on) by this
    #[arg(long, default_value_t = crate::gateway::schedule::RETRY_COMPRESSION, value_name = "FACTOR")]
    pub retry_compression: NonZeroU32,
    /// Stop waiting when nothing has changed for this long
    #[arg(long, default_value = "60", value_name = "SECONDS")]
    pub drain_seconds: NonZeroU32,
    /// Also write the report as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write one line per request: when it was due and when it was answered (milliseconds since 1970), and the answer
    #[arg(long, value_name = "FILE")]
    pub timeline: Option<PathBuf>,
    /// Shares of the scenarios.
    #[command(flatten)]
    pub mix: Mix,
    /// Where the pipeline is.
    #[command(flatten)]
    pub pipeline: Pipeline,
}

/// Where the pipeline is.
#[derive(Debug, Args)]
#[command(next_help_heading = "Pipeline")]
pub struct Pipeline {
    /// Base URL of ingest (http only); several, comma-separated, share the connections
    #[arg(long, env, value_delimiter = ',', required = true, value_name = "URL")]
    pub ingest_url: Vec<String>,
    /// The shop's database; the role must be able to write orders and read all tables
    #[arg(long, env, hide_env_values = true, value_parser = secret, value_name = "URL")]
    pub database_url: SecretString,
    /// Brokers, comma-separated; the user must be able to read the order events queue
    #[arg(long, env, hide_env_values = true, value_parser = secret, value_name = "URLS")]
    pub amqp_urls: SecretString,
    /// The merchants file: the merchants to play, with their keys
    #[arg(long, env, value_name = "FILE")]
    pub merchants_file: PathBuf,
    /// Folder of the private platform keys, one SERIAL.pem each; without them only API v2 can be played [default:
    /// platform-keys next to the merchants file]
    #[arg(long, env, value_name = "FOLDER")]
    pub platform_keys_dir: Option<PathBuf>,
    /// The queue of order events; the run consumes it, including the events of other runs
    #[arg(long, env, default_value = "order.events.v1", value_name = "QUEUE")]
    pub order_events_queue: String,
}

impl Pipeline {
    /// Where the private platform keys are.
    #[must_use]
    pub fn platform_keys(&self) -> PathBuf {
        let default = || self.merchants_file.parent().unwrap_or(Path::new(".")).join(PLATFORM_KEYS);
        self.platform_keys_dir.clone().unwrap_or_else(default)
    }
}

#[expect(clippy::unnecessary_wraps, reason = "clap wants a parser that may fail")]
fn secret(text: &str) -> Result<SecretString, Infallible> {
    Ok(SecretString::from(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn secrets_never_show() {
        let arguments = [
            "simulator",
            "run",
            "--ingest-url",
            "http://a,http://b",
            "--database-url",
            "postgres://u:pass1@h/d",
            "--amqp-urls",
            "amqp://u:pass2@h",
            "--merchants-file",
            "m.toml",
        ];
        let Command::Run(options) = Cli::try_parse_from(arguments).unwrap().command else { panic!("another command") };
        assert_eq!(options.pipeline.ingest_url, ["http://a", "http://b"]);
        let shown = format!("{options:?}");
        assert!(!shown.contains("pass1") && !shown.contains("pass2"), "{shown}");
    }
}
