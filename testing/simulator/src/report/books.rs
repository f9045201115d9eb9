//! The two sides of the books.

use std::collections::BTreeMap;

use kit::table::{Table, table};

use super::{Report, two_columns};
use crate::audit::index::Index;
use crate::request_log::Meaning;

/// What was answered and what the ledger contains; see [`Books::is_balanced`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Books {
    /// Answers of SUCCESS.
    pub told_success: u64,
    /// Ledger rows beyond that: stored, but the answer was a failure or got lost.
    pub stored_all_the_same: u64,
    /// Ledger rows of the run by outcome and reason.
    pub outcomes: BTreeMap<(String, Option<String>), u64>,
}

impl Books {
    #[must_use]
    pub fn of(report: &Report<'_>) -> Self {
        let index = Index::new(report.plan, report.log, report.found, report.consumed);
        let surplus = index
            .cases
            .iter()
            .flat_map(|case| &case.sent)
            .map(|sent| u64::try_from(sent.rows.len()).unwrap_or(u64::MAX).saturating_sub(sent.record.accepted));
        let rows = index.rows().map(|(_, row)| (row.outcome.clone(), row.reason.clone()));
        Self {
            told_success: report.log.count(Meaning::Accepted),
            stored_all_the_same: surplus.sum(),
            outcomes: super::count(rows),
        }
    }

    /// Told SUCCESS + stored though answered failure = all outcomes together.
    #[must_use]
    pub fn is_balanced(&self) -> bool {
        self.told_success.saturating_add(self.stored_all_the_same) == self.outcomes.values().sum::<u64>()
    }

    pub(super) fn table(&self) -> Table {
        let mut table = table(["answered to WeChat Pay", "", "outcomes in the ledger", ""]);
        let left = vec![
            ("answered SUCCESS".to_owned(), self.told_success),
            ("stored, though answered with a failure".to_owned(), self.stored_all_the_same),
        ];
        let outcomes: Vec<(String, u64)> = self
            .outcomes
            .iter()
            .map(|((outcome, reason), rows)| match reason {
                Some(reason) => (format!("{outcome}: {reason}"), *rows),
                None => (outcome.clone(), *rows),
            })
            .collect();
        let together =
            (self.told_success.saturating_add(self.stored_all_the_same), outcomes.iter().map(|(_, rows)| rows).sum());
        two_columns(&mut table, left, outcomes);
        two_columns(&mut table, vec![("total".to_owned(), together.0)], vec![("total".to_owned(), together.1)]);
        table
    }
}
