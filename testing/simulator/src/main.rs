//! `simulator run`: one run against a pipeline that is up, and its books. Exit 0 only when the audit balances.
//! `simulator new-merchants`: the keys that it takes.

use std::process::ExitCode;

use clap::Parser;
use simulator::config::{Cli, Command};

/// A flag or variable that is missing or malformed.
const EXIT_CONFIG: u8 = 64;

#[tokio::main(worker_threads = 2)]
async fn main() -> ExitCode {
    let command = match Cli::try_parse() {
        Ok(cli) => cli.command,
        Err(error) => {
            // If stderr itself is gone, there is nothing left to do.
            drop(error.print());
            return if error.use_stderr() { ExitCode::from(EXIT_CONFIG) } else { ExitCode::SUCCESS };
        }
    };
    let done = match &command {
        Command::Run(options) => simulator::run::run(options).await,
        Command::NewMerchants { file } => simulator::merchants::new::write(file).map(|()| true),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("simulator: {error:#}");
            ExitCode::FAILURE
        }
    }
}
