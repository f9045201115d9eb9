//! [`Rule::OnePaidEvent`], [`Rule::EventContent`], [`Rule::StrayEvent`] and [`Rule::Outbox`]: what the merchant heard,
//! against what the orders say.

use super::index::{Case, Index};
use super::{Findings, Rule};
use crate::evidence::FoundOrder;
use crate::fulfilment::Event;

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
    let paid = case.found.filter(|found| found.state == "paid");
    let (of_payment, others): (Vec<&Event>, Vec<&Event>) =
        case.events.iter().partition(|event| event.says.kind == "order.paid");
    for event in others {
        findings.add(Rule::StrayEvent, number, "order.paid only", format!("{} {}", event.says.kind, event.id));
    }
    let Some(paid) = paid else {
        for event in of_payment {
            let state = case.found.map_or("no row", |found| found.state.as_str());
            findings.add(Rule::StrayEvent, number, format!("no event ({state})"), format!("order.paid {}", event.id));
        }
        return;
    };
    if of_payment.len() != 1 {
        findings.add(Rule::OnePaidEvent, number, "1 event", format!("{} events", of_payment.len()));
    }
    for event in of_payment {
        check_content(number, event, paid, findings);
    }
}

fn check_content(number: &str, event: &Event, order: &FoundOrder, findings: &mut Findings) {
    let says = &event.says;
    let agrees = says.event_id == event.id
        && says.order_id == order.id
        && says.version == order.version
        && says.mch_id == order.mch_id
        && says.transaction_id == order.transaction_id
        && says.amount_minor == Some(order.amount_minor)
        && says.currency.as_ref() == Some(&order.currency);
    if !agrees {
        findings.add(Rule::EventContent, number, format!("{order:?}"), format!("{event:?}"));
    }
}
