//! [`Violation::WrongRefundState`]: compares every refund with the model's final state of it, and checks the refunded amount
//! of each order. The returned amount of each payment is checked in [`super::payments`].

use std::collections::BTreeSet;

use super::index::{Case, Index};
use super::{Findings, Violation};
use crate::model::refund_ends;
use crate::plan::{RefundClaim, RefundResult};
use crate::snapshot::FoundRefund;

/// Checks the refunds of every order.
pub fn check_refunds(index: &Index<'_>, findings: &mut Findings) {
    for case in &index.cases {
        let asked = case.order.requested.iter().map(|asked| asked.out_refund_no.as_str());
        let reported = case.sent.iter().filter_map(|sent| Some(sent.callback.claim.refund()?.out_refund_no.as_str()));
        let found = case.refunds.iter().map(|refund| refund.out_refund_no.as_str());
        for number in asked.chain(reported).chain(found).collect::<BTreeSet<_>>() {
            check_refund(case, number, findings);
        }
        check_sum(case, findings);
    }
}

fn check_refund(case: &Case<'_>, out_refund_no: &str, findings: &mut Findings) {
    let reported = case.reported();
    let ends = refund_ends(case.order, out_refund_no, &reported);
    let found = case.refunds.iter().find(|refund| refund.out_refund_no == out_refund_no);
    let state = found.map(|refund| refund.state.as_str());
    let claim = || reported.iter().map(|report| report.claim).filter(|claim| claim.out_refund_no == out_refund_no);
    let is_true = found.is_none_or(|found| found.state == "requested" || claim().any(|claim| fits(found, claim)));
    if !ends.contains(&state) || !is_true {
        let expected = format!("{out_refund_no}: {ends:?} as reported");
        findings.add(Violation::WrongRefundState, &case.order.out_trade_no, expected, format!("{found:?}"));
    }
}

fn fits(found: &FoundRefund, claim: &RefundClaim) -> bool {
    let succeeded_at = (found.state == "succeeded").then_some(claim.succeeded_at);
    found.amount_minor == claim.amount_minor
        && found.refund_id.as_ref() == Some(&claim.refund_id)
        && found.transaction_id.as_ref() == Some(&claim.transaction_id)
        && (found.succeeded_at.is_none() == succeeded_at.is_none())
        && (found.succeeded_at == succeeded_at || claim.result != RefundResult::Succeeded)
}

fn check_sum(case: &Case<'_>, findings: &mut Findings) {
    let Some(order) = case.found else { return };
    let of_order =
        |refund: &&&FoundRefund| refund.transaction_id.is_some() && refund.transaction_id == order.transaction_id;
    let succeeded = case.refunds.iter().filter(|refund| refund.state == "succeeded").filter(of_order);
    let sum: i64 = succeeded.map(|refund| refund.amount_minor).sum();
    if order.refunded_minor != sum {
        let found = format!("{} refunded", order.refunded_minor);
        findings.add(Violation::WrongRefundState, &case.order.out_trade_no, format!("{sum} refunded"), found);
    }
}
