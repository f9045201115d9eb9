//! The pure fold of a batch: each step sees what the last one left, and what is written names each row once.
//!
//! `batch`: steps within one batch, and the neighbours of a bad message. `payments` and `refunds`: what is written and told of
//! each change. `busy`: orders that another session has locked. `histories`: every history of one order, one by one and in
//! batches.
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "helpers of tests fail like tests")]

mod batch;
mod busy;
mod histories;
mod payments;
mod refunds;

use chrono::{DateTime, Utc};
use shared::domain::decide::Asked;
use shared::domain::ids::{MchId, OutRefundNo, OutTradeNo, RefundId, SubMchId, TransactionId};
use shared::domain::money::{Currency, Money};
use shared::domain::notification::{
    Notification, Payment, PaymentResult, PaymentSuccess, RefundResult, ReportedRefund,
};
use shared::domain::order::{Order, OrderState};
use shared::domain::payment::{Disposition, PaymentRecord};
use shared::domain::refund::{Refund, RefundState};
use worker::batch::message::Finding;
use worker::batch::outcome::Outcome;
use worker::batch::plan::{ChangedPayment, ChangedRefund, Item, OrderKey, Plan, Rows, plan};

const OPERATOR: &str = "ling";

/// An order of the direct merchant, in its third version.
fn order(id: i64, number: &str, state: OrderState) -> Order {
    Order {
        id,
        mch_id: mch(),
        sub_mch_id: None,
        app_id: None,
        out_trade_no: OutTradeNo::parse(number).unwrap(),
        amount: cny(100),
        state,
        refunded_minor: 0,
        version: 3,
    }
}

fn pending(id: i64, number: &str) -> Order {
    order(id, number, OrderState::Pending)
}

fn paid_by(transaction_id: &str) -> OrderState {
    OrderState::Paid(transaction(transaction_id))
}

/// A payment of order 7 on record.
fn recorded(transaction_id: &str, disposition: Disposition, returned_minor: i64) -> PaymentRecord {
    PaymentRecord {
        order_id: 7,
        mch_id: mch(),
        transaction_id: transaction(transaction_id),
        amount: cny(100),
        paid_at: paid_at(),
        disposition,
        returned_minor,
    }
}

/// A refund of order 7 that WeChat Pay has reported.
fn refund_row(out_refund_no: &str, transaction_id: &str, amount_minor: i64, state: RefundState) -> Refund {
    Refund {
        order_id: 7,
        out_refund_no: refund_no(out_refund_no),
        refund_id: RefundId::parse(out_refund_no),
        transaction_id: Some(transaction(transaction_id)),
        amount_minor,
        state,
    }
}

/// The refund as the shop writes it before it asks WeChat Pay.
fn requested(out_refund_no: &str, amount_minor: i64) -> Refund {
    let row = refund_row(out_refund_no, "none yet", amount_minor, RefundState::Requested);
    Refund { refund_id: None, transaction_id: None, ..row }
}

/// The callback of a payment.
fn payment(number: &str, transaction_id: &str, amount_minor: i64) -> Finding {
    payment_of(number, None, success(transaction_id, amount_minor))
}

fn payment_of(number: &str, sub_mch_id: Option<&str>, result: PaymentResult) -> Finding {
    Finding::Notified(Notification::Payment(Payment {
        mch_id: mch(),
        sub_mch_id: sub_mch_id.and_then(SubMchId::parse),
        app_id: None,
        sub_app_id: None,
        out_trade_no: OutTradeNo::parse(number),
        result,
    }))
}

fn success(transaction_id: &str, amount_minor: i64) -> PaymentResult {
    PaymentResult::Success(PaymentSuccess {
        transaction_id: transaction(transaction_id),
        total: cny(amount_minor),
        paid_at: paid_at(),
    })
}

/// The callback of a refund of a payment of 100; its two numbers are alike.
fn refund(number: &str, transaction_id: &str, out_refund_no: &str, amount_minor: i64, result: RefundResult) -> Finding {
    Finding::Notified(Notification::Refund(ReportedRefund {
        mch_id: mch(),
        sub_mch_id: None,
        app_id: None,
        sub_app_id: None,
        out_trade_no: OutTradeNo::parse(number).unwrap(),
        transaction_id: transaction(transaction_id),
        out_refund_no: refund_no(out_refund_no),
        refund_id: RefundId::parse(out_refund_no).unwrap(),
        total_minor: 100,
        amount_minor,
        currency: None,
        result,
    }))
}

/// The same refund, repeated under another number of WeChat Pay's.
fn under_another_number(finding: &Finding, refund_id: &str) -> Finding {
    let Finding::Notified(Notification::Refund(refund)) = finding else { panic!("not a refund: {finding:?}") };
    let refund_id = RefundId::parse(refund_id).unwrap();
    Finding::Notified(Notification::Refund(ReportedRefund { refund_id, ..refund.clone() }))
}

fn succeeded() -> RefundResult {
    RefundResult::Succeeded(paid_at())
}

/// What WeChat Pay reports.
fn plan_reports(rows: Rows, findings: &[Finding]) -> Plan {
    plan(rows, findings.iter().map(Item::reported))
}

/// What an operator has decided again.
fn replayed(finding: &Finding) -> Item<'_> {
    Item { finding, asked: Asked::ByReplay, by: Some(OPERATOR) }
}

/// What an operator accepts.
fn accepted(finding: &Finding) -> Item<'_> {
    Item { finding, asked: Asked::ByAcceptance, by: Some(OPERATOR) }
}

fn orders(orders: Vec<Order>) -> Rows {
    Rows { orders, ..Rows::default() }
}

/// Each outcome's name and reason.
fn names(plan: &Plan) -> Vec<(&'static str, Option<&'static str>)> {
    plan.decided.iter().map(|decided| (decided.outcome.name(), decided.outcome.reason())).collect()
}

fn outcomes(plan: &Plan) -> Vec<Outcome> {
    plan.decided.iter().map(|decided| decided.outcome.clone()).collect()
}

/// Each event's name and version.
fn told(plan: &Plan) -> Vec<(&'static str, i32)> {
    plan.events.iter().map(|event| (event.name(), event.order.version)).collect()
}

/// The places of the events that the decisions caused.
fn caused(plan: &Plan) -> Vec<Option<usize>> {
    plan.decided.iter().map(|decided| decided.event).collect()
}

fn written_payment<'a>(plan: &'a Plan, transaction_id: &str) -> &'a ChangedPayment {
    &plan.payments[&(mch(), transaction(transaction_id))]
}

fn written_refund<'a>(plan: &'a Plan, out_refund_no: &str) -> &'a ChangedRefund {
    &plan.refunds[&(7, refund_no(out_refund_no))]
}

/// Nothing is to be written but the ledger.
#[track_caller]
fn assert_changes_nothing(plan: &Plan) {
    let Plan { orders, payments, refunds, events, decided } = plan;
    assert!(orders.is_empty() && payments.is_empty() && refunds.is_empty() && events.is_empty(), "{plan:?}");
    assert!(decided.iter().all(|decided| decided.event.is_none()), "{plan:?}");
}

fn key_of(order: &Order) -> OrderKey {
    (order.mch_id.clone(), order.sub_mch_id.clone(), order.out_trade_no.clone())
}

fn mch() -> MchId {
    MchId::parse("1900000109").unwrap()
}

fn transaction(number: &str) -> TransactionId {
    TransactionId::parse(number).unwrap()
}

fn refund_no(number: &str) -> OutRefundNo {
    OutRefundNo::parse(number).unwrap()
}

fn cny(amount_minor: i64) -> Money {
    Money { amount_minor, currency: Currency::CNY }
}

fn paid_at() -> DateTime<Utc> {
    DateTime::from_timestamp(1_763_000_000, 0).unwrap()
}
