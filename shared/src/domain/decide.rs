//! The heart: what one notification does to one order. Total and pure; the table of checks is the specification.

use super::ids::{AppId, SubMchId};
use super::money::Money;
use super::notification::{Notification, Payment, PaymentResult, RefundResult, ReportedRefund};
use super::order::{Order, OrderState, Surplus};
use super::refund::{Refund, RefundState};
use super::verdict::{Awaited, Change, Ignored, Refusal, Verdict};

/// Decides what `notification` does to `order`, the row with its merchant's number and its `out_trade_no`, and to
/// `refund`, the order's row with its `out_refund_no` (`None`: there is none).
///
/// About no order → `Ignore(NotForOrders)`.
///
/// Payment, in this order:
/// 1. it does not report success → `Ignore(NotSuccessful)`
/// 2. no such order → `Wait(Order)`; the order did not want this payment, and it has gone back → `Ignore(Returned)`
/// 3. sub-merchant differs (unset equals only unset), or the order names an app and neither app of the
///    notification is it → `Quarantine(SubMchIdMismatch | AppIdMismatch)`
/// 4. currency differs → `Quarantine(CurrencyMismatch)`
/// 5. amount differs → `Quarantine(AmountMismatch)`
/// 6. order pending → `Apply(Pay)`
/// 7. order paid or refunded by the same transaction → `Duplicate`
/// 8. order paid or refunded by another transaction → `Quarantine(PaidTwice)`
/// 9. order closed → `Quarantine(PaidAfterClose)`
///
/// Refund, in this order:
/// 1. no such order → `Wait(Order)`
/// 2. it refunds a payment that the order did not want (refused by 5, 8 or 9 above): all of it went back →
///    `Apply(ReturnSurplus)`, or `Duplicate` when that is settled; otherwise → `Quarantine(SurplusNotReturned)`
/// 3. order closed → `Quarantine(RefundOfClosedOrder)`
/// 4. order not paid yet → `Wait(Payment)`
/// 5. sub-merchant differs, app differs (when both sides name one), currency differs (when it is said) →
///    `Quarantine(SubMchIdMismatch | AppIdMismatch | CurrencyMismatch)`
/// 6. transaction differs → `Quarantine(TransactionIdMismatch)`; total differs → `Quarantine(AmountMismatch)`
/// 7. the refund is known with another sum or another number of WeChat Pay's →
///    `Quarantine(RefundAmountMismatch | RefundIdMismatch)`
/// 8. beyond what is left to refund → `Quarantine(RefundExceedsPayment)`
/// 9. the refund shows it already → `Duplicate`
/// 10. new, requested, or abnormal and now at its end → `Apply(Refund)`
/// 11. abnormal, but at its end already → `Ignore(Stale)`
/// 12. at its other end already → `Quarantine(RefundStateConflict)`
#[must_use]
pub fn decide(order: Option<&Order>, refund: Option<&Refund>, notification: &Notification) -> Verdict {
    match notification {
        Notification::Payment(payment) => decide_payment(order, payment),
        Notification::Refund(reported) => decide_refund(order, refund, reported),
        Notification::Other(_) => Verdict::Ignore(Ignored::NotForOrders),
    }
}

fn decide_payment(order: Option<&Order>, payment: &Payment) -> Verdict {
    let PaymentResult::Success(success) = &payment.result else {
        return Verdict::Ignore(Ignored::NotSuccessful);
    };
    let Some(order) = order else {
        return Verdict::Wait(Awaited::Order);
    };
    let is_of = |surplus: &&Surplus| surplus.transaction_id == success.transaction_id;
    if order.surplus.iter().find(is_of).is_some_and(|surplus| surplus.is_returned) {
        return Verdict::Ignore(Ignored::Returned);
    }
    let apps = [payment.app_id.as_ref(), payment.sub_app_id.as_ref()];
    if let Some(refusal) = other_shop(order, payment.sub_mch_id.as_ref()).or_else(|| other_app(order, apps)) {
        return Verdict::Quarantine(refusal);
    }
    if order.amount.currency != success.total.currency {
        let (expected, got) = (order.amount.currency, success.total.currency);
        return Verdict::Quarantine(Refusal::CurrencyMismatch { expected, got });
    }
    if order.amount != success.total {
        return Verdict::Quarantine(Refusal::AmountMismatch { expected: order.amount, got: success.total });
    }
    let got = success.transaction_id.clone();
    match &order.state {
        OrderState::Pending => Verdict::Apply(Change::Pay { transaction_id: got, paid_at: success.paid_at }),
        OrderState::Paid(expected) | OrderState::Refunded(expected) if *expected == got => Verdict::Duplicate,
        OrderState::Paid(expected) | OrderState::Refunded(expected) => {
            Verdict::Quarantine(Refusal::PaidTwice { expected: expected.clone(), got })
        }
        OrderState::Closed => Verdict::Quarantine(Refusal::PaidAfterClose { got }),
    }
}

fn decide_refund(order: Option<&Order>, refund: Option<&Refund>, reported: &ReportedRefund) -> Verdict {
    let Some(order) = order else {
        return Verdict::Wait(Awaited::Order);
    };
    let is_of = |surplus: &&Surplus| surplus.transaction_id == reported.transaction_id;
    if order.state.transaction_id() != Some(&reported.transaction_id)
        && let Some(surplus) = order.surplus.iter().find(is_of)
    {
        return decide_surplus(order, surplus, reported);
    }
    let paid_by = match &order.state {
        OrderState::Closed => {
            let got = reported.transaction_id.clone();
            return Verdict::Quarantine(Refusal::RefundOfClosedOrder { got });
        }
        OrderState::Pending => return Verdict::Wait(Awaited::Payment),
        OrderState::Paid(paid_by) | OrderState::Refunded(paid_by) => paid_by,
    };
    if let Some(refusal) = other_shop(order, reported.sub_mch_id.as_ref()) {
        return Verdict::Quarantine(refusal);
    }
    let apps = [reported.app_id.as_ref(), reported.sub_app_id.as_ref()];
    if apps != [None, None]
        && let Some(refusal) = other_app(order, apps)
    {
        return Verdict::Quarantine(refusal);
    }
    if let Some(got) = reported.currency.filter(|got| *got != order.amount.currency) {
        return Verdict::Quarantine(Refusal::CurrencyMismatch { expected: order.amount.currency, got });
    }
    if *paid_by != reported.transaction_id {
        let (expected, got) = (paid_by.clone(), reported.transaction_id.clone());
        return Verdict::Quarantine(Refusal::TransactionIdMismatch { expected, got });
    }
    if order.amount.amount_minor != reported.total_minor {
        let got = of_order(order, reported.total_minor);
        return Verdict::Quarantine(Refusal::AmountMismatch { expected: order.amount, got });
    }
    if let Some(refusal) = refund.and_then(|refund| other_refund(order, refund, reported)) {
        return Verdict::Quarantine(refusal);
    }
    let left = of_order(order, left_to_refund(order, refund, reported.result));
    if reported.amount_minor > left.amount_minor {
        let got = of_order(order, reported.amount_minor);
        return Verdict::Quarantine(Refusal::RefundExceedsPayment { left, got });
    }
    move_refund(order, refund, reported)
}

/// The whole of it must have gone back; anything less is for a person.
fn decide_surplus(order: &Order, surplus: &Surplus, reported: &ReportedRefund) -> Verdict {
    let is_returned = matches!(reported.result, RefundResult::Succeeded(_))
        && [reported.total_minor, reported.amount_minor] == [surplus.total_minor; 2];
    match (is_returned, surplus.is_settled) {
        (true, false) => Verdict::Apply(Change::ReturnSurplus { transaction_id: surplus.transaction_id.clone() }),
        (true, true) => Verdict::Duplicate,
        (false, _) => Verdict::Quarantine(Refusal::SurplusNotReturned {
            expected: of_order(order, surplus.total_minor),
            got: state_of(reported.result),
            amount: of_order(order, reported.amount_minor),
        }),
    }
}

fn other_shop(order: &Order, sub_mch_id: Option<&SubMchId>) -> Option<Refusal> {
    let (expected, got) = (order.sub_mch_id.as_ref(), sub_mch_id);
    (expected != got).then(|| Refusal::SubMchIdMismatch { expected: expected.cloned(), got: got.cloned() })
}

/// An order that names no app is of whichever.
fn other_app(order: &Order, apps: [Option<&AppId>; 2]) -> Option<Refusal> {
    let expected = order.app_id.as_ref().filter(|expected| !apps.contains(&Some(expected)))?;
    let [got, _] = apps;
    Some(Refusal::AppIdMismatch { expected: expected.clone(), got: got.cloned() })
}

/// The merchant's number stands for a refund of another sum, or under another number of WeChat Pay's.
fn other_refund(order: &Order, refund: &Refund, reported: &ReportedRefund) -> Option<Refusal> {
    if refund.amount_minor != reported.amount_minor {
        let (expected, got) = (of_order(order, refund.amount_minor), of_order(order, reported.amount_minor));
        return Some(Refusal::RefundAmountMismatch { expected, got });
    }
    let expected = refund.refund_id.as_ref().filter(|known| **known != reported.refund_id)?;
    Some(Refusal::RefundIdMismatch { expected: expected.clone(), got: reported.refund_id.clone() })
}

/// A refund that succeeded takes from what others have left; one that did not takes nothing, but is part of the order.
fn left_to_refund(order: &Order, refund: Option<&Refund>, result: RefundResult) -> i64 {
    let own = refund.filter(|refund| refund.state.succeeded_at().is_some()).map_or(0, |refund| refund.amount_minor);
    let of_others = order.refunded_minor.saturating_sub(own);
    match result {
        RefundResult::Succeeded(_) => order.amount.amount_minor.saturating_sub(of_others),
        RefundResult::Abnormal | RefundResult::Closed => order.amount.amount_minor,
    }
}

/// From the state that the refund is in to the one that is reported.
fn move_refund(order: &Order, refund: Option<&Refund>, reported: &ReportedRefund) -> Verdict {
    let got = state_of(reported.result);
    match (refund.map(|refund| refund.state), reported.result) {
        (Some(RefundState::Succeeded(_)), RefundResult::Succeeded(_))
        | (Some(RefundState::Abnormal), RefundResult::Abnormal)
        | (Some(RefundState::Closed), RefundResult::Closed) => Verdict::Duplicate,
        (None | Some(RefundState::Requested), _)
        | (Some(RefundState::Abnormal), RefundResult::Succeeded(_) | RefundResult::Closed) => {
            Verdict::Apply(Change::Refund(Refund {
                order_id: order.id,
                out_refund_no: reported.out_refund_no.clone(),
                refund_id: Some(reported.refund_id.clone()),
                amount_minor: reported.amount_minor,
                state: got,
            }))
        }
        (Some(RefundState::Succeeded(_) | RefundState::Closed), RefundResult::Abnormal) => {
            Verdict::Ignore(Ignored::Stale)
        }
        (Some(expected @ RefundState::Succeeded(_)), RefundResult::Closed)
        | (Some(expected @ RefundState::Closed), RefundResult::Succeeded(_)) => {
            Verdict::Quarantine(Refusal::RefundStateConflict { expected, got })
        }
    }
}

fn state_of(result: RefundResult) -> RefundState {
    match result {
        RefundResult::Succeeded(at) => RefundState::Succeeded(at),
        RefundResult::Abnormal => RefundState::Abnormal,
        RefundResult::Closed => RefundState::Closed,
    }
}

/// A sum in the order's currency.
fn of_order(order: &Order, amount_minor: i64) -> Money {
    Money { amount_minor, currency: order.amount.currency }
}
