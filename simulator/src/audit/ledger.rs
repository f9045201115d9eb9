//! Rules about answers, ledger rows and quarantine rows.

use std::collections::HashSet;

use super::index::{Case, Index, Sent};
use super::{Findings, Rule};
use crate::evidence::FoundNotification;
use crate::model::{Alone, alone};
use crate::plan::PayResult;

/// [`Rule::ForgeryAccepted`] and [`Rule::GenuineRejected`].
pub fn check_answers(index: &Index<'_>, findings: &mut Findings) {
    for (case, sent) in every_sent(index) {
        let number = &case.order.out_trade_no;
        let Sent { callback, record, .. } = sent;
        match callback.forgery {
            Some(forgery) if record.accepted > 0 => {
                findings.add(Rule::ForgeryAccepted, number, format!("a failure ({forgery:?})"), "SUCCESS");
            }
            None if record.rejected > 0 => {
                findings.add(Rule::GenuineRejected, number, "SUCCESS, or a failure of the moment", "4xx");
            }
            _ => {}
        }
    }
}

/// [`Rule::ForgeryStored`], [`Rule::OneRowEach`] and [`Rule::UnknownBody`].
pub fn check_rows(index: &Index<'_>, findings: &mut Findings) {
    for (case, sent) in every_sent(index) {
        let number = &case.order.out_trade_no;
        let rows = u64::try_from(sent.rows.len()).unwrap_or(u64::MAX);
        if sent.callback.forgery.is_some() {
            if rows > 0 {
                findings.add(Rule::ForgeryStored, number, "no row", format!("{rows} rows"));
            }
            continue;
        }
        let least = sent.record.accepted;
        let most = least.saturating_add(sent.record.unsure);
        if rows < least || rows > most {
            let expected = if least == most { format!("{least} rows") } else { format!("{least} to {most} rows") };
            findings.add(Rule::OneRowEach, number, expected, format!("{rows} rows"));
        }
    }
    for row in &index.unknown_bodies {
        let number = row.out_trade_no.as_deref().unwrap_or_default();
        findings.add(Rule::UnknownBody, number, "a body that was sent", format!("row {}", row.id));
    }
}

/// [`Rule::Outcome`].
pub fn check_outcomes(index: &Index<'_>, findings: &mut Findings) {
    for case in &index.cases {
        let paid_by = case.found.and_then(|order| order.transaction_id.as_deref());
        let mut applied: u64 = 0;
        for sent in case.sent.iter().filter(|sent| sent.callback.forgery.is_none()) {
            for row in &sent.rows {
                check_outcome(case, sent, row, paid_by, findings);
                applied = applied.saturating_add(u64::from(row.outcome == "applied"));
            }
        }
        let expected = u64::from(paid_by.is_some());
        if applied != expected {
            let number = &case.order.out_trade_no;
            findings.add(Rule::Outcome, number, format!("{expected} applied"), format!("{applied} applied"));
        }
    }
}

fn check_outcome(
    case: &Case<'_>,
    sent: &Sent<'_>,
    row: &FoundNotification,
    paid_by: Option<&str>,
    findings: &mut Findings,
) {
    let number = &case.order.out_trade_no;
    let says = &sent.callback.says;
    let allowed: &[(&str, Option<&str>)] = match (alone(case.order, says), paid_by) {
        (Alone::Ignored, _) => &[("ignored", Some("not_successful"))],
        // Quarantined once the pipeline has waited long enough.
        (Alone::Waits, _) => &[("waiting", Some("for_order")), ("quarantined", Some("for_order"))],
        (Alone::Refused(reason), _) => &[("quarantined", Some(reason))],
        (Alone::Pays, Some(winner)) if winner == says.transaction_id => &[("applied", None), ("duplicate", None)],
        (Alone::Pays, Some(_)) => &[("quarantined", Some("paid_twice"))],
        // The order's own rule tells whether it should have been paid.
        (Alone::Pays, None) => &[],
    };
    let got = (row.outcome.as_str(), row.reason.as_deref());
    if !allowed.contains(&got) {
        let expected = match allowed {
            [] => "no row for a payment while the order is not paid".to_owned(),
            some => some.iter().map(|&pair| show(pair)).collect::<Vec<_>>().join(" or "),
        };
        findings.add(Rule::Outcome, number, expected, show(got));
    }
    let expected_transaction = (says.result == PayResult::Success).then_some(says.transaction_id.as_str());
    let names_it = row.out_trade_no.as_deref() == Some(number)
        && row.mch_id.as_deref() == Some(case.order.mch_id.as_str())
        && (expected_transaction.is_none() || row.transaction_id.as_deref() == expected_transaction);
    if !names_it {
        let expected = format!("{} {number} {}", case.order.mch_id, expected_transaction.unwrap_or_default());
        let found = [&row.mch_id, &row.out_trade_no, &row.transaction_id];
        let found: Vec<&str> = found.into_iter().map(|id| id.as_deref().unwrap_or("(none)")).collect();
        findings.add(Rule::Outcome, number, expected, found.join(" "));
    }
}

/// [`Rule::Quarantine`]: waiting ↔ waiting, quarantined ↔ open, each with the same reason; anything else ↔ no row, or one
/// that was resolved.
pub fn check_quarantine(index: &Index<'_>, findings: &mut Findings) {
    let mut in_ledger = HashSet::new();
    for (number, row) in index.rows() {
        in_ledger.insert(row.id);
        let state = match row.outcome.as_str() {
            "waiting" => Some("waiting"),
            "quarantined" => Some("open"),
            _ => None,
        };
        let refused = index.quarantine.get(&row.id);
        let agrees = match (state, refused) {
            (None, None) => true,
            (None, Some(refused)) => refused.state == "resolved",
            (Some(state), Some(refused)) => {
                refused.state == state && Some(refused.reason.as_str()) == row.reason.as_deref()
            }
            (Some(_), None) => false,
        };
        if !agrees {
            let expected = match state {
                Some(state) => show((state, row.reason.as_deref())),
                None => "no row, or resolved".to_owned(),
            };
            let found = refused.map(|refused| show((&refused.state, Some(&refused.reason))));
            let found = format!("{}; quarantine: {}", row.outcome, found.unwrap_or_else(|| "no row".to_owned()));
            findings.add(Rule::Quarantine, number, format!("quarantine: {expected}"), found);
        }
    }
    let is_ours = |number: &str| number.starts_with(index.prefix);
    for (id, refused) in &index.quarantine {
        let number = refused.out_trade_no.as_deref().unwrap_or_default();
        if is_ours(number) && !in_ledger.contains(id) {
            findings.add(Rule::Quarantine, number, "a ledger row", format!("quarantine row of {id} alone"));
        }
    }
}

fn every_sent<'index, 'run>(
    index: &'index Index<'run>,
) -> impl Iterator<Item = (&'index Case<'run>, &'index Sent<'run>)> {
    index.cases.iter().flat_map(|case| case.sent.iter().map(move |sent| (case, sent)))
}

fn show((outcome, reason): (&str, Option<&str>)) -> String {
    match reason {
        Some(reason) => format!("{outcome} ({reason})"),
        None => outcome.to_owned(),
    }
}
