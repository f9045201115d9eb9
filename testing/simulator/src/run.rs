//! One run, from the first order to the verdict.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use chrono::{DateTime, Utc};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::sleep;

use crate::audit::{self, Findings};
use crate::config::Options;
use crate::database::Database;
use crate::fulfilment::Fulfilment;
use crate::gateway::connection::Target;
use crate::gateway::{self, Hooks, Settings, builder};
use crate::merchants::Merchant;
use crate::plan::{self, Plan, Run};
use crate::progress::{Counters, Progress};
use crate::report::Report;
use crate::request_log::{Meaning, RequestLog};
use crate::snapshot::{self, Bounds, Found, Standing};
use crate::{checkout, merchants, midpoint, timeline};

/// How often the run checks whether it is over.
const DRAIN_TICK: Duration = Duration::from_millis(200);

/// Runs it and prints the report; true when the audit found nothing and the command at the midpoint succeeded.
pub async fn run(options: &Options) -> anyhow::Result<bool> {
    ensure!(
        options.mix.total_percent() <= 100,
        "the shares of the mix add up to {} %, more than 100 %",
        options.mix.total_percent()
    );
    let merchants = merchants::load(&options.pipeline.merchants_file, &options.pipeline.platform_keys())?;
    let settings = settings(options)?;
    let seed = options.seed.unwrap_or_else(|| rand::rng().random());
    let mut rng = StdRng::seed_from_u64(seed);
    let plan = plan::draw(name_run(read_clock()), options.orders.get(), &merchants, &options.mix, &mut rng);
    let plan = Arc::new(plan);

    let mut shop = Database::new(options.pipeline.database_url.clone());
    let bounds = Bounds::new(&plan.run, checkout::first_order_id(&mut shop).await?);
    let counters = Arc::new(Counters::default());
    let pipeline = &options.pipeline;
    let fulfilment = Fulfilment::start(&pipeline.amqp_urls, &pipeline.order_events_queue, &plan.run.prefix).await?;
    checkout::open_shop(&mut shop, &plan).await?;

    let (progress, standing) = Progress::start(
        u64::try_from(plan.sends())?,
        counters.clone(),
        Database::new(pipeline.database_url.clone()),
        bounds.clone(),
    );
    progress.say(&format!("run {} (seed {seed}): {} orders", plan.run.prefix, plan.orders.len()));
    if merchants.iter().all(|merchant| merchant.v3.is_none()) {
        progress.say("API v2 only: no private platform keys were found (see --platform-keys-dir)");
    }
    let sent = send(options, &plan, &merchants, rng, &settings, counters).await;
    let (log, at_half) = match sent {
        Ok(sent) => sent,
        Err(error) => {
            progress.stop();
            return Err(error);
        }
    };
    if let Some(at_half) = &at_half {
        progress.say(&format!("command at the midpoint: {}", at_half.text));
    }
    if let Some(path) = &options.timeline {
        timeline::write(path, &log, read_clock())?;
    }
    let drained = drain(&mut shop, &bounds, &plan, &log, &fulfilment, standing, options).await;
    progress.stop();
    let (found, findings, gave_up) = drained?;
    if let Some(gave_up) = gave_up {
        eprintln!("{gave_up}");
    }
    let consumed = fulfilment.consumed();
    drop(fulfilment);

    let report = Report { seed, plan: &plan, log: &log, found: &found, consumed: &consumed, findings, at_half };
    println!("{report}");
    if let Some(path) = &options.json {
        let json = serde_json::to_string_pretty(&report.to_json())?;
        std::fs::write(path, json).with_context(|| format!("--json: {} cannot be written", path.display()))?;
    }
    Ok(report.is_good())
}

#[expect(clippy::disallowed_methods, reason = "the run's looks at the clock")]
fn read_clock() -> DateTime<Utc> {
    Utc::now()
}

/// A name that no other run has, whatever the seed.
fn name_run(started_at: DateTime<Utc>) -> Run {
    let mut rng = rand::rng();
    Run {
        prefix: format!("SIM{:010X}-", rng.random::<u64>() >> 24),
        serial: rng.random_range(0..10_000_000),
        started_at,
    }
}

fn settings(options: &Options) -> anyhow::Result<Settings> {
    let targets: Vec<Target> =
        options.pipeline.ingest_url.iter().map(|url| Target::parse(url)).collect::<Result<_, _>>()?;
    ensure!(!targets.is_empty(), "INGEST_URL is empty");
    Ok(Settings {
        targets,
        connections: options.connections,
        rate: options.rate,
        retry_compression: options.retry_compression,
    })
}

/// Sends everything, while the shop writes its late orders and the command at the midpoint runs.
async fn send(
    options: &Options,
    plan: &Arc<Plan>,
    merchants: &[Merchant],
    rng: StdRng,
    settings: &Settings,
    counters: Arc<Counters>,
) -> anyhow::Result<(RequestLog, Option<midpoint::Outcome>)> {
    let (late, late_indexes) = mpsc::unbounded_channel();
    let late_shop = Database::new(options.pipeline.database_url.clone());
    let checkout = tokio::spawn(checkout::write_late_orders(late_shop, plan.clone(), late_indexes));
    let (half, at_half) = oneshot::channel();
    let at_half = options.at_half.clone().map(|command| tokio::spawn(midpoint::run(command, at_half)));

    let built = builder::start(plan.clone(), merchants.to_vec(), rng);
    let log = gateway::send_all(plan.clone(), built, settings, Hooks { late, half, counters }).await?;
    checkout.await??;
    let outcome = match at_half {
        Some(task) => task.await?,
        None => None,
    };
    Ok((log, outcome))
}

/// Waits until the audit finds nothing, or only violations that waiting cannot resolve, or until nothing changes any more.
async fn drain(
    shop: &mut Database,
    bounds: &Bounds,
    plan: &Plan,
    log: &RequestLog,
    fulfilment: &Fulfilment,
    mut standing: watch::Receiver<Standing>,
    options: &Options,
) -> anyhow::Result<(Found, Findings, Option<String>)> {
    let patience = Duration::from_secs(u64::from(options.drain_seconds.get()));
    let accepted = log.count(Meaning::Accepted);
    let mut changed_at = Instant::now();
    let mut last = None;
    loop {
        let now = (*standing.borrow_and_update(), u64::try_from(fulfilment.event_count())?);
        let has_changed = last != Some(now);
        let is_over = changed_at.elapsed() > patience;
        if has_changed {
            changed_at = Instant::now();
            last = Some(now);
        }
        // The whole audit only when it has a chance, and once at the end.
        let (Standing { handled, applied: _, caused, healable }, events) = now;
        let has_chance = has_changed && handled >= accepted && healable == 0 && events >= caused;
        if has_chance || is_over {
            // Read before the database: an event that arrives in between would describe a change that the snapshot lacks.
            let consumed = fulfilment.consumed();
            match collect(shop, bounds).await {
                Ok(found) => {
                    let findings = audit::audit(plan, log, &found, &consumed);
                    if findings.is_clean() || findings.is_final() {
                        return Ok((found, findings, None));
                    }
                    if is_over {
                        let gave_up = format!(
                            "stopped waiting: nothing has changed for {} s; {handled} of {accepted} callbacks answered \
                             SUCCESS are handled, {healable} wait although their cause is gone, {events} of {caused} \
                             events have arrived",
                            patience.as_secs()
                        );
                        return Ok((found, findings, Some(gave_up)));
                    }
                }
                Err(error) if is_over => bail!(error.context("cannot read the database for the audit")),
                Err(_) => last = None,
            }
        }
        sleep(DRAIN_TICK).await;
    }
}

async fn collect(shop: &mut Database, bounds: &Bounds) -> anyhow::Result<Found> {
    snapshot::collect(shop.client().await?, bounds).await
}
