//! The payload of every type of event, against a file of `tests/golden`: consumers depend on each field.

use serde_json::Value;
use shared::domain::ids::{MchId, OutRefundNo, OutTradeNo, TransactionId};
use shared::domain::money::{Currency, Money};
use shared::domain::order::{Order, OrderState};
use shared::domain::payment::{Disposition, PaymentRecord};
use shared::domain::refund::{Refund, RefundState};

use super::*;

macro_rules! golden {
    ($name:literal) => {
        ($name, include_str!(concat!("../../../tests/golden/", $name, ".json")))
    };
}

#[test]
fn every_payload_is_as_consumers_know_it() {
    let succeeded = RefundState::Succeeded(at());
    let with_shop = OrderEvent {
        order: Order { sub_mch_id: SubMchId::parse("1900000110"), ..order(OrderState::Pending, 0) },
        happened: Happened::Refused { payment: payment(99, Disposition::Refused, 0), reason: "amount_mismatch" },
    };
    let unnumbered = Refund { refund_id: None, ..refund(RefundState::Abnormal, 40) };
    for ((name, golden), event) in [
        (golden!("order.paid"), event(paid(), 0, Happened::Paid(payment(100, Disposition::Accepted, 0)))),
        (golden!("payment.refused"), with_shop),
        (golden!("order.partially_refunded"), event(paid(), 40, refunded(refund(succeeded, 40), 100, 40))),
        (
            golden!("order.refunded"),
            event(OrderState::Refunded(transaction()), 100, refunded(refund(succeeded, 100), 100, 100)),
        ),
        (
            golden!("payment.partially_returned"),
            event(OrderState::Pending, 0, returned(refund(succeeded, 40), Disposition::Refused, 40)),
        ),
        (
            golden!("payment.returned"),
            event(OrderState::Pending, 0, returned(refund(succeeded, 99), Disposition::Returned, 99)),
        ),
        (golden!("refund.abnormal"), event(paid(), 0, refunded(unnumbered, 100, 0))),
        (golden!("refund.closed"), event(paid(), 0, refunded(refund(RefundState::Closed, 40), 100, 0))),
    ] {
        assert_eq!(event.name(), name);
        let id = "0192f0c0-0000-7abc-8000-000000000001".parse().unwrap();
        let payload: Value = serde_json::from_str(&payload(id, &event).unwrap()).unwrap();
        assert_eq!(payload, serde_json::from_str::<Value>(golden).unwrap(), "{name}");
    }
}

fn event(state: OrderState, refunded_minor: i64, happened: Happened) -> OrderEvent {
    OrderEvent { order: order(state, refunded_minor), happened }
}

fn order(state: OrderState, refunded_minor: i64) -> Order {
    Order {
        id: 7,
        mch_id: MchId::parse("1900000109").unwrap(),
        sub_mch_id: None,
        app_id: None,
        out_trade_no: OutTradeNo::parse("order-7").unwrap(),
        amount: Money { amount_minor: 100, currency: Currency::CNY },
        state,
        refunded_minor,
        version: 4,
    }
}

fn paid() -> OrderState {
    OrderState::Paid(transaction())
}

fn payment(amount_minor: i64, disposition: Disposition, returned_minor: i64) -> PaymentRecord {
    PaymentRecord {
        order_id: 7,
        mch_id: MchId::parse("1900000109").unwrap(),
        transaction_id: transaction(),
        amount: Money { amount_minor, currency: Currency::CNY },
        paid_at: at(),
        disposition,
        returned_minor,
    }
}

fn refund(state: RefundState, amount_minor: i64) -> Refund {
    Refund {
        order_id: 7,
        out_refund_no: OutRefundNo::parse("refund-1").unwrap(),
        refund_id: RefundId::parse("50000001"),
        transaction_id: Some(transaction()),
        amount_minor,
        state,
    }
}

/// A refund of the payment that paid the order.
fn refunded(refund: Refund, paid_minor: i64, returned_minor: i64) -> Happened {
    Happened::Refund { refund, payment: payment(paid_minor, Disposition::Accepted, returned_minor) }
}

/// A refund of a payment of 99 that the order refused.
fn returned(refund: Refund, disposition: Disposition, returned_minor: i64) -> Happened {
    Happened::Refund { refund, payment: payment(99, disposition, returned_minor) }
}

fn transaction() -> TransactionId {
    TransactionId::parse("4200000001").unwrap()
}

fn at() -> DateTime<Utc> {
    DateTime::from_timestamp(1_763_000_000, 0).unwrap()
}
