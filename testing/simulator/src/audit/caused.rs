//! [`Violation::WrongCausedEvent`] and [`Violation::WrongDecisionBasis`]: each ledger row names what its decision was based on
//! and which event it caused, so that the ledger can be audited by itself.

use std::collections::HashSet;

use super::index::{Case, Index, Sent, is_change, refused_as};
use super::{Findings, Violation};
use crate::fulfilment::Event;
use crate::model::{Expectation, expectation};
use crate::plan::Claim;
use crate::snapshot::{Caused, FoundNotification, Seen};

/// Checks what every ledger row says about itself, and that every event is some row's.
pub fn check_ledger(index: &Index<'_>, findings: &mut Findings) {
    for case in &index.cases {
        let number = &case.order.out_trade_no;
        let mut named = HashSet::new();
        for sent in case.genuine() {
            for row in &sent.rows {
                check_caused(case, sent, row, findings);
                check_seen(case, sent, row, findings);
                if let Some(caused) = &row.caused
                    && !named.insert(caused.id.as_str())
                {
                    findings.add(
                        Violation::WrongCausedEvent,
                        number,
                        "an event of one ledger row",
                        format!("{caused:?} again"),
                    );
                }
            }
        }
        for event in case.events.iter().filter(|event| !named.contains(event.id.as_str())) {
            let found = format!("{} {}", event.payload.kind, event.id);
            findings.add(Violation::WrongCausedEvent, number, "an event that a ledger row names", found);
        }
    }
}

fn check_caused(case: &Case<'_>, sent: &Sent<'_>, row: &FoundNotification, findings: &mut Findings) {
    let event = row.caused.as_ref().and_then(|caused| case.events.iter().find(|event| event.id == caused.id));
    let is_true = match (is_change(sent, row), &row.caused) {
        (false, None) => true,
        (true, Some(caused)) => event.is_some_and(|event| is_of(event, caused, sent, row)),
        (true, None) | (false, Some(_)) => false,
    };
    if !is_true {
        let expected = if is_change(sent, row) { "the event that it caused" } else { "no event" };
        let expected = format!("{} row {} with {expected}", row.outcome, row.id);
        let found = format!("{:?}; received: {:?}", row.caused, event.map(|event| &event.payload));
        findings.add(Violation::WrongCausedEvent, &case.order.out_trade_no, expected, found);
    }
}

/// The event is as the row says, and about the row's own payment or refund.
fn is_of(event: &Event, caused: &Caused, sent: &Sent<'_>, row: &FoundNotification) -> bool {
    let callback = &sent.callback.claim;
    let is_kind = match callback {
        Claim::Payment(_) if row.outcome == "applied" => caused.kind == "order.paid",
        Claim::Payment(_) => caused.kind == "payment.refused" && event.payload.reason.as_deref() == refused_as(row),
        Claim::Refund(_) => !["order.paid", "payment.refused"].contains(&caused.kind.as_str()),
        Claim::NoOrder(_) => false,
    };
    is_kind
        && event.payload.kind == caused.kind
        && event.payload.version == caused.version
        && event.payload.transaction_id.as_deref() == callback.transaction_id()
        && event.payload.out_refund_no.as_deref() == callback.refund().map(|refund| refund.out_refund_no.as_str())
}

fn check_seen(case: &Case<'_>, sent: &Sent<'_>, row: &FoundNotification, findings: &mut Findings) {
    let is_proven = row.key_fingerprint.is_some();
    let is_true = match (&row.seen, must_see(case, sent, row)) {
        (None, Some(false) | None) => true,
        (None, Some(true)) | (Some(_), Some(false)) => false,
        (Some(seen), Some(true) | None) => is_plausible(seen, case, sent, row),
    };
    if !is_true || !is_proven {
        let amount = format!("{} {}", case.order.amount_minor, case.order.currency);
        let expected = format!("{} row {} on an order of {amount}, verified by a key", row.outcome, row.id);
        let found = format!("{:?}, {:?}, key {:?}", row.seen, row.caused, row.key_fingerprint);
        findings.add(Violation::WrongDecisionBasis, &case.order.out_trade_no, expected, found);
    }
}

/// Whether the decision was made on an order; `None` when it may have been.
fn must_see(case: &Case<'_>, sent: &Sent<'_>, row: &FoundNotification) -> Option<bool> {
    match &sent.callback.claim {
        Claim::NoOrder(_) => Some(false),
        // No money moved: nothing depends on the order.
        Claim::Payment(claim) if expectation(case.order, claim) == Expectation::Ignored => None,
        Claim::Payment(_) | Claim::Refund(_) => {
            let is_waiting =
                ["for_order", "sub_mch_id_mismatch", "for_payment"].map(Some).contains(&row.reason.as_deref());
            Some(!is_waiting)
        }
    }
}

fn is_plausible(seen: &Seen, case: &Case<'_>, sent: &Sent<'_>, row: &FoundNotification) -> bool {
    let Some(order) = case.found else { return false };
    let states: &[&str] = match (&sent.callback.claim, row.outcome.as_str(), row.reason.as_deref()) {
        (Claim::Payment(_), "applied", _) => &["pending"],
        (Claim::Payment(_), _, Some("paid_after_close")) => &["closed"],
        (Claim::Payment(_), _, Some("paid_twice")) => &["paid", "refunded"],
        _ => &["pending", "closed", "paid", "refunded"],
    };
    let follows = row.caused.as_ref().is_none_or(|caused| caused.version.checked_sub(1) == Some(seen.version));
    seen.amount_minor == order.amount_minor
        && seen.currency == order.currency
        && (0..=order.version).contains(&seen.version)
        && states.contains(&seen.state.as_str())
        && follows
}
