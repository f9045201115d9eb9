//! The bridge to the worker's own decisions: the model asks `worker::plan`, the code that runs, and copies none of it.

use chrono::DateTime;
use shared::domain::ids::{MchId, OutRefundNo, OutTradeNo, RefundId, TransactionId};
use shared::domain::money::{Currency, Money};
use shared::domain::notification::{
    Notification, Payment, PaymentResult, PaymentSuccess, RefundResult, ReportedRefund,
};
use shared::domain::order::{Order as DomainOrder, OrderState as DomainState, Surplus};
use shared::domain::refund::{Refund, RefundState};
use shared::domain::verdict::{Awaited as DomainAwaited, Ignored};
use worker::plan::{self, Finding, Happened, Held, Outcome, Plan};

use crate::scenario::Content;
use crate::state::{Awaited, Entry, Event, MessageId, Order, OrderState, Read, Write};

const ORDER_ID: i64 = 1;
const AMOUNT: Money = Money { amount_minor: 100, currency: Currency::CNY };

/// What a transaction that has read `read` writes for these messages, in this order.
#[must_use]
pub fn decide(messages: &[(MessageId, Content)], read: Read) -> Write {
    let findings: Vec<Finding> =
        messages.iter().map(|(_, content)| Finding::Notified(notification(*content))).collect();
    let orders = read.order.map(|order| order_of(order, read)).into_iter().collect();
    let refunds = read.order.filter(|_| read.is_refunded).map(|_| refund()).into_iter().collect();
    let plan = plan::plan(orders, refunds, findings.iter());

    let entries = messages.iter().zip(&plan.outcomes);
    Write {
        entries: entries.map(|((message, content), outcome)| (*message, entry(*content, outcome, &plan))).collect(),
        order: plan.orders.values().next().map(|changed| row_of(&changed.order)),
        refund: !plan.refunds.is_empty(),
        returned: plan.returned.first().map(|returned| number_of(&returned.transaction_id)),
        events: plan
            .events
            .iter()
            .map(|event| Event {
                version: row_of(&event.order).version,
                is_paid: matches!(event.happened, Happened::Paid(_)),
            })
            .collect(),
    }
}

/// Whether any of the messages is a refund: only then the refunds are read.
#[must_use]
pub fn any_refund(messages: &[(MessageId, Content)]) -> bool {
    messages.iter().any(|(_, content)| matches!(content, Content::Refund(_)))
}

fn entry(content: Content, outcome: &Outcome, plan: &Plan) -> Entry {
    let went_back = |number| plan.returned.iter().any(|returned| number_of(&returned.transaction_id) == number);
    match outcome {
        Outcome::Applied => match content {
            Content::Refund(number) if went_back(number) => Entry::Returned,
            Content::Refund(_) | Content::Payment(_) => Entry::Applied,
        },
        Outcome::Duplicate => Entry::Duplicate,
        Outcome::Waiting(Held::Awaiting(DomainAwaited::Order)) => Entry::Waiting(Awaited::Order),
        Outcome::Waiting(Held::Awaiting(DomainAwaited::Payment)) => Entry::Waiting(Awaited::Payment),
        Outcome::Quarantined(Held::Refused(_)) => match content {
            // A payment that its order did not want is owed back.
            Content::Payment(number) => Entry::Surplus(number, false),
            Content::Refund(_) => Entry::Refused,
        },
        Outcome::Ignored(Ignored::Returned) => match content {
            Content::Payment(number) => Entry::Surplus(number, true),
            Content::Refund(_) => unreachable!("a refund does not go back"),
        },
        Outcome::Ignored(_) | Outcome::Waiting(_) | Outcome::Quarantined(_) => {
            unreachable!("no callback of the model comes to {outcome:?}")
        }
    }
}

fn notification(content: Content) -> Notification {
    match content {
        Content::Payment(number) => Notification::Payment(Payment {
            mch_id: id(MchId::parse("1900000109")),
            sub_mch_id: None,
            app_id: None,
            sub_app_id: None,
            out_trade_no: Some(id(OutTradeNo::parse("order-1"))),
            result: PaymentResult::Success(PaymentSuccess {
                transaction_id: transaction_id(number),
                total: AMOUNT,
                paid_at: DateTime::UNIX_EPOCH,
            }),
        }),
        Content::Refund(number) => Notification::Refund(ReportedRefund {
            mch_id: id(MchId::parse("1900000109")),
            sub_mch_id: None,
            app_id: None,
            sub_app_id: None,
            out_trade_no: id(OutTradeNo::parse("order-1")),
            transaction_id: transaction_id(number),
            out_refund_no: id(OutRefundNo::parse("refund-1")),
            refund_id: id(RefundId::parse("50000000382019052709732678859")),
            total_minor: AMOUNT.amount_minor,
            amount_minor: AMOUNT.amount_minor,
            currency: None,
            result: RefundResult::Succeeded(DateTime::UNIX_EPOCH),
        }),
    }
}

fn order_of(row: Order, read: Read) -> DomainOrder {
    let surplus = (0..).zip(read.surplus).filter_map(|(number, is_settled)| {
        let is_settled = is_settled?;
        let total_minor = AMOUNT.amount_minor;
        Some(Surplus { transaction_id: transaction_id(number), total_minor, is_settled, is_returned: is_settled })
    });
    DomainOrder {
        id: ORDER_ID,
        mch_id: id(MchId::parse("1900000109")),
        sub_mch_id: None,
        app_id: None,
        out_trade_no: id(OutTradeNo::parse("order-1")),
        amount: AMOUNT,
        state: match row.state {
            OrderState::Pending => DomainState::Pending,
            OrderState::Closed => DomainState::Closed,
            OrderState::Paid(number) => DomainState::Paid(transaction_id(number)),
            OrderState::Refunded(number) => DomainState::Refunded(transaction_id(number)),
        },
        refunded_minor: if matches!(row.state, OrderState::Refunded(_)) { AMOUNT.amount_minor } else { 0 },
        surplus: surplus.collect(),
        version: i32::from(row.version),
    }
}

fn row_of(order: &DomainOrder) -> Order {
    let state = match &order.state {
        DomainState::Pending => OrderState::Pending,
        DomainState::Paid(transaction_id) => OrderState::Paid(number_of(transaction_id)),
        DomainState::Refunded(transaction_id) => OrderState::Refunded(number_of(transaction_id)),
        DomainState::Closed => OrderState::Closed,
    };
    Order { state, version: u8::try_from(order.version).unwrap_or(u8::MAX) }
}

/// The only refund there is.
fn refund() -> Refund {
    Refund {
        order_id: ORDER_ID,
        out_refund_no: id(OutRefundNo::parse("refund-1")),
        refund_id: RefundId::parse("50000000382019052709732678859"),
        amount_minor: AMOUNT.amount_minor,
        state: RefundState::Succeeded(DateTime::UNIX_EPOCH),
    }
}

fn transaction_id(number: u8) -> TransactionId {
    id(TransactionId::parse(&number.to_string()))
}

fn number_of(transaction_id: &TransactionId) -> u8 {
    id(transaction_id.as_str().parse().ok())
}

/// The model writes all its ids itself.
fn id<T>(parsed: Option<T>) -> T {
    assert!(parsed.is_some(), "an id of the model is not one");
    #[expect(clippy::unwrap_used, reason = "asserted above")]
    parsed.unwrap()
}
