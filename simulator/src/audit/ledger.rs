//! Rules about answers, ledger rows and quarantine rows.

use std::collections::{BTreeMap, HashSet};

use super::index::{Case, Index, Sent};
use super::{Findings, Rule};
use crate::evidence::FoundNotification;
use crate::model::{Alone, Outcome, alone, refund_outcomes};
use crate::plan::{PaymentSays, RefundResult, RefundSays, Says};

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
        let mut applied: BTreeMap<Change<'_>, u64> = BTreeMap::new();
        for sent in case.sent.iter().filter(|sent| sent.callback.forgery.is_none()) {
            for row in &sent.rows {
                check_outcome(case, sent, row, findings);
                check_names(case, sent, row, findings);
                if row.outcome == "applied" {
                    let count = applied.entry(change(&sent.callback.says)).or_default();
                    *count = count.saturating_add(1);
                }
            }
        }
        check_applied(case, applied, findings);
    }
}

/// What may be applied once: the payment, or a refund's step to a state.
type Change<'run> = Option<(&'run str, &'run str, RefundResult)>;

fn change(says: &Says) -> Change<'_> {
    says.refund().map(|refund| (refund.transaction_id.as_str(), refund.out_refund_no.as_str(), refund.result))
}

fn check_applied(case: &Case<'_>, mut applied: BTreeMap<Change<'_>, u64>, findings: &mut Findings) {
    let number = &case.order.out_trade_no;
    let payments = applied.remove(&None).unwrap_or(0);
    let expected = u64::from(case.paid_by().is_some());
    if payments != expected {
        findings.add(Rule::Outcome, number, format!("{expected} applied"), format!("{payments} applied"));
    }
    for (change, times) in applied {
        // The return of a surplus may be noted again, after a late repeat of the surplus itself: it changes no order.
        let is_own = change.is_some_and(|(transaction_id, ..)| case.paid_by() == Some(transaction_id));
        if is_own && times != 1 {
            findings.add(Rule::Outcome, number, "each change applied once", format!("{change:?} {times} times"));
        }
    }
}

fn check_outcome(case: &Case<'_>, sent: &Sent<'_>, row: &FoundNotification, findings: &mut Findings) {
    let number = &case.order.out_trade_no;
    let allowed = match &sent.callback.says {
        Says::Payment(says) => payment_outcomes(case, says),
        Says::Refund(says) => {
            let others: Vec<RefundResult> = case
                .own_refunds()
                .filter(|(other, _)| other.out_refund_no == says.out_refund_no)
                .map(|(other, _)| other.result)
                .collect();
            refund_outcomes(case.order, says, case.paid_by(), &others)
        }
        Says::NoOrder(_) => vec![("ignored", Some("not_for_orders"))],
    };
    let got = (row.outcome.as_str(), row.reason.as_deref());
    if !allowed.contains(&got) {
        let expected = match allowed.as_slice() {
            [] => "no row for a payment while the order is not paid".to_owned(),
            some => some.iter().map(|&pair| show(pair)).collect::<Vec<_>>().join(" or "),
        };
        findings.add(Rule::Outcome, number, expected, show(got));
    }
}

fn payment_outcomes(case: &Case<'_>, says: &PaymentSays) -> Vec<Outcome> {
    match (alone(case.order, says), case.paid_by()) {
        (Alone::Ignored, _) => vec![("ignored", Some("not_successful"))],
        // Quarantined once the pipeline has waited long enough.
        (Alone::Waits, _) => vec![("waiting", Some("for_order")), ("quarantined", Some("for_order"))],
        (Alone::Refused(reason), _) => vec![("quarantined", Some(reason))],
        (Alone::Pays, Some(winner)) if winner == says.transaction_id => vec![("applied", None), ("duplicate", None)],
        (Alone::Pays, Some(_)) => {
            let goes_back = |sent: &Sent<'_>| {
                sent.callback.says.refund().is_some_and(|refund| refund.transaction_id == says.transaction_id)
            };
            let mut outcomes = vec![("quarantined", Some("paid_twice"))];
            // A repeat that came after the refund.
            outcomes.extend(case.sent.iter().any(goes_back).then_some(("ignored", Some("returned"))));
            outcomes
        }
        // The order's own rule tells whether it should have been paid.
        (Alone::Pays, None) => Vec::new(),
    }
}

/// The numbers that the ledger has beside the bytes.
fn check_names(case: &Case<'_>, sent: &Sent<'_>, row: &FoundNotification, findings: &mut Findings) {
    let says = &sent.callback.says;
    let number = &case.order.out_trade_no;
    let (kind, order) = match says {
        Says::Payment(_) => ("payment", Some(number.as_str())),
        Says::Refund(_) => ("refund", Some(number.as_str())),
        Says::NoOrder(_) => ("other", None),
    };
    let refund = says.refund().map(|refund| refund.out_refund_no.as_str());
    let expected = [Some(kind), Some(&case.order.mch_id), order, says.transaction_id(), refund];
    // A failed payment may name its transaction or not.
    let transaction_id = row.transaction_id.as_deref().filter(|_| says.transaction_id().is_some());
    let found = [
        Some(row.kind.as_str()),
        row.mch_id.as_deref(),
        row.out_trade_no.as_deref(),
        transaction_id,
        row.out_refund_no.as_deref(),
    ];
    if found != expected {
        findings.add(Rule::Outcome, number, format!("{expected:?}"), format!("{found:?}"));
    }
}

/// [`Rule::Quarantine`]: waiting ↔ waiting, quarantined ↔ open, each with the same reason, or resolved when that payment was
/// sent back; anything else ↔ no row, or one that was resolved.
pub fn check_quarantine(index: &Index<'_>, findings: &mut Findings) {
    let mut in_ledger = HashSet::new();
    let returned = returned(index);
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
                let is_returned = row.transaction_id.as_deref().is_some_and(|id| returned.contains(id));
                (refused.state == state || (is_returned && refused.state == "resolved"))
                    && Some(refused.reason.as_str()) == row.reason.as_deref()
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

/// The payments that were sent back because their order did not want them.
fn returned<'run>(index: &Index<'run>) -> HashSet<&'run str> {
    let refunds = index.cases.iter().flat_map(|case| {
        let of_others = |says: &&RefundSays| case.paid_by() != Some(&says.transaction_id);
        case.sent.iter().filter_map(move |sent| {
            let says = sent.callback.says.refund().filter(of_others)?;
            sent.rows.iter().any(|row| row.outcome == "applied").then_some(says.transaction_id.as_str())
        })
    });
    refunds.collect()
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
