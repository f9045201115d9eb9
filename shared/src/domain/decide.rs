//! What one notification does to one order. Total and pure; the table of checks is the specification.

use super::ids::{AppId, SubMchId};
use super::money::Money;
use super::notification::{Notification, Payment, PaymentResult, PaymentSuccess, RefundResult, ReportedRefund};
use super::order::{Order, OrderState};
use super::payment::{Disposition, PaymentRecord};
use super::refund::{Refund, RefundState};
use super::verdict::{Awaited, Change, Ignored, Refusal, Verdict};

/// What is on record about the order, payment and refund that a notification names, read under the order's lock.
#[derive(Debug, Clone, Copy, Default)]
pub struct Known<'a> {
    /// The order. For a payment, the one with its merchant, sub-merchant and number; for a refund, the one whose payment it
    /// refunds.
    pub order: Option<&'a Order>,
    /// The payment with its merchant and `transaction_id`, whichever order it belongs to.
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
    /// An operator replays it.
    ByReplay,
    /// An operator accepts it although it contradicts what is on record.
    ByAcceptance,
}

/// Decides what `notification` does, given what is `known`.
///
/// A notification about no order → `Ignore(NotForOrders)`.
///
/// Payment, in this order:
/// 1. it does not report success → `Ignore(NotSuccessful)`
/// 2. its transaction is on record for another order, amount or currency → `Quarantine(TransactionConflict)`
/// 3. no such order → `Wait(Order)`
/// 4. it is on record as accepted → `Duplicate`; as returned → `Ignore(Returned)`; as refused → `Duplicate`, unless an operator
///    asks: then `Quarantine(PartlyReturned)` if any of it was returned, otherwise steps 6 to 10 decide it again
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
/// 3. sub-merchant differs (unset equals only unset) → `Quarantine(SubMchIdMismatch)`. The app is not compared, because the
///    order may have refused that payment for its app
/// 4. the refund is on record for another payment → `Quarantine(TransactionConflict)`; with another amount →
///    `Quarantine(RefundAmountMismatch)`; with another number of WeChat Pay's → `Quarantine(RefundIdMismatch)`, unless an
///    operator accepts it and the one on record did not succeed
/// 5. it exceeds what is left of the payment → `Quarantine(RefundExceedsPayment)`
/// 6. the refund is in the reported state already → `Duplicate`
/// 7. the refund is new or requested, or was abnormal and is now final → `Apply(Refund)`
/// 8. it is reported as abnormal, but is final already → `Ignore(Stale)`
/// 9. it was closed and is reported as succeeded → `Quarantine(RefundStateConflict)`, unless an operator accepts it; it had
///    succeeded and is reported as closed → `Quarantine(RefundStateConflict)`
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
    if let Some(conflict) = known.payment.and_then(|recorded| check_transaction(recorded, known.order, success).err()) {
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
        // The order knows how much of it was returned before.
        let returned_minor = order.refunded_minor;
        let recorded = PaymentRecord { amount: order.amount, returned_minor, ..record(Disposition::Accepted) };
        return match check_transaction(&recorded, Some(order), success) {
            Err(conflict) => Verdict::Quarantine(conflict),
            Ok(()) => Verdict::Apply(Change::Adopt(recorded)),
        };
    }
    match check_payment(order, payment, success) {
        Err(refusal) => Verdict::Refuse(refusal, record(Disposition::Refused)),
        Ok(()) => Verdict::Apply(Change::Pay(record(Disposition::Accepted))),
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

/// Whether the payment may pay the order.
fn check_payment(order: &Order, payment: &Payment, success: &PaymentSuccess) -> Result<(), Refusal> {
    check_app(order, [payment.app_id.as_ref(), payment.sub_app_id.as_ref()])?;
    if order.amount.currency != success.total.currency {
        let (expected, got) = (order.amount.currency, success.total.currency);
        return Err(Refusal::CurrencyMismatch { expected, got });
    }
    if order.amount != success.total {
        return Err(Refusal::AmountMismatch { expected: order.amount, got: success.total });
    }
    let got = success.transaction_id.clone();
    match &order.state {
        OrderState::Pending => Ok(()),
        OrderState::Paid(expected) | OrderState::Refunded(expected) => {
            Err(Refusal::PaidTwice { expected: expected.clone(), got })
        }
        OrderState::Closed => Err(Refusal::PaidAfterClose { got }),
    }
}

/// Whether the notification agrees with the payment on record: one transaction has one order, amount and currency.
fn check_transaction(recorded: &PaymentRecord, order: Option<&Order>, success: &PaymentSuccess) -> Result<(), Refusal> {
    let same_order = order.is_some_and(|order| order.id == recorded.order_id);
    if same_order && recorded.amount == success.total {
        return Ok(());
    }
    Err(Refusal::TransactionConflict {
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
    match check_refund(order, payment, refund, asked, reported) {
        Err(refusal) => Verdict::Quarantine(refusal),
        Ok(()) => refund_transition(payment, refund, asked, reported),
    }
}

/// Whether the refund may change anything, given the order and payment that it names.
fn check_refund(
    order: &Order,
    payment: &PaymentRecord,
    refund: Option<&Refund>,
    asked: Asked,
    reported: &ReportedRefund,
) -> Result<(), Refusal> {
    check_sub_merchant(order, reported.sub_mch_id.as_ref())?;
    if let Some(refund) = refund {
        check_recorded_refund(payment, refund, asked, reported)?;
    }
    let left = in_currency_of(payment, left_to_refund(payment, refund, reported.result));
    if reported.amount_minor > left.amount_minor {
        let got = in_currency_of(payment, reported.amount_minor);
        return Err(Refusal::RefundExceedsPayment { left, got });
    }
    Ok(())
}

fn check_sub_merchant(order: &Order, sub_mch_id: Option<&SubMchId>) -> Result<(), Refusal> {
    let (expected, got) = (order.sub_mch_id.as_ref(), sub_mch_id);
    if expected == got {
        return Ok(());
    }
    Err(Refusal::SubMchIdMismatch { expected: expected.cloned(), got: got.cloned() })
}

/// An order that names no app accepts any.
fn check_app(order: &Order, apps: [Option<&AppId>; 2]) -> Result<(), Refusal> {
    let [got, _] = apps;
    match &order.app_id {
        Some(expected) if !apps.contains(&Some(expected)) => {
            Err(Refusal::AppIdMismatch { expected: expected.clone(), got: got.cloned() })
        }
        _ => Ok(()),
    }
}

/// Whether the report is about the refund on record under the merchant's number: same payment, amount and `refund_id`.
fn check_recorded_refund(
    payment: &PaymentRecord,
    refund: &Refund,
    asked: Asked,
    reported: &ReportedRefund,
) -> Result<(), Refusal> {
    if let Some(expected) = refund.transaction_id.as_ref().filter(|known| **known != reported.transaction_id) {
        let (expected, got) = (expected.to_string(), reported.transaction_id.to_string());
        return Err(Refusal::TransactionConflict { expected, got });
    }
    if refund.amount_minor != reported.amount_minor {
        let expected = in_currency_of(payment, refund.amount_minor);
        let got = in_currency_of(payment, reported.amount_minor);
        return Err(Refusal::RefundAmountMismatch { expected, got });
    }
    // The shop may have repeated a refund that did not succeed: an operator accepts its new number.
    let is_repeated = asked == Asked::ByAcceptance && refund.state.succeeded_at().is_none();
    match &refund.refund_id {
        Some(expected) if *expected != reported.refund_id && !is_repeated => {
            Err(Refusal::RefundIdMismatch { expected: expected.clone(), got: reported.refund_id.clone() })
        }
        _ => Ok(()),
    }
}

/// A refund that succeeded uses up what earlier refunds left; one that did not uses nothing, but cannot exceed the payment.
fn left_to_refund(payment: &PaymentRecord, refund: Option<&Refund>, result: RefundResult) -> i64 {
    let own = refund.filter(|refund| refund.state.succeeded_at().is_some()).map_or(0, |refund| refund.amount_minor);
    let of_others = payment.returned_minor.saturating_sub(own);
    match result {
        RefundResult::Succeeded(_) => payment.amount.amount_minor.saturating_sub(of_others),
        RefundResult::Abnormal | RefundResult::Closed => payment.amount.amount_minor,
    }
}

/// From the refund's current state to the reported one.
fn refund_transition(
    payment: &PaymentRecord,
    refund: Option<&Refund>,
    asked: Asked,
    reported: &ReportedRefund,
) -> Verdict {
    let got = reported_state(reported.result);
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

fn reported_state(result: RefundResult) -> RefundState {
    match result {
        RefundResult::Succeeded(at) => RefundState::Succeeded(at),
        RefundResult::Abnormal => RefundState::Abnormal,
        RefundResult::Closed => RefundState::Closed,
    }
}

/// An amount in the payment's currency.
fn in_currency_of(payment: &PaymentRecord, amount_minor: i64) -> Money {
    Money { amount_minor, currency: payment.amount.currency }
}
