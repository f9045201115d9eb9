//! The command line of the benchmark. It runs the programs that it compares with Countersign as children of itself.

use std::process::ExitCode;

use bench::config::{Cli, Command};
use bench::limits::{bare_publisher, synchronous, verifying_server};
use bench::{parts, report};
use clap::Parser;
use shared::process::shutdown::shutdown_signal;

/// With fewer rounds, one bad round on a shared machine looks like a regression.
const ROUNDS_TO_COMPARE: usize = 3;

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.command {
        None => measure(&cli).await,
        Some(Command::VerifyingServer(options)) => verifying_server::run(options).await.map(|()| true),
        Some(Command::BarePublisher(options)) => bare_publisher::run(options).await.map(|()| true),
        Some(Command::Synchronous(options)) => synchronous::run(options).await.map(|()| true),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// False when a ratio has regressed beyond noise.
async fn measure(cli: &Cli) -> anyhow::Result<bool> {
    let options = &cli.options;
    let recorded = options.recorded()?;
    let shutdown = shutdown_signal()?;
    let figures = tokio::select! {
        figures = parts::run(options) => figures?,
        // Its programs are dropped with it, which ends them; ./dev ends the servers.
        () = shutdown => anyhow::bail!("interrupted"),
    };
    let Some(recorded) = recorded else { return Ok(true) };
    if options.rounds < ROUNDS_TO_COMPARE {
        println!(
            "not compared with the recorded ratios: telling a regression from noise takes {ROUNDS_TO_COMPARE} rounds"
        );
        return Ok(true);
    }
    let regressions = report::regressions(&recorded, &figures);
    for line in &regressions {
        println!("{line}");
    }
    if regressions.is_empty() {
        println!("no regression beyond noise");
    }
    Ok(regressions.is_empty())
}
