//! The report: for the terminal ([`std::fmt::Display`]), for a program ([`Report::to_json`]), and as a picture
//! ([`Report::to_svg`]).

mod picture;

use std::fmt;

use kit::table::{Cell, Table, right, table};
use serde_json::{Value, json};

use crate::checks::Check;
use crate::config::Options;
use crate::record::Promise;
use crate::recovery::{Evidence, Latency, Recovery};

/// The result of a drill.
pub struct Report<'a> {
    /// The command line.
    pub options: &'a Options,
    /// What was seen.
    pub evidence: &'a Evidence<'a>,
    /// What each fault came to.
    pub recoveries: &'a [Recovery],
    /// What had to hold.
    pub checks: &'a [Check],
    /// The simulator's own report.
    pub audit: &'a Value,
}

impl Report<'_> {
    /// Every promise held.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.checks.iter().all(|check| check.breach.is_none())
    }

    #[must_use]
    pub fn verdict(&self) -> String {
        let broken = self.checks.iter().filter(|check| check.breach.is_some()).count();
        let told = self.audit.pointer("/books/told_success").and_then(Value::as_u64).unwrap_or_default();
        if broken == 0 {
            format!(
                "ALL HELD: {} faults, {told} callbacks answered SUCCESS, 0 lost, 0 applied twice, 0 wrong",
                self.recoveries.len()
            )
        } else {
            format!("FAILED: {broken} of {} checks", self.checks.len())
        }
    }

    /// When the first callback was due.
    fn started_ms(&self) -> u64 {
        self.evidence.timeline.requests().first().map_or(0, |request| request.due_ms)
    }

    fn faults_table(&self) -> Table {
        let mut table = table([
            "at",
            "fault",
            "target",
            "failed",
            "no SUCCESS for",
            "p50/p99 before",
            "during",
            "after",
            "backlog",
            "drained",
            "recovered",
            "duplicates",
        ]);
        for recovery in self.recoveries {
            let injected = &recovery.injected;
            let failed: usize = recovery.failures.values().sum();
            let [before, during, after] = recovery.latency.map(|latency| right(latencies(latency)));
            let company = if injected.scheduled.overlapping { "+ " } else { "" };
            table.add_row([
                right(seconds(Some(injected.injected_ms.saturating_sub(self.started_ms())))),
                Cell::new(format!("{company}{}", injected.scheduled.fault.name())),
                Cell::new(&injected.note),
                right(format!("{failed} of {}", recovery.requests)),
                right(seconds(Some(recovery.gap_ms))),
                before,
                during,
                after,
                right(recovery.backlog_peak),
                right(seconds(recovery.drained_after_ms)),
                right(seconds(recovery.recovered_after_ms)),
                right(recovery.duplicates),
            ]);
        }
        table
    }

    fn checks_table(&self) -> Table {
        let mut table = table(["check", "result"]);
        for check in self.checks {
            table.add_row([Cell::new(&check.sentence), Cell::new(check.breach.as_deref().unwrap_or("ok"))]);
        }
        table
    }

    /// Everything that the tables say, and the simulator's report. Moments count from the first callback.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let faults: Vec<Value> = self.recoveries.iter().map(|recovery| self.fault(recovery)).collect();
        let checks: Vec<Value> = self
            .checks
            .iter()
            .map(|check| json!({"sentence": check.sentence, "holds": check.breach.is_none(), "breach": check.breach}))
            .collect();
        json!({
            "good": self.is_good(),
            "verdict": self.verdict(),
            "seed": self.options.seed,
            "seconds": self.options.seconds(),
            "rate": self.options.rate,
            "faults": faults,
            "checks": checks,
            "audit": self.audit,
        })
    }

    fn fault(&self, recovery: &Recovery) -> Value {
        let injected = &recovery.injected;
        let promises: Vec<Value> = injected.promises.iter().map(promise).collect();
        let [before, during, after] =
            recovery.latency.map(|latency| json!({"p50": latency.p50_ms, "p99": latency.p99_ms}));
        json!({
            "fault": injected.scheduled.fault.name(),
            "what": injected.scheduled.fault.sentence(),
            "in_company": injected.scheduled.overlapping,
            "hit": injected.note,
            "struck_at_ms": injected.injected_ms.saturating_sub(self.started_ms()),
            "mended_at_ms": injected.lifted_ms.saturating_sub(self.started_ms()),
            "requests": recovery.requests,
            "failures": recovery.failures,
            "longest_gap_without_success_ms": recovery.gap_ms,
            "success_after_strike_ms": recovery.success_after_ms,
            "commit_after_mending_ms": recovery.commit_after_ms,
            "in_order_after_strike_ms": recovery.recovered_after_ms,
            "drained_after_mending_ms": recovery.drained_after_ms,
            "backlog_peak": recovery.backlog_peak,
            "outbox_peak": recovery.outbox_peak,
            "duplicates_absorbed": recovery.duplicates,
            "promises": promises,
            "latency_ms": {"before": before, "during": during, "after": after},
        })
    }

    /// The timeline with the faults marked.
    #[must_use]
    pub fn to_svg(&self) -> String {
        picture::draw(self)
    }
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "{}\n", self.faults_table())?;
        writeln!(
            formatter,
            "failed: callbacks that WeChat Pay resends, of the requests from the fault until recovery; backlog: \
             stored, not yet handled;\ndrained: after the fault was lifted; recovered: after it was injected (-: the \
             next fault came first); +: overlaps the fault above\n"
        )?;
        writeln!(formatter, "{}\n", self.checks_table())?;
        write!(formatter, "{}", self.verdict())
    }
}

fn promise(promise: &Promise) -> Value {
    json!({
        "sentence": promise.sentence, "within_seconds": promise.within_seconds,
        "took_ms": promise.took_ms, "breach": promise.breach,
    })
}

/// `12.3 s`.
fn seconds(ms: Option<u64>) -> String {
    ms.map_or("-".to_owned(), |ms| format!("{}.{} s", ms / 1000, ms % 1000 / 100))
}

fn latencies(latency: Latency) -> String {
    let ms = |ms: Option<u64>| ms.map_or("-".to_owned(), |ms| ms.to_string());
    format!("{}/{} ms", ms(latency.p50_ms), ms(latency.p99_ms))
}
