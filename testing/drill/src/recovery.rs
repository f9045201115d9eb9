//! The effects of a fault, computed from the timeline, the samples and the ledger. Pure.
//!
//! The system has recovered after the last sample in which it was unhealthy: a program not ready, or a backlog of more than a
//! second's worth of callbacks or events. A fault's time ends when the next fault is injected.

use std::collections::BTreeMap;

use crate::record::Promise;
use crate::sampler::Sample;
use crate::schedule::ScheduledFault;
use crate::timeline::{self, Timeline};

/// What "before" and "after" look at.
const WINDOW_MS: u64 = 8_000;
/// Two samples are at most this far apart, so a disturbance may begin or end this much later than it was seen.
const BETWEEN_LOOKS_MS: u64 = 1_000;

/// A fault that was injected and lifted.
#[derive(Debug, Clone)]
pub struct Injected {
    pub scheduled: ScheduledFault,
    /// When it took effect.
    pub injected_ms: u64,
    /// When there was nothing left to undo.
    pub lifted_ms: u64,
    pub note: String,
    /// What had to hold soon after it, or while it lasted.
    pub promises: Vec<Promise>,
}

/// A row of the ledger, as far as the report counts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// When ingest took the callback.
    pub at_ms: u64,
    /// Whether it turned out to be a repeat of another.
    pub is_duplicate: bool,
}

/// Everything that was observed, and what counts as healthy.
pub struct Evidence<'a> {
    /// WeChat Pay's side.
    pub timeline: &'a Timeline,
    /// The look-out's.
    pub samples: &'a [Sample],
    /// The ledger's, by time.
    pub received: &'a [Received],
    /// How many ingests and workers there should be.
    pub programs: (usize, usize),
    /// A second's worth of callbacks.
    pub normal_backlog: u64,
}

/// p50 and p99 of the time to SUCCESS, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Latency {
    /// Half of them stay within it.
    pub p50_ms: Option<u64>,
    /// 99 of 100 do.
    pub p99_ms: Option<u64>,
}

/// The effects of one fault.
#[derive(Debug, Clone)]
pub struct Recovery {
    pub injected: Injected,
    /// Requests due from the fault until recovery.
    pub requests: usize,
    /// Those of them that failed, by answer.
    pub failures: BTreeMap<String, usize>,
    /// The longest time without a SUCCESS.
    pub gap_ms: u64,
    /// From the fault until a later callback was answered SUCCESS.
    pub success_after_ms: Option<u64>,
    /// From the end of the mending until the ledger grew.
    pub commit_after_ms: Option<u64>,
    /// From the fault until recovery; `None` if the next fault came first.
    pub recovered_after_ms: Option<u64>,
    /// From the lifting of the fault until the backlog was gone; `None` if the next fault came first.
    pub drained_after_ms: Option<u64>,
    /// The most callbacks that were stored and not handled.
    pub backlog_peak: u64,
    /// The most events that were committed and not published.
    pub outbox_peak: u64,
    /// Repeats that were recognised.
    pub duplicates: usize,
    /// Before, during and after.
    pub latency: [Latency; 3],
}

impl Evidence<'_> {
    /// What each of `injected`, which are in the order of their strikes, came to.
    #[must_use]
    pub fn recoveries(&self, injected: &[Injected]) -> Vec<Recovery> {
        injected.iter().enumerate().map(|(place, one)| self.recovery(one, horizon(injected, place))).collect()
    }

    /// Callbacks that were stored and not handled at each look that the database answered.
    #[must_use]
    pub fn backlog(&self) -> Vec<(u64, u64)> {
        self.samples.iter().filter_map(|sample| Some((sample.at_ms, self.backlog_at(sample)?))).collect()
    }

    fn backlog_at(&self, sample: &Sample) -> Option<u64> {
        let arrived = self.received.partition_point(|row| row.at_ms <= sample.at_ms);
        Some(u64::try_from(arrived).ok()?.saturating_sub(sample.ledger?))
    }

    fn is_in_order(&self, sample: &Sample) -> bool {
        (sample.ingests_ready, sample.workers_ready) == self.programs && self.is_drained(sample)
    }

    fn is_drained(&self, sample: &Sample) -> bool {
        self.backlog_at(sample).is_some_and(|backlog| backlog <= self.normal_backlog)
            && sample.outbox.is_some_and(|outbox| outbox <= self.normal_backlog)
    }

    fn recovery(&self, injected: &Injected, horizon_ms: u64) -> Recovery {
        let from = injected.injected_ms;
        let seen: Vec<&Sample> =
            self.samples.iter().filter(|sample| (from..horizon_ms).contains(&sample.at_ms)).collect();
        let in_order_ms = end_of_disturbance(&seen, from, |sample| self.is_in_order(sample));
        let drained_ms = end_of_disturbance(&seen, from, |sample| self.is_drained(sample));
        let end_ms = in_order_ms.unwrap_or(horizon_ms).max(injected.lifted_ms).min(horizon_ms);
        let during = self.timeline.between(from, end_ms.max(from.saturating_add(BETWEEN_LOOKS_MS)));
        let peak = |value: &dyn Fn(&Sample) -> Option<u64>| seen.iter().filter_map(|it| value(it)).max().unwrap_or(0);
        let failures = timeline::failures(during).into_iter().map(|(name, count)| (name.to_owned(), count));
        Recovery {
            requests: during.len(),
            failures: failures.collect(),
            gap_ms: self.timeline.longest_gap_ms(from, end_ms),
            success_after_ms: self.timeline.first_success_ms(from).map(|at| at.saturating_sub(from)),
            commit_after_ms: self.first_commit_ms(injected.lifted_ms).map(|at| at.saturating_sub(injected.lifted_ms)),
            recovered_after_ms: in_order_ms.map(|at| at.saturating_sub(from)),
            drained_after_ms: drained_ms.map(|at| at.saturating_sub(injected.lifted_ms)),
            backlog_peak: peak(&|sample| self.backlog_at(sample)),
            outbox_peak: peak(&|sample| sample.outbox),
            duplicates: self
                .received
                .iter()
                .filter(|row| row.is_duplicate && (from..end_ms).contains(&row.at_ms))
                .count(),
            latency: [
                latency(self.timeline.between(from.saturating_sub(WINDOW_MS), from)),
                latency(during),
                latency(self.timeline.between(end_ms, horizon_ms.min(end_ms.saturating_add(WINDOW_MS)))),
            ],
            injected: injected.clone(),
        }
    }

    /// The first look after `from_ms` that saw the ledger grow.
    fn first_commit_ms(&self, from_ms: u64) -> Option<u64> {
        let counted = |sample: &Sample| Some((sample.at_ms, sample.ledger?));
        let mut before = self.samples.iter().filter_map(counted).take_while(|(at, _)| *at <= from_ms).last()?.1;
        for (at_ms, ledger) in self.samples.iter().filter_map(counted).filter(|(at, _)| *at > from_ms) {
            if ledger > before {
                return Some(at_ms);
            }
            before = ledger;
        }
        None
    }
}

/// The first look in order after the last one that was not; `None` if the last of all was not.
fn end_of_disturbance(seen: &[&Sample], from_ms: u64, is_in_order: impl Fn(&Sample) -> bool) -> Option<u64> {
    match seen.iter().rposition(|sample| !is_in_order(sample)) {
        None => Some(from_ms),
        Some(last) => seen.get(last.saturating_add(1)).map(|sample| sample.at_ms),
    }
}

/// When the next fault strikes that is not in this one's company.
fn horizon(injected: &[Injected], place: usize) -> u64 {
    let later = injected.iter().skip(place.saturating_add(1));
    later.filter(|next| !next.scheduled.overlapping).map(|next| next.injected_ms).min().unwrap_or(u64::MAX)
}

fn latency(requests: &[timeline::Request]) -> Latency {
    Latency { p50_ms: timeline::latency_ms(requests, 50), p99_ms: timeline::latency_ms(requests, 99) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Fault;

    fn sample(at_ms: u64, ledger: Option<u64>, workers_ready: usize) -> Sample {
        Sample { at_ms, ledger, outbox: ledger.map(|_| 0), ingests_ready: 1, workers_ready }
    }

    fn injected(injected_ms: u64, lifted_ms: u64, overlapping: bool) -> Injected {
        let scheduled = ScheduledFault { at_seconds: 0, fault: Fault::WorkerKill, pick: 0, overlapping };
        Injected { scheduled, injected_ms, lifted_ms, note: String::new(), promises: Vec::new() }
    }

    /// A callback every 100 ms, all answered SUCCESS after 5 ms; no worker from 1000 to 3000.
    fn recoveries(faults: &[Injected]) -> Vec<Recovery> {
        use std::fmt::Write;
        let mut text = String::new();
        for due in (0..6000).step_by(100) {
            writeln!(text, "{due} {} 200 SUCCESS", due + 5).unwrap();
        }
        let received: Vec<Received> =
            (0..6000).step_by(100).map(|at_ms| Received { at_ms, is_duplicate: at_ms == 2000 }).collect();
        let samples: Vec<Sample> = (0..6000)
            .step_by(250)
            .map(|at_ms| match at_ms {
                1000..3000 => sample(at_ms, Some(10), 0),
                _ => sample(at_ms, Some(at_ms / 100 + 1), 1),
            })
            .collect();
        let timeline = Timeline::parse(&text).unwrap();
        let evidence = Evidence {
            timeline: &timeline,
            samples: &samples,
            received: &received,
            programs: (1, 1),
            normal_backlog: 10,
        };
        evidence.recoveries(faults)
    }

    #[test]
    fn a_fault_is_over_when_the_system_stays_healthy() {
        let [recovery] = recoveries(&[injected(1000, 2000, false)]).try_into().unwrap();
        assert_eq!(recovery.recovered_after_ms, Some(2000));
        assert_eq!(recovery.drained_after_ms, Some(1000));
        assert_eq!(recovery.commit_after_ms, Some(1000));
        assert_eq!(recovery.success_after_ms, Some(5));
        assert_eq!(recovery.backlog_peak, 18);
        assert_eq!(recovery.duplicates, 1);
        assert_eq!(recovery.requests, 20);
        assert_eq!(recovery.gap_ms, 100);
        assert_eq!(recovery.latency[1], Latency { p50_ms: Some(5), p99_ms: Some(5) });
    }

    #[test]
    fn the_next_fault_ends_the_time_of_the_last_but_a_companion_does_not() {
        let alone = recoveries(&[injected(1000, 1000, false), injected(2000, 2000, false)]);
        assert_eq!(alone[0].recovered_after_ms, None);
        let together = recoveries(&[injected(1000, 1000, false), injected(2000, 2000, true)]);
        assert_eq!(together[0].recovered_after_ms, Some(2000));
        assert_eq!(together[1].recovered_after_ms, Some(1000));
    }

    #[test]
    fn what_disturbs_nothing_is_over_at_once() {
        let [recovery] = recoveries(&[injected(4000, 4000, false)]).try_into().unwrap();
        assert_eq!(recovery.recovered_after_ms, Some(0));
    }
}
