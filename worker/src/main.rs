//! The `worker` binary: one function per command.

use std::net::TcpListener;
use std::process::ExitCode;

use anyhow::Context;
use shared::process::shutdown::shutdown_signal;
use shared::process::{self, admin, config, telemetry};
use worker::config::{Cli, Command, MigrateArgs, Settings};
use worker::store::schema::{self, MigrateError};
use worker::{operator, run};

/// The exit code of a migration that other sessions blocked for too long (`EX_TEMPFAIL` of sysexits.h): try again later.
const EXIT_TRY_AGAIN: u8 = 75;

#[tokio::main]
async fn main() -> ExitCode {
    process::no_core_dumps();
    let cli: Cli = match config::parse_args() {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    telemetry::init_logs(cli.settings.log_format);
    let result = match cli.command.unwrap_or(Command::Run) {
        Command::Run => run_until_stopped(&cli.settings).await,
        Command::Migrate(args) => migrate(&cli.settings, args).await,
        Command::Quarantine(command) => operate(&cli.settings, command).await,
        Command::Healthcheck => return admin::healthcheck(cli.settings.admin_addr),
        Command::CheckConfig => check_config(&cli.settings),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => match error.downcast::<config::ConfigError>() {
            Ok(error) => error.report(),
            Err(error) => {
                eprintln!("worker: {error:#}");
                let temporary = error.downcast_ref().is_some_and(MigrateError::is_temporary);
                if temporary { ExitCode::from(EXIT_TRY_AGAIN) } else { ExitCode::FAILURE }
            }
        },
    }
}

async fn run_until_stopped(settings: &Settings) -> anyhow::Result<()> {
    let config = settings.config()?;
    config.urls.warn_of_plain();
    config.database.warn_of_plain();
    let shutdown = shutdown_signal()?;
    let listener = TcpListener::bind(settings.admin_addr)
        .map_err(|error| config_error("WORKER_ADMIN_ADDR", format!("{}: {error}", settings.admin_addr)))?;
    run::run(listener, config, shutdown).await
}

async fn migrate(settings: &Settings, args: MigrateArgs) -> anyhow::Result<()> {
    let options = args.into_options(|line| eprintln!("worker: {line}"));
    let database = settings.database()?;
    database.warn_of_plain();
    let migrated = schema::migrate(&database, &options).await?;
    for name in &migrated.applied {
        println!("applied {name}");
    }
    println!("schema is current; {} months made for the ledger", migrated.months);
    Ok(())
}

async fn operate(settings: &Settings, command: operator::Command) -> anyhow::Result<()> {
    let conn = settings.database()?.connect().await.context("the database cannot be reached")?;
    // Keys are needed only to open the callbacks that are shown; all else works without them.
    let merchants = settings.merchants().ok();
    operator::run(conn, command, settings.wait_limit(), merchants.as_ref()).await
}

fn check_config(settings: &Settings) -> anyhow::Result<()> {
    let config = settings.config()?;
    println!("broker: {}", config.urls.hosts());
    for line in config.merchants.describe() {
        println!("{line}");
    }
    Ok(())
}

fn config_error(variable: &'static str, problem: String) -> config::ConfigError {
    config::ConfigError { variable, problem }
}
