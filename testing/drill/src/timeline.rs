//! Every request as WeChat Pay saw it, and what can be asked of a stretch of time. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use kit::latencies::Latencies;

/// The simulator's name for the only answer that ends a callback's repeats.
const SUCCESS: &str = "200 SUCCESS";
/// Its names for refusals of what is wrong: those are right.
const RIGHT_REFUSALS: [&str; 4] = ["400 ", "401 ", "404 ", "413 "];

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// When it was due, in milliseconds since 1970.
    pub due_ms: u64,
    /// When the answer was there.
    pub answered_ms: u64,
    /// What it was.
    pub answer: Answer,
}

/// What an answer is to WeChat Pay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Never sent again.
    Success,
    /// A forgery, refused.
    Refused,
    /// Sent again; which failure it was.
    Failed(String),
}

/// All requests, by the time at which they were due.
#[derive(Debug, Clone, Default)]
pub struct Timeline(Vec<Request>);

impl Timeline {
    /// Reads the simulator's file.
    pub fn parse(text: &str) -> Result<Self> {
        let mut requests = text
            .lines()
            .map(|line| parse(line).with_context(|| format!("the timeline has the line {line:?}")))
            .collect::<Result<Vec<_>>>()?;
        requests.sort_by_key(|request| request.due_ms);
        Ok(Self(requests))
    }

    #[must_use]
    pub fn requests(&self) -> &[Request] {
        &self.0
    }

    /// Those due from `from_ms` on and before `to_ms`.
    #[must_use]
    pub fn between(&self, from_ms: u64, to_ms: u64) -> &[Request] {
        let start = self.0.partition_point(|request| request.due_ms < from_ms);
        let end = self.0.partition_point(|request| request.due_ms < to_ms);
        self.0.get(start..end).unwrap_or_default()
    }

    /// The longest time without an answer of SUCCESS that overlaps the stretch.
    #[must_use]
    pub fn longest_gap_ms(&self, from_ms: u64, to_ms: u64) -> u64 {
        let mut answered: Vec<u64> =
            self.0.iter().filter(|request| request.answer == Answer::Success).map(|it| it.answered_ms).collect();
        answered.sort_unstable();
        let overlaps = |pair: &&[u64]| matches!(pair, [before, after] if *after >= from_ms && *before <= to_ms);
        let gap = |pair: &[u64]| pair.last().zip(pair.first()).map_or(0, |(last, first)| last.saturating_sub(*first));
        answered.windows(2).filter(overlaps).map(gap).max().unwrap_or_default()
    }

    /// When a callback that was due after `from_ms` was first answered SUCCESS.
    #[must_use]
    pub fn first_success_ms(&self, from_ms: u64) -> Option<u64> {
        let later = self.between(from_ms, u64::MAX).iter();
        later.filter(|request| request.answer == Answer::Success).map(|request| request.answered_ms).min()
    }
}

fn parse(line: &str) -> Result<Request> {
    let mut words = line.splitn(3, ' ');
    let mut word = || words.next().context("too few words");
    let (due_ms, answered_ms, answer) = (word()?.parse()?, word()?.parse()?, word()?);
    let answer = match answer {
        SUCCESS => Answer::Success,
        refused if RIGHT_REFUSALS.iter().any(|status| refused.starts_with(status)) => Answer::Refused,
        failed => Answer::Failed(failed.to_owned()),
    };
    Ok(Request { due_ms, answered_ms, answer })
}

/// How many failures of each kind there are among `requests`.
#[must_use]
pub fn failures(requests: &[Request]) -> BTreeMap<&str, usize> {
    let mut failures: BTreeMap<&str, usize> = BTreeMap::new();
    for request in requests {
        if let Answer::Failed(name) = &request.answer {
            let count = failures.entry(name.as_str()).or_default();
            *count = count.saturating_add(1);
        }
    }
    failures
}

/// The time to SUCCESS, due to answered, that `percent` of `requests` stayed within; `None` without any SUCCESS.
#[must_use]
pub fn latency_ms(requests: &[Request], percent: usize) -> Option<u64> {
    let mut latencies = Latencies::default();
    for request in requests.iter().filter(|request| request.answer == Answer::Success) {
        latencies.record(Duration::from_millis(request.answered_ms.saturating_sub(request.due_ms)));
    }
    let within = latencies.within(percent.saturating_mul(10));
    (latencies.count() > 0).then(|| u64::try_from(within.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
        1000 1005 200 SUCCESS\n1010 1030 200 SUCCESS\n1030 1031 401 not authentic\n1020 5020 503 not stored\n\
        2000 6000 200 SUCCESS\n6100 6101 200 SUCCESS\n6200 6200 not reachable\n";

    #[test]
    fn a_stretch_has_the_requests_that_were_due_in_it() {
        let timeline = Timeline::parse(TEXT).unwrap();
        assert_eq!(timeline.requests().len(), 7);
        assert_eq!(timeline.between(1010, 1030).len(), 2);
        assert_eq!(failures(timeline.between(0, 2000)), [("503 not stored", 1)].into());
        assert_eq!(failures(timeline.requests()), [("503 not stored", 1), ("not reachable", 1)].into());
    }

    #[test]
    fn gaps_and_latencies_are_those_of_success() {
        let timeline = Timeline::parse(TEXT).unwrap();
        assert_eq!(timeline.longest_gap_ms(1500, 1600), 4970);
        assert_eq!(timeline.longest_gap_ms(6050, 6050), 101);
        assert_eq!(timeline.longest_gap_ms(7000, 8000), 0);
        assert_eq!(timeline.first_success_ms(1020), Some(6000));
        assert_eq!(timeline.first_success_ms(6150), None);
        assert_eq!(latency_ms(timeline.requests(), 50), Some(5));
        assert_eq!(latency_ms(timeline.requests(), 99), Some(4000));
        assert_eq!(latency_ms(timeline.between(6200, 7000), 99), None);
    }

    #[test]
    fn malformed_lines_are_errors() {
        for line in ["", "1 2", "x 2 200 SUCCESS"] {
            assert!(Timeline::parse(&format!("{TEXT}{line}\n")).is_err(), "{line:?}");
        }
    }
}
