//! The command line: options for what happens, and the variables that `./dev drill` sets for where.

use std::num::NonZeroU32;
use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::Parser;
use url::Url;

use crate::fault::Fault;

/// The faults of `--short`: one of each kind that works with one broker node, in about three minutes.
const SHORT: [Fault; 9] = [
    Fault::IngestKill,
    Fault::WorkerKill,
    Fault::LeaderKill,
    Fault::DatabaseKill,
    Fault::ConfirmLost,
    Fault::WorkerBrokerCut,
    Fault::Migrate,
    Fault::SlowClients,
    Fault::UnroutableEvents,
];
const SHORT_SECONDS: u64 = 180;
const SECONDS: u64 = 180;

/// Breaks every part of Countersign under load, on a schedule drawn from a seed, and then audits every promise.
#[derive(Debug, Parser)]
#[command(version, after_help = "Run it through ./dev drill, which also accepts --brokers 1|3.")]
pub struct Options {
    /// Seconds for which callbacks are sent [default: 180]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(30..=86_400))]
    pub seconds: Option<u64>,
    /// Seed of the schedule and of the callbacks; the same seed gives the same drill
    #[arg(long, default_value_t = 1, value_name = "S")]
    pub seed: u64,
    /// Inject only these faults, repeatedly until the time is up
    #[arg(long, value_enum, value_delimiter = ',', value_name = "NAME,..")]
    pub faults: Vec<Fault>,
    /// Requests per second, on a schedule that does not wait for answers
    #[arg(long, default_value = "150", value_name = "R")]
    pub rate: NonZeroU32,
    /// About three minutes: one broker node, nine faults
    #[arg(long)]
    pub short: bool,
    /// Print the schedule and exit
    #[arg(long)]
    pub plan: bool,
    /// Print one table of the JSON reports of several drills and exit
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub summarize: Vec<PathBuf>,
    /// Also write the report as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Draw the timeline into this file
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    /// Where everything is.
    #[command(flatten)]
    pub place: Place,
}

/// Where everything is, as set by `./dev drill`. Lists have one entry per broker node, in the same order.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Set by ./dev drill")]
pub struct Place {
    /// The script that starts and kills servers
    #[arg(long, env, hide = true, default_value = "./dev")]
    pub dev: PathBuf,
    /// Where logs and pid files are
    #[arg(long, env, hide = true, default_value = ".dev/drill")]
    pub drill_dir: PathBuf,
    /// PostgreSQL, as administrator
    #[arg(long, env, hide = true, hide_env_values = true)]
    pub database_url: Option<Url>,
    /// PostgreSQL, with the rights of a worker
    #[arg(long, env, hide = true, hide_env_values = true)]
    pub worker_database_url: Option<Url>,
    /// RabbitMQ, as administrator
    #[arg(long, env, hide = true, hide_env_values = true, value_delimiter = ',')]
    pub amqp_urls: Vec<Url>,
    /// RabbitMQ, with the rights of ingest
    #[arg(long, env, hide = true, hide_env_values = true, value_delimiter = ',')]
    pub ingest_amqp_urls: Vec<Url>,
    /// RabbitMQ, with the rights of a worker
    #[arg(long, env, hide = true, hide_env_values = true, value_delimiter = ',')]
    pub worker_amqp_urls: Vec<Url>,
    /// RabbitMQ's management API
    #[arg(long, env, hide = true, hide_env_values = true, value_delimiter = ',')]
    pub rabbitmq_management_url: Vec<Url>,
    /// Where a small file system can be mounted for PostgreSQL
    #[arg(long, env, hide = true, default_value = ".dev/drill/postgres/small-disk")]
    pub small_disk: PathBuf,
    /// The first node's rabbitmqctl
    #[arg(long, env, hide = true, default_value = "rabbitmqctl")]
    pub rabbitmqctl: PathBuf,
}

impl Options {
    /// How long callbacks are sent.
    #[must_use]
    pub fn seconds(&self) -> u64 {
        self.seconds.unwrap_or(if self.short { SHORT_SECONDS } else { SECONDS })
    }

    /// The faults to draw from; empty: all.
    #[must_use]
    pub fn faults(&self) -> &[Fault] {
        if self.short && self.faults.is_empty() { &SHORT } else { &self.faults }
    }
}

impl Place {
    /// How many broker nodes there are.
    ///
    /// # Errors
    /// The lists do not name as many each.
    pub fn brokers(&self) -> Result<usize> {
        let nodes = self.rabbitmq_management_url.len();
        let lists = [&self.amqp_urls, &self.ingest_amqp_urls, &self.worker_amqp_urls];
        ensure!(nodes > 0 && lists.iter().all(|urls| urls.len() == nodes), "run it through ./dev drill");
        Ok(nodes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Options::command().debug_assert();
    }

    #[test]
    fn passwords_never_show() {
        let options = Options::try_parse_from(["drill", "--amqp-urls", "amqp://u:hunter2@h:1"]).unwrap();
        assert_eq!(options.place.amqp_urls.len(), 1);
        assert!(!Options::try_parse_from(["drill", "--help"]).unwrap_err().to_string().contains("hunter2"));
    }
}
