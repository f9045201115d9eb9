//! Logs and metrics. No body, key or openid ever reaches either, whatever `RUST_LOG` says.

use std::error::Error;
use std::io::IsTerminal;
use std::sync::OnceLock;
use std::time::Duration;

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use tracing::{Level, Metadata};
use tracing_subscriber::filter::{EnvFilter, FilterExt, filter_fn};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

/// What is logged when `RUST_LOG` is not set: lapin and actix only repeat what this code logs with more context, and
/// actix-http logs a line for every request that is not HTTP.
const LOG_DEFAULT: &str = "info,lapin=off,actix_http=off,actix_server=warn";
/// How often histogram samples are folded into their buckets; without it they accumulate until the next scrape.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);

/// Buckets of every `_seconds` histogram that has none of its own: up to the 4 s within which a callback is answered.
const SECONDS: [f64; 14] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 2.5, 3.0, 4.0];
/// Buckets of `_age_seconds` histograms: a message may have waited through an outage.
const AGE_SECONDS: [f64; 14] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 120.0, 900.0, 3_600.0, 86_400.0];
/// Buckets of `_batch_size` histograms.
const BATCH_SIZES: [f64; 11] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1_024.0];

/// `LOG_FORMAT`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// One JSON object per line, for machines
    Json,
    /// Plain text, for people
    Text,
}

/// Logs to standard error, filtered by `RUST_LOG` (default `info`). Only the first call in a process counts.
pub fn init_logs(format: LogFormat) {
    let chosen = EnvFilter::builder().with_default_directive(Level::INFO.into());
    let chosen = match std::env::var(EnvFilter::DEFAULT_ENV) {
        Ok(directives) => chosen.parse_lossy(directives),
        Err(_unset) => chosen.parse_lossy(LOG_DEFAULT),
    };
    let filter = chosen.and(filter_fn(is_fit_for_logs));
    let lines =
        tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal());
    let layer = match format {
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(false).with_span_list(false).boxed(),
        LogFormat::Text => lines.boxed(),
    };
    let _already_set = tracing_subscriber::registry().with(layer.with_filter(filter)).try_init();
}

/// lapin logs returned messages with their bodies, and frames at levels below info.
fn is_fit_for_logs(metadata: &Metadata<'_>) -> bool {
    let mut path = metadata.target().split("::");
    let is_lapin = path.next() == Some("lapin");
    !is_lapin || (*metadata.level() <= Level::INFO && path.next() != Some("returned_messages"))
}

/// Installs the metrics recorder, with fixed buckets for every histogram, and runs its upkeep on the current tokio runtime.
/// A second call in a process returns the first one's handle.
///
/// # Errors
/// Another recorder is installed already.
pub fn init_metrics() -> Result<PrometheusHandle, BuildError> {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    if let Some(handle) = HANDLE.get() {
        return Ok(handle.clone());
    }
    let handle = PrometheusBuilder::new()
        .set_buckets(&SECONDS)?
        .set_buckets_for_metric(Matcher::Suffix("_age_seconds".to_owned()), &AGE_SECONDS)?
        .set_buckets_for_metric(Matcher::Suffix("_batch_size".to_owned()), &BATCH_SIZES)?
        .install_recorder()?;
    let handle = HANDLE.get_or_init(|| handle).clone();
    let upkeep = handle.clone();
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(UPKEEP_EVERY);
        loop {
            ticks.tick().await;
            upkeep.run_upkeep();
        }
    });
    Ok(handle)
}

/// An error and all its causes, on one line, to be logged where the error is handled.
#[must_use]
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot open the drawer")]
    struct Outer(#[source] Middle);

    #[derive(Debug, thiserror::Error)]
    #[error("the key is bent")]
    struct Middle(#[source] std::io::Error);

    #[test]
    fn a_chain_names_every_cause_once_on_one_line() {
        let error = Outer(Middle(std::io::Error::other("iron is soft")));
        assert_eq!(chain(&error), "cannot open the drawer: the key is bent: iron is soft");
        assert_eq!(chain(&std::io::Error::other("alone")), "alone");
    }
}
