//! What a run is told.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::builder::RangedU64ValueParser;
use clap::{Parser, Subcommand, ValueEnum};

use crate::limits::{bare_publisher, synchronous, verifying_server};

/// Measures Countersign beside the physical limits and beside a synchronous handler.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Run it through ./dev bench, which starts the servers, and those of a cluster with --brokers 3."
)]
pub struct Cli {
    /// What is measured.
    #[command(flatten)]
    pub options: Options,
    /// One of the programs to compare with, instead of a measurement.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// The programs that the benchmark starts beside Countersign's own.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// The server of ingest, which verifies and answers, and publishes nothing
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
    /// Under four minutes: shorter windows, smaller backlogs, and only ingest, worker and end-to-end
    #[arg(long)]
    pub quick: bool,
    /// Only these parts
    #[arg(long, value_enum, value_delimiter = ',', value_name = "PART,..")]
    pub only: Vec<Part>,
    /// Rounds of each measurement, interleaved within each part; growth goes size by size, and memory has one
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    pub rounds: usize,
    /// Write the medians as one flat JSON object
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Draw the pictures into this folder
    #[arg(long, value_name = "FOLDER")]
    pub pictures: Option<PathBuf>,
    /// Say which ratio is worse than in this file (written by --json) by more than its noise, and exit with 1; it takes
    /// three rounds to tell
    #[arg(long, value_name = "FILE")]
    pub compare: Option<PathBuf>,
}

/// A part of the benchmark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// Callbacks answered a second, beside what server and broker can do alone.
    Ingest,
    /// A backlog drained, beside pgbench.
    Worker,
    /// From the callback to the paid order, beside a synchronous handler.
    EndToEnd,
    /// Lanes, workers, batch sizes, repeats.
    Shapes,
    /// Memory over a million callbacks.
    Memory,
    /// With up to ten million orders.
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
