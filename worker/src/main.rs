//! The `worker` binary: a list of what it can do.

use std::net::TcpListener;
use std::process::ExitCode;

use anyhow::Context;
use shared::stop::stop_signal;
use shared::{admin, config, telemetry};
use worker::config::{Cli, Command, Settings};
use worker::store::schema;
use worker::{app, quarantine};

#[tokio::main]
async fn main() -> ExitCode {
    let cli: Cli = match config::parse_args() {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    telemetry::init_logs(cli.settings.log_format);
    let result = match cli.command.unwrap_or(Command::Run) {
        Command::Run => run(&cli.settings).await,
        Command::Migrate => migrate(&cli.settings).await,
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
                ExitCode::FAILURE
            }
        },
    }
}

async fn run(settings: &Settings) -> anyhow::Result<()> {
    let config = settings.config()?;
    config.urls.warn_of_plain();
    config.database.warn_of_plain();
    let shutdown = stop_signal()?;
    let listener = TcpListener::bind(settings.admin_addr)
        .map_err(|error| config_error("WORKER_ADMIN_ADDR", format!("{}: {error}", settings.admin_addr)))?;
    app::run(listener, config, shutdown).await
}

async fn migrate(settings: &Settings) -> anyhow::Result<()> {
    let database = settings.database()?;
    database.warn_of_plain();
    let conn = database.connect().await.context("the database cannot be reached")?;
    let migrated = schema::migrate(conn).await?;
    for name in &migrated.applied {
        println!("applied {name}");
    }
    println!("schema is current; {} months made for the ledger", migrated.months);
    Ok(())
}

async fn operate(settings: &Settings, command: quarantine::Command) -> anyhow::Result<()> {
    let conn = settings.database()?.connect().await.context("the database cannot be reached")?;
    quarantine::run(conn, command, settings.wait_limit()).await
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
