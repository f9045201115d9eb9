//! [`Violation::WrongOrderState`]: compares every order with the model's final state of it, field by field.

use super::index::{Case, Index, is_change};
use super::{Findings, Violation};
use crate::model::{End, end};
use crate::plan::{Checkout, Order, PaymentClaim};
use crate::snapshot::FoundOrder;

/// Checks every order of the plan, and that there are no others.
pub fn check_orders(index: &Index<'_>, findings: &mut Findings) {
    for case in &index.cases {
        check_order(case, findings);
    }
    for order in &index.unplanned_orders {
        findings.add(Violation::WrongOrderState, &order.out_trade_no, "no such order", format!("row {}", order.id));
    }
}

fn check_order(case: &Case<'_>, findings: &mut Findings) {
    let number = &case.order.out_trade_no;
    let callbacks: Vec<_> = case.sent.iter().map(|sent| (sent.callback, sent.record)).collect();
    let end = end(case.order, &callbacks);
    match case.found {
        None if end == End::NoRow => {}
        // Its callback was never sent, so it was never written.
        None if case.order.checkout == Checkout::Late && callbacks.iter().all(|(_, record)| record.sent == 0) => {}
        None => findings.add(Violation::WrongOrderState, number, describe(&end, case.order), "no row"),
        Some(found) if !fits(case, found, &end) => {
            findings.add(Violation::WrongOrderState, number, describe(&end, case.order), show(found));
        }
        Some(_) => {}
    }
}

fn fits(case: &Case<'_>, found: &FoundOrder, end: &End<'_>) -> bool {
    let order = case.order;
    let is_untouched_otherwise = found.mch_id == order.mch_id
        && found.sub_mch_id.as_deref() == order.sub_mch_id
        && found.app_id.as_deref() == order.app_id
        && found.amount_minor == order.amount_minor
        && found.currency == order.currency
        && found.version == version(case);
    let is_paid_by = |claim: &&PaymentClaim| {
        found.transaction_id.as_ref() == Some(&claim.transaction_id)
            && found.paid_at == Some(claim.paid_at)
            && found.state == if found.refunded_minor == order.amount_minor { "refunded" } else { "paid" }
    };
    let is_untouched = || {
        found.state == initial_state(order)
            && found.transaction_id.is_none()
            && found.paid_at.is_none()
            && found.refunded_minor == 0
    };
    is_untouched_otherwise
        && match end {
            End::NoRow => false,
            End::Untouched => is_untouched(),
            End::Paid(winners) => winners.iter().any(is_paid_by),
            End::PerhapsPaid(winners) => is_untouched() || winners.iter().any(is_paid_by),
        }
}

/// One for each payment, paid or refused, and for each change of a refund that the ledger tells of.
fn version(case: &Case<'_>) -> i32 {
    let rows = case.genuine().flat_map(|sent| sent.rows.iter().map(move |row| (sent, row)));
    let changes = rows.filter(|(sent, row)| is_change(sent, row)).count();
    i32::try_from(changes).unwrap_or(i32::MAX)
}

fn initial_state(order: &Order) -> &'static str {
    if order.checkout == Checkout::Closed { "closed" } else { "pending" }
}

fn describe(end: &End<'_>, order: &Order) -> String {
    let sum = format!("{} {}", order.amount_minor, order.currency);
    let untouched = initial_state(order);
    let by = |winners: &[&PaymentClaim]| {
        let numbers: Vec<&str> = winners.iter().map(|claim| claim.transaction_id.as_str()).collect();
        numbers.join(" or ")
    };
    match end {
        End::NoRow => "no row".to_owned(),
        End::Untouched => format!("{sum}, {untouched}, a version for each refused payment and each change of a refund"),
        End::Paid(winners) => {
            format!("{sum}, paid by {}, a version for each payment and each change of a refund", by(winners))
        }
        End::PerhapsPaid(winners) => format!("{sum}, {untouched}, or paid by {}", by(winners)),
    }
}

fn show(found: &FoundOrder) -> String {
    let FoundOrder { amount_minor, currency, state, transaction_id, paid_at, refunded_minor, version, .. } = found;
    let by = transaction_id.as_ref().map(|id| format!(" by {id}")).unwrap_or_default();
    let at = paid_at.map(|at| format!(" at {}", at.to_rfc3339())).unwrap_or_default();
    let refunded = if *refunded_minor == 0 { String::new() } else { format!(", {refunded_minor} refunded") };
    format!("{amount_minor} {currency}, {state}{by}{at}{refunded}, version {version}")
}
