//! The load and the audit: the simulator as a child process. It plays WeChat Pay, the shop and the merchant's fulfilment,
//! and at the end compares the answers that it got with what the database and the events contain.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::{env, io};

use anyhow::{Context, Result, bail, ensure};
use tokio::process::{Child, Command};

use crate::config::{Options, Place};
use crate::fleet::Fleet;

/// The number of requests that 100 orders of the simulator's mix cause, retries after failures not included.
const REQUESTS_PER_100_ORDERS: u64 = 180;
/// A request may take this long. With a connection for every request that falls due in that time, the load never waits.
const LINES_SECONDS: u64 = 5;
/// The audit gives up when nothing has changed for this long: more than the database keeps a forgotten session's locks.
const DRAIN_SECONDS: u64 = 120;

pub struct Load {
    child: Child,
    log: PathBuf,
    json: PathBuf,
    timeline: PathBuf,
}

/// What it left behind.
pub struct Finished {
    /// Whether its audit found nothing.
    pub is_clean: bool,
    /// Its report for programs.
    pub report: serde_json::Value,
    /// Its timeline, to be read by [`crate::timeline`].
    pub timeline: String,
    /// Where its report for people is.
    pub log: PathBuf,
}

impl Load {
    /// Starts to send.
    pub fn start(options: &Options, fleet: &Fleet, merchants: &Path) -> Result<Self> {
        let place = &options.place;
        let folder = place.drill_dir.join("log");
        let (log, json, timeline) =
            (folder.join("simulator.log"), folder.join("simulator.json"), folder.join("timeline.txt"));
        let output = File::create(&log)?;
        let rate = u64::from(options.rate.get());
        let orders = options.seconds().saturating_mul(rate).saturating_mul(100) / REQUESTS_PER_100_ORDERS;
        let child = Command::new(binary()?)
            .env_clear()
            .args(["run", "--orders", &orders.to_string(), "--rate", &rate.to_string()])
            .args(["--connections", &rate.saturating_mul(LINES_SECONDS).to_string()])
            .args(["--seed", &options.seed.to_string(), "--drain-seconds", &DRAIN_SECONDS.to_string()])
            .arg("--json")
            .arg(&json)
            .arg("--timeline")
            .arg(&timeline)
            .env("INGEST_URL", ingest_urls(fleet)?)
            .env("DATABASE_URL", place.database_url.as_ref().context("DATABASE_URL is not set")?.as_str())
            .env("AMQP_URLS", joined(place))
            .env("MERCHANTS_FILE", merchants)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .kill_on_drop(true)
            .spawn()?;
        Ok(Self { child, log, json, timeline })
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// Waits for its end, which is that of the audit.
    pub async fn finish(mut self) -> Result<Finished> {
        let status = self.child.wait().await?;
        let is_audited = self.json.exists() && self.timeline.exists();
        ensure!(is_audited, "the simulator ended without an audit ({status}):\n{}", last_lines(&self.log)?);
        let report: serde_json::Value = serde_json::from_str(&fs::read_to_string(&self.json)?)?;
        Ok(Finished {
            is_clean: status.success(),
            report,
            timeline: fs::read_to_string(&self.timeline)?,
            log: self.log,
        })
    }
}

fn ingest_urls(fleet: &Fleet) -> Result<String> {
    let mut urls = Vec::new();
    for ingest in fleet.ingests() {
        let address = ingest.public().context("an ingest has a public port")?;
        urls.push(format!("http://{address}"));
    }
    Ok(urls.join(","))
}

/// The merchant's fulfilment finds a node that is up; a silent one is given up soon.
fn joined(place: &Place) -> String {
    let urls: Vec<String> = place.amqp_urls.iter().map(|url| format!("{url}?heartbeat=10")).collect();
    urls.join(",")
}

fn binary() -> Result<PathBuf> {
    let this = env::current_exe()?;
    let simulator = this.with_file_name("simulator");
    if !simulator.exists() {
        bail!("the simulator is not built next to {}: run ./dev drill", this.display());
    }
    Ok(simulator)
}

fn last_lines(log: &Path) -> io::Result<String> {
    let text = fs::read_to_string(log)?;
    let lines: Vec<&str> = text.lines().collect();
    Ok(lines.get(lines.len().saturating_sub(15)..).unwrap_or_default().join("\n"))
}
