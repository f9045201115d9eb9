//! The violations about events: the events that the merchant received, compared with what the database holds.

use std::collections::{BTreeMap, HashMap};

use super::index::{Case, Index, refused_as};
use super::{Findings, Violation};
use crate::fulfilment::{Event, Payload};
use crate::plan::RefundResult;
use crate::snapshot::{FoundOrder, FoundPayment};

/// The event of the payment that paid an order.
pub const ORDER_PAID: &str = "order.paid";
/// The event of a payment that its order did not want.
pub const PAYMENT_REFUSED: &str = "payment.refused";

/// Checks every order's events, and that there are no others.
pub fn check_events(index: &Index<'_>, findings: &mut Findings) {
    for case in &index.cases {
        match case.found {
            Some(found) => check_case(case, found, findings),
            None => case.events.iter().for_each(|event| stray(case, event, "no event (no row)", findings)),
        }
    }
    for event in &index.unplanned_events {
        let number = &event.payload.out_trade_no;
        findings.add(Violation::StrayEvent, number, "no event", format!("{} {}", event.payload.kind, event.id));
    }
    for id in index.unreadable_events {
        findings.add(Violation::StrayEvent, "", "an order event", format!("message {id} is not one"));
    }
    if index.outbox > 0 {
        findings.add(Violation::OutboxNotEmpty, "", "0 events", format!("{} events", index.outbox));
    }
}

fn stray(case: &Case<'_>, event: &Event, expected: &str, findings: &mut Findings) {
    let found = format!("{} {}", event.payload.kind, event.id);
    findings.add(Violation::StrayEvent, &case.order.out_trade_no, expected, found);
}

fn check_case(case: &Case<'_>, order: &FoundOrder, findings: &mut Findings) {
    let number = &case.order.out_trade_no;
    check_paid(case, findings);
    check_refused(case, findings);
    let (changes, told) = (refund_changes(case), refund_events(case, findings));
    if changes != told {
        findings.add(Violation::WrongRefundEventCount, number, format!("{changes:?}"), format!("{told:?}"));
    }
    // Each change is one version and one event.
    let mut events = case.events.clone();
    events.sort_by_key(|event| event.payload.version);
    let are_all = events.iter().map(|event| event.payload.version).eq(1..=order.version);
    if !are_all {
        let versions: Vec<i32> = events.iter().map(|event| event.payload.version).collect();
        findings.add(Violation::WrongEventVersions, number, format!("1 to {}", order.version), format!("{versions:?}"));
    }
    for event in &events {
        if !is_true(event, order, case) {
            findings.add(Violation::WrongEventContent, number, format!("{order:?}"), format!("{event:?}"));
        }
    }
    if are_all {
        check_sums(case, &events, findings);
    }
}

fn check_paid(case: &Case<'_>, findings: &mut Findings) {
    let of_payment = || case.events.iter().filter(|event| event.payload.kind == ORDER_PAID);
    if case.paid_by().is_none() {
        of_payment().for_each(|event| stray(case, event, "no order.paid, because it is not paid", findings));
    } else if of_payment().count() != 1 {
        let found = format!("{} events", of_payment().count());
        findings.add(Violation::WrongPaidEventCount, &case.order.out_trade_no, "1 event", found);
    }
}

fn check_refused(case: &Case<'_>, findings: &mut Findings) {
    let refused = || case.payments.iter().filter(|payment| payment.disposition != "accepted");
    let of =
        |event: &Event, payment: &FoundPayment| event.payload.transaction_id.as_ref() == Some(&payment.transaction_id);
    let events = || case.events.iter().filter(|event| event.payload.kind == PAYMENT_REFUSED);
    for payment in refused() {
        let events = events().filter(|event| of(event, payment)).count();
        if events != 1 {
            let expected = format!("1 event of {}", payment.transaction_id);
            findings.add(
                Violation::WrongRefusedEventCount,
                &case.order.out_trade_no,
                expected,
                format!("{events} events"),
            );
        }
    }
    for event in events().filter(|event| !refused().any(|payment| of(event, payment))) {
        stray(case, event, "a refused payment on record", findings);
    }
}

/// A refund's step to a state, and how often: transaction, number, state.
type Changes<'run> = BTreeMap<(&'run str, &'run str, RefundResult), usize>;

/// What the ledger says was changed.
fn refund_changes<'case>(case: &'case Case<'_>) -> Changes<'case> {
    let mut changes = Changes::new();
    for (claim, sent) in case.refunds_sent() {
        let applied = sent.rows.iter().filter(|row| row.outcome == "applied").count();
        if applied > 0 {
            let key = (claim.transaction_id.as_str(), claim.out_refund_no.as_str(), claim.result);
            let count = changes.entry(key).or_default();
            *count = count.saturating_add(applied);
        }
    }
    changes
}

/// The changes of refunds that the merchant received events about.
fn refund_events<'case>(case: &'case Case<'_>, findings: &mut Findings) -> Changes<'case> {
    let mut told = Changes::new();
    for event in &case.events {
        let Some(result) = refund_result(&event.payload) else {
            if ![ORDER_PAID, PAYMENT_REFUSED].contains(&event.payload.kind.as_str()) {
                stray(case, event, "an event of an order, a payment or a refund", findings);
            }
            continue;
        };
        let transaction_id = event.payload.transaction_id.as_deref().unwrap_or_default();
        let number = event.payload.out_refund_no.as_deref().unwrap_or_default();
        let count = told.entry((transaction_id, number, result)).or_default();
        *count = count.saturating_add(1);
    }
    told
}

/// What became of the refund that an event is about.
fn refund_result(claim: &Payload) -> Option<RefundResult> {
    match claim.kind.as_str() {
        "order.refunded" | "order.partially_refunded" | "payment.returned" | "payment.partially_returned" => {
            Some(RefundResult::Succeeded)
        }
        "refund.abnormal" => Some(RefundResult::Abnormal),
        "refund.closed" => Some(RefundResult::Closed),
        _ => None,
    }
}

fn is_true(event: &Event, order: &FoundOrder, case: &Case<'_>) -> bool {
    let claim = &event.payload;
    let is_of_order = claim.event_id == event.id
        && claim.order_id == order.id
        && (1..=order.version).contains(&claim.version)
        && claim.mch_id == order.mch_id
        && claim.sub_mch_id == order.sub_mch_id
        && claim.amount_minor == Some(order.amount_minor)
        && claim.currency.as_ref() == Some(&order.currency);
    let Some(payment) = claim.transaction_id.as_deref().and_then(|id| case.record_of(id)) else { return false };
    let is_accepted = payment.disposition == "accepted";
    is_of_order
        && match claim.kind.as_str() {
            ORDER_PAID => is_accepted && claim.paid_at == Some(payment.paid_at),
            PAYMENT_REFUSED => !is_accepted && is_refusal(claim, payment, case),
            _ => is_of_refund(claim, order, payment, case),
        }
}

fn is_refusal(claim: &Payload, payment: &FoundPayment, case: &Case<'_>) -> bool {
    let of_payment = case.payments_sent().filter(|(sent, _)| sent.transaction_id == payment.transaction_id);
    let mut reasons = of_payment.flat_map(|(_, sent)| &sent.rows).filter_map(|row| refused_as(row));
    claim.paid_at == Some(payment.paid_at)
        && claim.payment_amount_minor == Some(payment.amount_minor)
        && claim.payment_currency.as_ref() == Some(&payment.currency)
        && reasons.any(|reason| claim.reason.as_deref() == Some(reason))
}

fn is_of_refund(claim: &Payload, order: &FoundOrder, payment: &FoundPayment, case: &Case<'_>) -> bool {
    let is_of_refund = case.refunds.iter().any(|refund| {
        claim.out_refund_no.as_ref() == Some(&refund.out_refund_no)
            && claim.refund_id == refund.refund_id
            && claim.transaction_id == refund.transaction_id
            && claim.refund_amount_minor == Some(refund.amount_minor)
    });
    let is_all_of_order = claim.refunded_minor == Some(order.amount_minor);
    let is_all_of_payment = claim.payment_returned_minor == Some(payment.amount_minor);
    let is_accepted = payment.disposition == "accepted";
    let fits_sum = match claim.kind.as_str() {
        "order.refunded" => is_accepted && is_all_of_order && is_all_of_payment,
        "order.partially_refunded" => is_accepted && !is_all_of_order && !is_all_of_payment,
        "payment.returned" => !is_accepted && is_all_of_payment,
        "payment.partially_returned" => !is_accepted && !is_all_of_payment,
        _ => true,
    };
    is_of_refund && fits_sum && claim.payment_amount_minor == Some(payment.amount_minor)
}

/// What went back, added up from event to event.
fn check_sums(case: &Case<'_>, events: &[&Event], findings: &mut Findings) {
    let mut returned: HashMap<&str, i64> = HashMap::new();
    for event in events {
        let Some(result) = refund_result(&event.payload) else { continue };
        let transaction_id = event.payload.transaction_id.as_deref().unwrap_or_default();
        let sum = returned.entry(transaction_id).or_default();
        if result == RefundResult::Succeeded {
            *sum = sum.saturating_add(event.payload.refund_amount_minor.unwrap_or_default());
        }
        let of_payment = *sum;
        let of_order = case.paid_by().and_then(|paid_by| returned.get(paid_by)).copied().unwrap_or_default();
        let expected = (Some(of_payment), Some(of_order));
        let found = (event.payload.payment_returned_minor, event.payload.refunded_minor);
        if found != expected {
            let expected =
                format!("{expected:?} returned of the payment and of the order, version {}", event.payload.version);
            findings.add(Violation::WrongEventContent, &case.order.out_trade_no, expected, format!("{found:?}"));
        }
    }
}
