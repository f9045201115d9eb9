//! How fast it went.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use kit::latencies::Latencies;
use kit::table::{Cell, Table, right, table};

use super::Report;
use crate::audit::events::ORDER_PAID;
use crate::model::{Expectation, expectation};
use crate::plan::Checkout;
use crate::progress::{grouped, per_second};

/// The percentiles that are shown, in thousandths.
pub(super) const PERCENTILES: [(&str, usize); 4] = [("p50", 500), ("p90", 900), ("p99", 990), ("p99.9", 999)];

/// Rates and latencies of a run.
#[derive(Debug, Clone)]
pub struct Speed {
    /// Requests answered a second, while sending.
    pub answered_per_second: u64,
    /// Payments a second, from the first request until the last event reached the merchant; orders that the shop wrote
    /// late are left out.
    pub paid_per_second: u64,
    /// From the first request to the last answer.
    pub sending: Duration,
    /// From the first request to the last event.
    pub until_last_event: Duration,
    /// From the SUCCESS to the order's event in the merchant's hands, on one clock: what the merchant waits
    /// for, and an upper bound for the commit. Orders that the shop wrote late are left out.
    pub paid: Latencies,
}

impl Speed {
    #[must_use]
    pub fn of(report: &Report<'_>) -> Self {
        // The shop's own delay is no slowness of the pipeline's.
        let late: HashSet<&str> = report
            .plan
            .orders
            .iter()
            .filter(|order| order.checkout == Checkout::Late)
            .map(|order| order.out_trade_no.as_str())
            .collect();
        let punctual = || {
            let paid = report.consumed.events.values().filter(|event| event.payload.kind == ORDER_PAID);
            paid.filter(|event| !late.contains(event.payload.out_trade_no.as_str()))
        };
        let last = punctual().map(|event| event.consumed_at).max();
        let until_last_event =
            last.map_or(report.log.sending, |last| last.saturating_duration_since(report.log.started_at));
        Self {
            answered_per_second: per_second(report.log.requests(), report.log.sending),
            paid_per_second: per_second(u64::try_from(punctual().count()).unwrap_or(u64::MAX), until_last_event),
            sending: report.log.sending,
            until_last_event,
            paid: paid_latencies(report),
        }
    }

    pub(super) fn rows<'a>(&'a self, report: &'a Report<'_>) -> Vec<(&'static str, &'a Latencies)> {
        let all = [
            ("callback answered SUCCESS", &report.log.success),
            ("callback answered with a failure", &report.log.other),
            ("SUCCESS until the merchant has order.paid", &self.paid),
        ];
        all.into_iter().filter(|(_, latencies)| latencies.count() > 0).collect()
    }

    pub(super) fn table(&self, report: &Report<'_>) -> Table {
        let mut table = table(["latency", "p50", "p90", "p99", "p99.9", "max", "count"]);
        for (name, latencies) in self.rows(report) {
            let percentiles = PERCENTILES.iter().map(|(_, per_mille)| right(millis(latencies.within(*per_mille))));
            let ends = [
                right(millis(latencies.within(1000))),
                right(grouped(u64::try_from(latencies.count()).unwrap_or(u64::MAX))),
            ];
            table.add_row(std::iter::once(Cell::new(name)).chain(percentiles).chain(ends));
        }
        table
    }

    pub(super) fn line(&self) -> String {
        format!(
            "{} requests/s answered over {}, {} payments/s applied and delivered to the merchant over {}",
            grouped(self.answered_per_second),
            millis(self.sending),
            grouped(self.paid_per_second),
            millis(self.until_last_event),
        )
    }
}

fn paid_latencies(report: &Report<'_>) -> Latencies {
    let mut latencies = Latencies::default();
    let mut accepted_at = HashMap::new();
    for (callback, record) in report.plan.callbacks.iter().zip(&report.log.records) {
        let Some((order, at)) = report.plan.order_of(callback).zip(record.accepted_at) else { continue };
        let Some(claim) = callback.claim.payment().filter(|_| callback.forgery.is_none()) else { continue };
        if expectation(order, claim) == Expectation::Pays && order.checkout == Checkout::Pending {
            let key = (order.out_trade_no.as_str(), claim.transaction_id.as_str());
            let first = accepted_at.entry(key).or_insert(at);
            *first = at.min(*first);
        }
    }
    for event in report.consumed.events.values().filter(|event| event.payload.kind == ORDER_PAID) {
        let transaction = event.payload.transaction_id.as_deref().unwrap_or_default();
        if let Some(at) = accepted_at.get(&(event.payload.out_trade_no.as_str(), transaction)) {
            latencies.record(event.consumed_at.saturating_duration_since(*at));
        }
    }
    latencies
}

/// `1234567` → `1,234.5 ms`.
fn millis(duration: Duration) -> String {
    let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    format!("{}.{} ms", grouped(micros / 1000), micros % 1000 / 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_readable() {
        assert_eq!(millis(Duration::from_micros(1_234_567)), "1,234.5 ms");
        assert_eq!(millis(Duration::from_micros(99)), "0.0 ms");
    }
}
