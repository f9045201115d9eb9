//! The command line of the drill: exit 0 when every promise held, 1 when not, 2 when the drill itself could not be run.

use std::process::ExitCode;

use clap::Parser;
use drill::config::Options;
use drill::{run, schedule, summary};
use shared::process::shutdown::shutdown_signal;

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    if options.plan || !options.summarize.is_empty() {
        return show(&options);
    }
    let shutdown = match shutdown_signal() {
        Ok(shutdown) => shutdown,
        Err(error) => return exit_code(Err(error.into())),
    };
    let drilled = tokio::select! {
        drilled = run::run(&options) => drilled,
        // Its programs and proxies are dropped with it, which ends them; ./dev ends the servers.
        () = shutdown => return ExitCode::from(130),
    };
    exit_code(drilled)
}

/// What needs no servers.
fn show(options: &Options) -> ExitCode {
    if options.plan {
        let brokers = options.place.brokers().unwrap_or(3);
        let schedule = schedule::draw(options.seed, options.seconds(), options.faults(), brokers);
        run::show_schedule(options, &schedule);
        return ExitCode::SUCCESS;
    }
    exit_code(summary::summarize(&options.summarize).map(|table| {
        print!("{table}");
        true
    }))
}

fn exit_code(drilled: anyhow::Result<bool>) -> ExitCode {
    match drilled {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("the drill could not be completed: {error:#}");
            ExitCode::from(2)
        }
    }
}
