//! The command line.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::builder::RangedU64ValueParser;
use clap::{Parser, Subcommand, ValueEnum};

use crate::limits::{bare_publisher, synchronous, verifying_server};

/// Measures Countersign and, in the same rounds, the limits of the machine and a synchronous handler.
#[derive(Debug, Parser)]
#[command(version, after_help = "Run it through ./dev bench, which starts the servers; with --brokers 3, a cluster.")]
pub struct Cli {
    /// What is measured.
    #[command(flatten)]
    pub options: Options,
    /// One of the programs to compare with, instead of a measurement.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// The programs that the benchmark compares with Countersign's.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Ingest's HTTP server: verifies and answers, and publishes nothing
    #[command(hide = true)]
    VerifyingServer(verifying_server::Options),
    /// Confirmed publishes and nothing else
    #[command(hide = true)]
    BarePublisher(bare_publisher::Options),
    /// A handler that answers after its own transaction
    #[command(hide = true)]
    Synchronous(synchronous::Options),
}

/// What is measured.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Under four minutes: shorter windows, smaller backlogs, and only the parts ingest, worker and end-to-end
    #[arg(long)]
    pub quick: bool,
    /// Run only these parts
    #[arg(long, value_enum, value_delimiter = ',', value_name = "PART,..")]
    pub only: Vec<Part>,
    /// Rounds of each measurement, interleaved within each part (growth: per size; memory: always one)
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    pub rounds: usize,
    /// Write the medians as a flat JSON object
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Draw the charts into this folder
    #[arg(long, value_name = "FOLDER")]
    pub pictures: Option<PathBuf>,
    /// Compare with this file (written by --json) and exit 1 on a regression beyond noise; takes at least three rounds
    #[arg(long, value_name = "FILE")]
    pub compare: Option<PathBuf>,
}

/// A part of the benchmark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// Callbacks answered per second, compared with what the server and the broker can do alone.
    Ingest,
    /// A worker that drains a backlog, compared with pgbench.
    Worker,
    /// From the callback to the paid order, compared with a synchronous handler.
    EndToEnd,
    /// The worker's rate by lanes, workers, batch size and repeats.
    Shapes,
    /// Memory over a million callbacks.
    Memory,
    /// The worker's rate with up to ten million orders.
    Growth,
}

const QUICK: [Part; 3] = [Part::Ingest, Part::Worker, Part::EndToEnd];

impl Options {
    /// The parts to be run, in their order.
    #[must_use]
    pub fn parts(&self) -> Vec<Part> {
        let all: &[Part] = if self.quick && self.only.is_empty() { &QUICK } else { Part::value_variants() };
        all.iter().copied().filter(|part| self.only.is_empty() || self.only.contains(part)).collect()
    }

    /// How long a rate is measured.
    #[must_use]
    pub fn window(&self) -> Duration {
        Duration::from_secs(if self.quick { 2 } else { 4 })
    }

    /// How many payments a backlog has.
    #[must_use]
    pub fn backlog(&self) -> usize {
        if self.quick { 30_000 } else { 100_000 }
    }

    /// The figures to compare with.
    ///
    /// # Errors
    /// There is no such file.
    pub fn recorded(&self) -> Result<Option<BTreeMap<String, f64>>> {
        let Some(path) = &self.compare else { return Ok(None) };
        let read = || Ok(serde_json::from_str(&fs::read_to_string(path)?)?);
        let recorded: Result<_> = read();
        recorded.map(Some).with_context(|| format!("--compare: {}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}
