//! What must hold at the end of a drill, in addition to the simulator's audit.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, ensure};
use kit::until::until_within;
use shared::messaging::topology::{CALLBACKS_QUEUE, EVENTS_QUEUE};

use crate::fault::Fault;
use crate::faults::{Planted, Scene};
use crate::recovery::{Injected, Received, Recovery};
use crate::servers::Servers;

/// The queue that should stay empty at all times.
const DEAD_QUEUE: &str = "wechatpay.callbacks.dead";
/// The broker's counts lag by some seconds.
const COUNT_PATIENCE: Duration = Duration::from_secs(30);
/// SUCCESS again after the loss of the queue's leader, and commits again after the database's return.
const BACK_WITHIN_MS: u64 = 5_000;

/// One thing that must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    pub sentence: String,
    /// What there is instead; `None` when it holds.
    pub breach: Option<String>,
}

impl Check {
    /// `sentence` holds unless there are `breaches`.
    #[must_use]
    pub fn new(sentence: &str, breaches: &[String]) -> Self {
        let breach = (!breaches.is_empty()).then(|| breaches.join("; "));
        Self { sentence: sentence.to_owned(), breach }
    }
}

/// Queues and outbox are empty, and every planted message is where it belongs.
pub async fn after_the_audit(scene: &Scene, planted: &[Planted]) -> Result<Vec<Check>> {
    let mut full = Vec::new();
    for queue in [CALLBACKS_QUEUE, DEAD_QUEUE, EVENTS_QUEUE] {
        let empty = until_within(COUNT_PATIENCE, &format!("{queue} is empty"), async || {
            let depth = scene.servers.depth(queue).await?;
            ensure!(depth == 0, "it has {depth} messages");
            Ok(())
        })
        .await;
        full.extend(empty.err().map(|error| format!("{error:#}")));
    }
    let database = scene.servers.database().await?;
    let events: i64 = database.query_one("SELECT count(*) FROM order_events", &[]).await?.try_get(0)?;
    let unsent = (events > 0).then(|| format!("{events} events"));
    let alone = "SELECT count(*) FROM quarantine WHERE reason = 'decide_alone' AND state <> 'resolved'";
    let suspects: i64 = database.query_one(alone, &[]).await?.try_get(0)?;
    let undecided = (suspects > 0).then(|| format!("{suspects} messages"));
    let mut misplaced = Vec::new();
    for plant in planted {
        let select = "SELECT concat_ws(' ', outcome, reason) FROM notifications WHERE id = $1 AND part = 0";
        let found = database.query_opt(select, &[&plant.id]).await?;
        let found = found.map_or(Ok("nowhere".to_owned()), |row| row.try_get(0))?;
        if found != plant.verdict {
            misplaced.push(format!("{} is {found} instead of {}", plant.what, plant.verdict));
        }
    }
    Ok(vec![
        Check::new("every queue is empty, including the dead letters", &full),
        Check::new("the outbox is empty", unsent.as_slice()),
        Check::new("every message that was set aside to be decided alone has been decided", undecided.as_slice()),
        Check::new("every message published past ingest is in the ledger as refused", &misplaced),
    ])
}

/// Every queue has a copy on every node.
pub async fn queues_are_whole(servers: &Servers) -> Result<()> {
    for queue in [CALLBACKS_QUEUE, DEAD_QUEUE, EVENTS_QUEUE] {
        until_within(COUNT_PATIENCE, &format!("{queue} has all its copies"), async || {
            let (copies, nodes) = (servers.copies(queue).await?, servers.nodes().len());
            ensure!(copies == nodes, "it has {copies} of {nodes}");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

/// What each fault promises, one line for each sentence.
#[must_use]
pub fn of_promises(injected: &[Injected]) -> Vec<Check> {
    let mut lines: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (one, promise) in injected.iter().flat_map(|one| one.promises.iter().map(move |promise| (one, promise))) {
        let bound = match promise.within_seconds {
            0 => String::new(),
            seconds => format!(" (within {seconds} s)"),
        };
        let line = lines.entry(format!("{}: {}{bound}", one.scheduled.fault.name(), promise.sentence)).or_default();
        line.extend(promise.breach.clone());
    }
    lines.iter().map(|(sentence, breaches)| Check::new(sentence, breaches)).collect()
}

/// The system recovered from every fault without an operator, and quickly from the two for which that is promised.
#[must_use]
pub fn of_recovery(recoveries: &[Recovery], load_ended_ms: u64, brokers: usize) -> Vec<Check> {
    let too_late = |recovery: &&Recovery| recovery.injected.lifted_ms > load_ended_ms;
    let named = |recovery: &Recovery, ms: Option<u64>| {
        format!(
            "{}: {}",
            recovery.injected.scheduled.fault.name(),
            ms.map_or("never".to_owned(), |ms| format!("{ms} ms"))
        )
    };
    let alone = |faults: &'static [Fault]| {
        let is_meant = move |(place, recovery): &(usize, &Recovery)| {
            let next = recoveries.get(place.saturating_add(1));
            faults.contains(&recovery.injected.scheduled.fault)
                && !recovery.injected.scheduled.overlapping
                && !next.is_some_and(|next| next.injected.scheduled.overlapping)
        };
        recoveries.iter().enumerate().filter(is_meant).map(|(_, recovery)| recovery)
    };
    let slow = |ms: &Option<u64>| ms.is_none_or(|ms| ms > BACK_WITHIN_MS);
    // With one node there is no other to take the lead.
    let leader: Vec<String> = alone(&[Fault::LeaderKill])
        .filter(|_| brokers > 1)
        .filter(|it| slow(&it.success_after_ms) || it.gap_ms > BACK_WITHIN_MS)
        .map(|it| named(it, Some(it.gap_ms)))
        .collect();
    let database: Vec<String> = alone(&[Fault::DatabaseKill, Fault::DatabaseFreeze])
        .filter(|it| slow(&it.commit_after_ms))
        .map(|it| named(it, it.commit_after_ms))
        .collect();
    let outlasted: Vec<String> =
        recoveries.iter().filter(too_late).map(|it| it.injected.scheduled.fault.name()).collect();
    let last_group = recoveries.iter().rev().find(|it| !it.injected.scheduled.overlapping);
    let broken: Vec<String> =
        last_group.filter(|it| it.recovered_after_ms.is_none()).map(|it| named(it, None)).into_iter().collect();
    let lasting: Vec<String> =
        recoveries.chunk_by(|_, next| next.injected.scheduled.overlapping).filter_map(lasts).collect();
    vec![
        Check::new("callbacks arrived until the last fault was lifted", &outlasted),
        Check::new("the system is healthy at the end, without an operator", &broken),
        Check::new("the system is healthy again within each fault's bound after it was lifted (20 to 45 s)", &lasting),
        Check::new("ingest answers SUCCESS again within 5 s of losing the queue's leader", &leader),
        Check::new("commits resume within 5 s of the database's return", &database),
    ]
}

/// Faults that overlapped, and how long after the last of them was lifted the system was healthy again, if that was longer
/// than any of them may take. `None` where the next fault was injected first.
fn lasts(group: &[Recovery]) -> Option<String> {
    let faults = || group.iter().map(|it| it.injected.scheduled.fault);
    let lifted_ms = group.iter().map(|it| it.injected.lifted_ms).max()?;
    let in_order_ms: Option<Vec<u64>> =
        group.iter().map(|it| Some(it.injected.injected_ms.saturating_add(it.recovered_after_ms?))).collect();
    let lasted_ms = in_order_ms?.into_iter().max()?.saturating_sub(lifted_ms);
    let bound_ms = faults().map(Fault::in_order_within_seconds).max()?.saturating_mul(1000);
    let names: Vec<String> = faults().map(Fault::name).collect();
    (lasted_ms > bound_ms).then(|| format!("{}: {lasted_ms} ms", names.join(" and ")))
}

/// The ledger's rows by the time at which ingest took the callback.
pub async fn received(servers: &Servers) -> Result<Vec<Received>> {
    let select = "SELECT (extract(epoch FROM received_at) * 1000)::bigint, outcome = 'duplicate'
                  FROM notifications WHERE part = 0 ORDER BY received_at";
    let rows = servers.database().await?.query(select, &[]).await?;
    rows.iter()
        .map(|row| {
            let at_ms = u64::try_from(row.try_get::<_, i64>(0)?)?;
            Ok(Received { at_ms, is_duplicate: row.try_get(1)? })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Promise;
    use crate::schedule::ScheduledFault;

    fn recovery(fault: Fault, overlapping: bool, lifted_ms: u64, recovered_after_ms: Option<u64>) -> Recovery {
        let scheduled = ScheduledFault { at_seconds: 0, fault, pick: 0, overlapping };
        let injected = Injected { scheduled, injected_ms: 1000, lifted_ms, note: String::new(), promises: Vec::new() };
        Recovery {
            injected,
            requests: 0,
            failures: BTreeMap::new(),
            gap_ms: 0,
            success_after_ms: Some(0),
            commit_after_ms: Some(0),
            recovered_after_ms,
            drained_after_ms: Some(0),
            backlog_peak: 0,
            outbox_peak: 0,
            duplicates: 0,
            latency: Default::default(),
        }
    }

    fn lasting(recoveries: &[Recovery]) -> Option<String> {
        let checks = of_recovery(recoveries, u64::MAX, 3);
        checks.into_iter().find(|check| check.sentence.contains("bound")).unwrap().breach
    }

    #[test]
    fn a_disturbance_that_lasts_longer_than_its_fault_may_is_a_breach() {
        assert_eq!(lasting(&[recovery(Fault::WorkerKill, false, 2000, Some(21_000))]), None);
        let late = lasting(&[recovery(Fault::WorkerKill, false, 2000, Some(21_001))]);
        assert_eq!(late.as_deref(), Some("worker-kill: 20001 ms"));
        assert_eq!(lasting(&[recovery(Fault::WorkerBrokerHalfOpen, false, 2000, Some(21_001))]), None);
    }

    #[test]
    fn faults_that_struck_together_are_measured_from_the_last_mending() {
        let together = |recovered| {
            [recovery(Fault::ClockSkew, false, 1000, recovered), recovery(Fault::WorkerFreeze, true, 36_000, recovered)]
        };
        assert_eq!(lasting(&together(Some(40_000))), None);
        assert_eq!(lasting(&together(None)), None, "the next fault was injected first");
        assert!(lasting(&together(Some(56_000))).is_some());
    }

    #[test]
    fn a_promise_has_one_line_however_often_it_was_made() {
        let promise = |breach: Option<&str>| Promise {
            sentence: "nothing waits".to_owned(),
            within_seconds: 10,
            breach: breach.map(ToOwned::to_owned),
            took_ms: 0,
        };
        let mut injected = recovery(Fault::CreateIndex, false, 2000, None).injected;
        injected.promises = vec![promise(None), promise(Some("4 wait"))];
        let lines = of_promises(&[injected]);
        assert_eq!(lines, [Check::new("create-index: nothing waits (within 10 s)", &["4 wait".to_owned()])]);
    }
}
