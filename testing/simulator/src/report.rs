//! The books of a run, for a person ([`std::fmt::Display`]) and for a program ([`Report::to_json`]).
//!
//! Left: what WeChat Pay was told. Right: what the ledger says. The sums must be equal; the audit says whether every
//! single callback is in its place too.

mod books;
mod json;
mod speed;

use std::collections::BTreeMap;
use std::fmt;

use kit::table::{Cell, Table, right, table};

pub use self::books::Books;
pub use self::speed::Speed;
use crate::at_half;
use crate::audit::{Findings, Rule};
use crate::book::Book;
use crate::evidence::Found;
use crate::fulfilment::Consumed;
use crate::plan::Plan;
use crate::progress::grouped;
use crate::scenarios::Scenario;

/// Everything there is to say about a run.
#[derive(Debug)]
pub struct Report<'run> {
    /// Makes the run repeatable.
    pub seed: u64,
    /// What was to be sent.
    pub plan: &'run Plan,
    /// What was told.
    pub book: &'run Book,
    /// What the database holds.
    pub found: &'run Found,
    /// What the merchant heard.
    pub consumed: &'run Consumed,
    /// What the audit found.
    pub findings: Findings,
    /// How the command at half ended.
    pub at_half: Option<at_half::Outcome>,
}

impl Report<'_> {
    /// The audit found nothing, the sums are equal and the command at half did what it was asked.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.findings.is_clean()
            && Books::of(self).is_balanced()
            && self.at_half.as_ref().is_none_or(|at_half| at_half.succeeded)
    }

    #[must_use]
    pub fn verdict(&self) -> String {
        let broken = Rule::ALL.iter().filter(|rule| self.findings.count(**rule) > 0).count();
        if broken > 0 {
            format!("FAILED: the audit broke {broken} of {} rules", Rule::ALL.len())
        } else if !Books::of(self).is_balanced() {
            "FAILED: the books do not balance".to_owned()
        } else if self.at_half.as_ref().is_some_and(|at_half| !at_half.succeeded) {
            "FAILED: the books balance, but the command at half failed, so that nothing was disturbed".to_owned()
        } else {
            format!("BALANCED: all {} rules of the audit hold", Rule::ALL.len())
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
            writeln!(formatter, "\nat half: {}", at_half.text)?;
        }
        write!(formatter, "\n{}", self.verdict())
    }
}

impl Report<'_> {
    fn sent_table(&self) -> Table {
        let mut table = table(["orders by scenario", "", "requests by answer", ""]);
        let orders = self.scenarios().into_iter().map(|(scenario, orders)| (scenario.name().to_owned(), orders));
        let mut answers: Vec<(String, u64)> =
            self.book.answers.iter().map(|(answer, requests)| (answer.name(), *requests)).collect();
        let given_up = self.book.records.iter().filter(|record| record.given_up).count();
        if given_up > 0 {
            answers.push(("callbacks given up by WeChat Pay".to_owned(), u64::try_from(given_up).unwrap_or(u64::MAX)));
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
        let kinds = count(self.consumed.events.values().map(|event| event.says.kind.as_str()));
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
        let mut table = table(["audit", "breaches"]);
        for rule in Rule::ALL {
            let breaches = match self.findings.count(rule) {
                0 => "ok".to_owned(),
                some => grouped(some),
            };
            table.add_row([Cell::new(rule.sentence()), right(breaches)]);
        }
        table
    }

    fn write_examples(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for rule in Rule::ALL {
            let examples = self.findings.examples(rule);
            if examples.is_empty() {
                continue;
            }
            writeln!(formatter, "\nbroken {} times: {}", grouped(self.findings.count(rule)), rule.sentence())?;
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
