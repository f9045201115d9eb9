//! The report for a program. Latencies are whole microseconds, durations whole milliseconds.

use kit::latencies::Latencies;
use serde_json::{Map, Value, json};

use super::speed::PERCENTILES;
use super::{Books, Report, Speed};
use crate::audit::Violation;

impl Report<'_> {
    /// Everything that the tables say.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let books = Books::of(self);
        let speed = Speed::of(self);
        let outcomes: Vec<Value> = books
            .outcomes
            .iter()
            .map(|((outcome, reason), rows)| json!({"outcome": outcome, "reason": reason, "rows": rows}))
            .collect();
        let latencies: Map<String, Value> =
            speed.rows(self).into_iter().map(|(name, it)| (name.to_owned(), latencies(it))).collect();
        json!({
            "good": self.is_good(),
            "verdict": self.verdict(),
            "run": self.plan.run.prefix,
            "seed": self.seed,
            "orders": self.plan.orders.len(),
            "scenarios": named(self.scenarios().into_iter().map(|(scenario, orders)| (scenario.name(), orders))),
            "answers": named(self.log.answers.iter().map(|(answer, requests)| (answer.name(), *requests))),
            "given_up": self.log.records.iter().filter(|record| record.given_up).count(),
            "books": {
                "told_success": books.told_success,
                "stored_though_answered_failure": books.stored_all_the_same,
                "outcomes": outcomes,
                "balanced": books.is_balanced(),
            },
            "order_states": named(self.states().into_iter()),
            "events": {
                "distinct": self.consumed.events.len(),
                "published_twice": self.consumed.published_twice,
                "redelivered": self.consumed.redelivered,
            },
            "speed": {
                "requests_answered_per_second": speed.answered_per_second,
                "payments_applied_per_second": speed.paid_per_second,
                "sending_ms": u64::try_from(speed.sending.as_millis()).unwrap_or(u64::MAX),
                "until_last_event_ms": u64::try_from(speed.until_last_event.as_millis()).unwrap_or(u64::MAX),
                "latency_us": latencies,
            },
            "audit": Violation::ALL.iter().map(|violation| self.violation(*violation)).collect::<Vec<_>>(),
            "at_half": self.at_half.as_ref().map(|it| json!({"succeeded": it.succeeded, "text": it.text})),
        })
    }

    fn violation(&self, violation: Violation) -> Value {
        let examples = self.findings.examples(violation).iter().map(|example| {
            json!({"out_trade_no": example.out_trade_no, "expected": example.expected, "found": example.found})
        });
        json!({
            "rule": violation.sentence(),
            "breaches": self.findings.count(violation),
            "examples": examples.collect::<Vec<_>>(),
        })
    }
}

fn named(counts: impl Iterator<Item = (impl Into<String>, u64)>) -> Value {
    Value::Object(counts.map(|(name, count)| (name.into(), count.into())).collect())
}

fn latencies(latencies: &Latencies) -> Value {
    let micros = |per_mille| u64::try_from(latencies.within(per_mille).as_micros()).unwrap_or(u64::MAX);
    let mut values: Map<String, Value> =
        PERCENTILES.iter().map(|(name, per_mille)| ((*name).to_owned(), micros(*per_mille).into())).collect();
    values.insert("max".to_owned(), micros(1000).into());
    values.insert("number".to_owned(), latencies.count().into());
    Value::Object(values)
}
