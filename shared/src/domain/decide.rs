//! The heart: what one notification does to one order. Total and pure; the table of checks is the specification.

use super::ids::{AppId, SubMchId};
use super::money::Money;
use super::notification::{Notification, Payment, PaymentResult, PaymentSuccess, RefundResult, ReportedRefund};
use super::order::{Order, OrderState};
use super::payment::{Disposition, PaymentRecord};
use super::refund::{Refund, RefundState};
use super::verdict::{Awaited, Change, Ignored, Refusal, Verdict};

/// What is on record about the things that a notification names, read under the order's lock.
#[derive(Debug, Clone, Copy, Default)]
pub struct Known<'a> {
    /// The order: of a payment the one with its merchant, sub-merchant and number, of a refund the one whose payment it
    /// refunds.
    pub order: Option<&'a Order>,
    /// The payment with its merchant and `transaction_id`, of whatever order.
    pub payment: Option<&'a PaymentRecord>,
    /// The order's refund with its `out_refund_no`.
    pub refund: Option<&'a Refund>,
}

/// Why a notification is decided.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Asked {
    /// WeChat Pay reported it.
    #[default]
    ByReport,
    /// An operator had it decided again.
    ByReplay,
    /// An operator accepts it although it contradicts what is on record.
    ByAcceptance,
}

/// Decides what `notification` does, given what is `known`.
///
/// About no order → `Ignore(NotForOrders)`.
///
/// Payment, in this order:
/// 1. it does not report success → `Ignore(NotSuccessful)`
/// 2. its transaction is on record for another order, amount or currency → `Quarantine(TransactionConflict)`
/// 3. no such order → `Wait(Order)`
/// 4. it is on record as accepted → `Duplicate`; as returned → `Ignore(Returned)`; as refused → `Duplicate`, unless an operator
///    asks: then `Quarantine(PartlyReturned)` when any of it has gone back, otherwise it is decided again by 6 to 10
/// 5. the order names this transaction (the shop recorded it) → `Apply(Adopt)`; with another amount or currency →
///    `Quarantine(TransactionConflict)`
/// 6. the order names an app and neither app of the notification is it → `Refuse(AppIdMismatch)`
/// 7. currency differs → `Refuse(CurrencyMismatch)`; amount differs → `Refuse(AmountMismatch)`
/// 8. order pending → `Apply(Pay)`
/// 9. order paid or refunded by another transaction → `Refuse(PaidTwice)`
/// 10. order closed → `Refuse(PaidAfterClose)`
///
/// Refund, in this order:
/// 1. the payment that it names is not on record → `Wait(Payment)`
/// 2. it names another order, total or currency than that payment has → `Quarantine(TransactionConflict)`
/// 3. sub-merchant differs (unset equals only unset) → `Quarantine(SubMchIdMismatch)`. The app is not compared: the payment
///    that it names may be one that the order refused for its app
/// 4. the refund is on record for another payment → `Quarantine(TransactionConflict)`; with another amount →
///    `Quarantine(RefundAmountMismatch)`; with another number of WeChat Pay's → `Quarantine(RefundIdMismatch)`, unless an
///    operator accepts it and the one on record did not succeed
/// 5. beyond what is left of the payment → `Quarantine(RefundExceedsPayment)`
/// 6. the refund shows it already → `Duplicate`
/// 7. new, requested, or abnormal and now at its end → `Apply(Refund)`
/// 8. abnormal, but at its end already → `Ignore(Stale)`
/// 9. closed before and succeeded now → `Quarantine(RefundStateConflict)`, unless an operator accepts it; succeeded before and
///    closed now → `Quarantine(RefundStateConflict)`
#[must_use]
pub fn decide(known: Known<'_>, asked: Asked, notification: &Notification) -> Verdict {
    match notification {
        Notification::Payment(payment) => decide_payment(known, asked, payment),
        Notification::Refund(reported) => decide_refund(known, asked, reported),
        Notification::Other(_) => Verdict::Ignore(Ignored::NotForOrders),
    }
}

fn decide_payment(known: Known<'_>, asked: Asked, payment: &Payment) -> Verdict {
    let PaymentResult::Success(success) = &payment.result else {
        return Verdict::Ignore(Ignored::NotSuccessful);
    };
    if let Some(conflict) = known.payment.and_then(|recorded| other_story(recorded, known.order, success)) {
        return Verdict::Quarantine(conflict);
    }
    let Some(order) = known.order else {
        return Verdict::Wait(Awaited::Order);
    };
    if let Some(verdict) = known.payment.and_then(|recorded| decide_recorded(recorded, asked)) {
        return verdict;
    }
    let record = |disposition| PaymentRecord {
        order_id: order.id,
        mch_id: order.mch_id.clone(),
        transaction_id: success.transaction_id.clone(),
        amount: success.total,
        paid_at: success.paid_at,
        disposition,
        returned_minor: 0,
    };
    if order.state.transaction_id() == Some(&success.transaction_id) {
        // What has gone back of it before, the order knows.
        let returned_minor = order.refunded_minor;
        let recorded = PaymentRecord { amount: order.amount, returned_minor, ..record(Disposition::Accepted) };
        return match other_story(&recorded, Some(order), success) {
            Some(conflict) => Verdict::Quarantine(conflict),
            None => Verdict::Apply(Change::Adopt(recorded)),
        };
    }
    match refusal_of(order, payment, success) {
        Some(refusal) => Verdict::Refuse(refusal, record(Disposition::Refused)),
        None => Verdict::Apply(Change::Pay(record(Disposition::Accepted))),
    }
}

/// What follows from the record alone; `None` when an operator has the payment decided again.
fn decide_recorded(recorded: &PaymentRecord, asked: Asked) -> Option<Verdict> {
    match (recorded.disposition, asked) {
        (Disposition::Accepted, _) | (Disposition::Refused, Asked::ByReport) => Some(Verdict::Duplicate),
        (Disposition::Returned, _) => Some(Verdict::Ignore(Ignored::Returned)),
        (Disposition::Refused, Asked::ByReplay | Asked::ByAcceptance) if recorded.returned_minor > 0 => {
            let returned = Money { amount_minor: recorded.returned_minor, ..recorded.amount };
            Some(Verdict::Quarantine(Refusal::PartlyReturned { paid: recorded.amount, returned }))
        }
        (Disposition::Refused, Asked::ByReplay | Asked::ByAcceptance) => None,
    }
}

/// Why the order does not want the payment; `None` when it does.
fn refusal_of(order: &Order, payment: &Payment, success: &PaymentSuccess) -> Option<Refusal> {
    if let Some(refusal) = other_app(order, [payment.app_id.as_ref(), payment.sub_app_id.as_ref()]) {
        return Some(refusal);
    }
    if order.amount.currency != success.total.currency {
        let (expected, got) = (order.amount.currency, success.total.currency);
        return Some(Refusal::CurrencyMismatch { expected, got });
    }
    if order.amount != success.total {
        return Some(Refusal::AmountMismatch { expected: order.amount, got: success.total });
    }
    let got = success.transaction_id.clone();
    match &order.state {
        OrderState::Pending => None,
        OrderState::Paid(expected) | OrderState::Refunded(expected) => {
            Some(Refusal::PaidTwice { expected: expected.clone(), got })
        }
        OrderState::Closed => Some(Refusal::PaidAfterClose { got }),
    }
}

/// One transaction, one story: a payment on record is of one order, amount and currency.
fn other_story(recorded: &PaymentRecord, order: Option<&Order>, success: &PaymentSuccess) -> Option<Refusal> {
    let same_order = order.is_some_and(|order| order.id == recorded.order_id);
    (!same_order || recorded.amount != success.total).then(|| Refusal::TransactionConflict {
        expected: format!("{} of order {}", recorded.amount, recorded.order_id),
        got: match order {
            Some(order) => format!("{} of order {}", success.total, order.id),
            None => format!("{} of another order", success.total),
        },
    })
}

fn decide_refund(known: Known<'_>, asked: Asked, reported: &ReportedRefund) -> Verdict {
    let Known { order: Some(order), payment: Some(payment), refund } = known else {
        return Verdict::Wait(Awaited::Payment);
    };
    let other_currency = reported.currency.is_some_and(|currency| currency != payment.amount.currency);
    let other_total = reported.total_minor != payment.amount.amount_minor;
    if reported.out_trade_no != order.out_trade_no || other_total || other_currency {
        let currency = reported.currency.unwrap_or(payment.amount.currency);
        let total = Money { amount_minor: reported.total_minor, currency };
        return Verdict::Quarantine(Refusal::TransactionConflict {
            expected: format!("{} of {}", payment.amount, order.out_trade_no),
            got: format!("{total} of {}", reported.out_trade_no),
        });
    }
    if let Some(refusal) = other_shop(order, reported.sub_mch_id.as_ref()) {
        return Verdict::Quarantine(refusal);
    }
    if let Some(refusal) = refund.and_then(|refund| other_refund(payment, refund, asked, reported)) {
        return Verdict::Quarantine(refusal);
    }
    let left = of_payment(payment, left_to_refund(payment, refund, reported.result));
    if reported.amount_minor > left.amount_minor {
        let got = of_payment(payment, reported.amount_minor);
        return Verdict::Quarantine(Refusal::RefundExceedsPayment { left, got });
    }
    move_refund(payment, refund, asked, reported)
}

fn other_shop(order: &Order, sub_mch_id: Option<&SubMchId>) -> Option<Refusal> {
    let (expected, got) = (order.sub_mch_id.as_ref(), sub_mch_id);
    (expected != got).then(|| Refusal::SubMchIdMismatch { expected: expected.cloned(), got: got.cloned() })
}

/// An order that names no app takes any.
fn other_app(order: &Order, apps: [Option<&AppId>; 2]) -> Option<Refusal> {
    let expected = order.app_id.as_ref().filter(|expected| !apps.contains(&Some(expected)))?;
    let [got, _] = apps;
    Some(Refusal::AppIdMismatch { expected: expected.clone(), got: got.cloned() })
}

/// The merchant's number stands for a refund of another payment or amount, or has another number of WeChat Pay's.
fn other_refund(payment: &PaymentRecord, refund: &Refund, asked: Asked, reported: &ReportedRefund) -> Option<Refusal> {
    if let Some(expected) = refund.transaction_id.as_ref().filter(|known| **known != reported.transaction_id) {
        let (expected, got) = (expected.to_string(), reported.transaction_id.to_string());
        return Some(Refusal::TransactionConflict { expected, got });
    }
    if refund.amount_minor != reported.amount_minor {
        let (expected, got) = (of_payment(payment, refund.amount_minor), of_payment(payment, reported.amount_minor));
        return Some(Refusal::RefundAmountMismatch { expected, got });
    }
    let expected = refund.refund_id.as_ref().filter(|known| **known != reported.refund_id)?;
    let is_repeated = asked == Asked::ByAcceptance && refund.state.succeeded_at().is_none();
    (!is_repeated).then(|| Refusal::RefundIdMismatch { expected: expected.clone(), got: reported.refund_id.clone() })
}

/// A refund that succeeded takes from what others have left; one that did not takes nothing, but is part of the payment.
fn left_to_refund(payment: &PaymentRecord, refund: Option<&Refund>, result: RefundResult) -> i64 {
    let own = refund.filter(|refund| refund.state.succeeded_at().is_some()).map_or(0, |refund| refund.amount_minor);
    let of_others = payment.returned_minor.saturating_sub(own);
    match result {
        RefundResult::Succeeded(_) => payment.amount.amount_minor.saturating_sub(of_others),
        RefundResult::Abnormal | RefundResult::Closed => payment.amount.amount_minor,
    }
}

/// From the state that the refund is in to the one that is reported.
fn move_refund(payment: &PaymentRecord, refund: Option<&Refund>, asked: Asked, reported: &ReportedRefund) -> Verdict {
    let got = state_of(reported.result);
    let apply = || {
        let refund = Refund {
            order_id: payment.order_id,
            out_refund_no: reported.out_refund_no.clone(),
            refund_id: Some(reported.refund_id.clone()),
            transaction_id: Some(reported.transaction_id.clone()),
            amount_minor: reported.amount_minor,
            state: got,
        };
        let returned = if got.succeeded_at().is_some() { refund.amount_minor } else { 0 };
        Verdict::Apply(Change::Refund { refund, payment: payment.after_return_of(returned) })
    };
    let is_accepted = asked == Asked::ByAcceptance;
    match (refund.map(|refund| refund.state), reported.result) {
        (Some(RefundState::Succeeded(_)), RefundResult::Succeeded(_))
        | (Some(RefundState::Abnormal), RefundResult::Abnormal)
        | (Some(RefundState::Closed), RefundResult::Closed) => Verdict::Duplicate,
        (None | Some(RefundState::Requested), _)
        | (Some(RefundState::Abnormal), RefundResult::Succeeded(_) | RefundResult::Closed) => apply(),
        (Some(RefundState::Closed), RefundResult::Succeeded(_)) if is_accepted => apply(),
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

/// A sum in the payment's currency.
fn of_payment(payment: &PaymentRecord, amount_minor: i64) -> Money {
    Money { amount_minor, currency: payment.amount.currency }
}
