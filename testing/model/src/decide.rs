//! The bridge to the worker's own decisions: the model asks `worker::batch::plan`, the code that runs, and copies none of it.
//!
//! The same question gets the same answer, so each is asked once: the explorer comes by it a thousand times.

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use chrono::DateTime;
use shared::domain::decide::Asked as DomainAsked;
use shared::domain::ids::{MchId, OutRefundNo, OutTradeNo, RefundId, TransactionId};
use shared::domain::money::{Currency, Money};
use shared::domain::notification::{
    Notification, Payment as Paid, PaymentResult, PaymentSuccess, RefundResult, ReportedRefund,
};
use shared::domain::order::{Order as DomainOrder, OrderState as DomainState};
use shared::domain::payment::{Disposition as DomainDisposition, PaymentRecord};
use shared::domain::refund::{Refund as DomainRefund, RefundState};
use worker::batch::message::Finding;
use worker::batch::outcome::Outcome as Decided;
use worker::batch::plan::{self, Happened as DomainHappened, Item, OrderEvent, Plan, Rows};

use crate::explore::Mix;
use crate::inline_vec::InlineVec;
use crate::rows::{
    Asked, Disposition, End, Event, Happened, Order, OrderState, Outcome, PRICE, Payment, REFUNDS, Reason, Refund,
    TRANSACTIONS, Told,
};
use crate::scenario::Content;
use crate::state::{ITEMS, ORDERS, Read};

/// One part to be decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Question {
    pub content: Content,
    /// Why it is decided.
    pub asked: Asked,
}

/// Parts to be decided, in this order.
pub type Questions = InlineVec<Question, ITEMS>;

/// What a transaction writes.
#[derive(Debug, Clone, Copy)]
pub struct Write {
    /// What each question came to.
    pub came: InlineVec<Came, ITEMS>,
    /// The orders that change.
    pub orders: [Option<Order>; ORDERS],
    /// The payments that are new or change.
    pub payments: [[Option<ChangedPayment>; ORDERS]; TRANSACTIONS],
    /// The refunds that are new or change.
    pub refunds: [Option<ChangedRefund>; REFUNDS],
    /// What the merchant is to hear.
    pub events: InlineVec<Event, ITEMS>,
}

impl Write {
    /// The payments that are new, each by transaction and order.
    pub fn inserted(&self) -> impl Iterator<Item = (usize, usize)> {
        self.payments.iter().enumerate().flat_map(|(transaction, rows)| {
            let is_new = |changed: &Option<ChangedPayment>| changed.is_some_and(|changed| changed.was.is_none());
            let rows = rows.iter().enumerate().filter(move |(_, changed)| is_new(changed));
            rows.map(move |(order, _)| (transaction, order))
        })
    }
}

/// What one part came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Came {
    pub outcome: Outcome,
    /// Why it is held, when it is.
    pub reason: Option<Reason>,
}

/// A payment that is written.
#[derive(Debug, Clone, Copy)]
pub struct ChangedPayment {
    /// What was read of it.
    pub was: Option<(Disposition, u8)>,
    /// What is written.
    pub now: Payment,
}

/// A refund that is written.
#[derive(Debug, Clone, Copy)]
pub struct ChangedRefund {
    /// What was read of it.
    pub was: Option<Refund>,
    /// What is written.
    pub now: Refund,
}

type Answers = HashMap<(Questions, Read), Write, BuildHasherDefault<Mix>>;

thread_local! {
    static ANSWERS: RefCell<Answers> = RefCell::default();
}

/// What a transaction that has read `read` writes for these parts.
#[must_use]
pub fn decide(questions: Questions, read: Read) -> Write {
    ANSWERS.with_borrow_mut(|answers| *answers.entry((questions, read)).or_insert_with(|| ask(questions, read)))
}

fn ask(questions: Questions, read: Read) -> Write {
    let findings: Vec<Finding> =
        questions.iter().map(|question| Finding::Notified(notification(question.content))).collect();
    let asked = questions.iter().map(|question| match question.asked {
        Asked::ByReport => DomainAsked::ByReport,
        Asked::ByReplay => DomainAsked::ByReplay,
        Asked::ByAcceptance => DomainAsked::ByAcceptance,
    });
    let item = |(finding, asked)| Item { finding, asked, by: Some("operator") };
    let plan = plan::plan(rows_of(&read), findings.iter().zip(asked).map(item));
    Write {
        came: plan.decided.iter().map(|decided| came(&decided.outcome)).collect(),
        orders: by_place((0..).zip([(); ORDERS]).map(|(order, ())| Some(row_of(&plan.orders.get(&key(order))?.order)))),
        payments: payments_of(&plan),
        refunds: by_place((0..).zip([(); REFUNDS]).map(|(number, ())| refund_of(&plan, number))),
        events: plan.events.iter().map(event).collect(),
    }
}

fn by_place<T: Copy, const N: usize>(values: impl Iterator<Item = Option<T>>) -> [Option<T>; N] {
    let mut places = [None; N];
    places.iter_mut().zip(values).for_each(|(place, value)| *place = value);
    places
}

fn payments_of(plan: &Plan) -> [[Option<ChangedPayment>; ORDERS]; TRANSACTIONS] {
    let mut payments = [[None; ORDERS]; TRANSACTIONS];
    for changed in plan.payments.values() {
        let was = changed.was.as_ref().map(payment_of).map(|was| (was.disposition, was.returned));
        let (transaction, order) = (number_of(&changed.now.transaction_id), place_of(changed.now.order_id));
        payments[usize::from(transaction)][usize::from(order)] =
            Some(ChangedPayment { was, now: payment_of(&changed.now) });
    }
    payments
}

fn refund_of(plan: &Plan, number: u8) -> Option<ChangedRefund> {
    let changed = plan.refunds.values().find(|changed| changed.now.out_refund_no == out_refund_no(number))?;
    Some(ChangedRefund { was: changed.was.as_ref().map(refund_row_of), now: refund_row_of(&changed.now) })
}

fn came(outcome: &Decided) -> Came {
    let kind = match outcome {
        Decided::Applied => Outcome::Applied,
        Decided::Duplicate => Outcome::Duplicate,
        Decided::Ignored(_) => Outcome::Ignored,
        Decided::Waiting(_) => Outcome::Waiting,
        Decided::Quarantined(_) => Outcome::Quarantined,
    };
    let reason = outcome.held().map(|held| known(Reason::parse(held.reason())));
    Came { outcome: kind, reason }
}

fn event(event: &OrderEvent) -> Event {
    let happened = match &event.happened {
        DomainHappened::Paid(payment) => Happened::Paid(number_of(&payment.transaction_id)),
        DomainHappened::Refused { payment, .. } => Happened::Refused(number_of(&payment.transaction_id)),
        DomainHappened::Refund { refund, .. } => {
            let told = match event.name() {
                "order.refunded" => Told::OrderRefunded,
                "order.partially_refunded" => Told::OrderPartiallyRefunded,
                "payment.returned" => Told::PaymentReturned,
                "payment.partially_returned" => Told::PaymentPartiallyReturned,
                "refund.closed" => Told::RefundClosed,
                name => unreachable!("no refund of the model is told by {name}"),
            };
            Happened::Refund(refund_number_of(&refund.out_refund_no), told)
        }
    };
    Event { order: place_of(event.order.id), version: row_of(&event.order).version, happened }
}

fn rows_of(read: &Read) -> Rows {
    let orders = (0..).zip(read.orders).filter_map(|(order, row)| Some(order_of(order, row?))).collect();
    let busy = (0..).zip(read.busy).filter(|(_, is_busy)| *is_busy);
    let payments = (0..).zip(read.payments).flat_map(|(transaction, rows)| {
        (0..).zip(rows).filter_map(move |(order, row)| Some(record_of(transaction, order, row?)))
    });
    let refund = |(number, row): (u8, Option<Refund>)| {
        let row = row?;
        Some(DomainRefund {
            order_id: key(row.order),
            out_refund_no: out_refund_no(number),
            refund_id: Some(refund_id(number)),
            transaction_id: Some(transaction_id(row.transaction)),
            amount_minor: row.amount.into(),
            state: match row.end {
                End::Succeeded => RefundState::Succeeded(DateTime::UNIX_EPOCH),
                End::Closed => RefundState::Closed,
            },
        })
    };
    Rows {
        orders,
        busy: busy.map(|(order, _)| (key(order), (mch_id(), None, out_trade_no(order)))).collect(),
        payments: payments.collect(),
        refunds: (0..).zip(read.refunds).filter_map(refund).collect(),
    }
}

fn notification(content: Content) -> Notification {
    match content {
        Content::Payment { order, transaction } => Notification::Payment(Paid {
            mch_id: mch_id(),
            sub_mch_id: None,
            app_id: None,
            sub_app_id: None,
            out_trade_no: Some(out_trade_no(order)),
            result: PaymentResult::Success(PaymentSuccess {
                transaction_id: transaction_id(transaction),
                total: price(),
                paid_at: DateTime::UNIX_EPOCH,
            }),
        }),
        Content::Refund { order, transaction, number, amount, end } => Notification::Refund(ReportedRefund {
            mch_id: mch_id(),
            sub_mch_id: None,
            app_id: None,
            sub_app_id: None,
            out_trade_no: out_trade_no(order),
            transaction_id: transaction_id(transaction),
            out_refund_no: out_refund_no(number),
            refund_id: refund_id(number),
            total_minor: PRICE.into(),
            amount_minor: amount.into(),
            currency: None,
            result: match end {
                End::Succeeded => RefundResult::Succeeded(DateTime::UNIX_EPOCH),
                End::Closed => RefundResult::Closed,
            },
        }),
    }
}

fn order_of(order: u8, row: Order) -> DomainOrder {
    DomainOrder {
        id: key(order),
        mch_id: mch_id(),
        sub_mch_id: None,
        app_id: None,
        out_trade_no: out_trade_no(order),
        amount: price(),
        state: match row.state {
            OrderState::Pending => DomainState::Pending,
            OrderState::Closed => DomainState::Closed,
            OrderState::Paid(number) => DomainState::Paid(transaction_id(number)),
            OrderState::Refunded(number) => DomainState::Refunded(transaction_id(number)),
        },
        refunded_minor: row.refunded.into(),
        version: row.version.into(),
    }
}

fn row_of(order: &DomainOrder) -> Order {
    let state = match &order.state {
        DomainState::Pending => OrderState::Pending,
        DomainState::Paid(transaction_id) => OrderState::Paid(number_of(transaction_id)),
        DomainState::Refunded(transaction_id) => OrderState::Refunded(number_of(transaction_id)),
        DomainState::Closed => OrderState::Closed,
    };
    Order { state, refunded: small(order.refunded_minor), version: small(order.version.into()) }
}

fn record_of(transaction: u8, order: u8, row: Payment) -> PaymentRecord {
    PaymentRecord {
        order_id: key(order),
        mch_id: mch_id(),
        transaction_id: transaction_id(transaction),
        amount: price(),
        paid_at: DateTime::UNIX_EPOCH,
        disposition: match row.disposition {
            Disposition::Accepted => DomainDisposition::Accepted,
            Disposition::Refused => DomainDisposition::Refused,
            Disposition::Returned => DomainDisposition::Returned,
        },
        returned_minor: row.returned.into(),
    }
}

fn payment_of(record: &PaymentRecord) -> Payment {
    let disposition = match record.disposition {
        DomainDisposition::Accepted => Disposition::Accepted,
        DomainDisposition::Refused => Disposition::Refused,
        DomainDisposition::Returned => Disposition::Returned,
    };
    Payment { disposition, returned: small(record.returned_minor), is_spent: false }
}

fn refund_row_of(refund: &DomainRefund) -> Refund {
    Refund {
        order: place_of(refund.order_id),
        transaction: number_of(known(refund.transaction_id.as_ref())),
        amount: small(refund.amount_minor),
        end: if refund.state == RefundState::Closed { End::Closed } else { End::Succeeded },
    }
}

fn price() -> Money {
    Money { amount_minor: PRICE.into(), currency: Currency::CNY }
}

/// Rows have keys from 1.
fn key(order: u8) -> i64 {
    i64::from(order) + 1
}

fn place_of(order_id: i64) -> u8 {
    small(order_id - 1)
}

fn mch_id() -> MchId {
    known(MchId::parse("1900000109"))
}

fn out_trade_no(order: u8) -> OutTradeNo {
    known(OutTradeNo::parse(&format!("order-{order}")))
}

fn transaction_id(number: u8) -> TransactionId {
    known(TransactionId::parse(&number.to_string()))
}

fn number_of(transaction_id: &TransactionId) -> u8 {
    known(transaction_id.as_str().parse().ok())
}

fn out_refund_no(number: u8) -> OutRefundNo {
    known(OutRefundNo::parse(&number.to_string()))
}

fn refund_number_of(number: &OutRefundNo) -> u8 {
    known(number.as_str().parse().ok())
}

fn refund_id(number: u8) -> RefundId {
    known(RefundId::parse(&format!("5000000038201905270973267885{number}")))
}

fn small(number: i64) -> u8 {
    known(u8::try_from(number).ok())
}

/// The model writes all its values itself.
fn known<T>(value: Option<T>) -> T {
    assert!(value.is_some(), "a value that the model does not know");
    #[expect(clippy::unwrap_used, reason = "asserted above")]
    value.unwrap()
}
