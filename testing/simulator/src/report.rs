//! The books of a run, for the terminal ([`std::fmt::Display`]) and for a program ([`Report::to_json`]).
//!
//! Left: what ingest answered. Right: what the ledger contains. The sums must be equal; the audit then checks every single
//! callback.

mod books;
mod json;
mod speed;

use std::collections::BTreeMap;
use std::fmt;

use kit::table::{Cell, Table, right, table};

pub use self::books::Books;
pub use self::speed::Speed;
use crate::audit::{Findings, Violation};
use crate::fulfilment::Consumed;
use crate::midpoint;
use crate::plan::Plan;
use crate::progress::grouped;
use crate::request_log::RequestLog;
use crate::scenarios::Scenario;
use crate::snapshot::Found;

/// The result of a run.
#[derive(Debug)]
pub struct Report<'run> {
    /// Makes the run repeatable.
    pub seed: u64,
    /// What was to be sent.
    pub plan: &'run Plan,
    /// What was answered.
    pub log: &'run RequestLog,
    /// What the database holds.
    pub found: &'run Found,
    /// The events that the merchant received.
    pub consumed: &'run Consumed,
    /// What the audit found.
    pub findings: Findings,
    /// How the command at the midpoint ended.
    pub at_half: Option<midpoint::Outcome>,
}

impl Report<'_> {
    /// The audit found nothing, the sums are equal and the command at the midpoint succeeded.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.findings.is_clean()
            && Books::of(self).is_balanced()
            && self.at_half.as_ref().is_none_or(|at_half| at_half.succeeded)
    }

    #[must_use]
    pub fn verdict(&self) -> String {
        let broken = Violation::ALL.iter().filter(|violation| self.findings.count(**violation) > 0).count();
        if broken > 0 {
            format!("FAILED: {broken} of the {} audit rules are violated", Violation::ALL.len())
        } else if !Books::of(self).is_balanced() {
            "FAILED: the books do not balance".to_owned()
        } else if self.at_half.as_ref().is_some_and(|at_half| !at_half.succeeded) {
            "FAILED: the books balance, but the command at the midpoint failed, so nothing was disturbed".to_owned()
        } else {
            format!("BALANCED: all {} audit rules hold", Violation::ALL.len())
        }
    }

    fn scenarios(&self) -> BTreeMap<Scenario, u64> {
        count(self.plan.orders.iter().map(|order| order.scenario))
    }

    fn states(&self) -> BTreeMap<&str, u64> {
        count(self.found.orders.iter().map(|order| order.state.as_str()))
    }
}

fn count<K: Ord>(keys: impl Iterator<Item = K>) -> BTreeMap<K, u64> {
    let mut counts: BTreeMap<K, u64> = BTreeMap::new();
    for key in keys {
        let count = counts.entry(key).or_default();
        *count = count.saturating_add(1);
    }
    counts
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "\n{}", self.sent_table())?;
        writeln!(formatter, "\n{}", Books::of(self).table())?;
        writeln!(formatter, "\n{}", self.orders_table())?;
        let speed = Speed::of(self);
        writeln!(formatter, "\n{}\n{}", speed.table(self), speed.line())?;
        writeln!(formatter, "\n{}", self.rules_table())?;
        self.write_examples(formatter)?;
        if let Some(at_half) = &self.at_half {
            writeln!(formatter, "\ncommand at the midpoint: {}", at_half.text)?;
        }
        write!(formatter, "\n{}", self.verdict())
    }
}

impl Report<'_> {
    fn sent_table(&self) -> Table {
        let mut table = table(["orders by scenario", "", "requests by answer", ""]);
        let orders = self.scenarios().into_iter().map(|(scenario, orders)| (scenario.name().to_owned(), orders));
        let mut answers: Vec<(String, u64)> =
            self.log.answers.iter().map(|(answer, requests)| (answer.name(), *requests)).collect();
        let given_up = self.log.records.iter().filter(|record| record.given_up).count();
        if given_up > 0 {
            answers.push(("callbacks that WeChat Pay gave up".to_owned(), u64::try_from(given_up).unwrap_or(u64::MAX)));
        }
        two_columns(&mut table, orders.collect(), answers);
        table
    }

    fn orders_table(&self) -> Table {
        let mut table = table(["orders by state", "", "order events", ""]);
        let mut states: Vec<(String, u64)> =
            self.states().into_iter().map(|(state, orders)| (state.to_owned(), orders)).collect();
        let planned = u64::try_from(self.plan.orders.len()).unwrap_or(u64::MAX);
        let rows: u64 = states.iter().map(|(_, orders)| orders).sum();
        states.push(("never written".to_owned(), planned.saturating_sub(rows)));
        let kinds = count(self.consumed.events.values().map(|event| event.payload.kind.as_str()));
        let mut events: Vec<(String, u64)> =
            kinds.into_iter().map(|(kind, events)| (kind.to_owned(), events)).collect();
        events.extend([
            ("published twice (same id)".to_owned(), self.consumed.published_twice),
            ("redelivered by the broker".to_owned(), self.consumed.redelivered),
        ]);
        two_columns(&mut table, states, events);
        table
    }

    fn rules_table(&self) -> Table {
        let mut table = table(["audit rule", "violations"]);
        for violation in Violation::ALL {
            let violations = match self.findings.count(violation) {
                0 => "ok".to_owned(),
                some => grouped(some),
            };
            table.add_row([Cell::new(violation.sentence()), right(violations)]);
        }
        table
    }

    fn write_examples(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for violation in Violation::ALL {
            let examples = self.findings.examples(violation);
            if examples.is_empty() {
                continue;
            }
            writeln!(
                formatter,
                "\nviolated {} times: {}",
                grouped(self.findings.count(violation)),
                violation.sentence()
            )?;
            for example in examples {
                writeln!(formatter, "  {}", example.out_trade_no)?;
                writeln!(formatter, "    expected  {}", example.expected)?;
                writeln!(formatter, "    found     {}", example.found)?;
            }
        }
        Ok(())
    }
}

/// Two lists side by side.
fn two_columns(table: &mut Table, left: Vec<(String, u64)>, others: Vec<(String, u64)>) {
    let (mut left, mut others) = (left.into_iter(), others.into_iter());
    loop {
        let (one, other) = (left.next(), others.next());
        if one.is_none() && other.is_none() {
            return;
        }
        let cells = |pair: Option<(String, u64)>| match pair {
            Some((name, number)) => [Cell::new(name), right(grouped(number))],
            None => [Cell::new(""), Cell::new("")],
        };
        table.add_row(cells(one).into_iter().chain(cells(other)));
    }
}
