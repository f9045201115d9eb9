//! One drill: programs and load up, faults by the schedule, the load's end, the audit, the report.

use std::collections::BTreeMap;
use std::fs;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use kit::merchants::MerchantsFile;
use tokio::sync::Mutex as Turn;
use tokio::time::interval;

use crate::checks::{self, Check};
use crate::clock::{now_ms, seconds, sleep_until_ms};
use crate::config::Options;
use crate::fault::Area;
use crate::faults::{self, Scene};
use crate::fleet::Fleet;
use crate::links::{INGESTS, Links, WORKERS};
use crate::load::Load;
use crate::record::{FaultRecord, Promise};
use crate::recovery::{Evidence, Injected};
use crate::report::Report;
use crate::sampler::{Sample, Sampler};
use crate::schedule::{self, ScheduledFault};
use crate::servers::Servers;
use crate::timeline::Timeline;

/// How often a line reports the progress.
const PROGRESS_EVERY: Duration = Duration::from_secs(15);
/// The simulator draws its plan and opens the shop before it sends.
const BEFORE_THE_LOAD_SECONDS: u64 = 2;
/// After the audit, the sampler must have seen the end of the last disturbance.
const CALM_SECONDS: u64 = 3;

/// Runs a drill; true when every promise held.
pub async fn run(options: &Options) -> Result<bool> {
    let place = &options.place;
    let schedule = schedule::draw(options.seed, options.seconds(), options.faults(), place.brokers()?);
    ensure!(!schedule.is_empty(), "no fault fits into {} s with {} broker nodes", options.seconds(), place.brokers()?);
    show_schedule(options, &schedule);

    let servers = Servers::find(place).await?;
    checks::queues_are_whole(&servers).await?;
    let has_small_disk = faults::prepare(&servers, &schedule).await?;
    // Those of the kit, which can also sign for WeChat Pay.
    let merchants = MerchantsFile::leave_in(&place.drill_dir)?;
    let links = Links::make(place).await?;
    let fleet = Fleet::start(place, &links, &merchants).await?;
    let scene = Arc::new(Scene { servers, links, fleet, planted: Mutex::default(), has_small_disk });
    let sampler = Sampler::start(Arc::clone(&scene));
    let mut load = Load::start(options, &scene.fleet, &merchants)?;
    seconds(BEFORE_THE_LOAD_SECONDS).await;
    let started_ms = now_ms();
    let say = |text: &str| println!("{:>4} s  {text}", now_ms().saturating_sub(started_ms) / 1000);

    let injected = inject_all(&scene, &schedule, started_ms, &sampler, &mut load, &say).await?;
    say("all faults are lifted; waiting for the last callbacks and the audit");
    let finished = with_progress(load.finish(), &sampler, &say).await?;
    seconds(CALM_SECONDS).await;

    let planted = scene.planted.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let mut checks =
        vec![Check::new("the audit of callbacks, orders and events finds no violation", &audited(&finished))];
    checks.extend(checks::after_the_audit(&scene, &planted).await?);
    let received = checks::received(&scene.servers).await?;
    let seen = sampler.finish().await;
    let scene = Arc::into_inner(scene).context("the sampler still uses the scene")?;
    let ended = scene.fleet.stop().await?;
    checks.push(Check::new("no program exited unasked or panicked, and all stopped cleanly", &ended));

    let timeline = Timeline::parse(&finished.timeline)?;
    let evidence = Evidence {
        timeline: &timeline,
        samples: &seen,
        received: &received,
        programs: (INGESTS, WORKERS),
        normal_backlog: u64::from(options.rate.get()),
    };
    let recoveries = evidence.recoveries(&injected);
    let load_ended_ms = timeline.requests().last().map_or(0, |request| request.due_ms);
    checks.extend(checks::of_promises(&injected));
    checks.extend(checks::of_recovery(&recoveries, load_ended_ms, place.brokers()?));
    let report =
        Report { options, evidence: &evidence, recoveries: &recoveries, checks: &checks, audit: &finished.report };
    println!("\n{report}");
    if let Some(path) = &options.json {
        let text = serde_json::to_string_pretty(&report.to_json())?;
        fs::write(path, text).with_context(|| format!("--json: cannot write {}", path.display()))?;
    }
    if let Some(path) = &options.svg {
        fs::write(path, report.to_svg()).with_context(|| format!("--svg: cannot write {}", path.display()))?;
    }
    Ok(report.is_good())
}

/// Prints what will happen.
pub fn show_schedule(options: &Options, schedule: &[ScheduledFault]) {
    println!(
        "seed {}: {} faults in {} s at {} requests/s",
        options.seed,
        schedule.len(),
        options.seconds(),
        options.rate
    );
    for scheduled in schedule {
        let company = if scheduled.overlapping { "and " } else { "" };
        println!("{:>4} s  {company}{}: {}", scheduled.at_seconds, scheduled.fault.name(), scheduled.fault.sentence());
    }
    println!();
}

fn audited(finished: &crate::load::Finished) -> Vec<String> {
    if finished.is_clean {
        return Vec::new();
    }
    let verdict = finished.report.pointer("/verdict").and_then(serde_json::Value::as_str).unwrap_or_default();
    vec![format!("{verdict}; see {}", finished.log.display())]
}

/// Injects the faults on schedule. When two need the same area, the second waits until the first has been lifted.
async fn inject_all(
    scene: &Scene,
    schedule: &[ScheduledFault],
    started_ms: u64,
    sampler: &Sampler,
    load: &mut Load,
    say: &impl Fn(&str),
) -> Result<Vec<Injected>> {
    let areas = schedule.iter().flat_map(|scheduled| scheduled.fault.areas());
    let turns: BTreeMap<Area, Turn<()>> = areas.map(|area| (*area, Turn::default())).collect();
    let mut injections: FuturesUnordered<_> = schedule
        .iter()
        .map(async |&scheduled| {
            sleep_until_ms(started_ms.saturating_add(scheduled.at_seconds.saturating_mul(1000))).await;
            let mut held = Vec::new();
            // All faults lock their areas in the same order, so there is no deadlock.
            for area in scheduled.fault.areas() {
                held.push(turns.get(area).context("every area has a turn")?.lock().await);
            }
            say(&format!("{}: {}", scheduled.fault.name(), scheduled.fault.sentence()));
            inject(scene, scheduled).await
        })
        .collect();
    let mut injected = Vec::with_capacity(schedule.len());
    let mut progress = interval(PROGRESS_EVERY);
    loop {
        tokio::select! {
            next = injections.next() => match next {
                None => break,
                Some(one) => {
                    let one = one?;
                    say(&told(&one));
                    injected.push(one);
                }
            },
            _ = progress.tick() => {
                say(&standing(&sampler.last()));
                ensure!(!load.has_ended()?, "the load ended before the last fault: see the simulator's log");
            }
        }
    }
    injected.sort_by_key(|one| one.injected_ms);
    Ok(injected)
}

async fn inject(scene: &Scene, scheduled: ScheduledFault) -> Result<Injected> {
    let record = FaultRecord::default();
    faults::inject(scene, scheduled, &record).await.with_context(|| scheduled.fault.name())?;
    Ok(Injected {
        scheduled,
        injected_ms: record.injected_ms(),
        lifted_ms: record.lifted_ms().unwrap_or_else(now_ms),
        note: record.noted(),
        promises: record.promises(),
    })
}

fn told(injected: &Injected) -> String {
    let lasted_ms = injected.lifted_ms.saturating_sub(injected.injected_ms);
    let note = if injected.note.is_empty() { String::new() } else { format!(" ({})", injected.note) };
    let broken: Vec<String> = injected.promises.iter().filter_map(broken).collect();
    format!("{}{note}: lifted after {lasted_ms} ms{}", injected.scheduled.fault.name(), broken.concat())
}

fn broken(promise: &Promise) -> Option<String> {
    let breach = promise.breach.as_ref()?;
    let bound = match promise.within_seconds {
        0 => String::new(),
        seconds => format!(" within {seconds} s"),
    };
    Some(format!("\n        BROKEN: {}{bound}: {breach}", promise.sentence))
}

fn standing(sample: &Sample) -> String {
    let count = |count: Option<u64>| count.map_or("?".to_owned(), |count| count.to_string());
    format!(
        "{} callbacks in the ledger, {} events in the outbox, ready: {} of {INGESTS} ingests, {} of {WORKERS} workers",
        count(sample.ledger),
        count(sample.outbox),
        sample.ingests_ready,
        sample.workers_ready
    )
}

async fn with_progress<T>(work: impl Future<Output = T>, sampler: &Sampler, say: &impl Fn(&str)) -> T {
    let mut work = std::pin::pin!(work);
    let mut progress = interval(PROGRESS_EVERY);
    loop {
        tokio::select! {
            done = &mut work => return done,
            _ = progress.tick() => say(&standing(&sampler.last())),
        }
    }
}
