//! `ingest`: receives WeChat Pay's callbacks. See [`ingest`], the library, for what happens to one.

use std::process::ExitCode;

use ingest::config::{Cli, Command, Config};
use shared::merchants_file::MerchantsFile;
use shared::process::config::{ConfigError, parse_args};
use shared::process::shutdown::shutdown_signal;
use shared::process::{self, admin, telemetry};

fn main() -> ExitCode {
    process::no_core_dumps();
    let Cli { command, config } = match parse_args::<Cli>() {
        Ok(cli) => cli,
        Err(exit_code) => return exit_code,
    };
    match command {
        None => serve(&config),
        Some(Command::Healthcheck) => admin::healthcheck(config.ingest_admin_addr),
        Some(Command::CheckConfig) => config.check(),
    }
}

/// Every error in the configuration is found before the first socket opens.
fn serve(config: &Config) -> ExitCode {
    let merchants = match config.open_merchants() {
        Ok(merchants) => merchants,
        Err(error) => return error.report(),
    };
    telemetry::init_logs(config.log_format);
    match run(config, merchants) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => match error.downcast::<ConfigError>() {
            Ok(error) => error.report(),
            Err(error) => {
                tracing::error!("ingest stops because of an error: {error:#}");
                ExitCode::FAILURE
            }
        },
    }
}

#[tokio::main]
async fn run(config: &Config, merchants: MerchantsFile) -> anyhow::Result<()> {
    config.amqp_urls.warn_of_plain();
    let listener = config.listen()?;
    let admin_listener = config.listen_admin()?;
    ingest::run(listener, admin_listener, config, merchants, shutdown_signal()?).await
}
