//! Several drills in one Markdown table, made from their JSON reports, for `docs/results/drill.md`.
//!
//! Faults that overlapped share a line, because their effects cannot be separated.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::Value;

/// The results of a fault over all drills: sums, and the worst values.
#[derive(Debug, Default)]
struct Line {
    times: u64,
    requests: u64,
    failed: u64,
    gap_ms: u64,
    p99_ms: u64,
    backlog: u64,
    drained_ms: u64,
    in_order_ms: u64,
    /// How often the next fault came before all was in order.
    cut_short: u64,
    duplicates: u64,
}

/// The table of the reports in `files`.
pub fn summarize(files: &[PathBuf]) -> Result<String> {
    let reports = files
        .iter()
        .map(|path| {
            let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
            serde_json::from_str(&text).with_context(|| format!("{} is not a report", path.display()))
        })
        .collect::<Result<Vec<Value>>>()?;
    table(&reports)
}

fn table(reports: &[Value]) -> Result<String> {
    let mut lines: BTreeMap<String, Line> = BTreeMap::new();
    let (mut told, mut held, mut injected, mut kinds) = (0_u64, 0_usize, 0_usize, BTreeSet::new());
    for report in reports {
        told = told.saturating_add(number(report, "/audit/books/told_success"));
        held = held.saturating_add(usize::from(report.pointer("/good") == Some(&true.into())));
        let faults = report.pointer("/faults").and_then(Value::as_array).context("the report has no faults")?;
        for group in faults.chunk_by(|_, next| next.pointer("/in_company") == Some(&true.into())) {
            let names: Option<Vec<String>> = group.iter().map(name).collect();
            let first = group.first().context("a fault")?;
            lines.entry(names.context("a fault without a name")?.join(" + ")).or_default().add(first);
            injected = injected.saturating_add(group.len());
            kinds.extend(group.iter().filter_map(name));
        }
    }
    let mut text = String::new();
    writeln!(
        text,
        "{held} of {} drills held every promise: {injected} faults of {} kinds, {told} callbacks answered SUCCESS.\n",
        reports.len(),
        kinds.len()
    )?;
    writeln!(
        text,
        "| fault | times | failed | no SUCCESS for | p99 during | backlog | drained | recovered | duplicates |"
    )?;
    writeln!(text, "|---|--:|--:|--:|--:|--:|--:|--:|--:|")?;
    for (name, line) in lines {
        let percent = line.failed.saturating_mul(100).checked_div(line.requests).unwrap_or_default();
        let cut_short = if line.cut_short > 0 { format!(" ({} cut short)", line.cut_short) } else { String::new() };
        writeln!(
            text,
            "| {name} | {} | {percent} % | {} | {} ms | {} | {} | {}{cut_short} | {} |",
            line.times,
            seconds(line.gap_ms),
            line.p99_ms,
            line.backlog,
            seconds(line.drained_ms),
            seconds(line.in_order_ms),
            line.duplicates
        )?;
    }
    Ok(text)
}

impl Line {
    fn add(&mut self, fault: &Value) {
        let failures = fault.pointer("/failures").and_then(Value::as_object).into_iter().flatten();
        let failed: u64 = failures.filter_map(|(_, count)| count.as_u64()).sum();
        self.times = self.times.saturating_add(1);
        self.requests = self.requests.saturating_add(number(fault, "/requests"));
        self.failed = self.failed.saturating_add(failed);
        self.gap_ms = self.gap_ms.max(number(fault, "/longest_gap_without_success_ms"));
        self.p99_ms = self.p99_ms.max(number(fault, "/latency_ms/during/p99"));
        self.backlog = self.backlog.max(number(fault, "/backlog_peak"));
        self.drained_ms = self.drained_ms.max(number(fault, "/drained_after_mending_ms"));
        self.in_order_ms = self.in_order_ms.max(number(fault, "/in_order_after_strike_ms"));
        let is_cut_short = fault.pointer("/in_order_after_strike_ms").is_none_or(Value::is_null);
        self.cut_short = self.cut_short.saturating_add(u64::from(is_cut_short));
        self.duplicates = self.duplicates.saturating_add(number(fault, "/duplicates_absorbed"));
    }
}

fn name(fault: &Value) -> Option<String> {
    fault.pointer("/fault").and_then(Value::as_str).map(|name| format!("`{name}`"))
}

fn number(value: &Value, pointer: &str) -> u64 {
    value.pointer(pointer).and_then(Value::as_u64).unwrap_or_default()
}

fn seconds(ms: u64) -> String {
    format!("{}.{} s", ms / 1000, ms % 1000 / 100)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_struck_alone_or_together_has_one_line_with_sums_and_the_worst() {
        let fault = |name: &str, overlapping: bool, gap: u64, in_order: Value| {
            json!({
                "fault": name, "in_company": overlapping, "requests": 100, "failures": {"503": 3, "lost": 2},
                "longest_gap_without_success_ms": gap, "in_order_after_strike_ms": in_order,
                "latency_ms": {"during": {"p99": 7}}, "duplicates_absorbed": 1,
            })
        };
        let report = |faults: Value| json!({"good": true, "audit": {"books": {"told_success": 10}}, "faults": faults});
        let text = table(&[
            report(json!([
                fault("a", false, 1500, json!(2000)),
                fault("b", false, 1, json!(1)),
                fault("a", true, 9, json!(9))
            ])),
            report(json!([fault("a", false, 100, Value::Null)])),
        ])
        .unwrap();
        assert!(text.starts_with("2 of 2 drills held every promise: 4 faults of 2 kinds, 20 callbacks"), "{text}");
        let lines = "| `a` | 2 | 5 % | 1.5 s | 7 ms | 0 | 0.0 s | 2.0 s (1 cut short) | 2 |\n\
                     | `b` + `a` | 1 | 5 % | 0.0 s | 7 ms | 0 | 0.0 s | 0.0 s | 1 |\n";
        assert!(text.ends_with(lines), "{text}");
    }
}
