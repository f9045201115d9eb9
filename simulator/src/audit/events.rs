//! [`Rule::OnePaidEvent`], [`Rule::OneRefundEvent`], [`Rule::EventContent`], [`Rule::StrayEvent`] and [`Rule::Outbox`]: what
//! the merchant heard, against what the orders say.

use std::collections::{BTreeMap, HashSet};

use super::index::{Case, Index};
use super::{Findings, Rule};
use crate::evidence::FoundOrder;
use crate::fulfilment::Event;
use crate::plan::RefundResult;

/// The event of a payment; all others are of refunds.
pub const ORDER_PAID: &str = "order.paid";

/// Checks every order's events, and that there are no others.
pub fn check_events(index: &Index<'_>, findings: &mut Findings) {
    for case in &index.cases {
        check_case(case, findings);
    }
    for event in &index.unplanned_events {
        let number = &event.says.out_trade_no;
        findings.add(Rule::StrayEvent, number, "no event", format!("{} {}", event.says.kind, event.id));
    }
    for id in index.unreadable_events {
        findings.add(Rule::StrayEvent, "", "an order event", format!("message {id} is none"));
    }
    if index.outbox > 0 {
        findings.add(Rule::Outbox, "", "0 events", format!("{} events", index.outbox));
    }
}

fn check_case(case: &Case<'_>, findings: &mut Findings) {
    let number = &case.order.out_trade_no;
    let Some(paid) = case.found.filter(|found| found.transaction_id.is_some()) else {
        for event in &case.events {
            let state = case.found.map_or("no row", |found| found.state.as_str());
            let found = format!("{} {}", event.says.kind, event.id);
            findings.add(Rule::StrayEvent, number, format!("no event ({state})"), found);
        }
        return;
    };
    let of_payment = case.events.iter().filter(|event| event.says.kind == ORDER_PAID).count();
    if of_payment != 1 {
        findings.add(Rule::OnePaidEvent, number, "1 event", format!("{of_payment} events"));
    }
    let (changes, told) = (refund_changes(case), refund_events(case, findings));
    if changes != told {
        findings.add(Rule::OneRefundEvent, number, format!("{changes:?}"), format!("{told:?}"));
    }
    // Each change is one version and one event. Where events are missing or too many, that was said above.
    let is_complete = of_payment == 1 && changes == told;
    let are_all_versions = usize::try_from(paid.version).is_ok_and(|version| version == case.events.len());
    if is_complete && !are_all_versions {
        let found = format!("events of {} changes", case.events.len());
        findings.add(Rule::EventContent, number, format!("version {}", paid.version), found);
    }
    let mut versions = HashSet::new();
    for event in &case.events {
        if !is_true(event, paid, case) || !versions.insert(event.says.version) {
            findings.add(Rule::EventContent, number, format!("{paid:?}"), format!("{event:?}"));
        }
    }
}

/// A refund's step to a state, and how often.
type Changes<'run> = BTreeMap<(&'run str, RefundResult), usize>;

/// What the ledger says was changed.
fn refund_changes<'case>(case: &'case Case<'_>) -> Changes<'case> {
    let mut changes = Changes::new();
    for (says, sent) in case.own_refunds() {
        let applied = sent.rows.iter().filter(|row| row.outcome == "applied").count();
        if applied > 0 {
            let count = changes.entry((says.out_refund_no.as_str(), says.result)).or_default();
            *count = count.saturating_add(applied);
        }
    }
    changes
}

/// What the merchant heard of.
fn refund_events<'case>(case: &'case Case<'_>, findings: &mut Findings) -> Changes<'case> {
    let mut told = Changes::new();
    for event in &case.events {
        let result = match event.says.kind.as_str() {
            ORDER_PAID => continue,
            "order.refunded" | "order.partially_refunded" => RefundResult::Succeeded,
            "refund.abnormal" => RefundResult::Abnormal,
            "refund.closed" => RefundResult::Closed,
            other => {
                let found = format!("{other} {}", event.id);
                findings.add(Rule::StrayEvent, &case.order.out_trade_no, "an event of an order or a refund", found);
                continue;
            }
        };
        let number = event.says.out_refund_no.as_deref().unwrap_or_default();
        let count = told.entry((number, result)).or_default();
        *count = count.saturating_add(1);
    }
    told
}

fn is_true(event: &Event, order: &FoundOrder, case: &Case<'_>) -> bool {
    let says = &event.says;
    let is_of_order = says.event_id == event.id
        && says.order_id == order.id
        && (1..=order.version).contains(&says.version)
        && says.mch_id == order.mch_id
        && says.transaction_id == order.transaction_id
        && says.amount_minor == Some(order.amount_minor)
        && says.currency.as_ref() == Some(&order.currency);
    if says.kind == ORDER_PAID {
        return is_of_order && says.version == 1;
    }
    let is_of_refund = case.refunds.iter().any(|refund| {
        says.out_refund_no.as_ref() == Some(&refund.out_refund_no)
            && says.refund_id == refund.refund_id
            && says.refund_amount_minor == Some(refund.amount_minor)
    });
    let is_all = says.refunded_minor == Some(order.amount_minor);
    let fits_sum = match says.kind.as_str() {
        "order.refunded" => is_all,
        "order.partially_refunded" => !is_all,
        _ => true,
    };
    is_of_order && is_of_refund && fits_sum
}
