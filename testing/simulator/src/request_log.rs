//! What was sent and answered: one side of the books. The database is the other.
//!
//! Invariant: a callback counts as accepted only after 200 with exactly the success body; any answer after which it may be
//! stored nevertheless counts as unsure.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use kit::latencies::Latencies;

/// What came back for one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Answer {
    /// 200 and exactly the success body.
    Success,
    /// 200 and anything else.
    OddBody,
    /// Any other status.
    Status(u16),
    /// No answer within WeChat Pay's timeout.
    TimedOut,
    /// The connection ended before the answer.
    ConnectionLost,
    /// No connection could be made, so nothing was sent.
    Unreachable,
}

/// What an answer means for the books.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// Answered SUCCESS: it must be in the ledger.
    Accepted,
    /// Refused as wrong: it must not be in the ledger.
    Rejected,
    /// It may be in the ledger.
    Unsure,
    /// Nothing arrived: it cannot be in the ledger.
    NotSent,
}

impl Answer {
    /// What it means for the books. 408 and 429 are about the moment, not about the callback.
    #[must_use]
    pub fn meaning(self) -> Meaning {
        match self {
            Self::Success => Meaning::Accepted,
            Self::Status(408 | 429) | Self::OddBody | Self::TimedOut | Self::ConnectionLost => Meaning::Unsure,
            Self::Status(status) if (400..500).contains(&status) => Meaning::Rejected,
            Self::Status(_) => Meaning::Unsure,
            Self::Unreachable => Meaning::NotSent,
        }
    }

    /// The name in the report.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::Success => "200 SUCCESS".to_owned(),
            Self::OddBody => "200 with another body".to_owned(),
            Self::Status(400) => "400 malformed".to_owned(),
            Self::Status(401) => "401 not authentic".to_owned(),
            Self::Status(404) => "404 unknown merchant".to_owned(),
            Self::Status(413) => "413 too large".to_owned(),
            Self::Status(503) => "503 not stored".to_owned(),
            Self::Status(status) => status.to_string(),
            Self::TimedOut => "no answer in time".to_owned(),
            Self::ConnectionLost => "connection lost".to_owned(),
            Self::Unreachable => "not reachable".to_owned(),
        }
    }
}

/// How ingest answered one callback.
#[derive(Debug, Clone, Default)]
pub struct Record {
    /// Of the bytes that were sent; `None` when the callback was never made (held back for good).
    pub body_sha256: Option<[u8; 32]>,
    /// Requests made.
    pub sent: u64,
    /// Told SUCCESS this often.
    pub accepted: u64,
    /// Rejected this often.
    pub rejected: u64,
    /// Perhaps stored this often.
    pub unsure: u64,
    /// When it was first answered SUCCESS.
    pub accepted_at: Option<Instant>,
    /// Retries made or planned.
    pub retries: usize,
    /// Whether a retry is planned.
    pub retry_planned: bool,
    /// WeChat Pay's schedule ran out without a SUCCESS.
    pub given_up: bool,
}

/// One request on the timeline of a run; times count from its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    pub due: Duration,
    /// When its answer was there.
    pub answered: Duration,
    pub answer: Answer,
}

/// Everything that was sent and answered.
#[derive(Debug, Clone)]
pub struct RequestLog {
    /// One per callback of the plan.
    pub records: Vec<Record>,
    /// Answers by kind.
    pub answers: BTreeMap<Answer, u64>,
    pub success: Latencies,
    /// The time to any other answer.
    pub other: Latencies,
    /// Every request in the order of the answers.
    pub timeline: Vec<Request>,
    /// When sending began.
    pub started_at: Instant,
    /// From there to the last answer.
    pub sending: Duration,
}

impl RequestLog {
    /// An empty book for this many callbacks.
    #[must_use]
    pub fn new(callbacks: usize, started_at: Instant) -> Self {
        Self {
            records: vec![Record::default(); callbacks],
            answers: BTreeMap::new(),
            success: Latencies::default(),
            other: Latencies::default(),
            timeline: Vec::new(),
            started_at,
            sending: Duration::ZERO,
        }
    }

    pub fn note(&mut self, callback: usize, answer: Answer, latency: Duration, at: Instant) {
        let count = self.answers.entry(answer).or_default();
        *count = count.saturating_add(1);
        let latencies = if answer == Answer::Success { &mut self.success } else { &mut self.other };
        latencies.record(latency);
        let answered = at.saturating_duration_since(self.started_at);
        self.timeline.push(Request { due: answered.saturating_sub(latency), answered, answer });
        let Some(record) = self.records.get_mut(callback) else { return };
        let count = match answer.meaning() {
            Meaning::Accepted => {
                record.accepted_at.get_or_insert(at);
                &mut record.accepted
            }
            Meaning::Rejected => &mut record.rejected,
            Meaning::Unsure => &mut record.unsure,
            Meaning::NotSent => return,
        };
        *count = count.saturating_add(1);
    }

    /// Requests answered, whatever the answer.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.answers.values().sum()
    }

    /// Answers of this meaning.
    #[must_use]
    pub fn count(&self, meaning: Meaning) -> u64 {
        self.answers.iter().filter(|(answer, _)| answer.meaning() == meaning).map(|(_, count)| count).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exact_success_counts_as_accepted() {
        for (answer, meaning) in [
            (Answer::Success, Meaning::Accepted),
            (Answer::OddBody, Meaning::Unsure),
            (Answer::Status(201), Meaning::Unsure),
            (Answer::Status(302), Meaning::Unsure),
            (Answer::Status(400), Meaning::Rejected),
            (Answer::Status(401), Meaning::Rejected),
            (Answer::Status(404), Meaning::Rejected),
            (Answer::Status(408), Meaning::Unsure),
            (Answer::Status(413), Meaning::Rejected),
            (Answer::Status(500), Meaning::Unsure),
            (Answer::Status(503), Meaning::Unsure),
            (Answer::TimedOut, Meaning::Unsure),
            (Answer::ConnectionLost, Meaning::Unsure),
            (Answer::Unreachable, Meaning::NotSent),
        ] {
            assert_eq!(answer.meaning(), meaning, "{answer:?}");
        }
    }
}
