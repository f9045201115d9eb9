//! Rules about answers, ledger rows and quarantine rows.

use std::collections::{BTreeMap, HashSet};

use super::index::{Case, Index, Sent, is_decided_again, is_refusal};
use super::{Findings, Violation};
use crate::model::{PARTLY_RETURNED, payment_outcomes, refund_outcomes};
use crate::plan::{Claim, PaymentClaim, RefundResult};
use crate::snapshot::{FoundNotification, FoundQuarantine};

/// [`Violation::ForgeryAccepted`] and [`Violation::GenuineRejected`].
pub fn check_answers(index: &Index<'_>, findings: &mut Findings) {
    for (case, sent) in every_sent(index) {
        let number = &case.order.out_trade_no;
        let Sent { callback, record, .. } = sent;
        match callback.forgery {
            Some(forgery) if record.accepted > 0 => {
                findings.add(Violation::ForgeryAccepted, number, format!("a failure ({forgery:?})"), "SUCCESS");
            }
            None if record.rejected > 0 => {
                findings.add(Violation::GenuineRejected, number, "SUCCESS, or a temporary failure", "4xx");
            }
            _ => {}
        }
    }
}

/// [`Violation::ForgeryStored`], [`Violation::WrongRowCount`] and [`Violation::UnknownBody`].
pub fn check_rows(index: &Index<'_>, findings: &mut Findings) {
    for (case, sent) in every_sent(index) {
        let number = &case.order.out_trade_no;
        let rows = u64::try_from(sent.rows.len()).unwrap_or(u64::MAX);
        if sent.callback.forgery.is_some() {
            if rows > 0 {
                findings.add(Violation::ForgeryStored, number, "no row", format!("{rows} rows"));
            }
            continue;
        }
        let least = sent.record.accepted;
        let most = least.saturating_add(sent.record.unsure);
        if rows < least || rows > most {
            let expected = if least == most { format!("{least} rows") } else { format!("{least} to {most} rows") };
            findings.add(Violation::WrongRowCount, number, expected, format!("{rows} rows"));
        }
    }
    for row in &index.unknown_bodies {
        let number = row.out_trade_no.as_deref().unwrap_or_default();
        findings.add(Violation::UnknownBody, number, "a body that was sent", format!("row {}", row.id));
    }
}

/// [`Violation::WrongOutcome`].
pub fn check_outcomes(index: &Index<'_>, findings: &mut Findings) {
    for case in &index.cases {
        for sent in case.genuine() {
            for row in &sent.rows {
                check_outcome(case, sent, row, findings);
                check_names(case, sent, row, findings);
            }
        }
        check_once(case, findings);
    }
}

/// What changes an order once, however often it is reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Change<'run> {
    /// It was paid, by whatever payment.
    Paid,
    /// It refused this payment.
    Refused(&'run str),
    /// A refund came to a state: transaction, number, state.
    Refunded(&'run str, &'run str, RefundResult),
}

/// Each change is in one ledger row: one payment is applied if the order is paid, one report of each payment that is on record
/// as refused is quarantined, each step of a refund is applied.
fn check_once(case: &Case<'_>, findings: &mut Findings) {
    let mut changes: BTreeMap<Change<'_>, u64> = BTreeMap::new();
    if case.paid_by().is_some() {
        changes.insert(Change::Paid, 0);
    }
    let refused = case.payments.iter().filter(|payment| payment.disposition != "accepted");
    changes.extend(refused.map(|payment| (Change::Refused(&payment.transaction_id), 0)));
    let expected = changes.clone();
    for sent in case.genuine() {
        for row in &sent.rows {
            let change = match &sent.callback.claim {
                Claim::Payment(claim) if is_refusal(sent, row) => Change::Refused(&claim.transaction_id),
                Claim::Payment(_) if row.outcome == "applied" => Change::Paid,
                Claim::Refund(claim) if row.outcome == "applied" => {
                    Change::Refunded(&claim.transaction_id, &claim.out_refund_no, claim.result)
                }
                _ => continue,
            };
            let times = changes.entry(change).or_default();
            *times = times.saturating_add(1);
        }
    }
    for (change, times) in changes {
        let may_be = expected.contains_key(&change) || matches!(change, Change::Refunded(..));
        if times != u64::from(may_be) {
            let found = format!("{times} times");
            findings.add(
                Violation::WrongOutcome,
                &case.order.out_trade_no,
                format!("{change:?} {} times", u64::from(may_be)),
                found,
            );
        }
    }
}

fn check_outcome(case: &Case<'_>, sent: &Sent<'_>, row: &FoundNotification, findings: &mut Findings) {
    let number = &case.order.out_trade_no;
    let allowed = match &sent.callback.claim {
        Claim::Payment(claim) => {
            let mut allowed = payment_outcomes(case.order, claim, case.paid_by(), is_returned(case, claim));
            if is_decided_again(row) && has_gone_back(case, claim) {
                allowed.push(PARTLY_RETURNED);
            }
            allowed
        }
        Claim::Refund(claim) => {
            let others: Vec<RefundResult> = case
                .refunds_sent()
                .filter(|(other, _)| other.out_refund_no == claim.out_refund_no)
                .map(|(other, _)| other.result)
                .collect();
            refund_outcomes(case.order, claim, case.payment_on_record(&claim.transaction_id), &others)
        }
        Claim::NoOrder(_) => vec![("ignored", Some("not_for_orders"))],
    };
    let got = (row.outcome.as_str(), row.reason.as_deref());
    if !allowed.contains(&got) {
        let expected = match allowed.as_slice() {
            [] => "no row for a payment while the order is not paid".to_owned(),
            some => some.iter().map(|&pair| show(pair)).collect::<Vec<_>>().join(" or "),
        };
        findings.add(Violation::WrongOutcome, number, expected, show(got));
    }
}

fn is_returned(case: &Case<'_>, claim: &PaymentClaim) -> bool {
    case.record_of(&claim.transaction_id).is_some_and(|record| record.disposition == "returned")
}

/// Whether some of a refused payment has gone back.
fn has_gone_back(case: &Case<'_>, claim: &PaymentClaim) -> bool {
    case.record_of(&claim.transaction_id)
        .is_some_and(|record| record.disposition != "accepted" && record.returned_minor > 0)
}

/// The numbers that the ledger stores in addition to the bytes.
fn check_names(case: &Case<'_>, sent: &Sent<'_>, row: &FoundNotification, findings: &mut Findings) {
    let claim = &sent.callback.claim;
    let number = &case.order.out_trade_no;
    let (kind, order, shop) = match claim {
        Claim::Payment(payment) => ("payment", Some(number.as_str()), payment.sub_mch_id),
        Claim::Refund(_) => ("refund", Some(number.as_str()), case.order.sub_mch_id),
        Claim::NoOrder(_) => ("other", None, None),
    };
    let refund = claim.refund().map(|refund| refund.out_refund_no.as_str());
    let expected = [Some(kind), Some(&case.order.mch_id), shop, order, claim.transaction_id(), refund];
    // A failed payment may name its transaction or not.
    let transaction_id = row.transaction_id.as_deref().filter(|_| claim.transaction_id().is_some());
    let found = [
        Some(row.kind.as_str()),
        row.mch_id.as_deref(),
        row.sub_mch_id.as_deref(),
        row.out_trade_no.as_deref(),
        transaction_id,
        row.out_refund_no.as_deref(),
    ];
    if found != expected || row.part != 0 {
        findings.add(Violation::WrongOutcome, number, format!("{expected:?}"), format!("{found:?}"));
    }
}

/// [`Violation::QuarantineMismatch`]: waiting ↔ waiting, quarantined ↔ open, each with the same reason; but the row of a refused payment that
/// has gone back is resolved by the sweeper. Anything else ↔ no row, or one that was resolved.
pub fn check_quarantine(index: &Index<'_>, findings: &mut Findings) {
    let mut in_ledger = HashSet::new();
    let returned = returned(index);
    for (number, row) in index.rows() {
        in_ledger.insert((row.id, row.part));
        let is_returned = row.kind == "payment"
            && row
                .transaction_id
                .as_deref()
                .is_some_and(|id| returned.contains(&(number, row.sub_mch_id.as_deref(), id)));
        let state = match row.outcome.as_str() {
            "waiting" => Some("waiting"),
            "quarantined" if is_returned => Some("resolved"),
            "quarantined" => Some("open"),
            _ => None,
        };
        let held = index.quarantine.get(&(row.id, row.part)).copied();
        let agrees = match (state, held) {
            (None, None) => true,
            (None, Some(held)) => held.state == "resolved",
            (Some(state), Some(held)) => {
                held.state == state
                    && Some(held.reason.as_str()) == row.reason.as_deref()
                    && (!is_returned || is_resolved_by_sweeper(held))
            }
            (Some(_), None) => false,
        };
        if !agrees {
            let expected = match state {
                Some(state) => show((state, row.reason.as_deref())),
                None => "no row, or resolved".to_owned(),
            };
            let found =
                held.map(|held| format!("{} by {:?}", show((&held.state, Some(&held.reason))), held.resolved_by));
            let found = format!("{}; quarantine: {}", row.outcome, found.unwrap_or_else(|| "no row".to_owned()));
            findings.add(Violation::QuarantineMismatch, number, format!("quarantine: {expected}"), found);
        }
    }
    let is_ours = |number: &str| number.starts_with(index.prefix);
    for (key, held) in &index.quarantine {
        let number = held.out_trade_no.as_deref().unwrap_or_default();
        if is_ours(number) && !in_ledger.contains(key) {
            findings.add(
                Violation::QuarantineMismatch,
                number,
                "a ledger row",
                format!("quarantine row of {} alone", key.0),
            );
        }
    }
}

fn is_resolved_by_sweeper(held: &FoundQuarantine) -> bool {
    held.resolved_by.as_deref() == Some("sweeper") && held.resolution.as_deref() == Some("returned")
}

/// The refused payments of which everything has gone back: order number, shop, transaction.
fn returned<'run>(index: &Index<'run>) -> HashSet<(&'run str, Option<&'run str>, &'run str)> {
    let payments = index.cases.iter().flat_map(|case| case.payments.iter().map(move |payment| (case.order, *payment)));
    let returned = payments.filter(|(_, payment)| payment.disposition == "returned");
    returned
        .map(|(order, payment)| (order.out_trade_no.as_str(), order.sub_mch_id, payment.transaction_id.as_str()))
        .collect()
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
