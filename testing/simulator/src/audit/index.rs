//! Joins everything: ledger rows to callbacks by their bytes; callbacks, events and rows to orders by their number.

use std::collections::HashMap;

use uuid::Uuid;

use crate::fulfilment::{Consumed, Event};
use crate::model::{PARTLY_RETURNED, REFUSALS, RETURNED, Reported, Stored, recorded, stored};
use crate::plan::{Callback, Order, PaymentClaim, Plan, RefundClaim};
use crate::request_log::{Record, RequestLog};
use crate::snapshot::{Found, FoundNotification, FoundOrder, FoundPayment, FoundQuarantine, FoundRefund};

/// A run's two sides, joined.
#[derive(Debug)]
pub struct Index<'run> {
    /// One per order of the plan, in its order.
    pub cases: Vec<Case<'run>>,
    /// Ledger rows of the run whose bytes were never sent.
    pub unknown_bodies: Vec<&'run FoundNotification>,
    /// Rows of `orders` with a number of the run that the plan does not have.
    pub unplanned_orders: Vec<&'run FoundOrder>,
    /// Rows of `payments` of those.
    pub unplanned_payments: Vec<&'run FoundPayment>,
    /// Events of the run about an order that the plan does not have.
    pub unplanned_events: Vec<&'run Event>,
    /// By the ledger row's id and part.
    pub quarantine: HashMap<(Uuid, i16), &'run FoundQuarantine>,
    /// Events without content, by message id.
    pub unreadable_events: &'run [String],
    /// Events not published yet.
    pub outbox: u64,
    /// Every order number of the run begins with it.
    pub prefix: &'run str,
}

/// One order with everything that concerns it.
#[derive(Debug)]
pub struct Case<'run> {
    /// As the shop means it.
    pub order: &'run Order,
    pub found: Option<&'run FoundOrder>,
    /// Its payments' rows.
    pub payments: Vec<&'run FoundPayment>,
    /// Its refunds' rows.
    pub refunds: Vec<&'run FoundRefund>,
    /// What was sent about it.
    pub sent: Vec<Sent<'run>>,
    /// The events about it that the merchant received.
    pub events: Vec<&'run Event>,
}

/// One callback, its answers and its ledger rows.
#[derive(Debug)]
pub struct Sent<'run> {
    /// What was sent.
    pub callback: &'run Callback,
    /// What was answered.
    pub record: &'run Record,
    /// What was stored.
    pub rows: Vec<&'run FoundNotification>,
}

impl<'run> Case<'run> {
    #[must_use]
    pub fn paid_by(&self) -> Option<&'run str> {
        self.found.and_then(|order| order.transaction_id.as_deref())
    }

    /// The callbacks that WeChat Pay sent.
    pub fn genuine(&self) -> impl Iterator<Item = &Sent<'run>> {
        self.sent.iter().filter(|sent| sent.callback.forgery.is_none())
    }

    /// Genuine callbacks about payments.
    pub fn payments_sent(&self) -> impl Iterator<Item = (&'run PaymentClaim, &Sent<'run>)> {
        self.genuine().filter_map(|sent| Some((sent.callback.claim.payment()?, sent)))
    }

    /// Genuine callbacks about refunds.
    pub fn refunds_sent(&self) -> impl Iterator<Item = (&'run RefundClaim, &Sent<'run>)> {
        self.genuine().filter_map(|sent| Some((sent.callback.claim.refund()?, sent)))
    }

    #[must_use]
    pub fn record_of(&self, transaction_id: &str) -> Option<&'run FoundPayment> {
        self.payments.iter().copied().find(|payment| payment.transaction_id == transaction_id)
    }

    /// What was sent about a payment that is on record.
    #[must_use]
    pub fn payment_on_record(&self, transaction_id: &str) -> Option<&'run PaymentClaim> {
        self.record_of(transaction_id)?;
        let may_be = |claim: &PaymentClaim| recorded(self.order, claim, Stored::Yes) == Stored::Yes;
        let mut sent = self.payments_sent().map(|(claim, _)| claim);
        sent.find(|claim| claim.transaction_id == transaction_id && may_be(claim))
    }

    /// Everything that was reported about refunds.
    #[must_use]
    pub fn reported(&self) -> Vec<Reported<'run>> {
        let report = |(claim, sent): (&'run RefundClaim, &Sent<'run>)| Reported {
            claim,
            payment: self.payment_on_record(&claim.transaction_id),
            stored: stored(sent.record),
        };
        self.refunds_sent().map(report).collect()
    }
}

/// Whether a ledger row changed its order: applied, or a payment that was recorded as refused. Repeats of either did not.
#[must_use]
pub fn is_change(sent: &Sent<'_>, row: &FoundNotification) -> bool {
    row.outcome == "applied" || is_refusal(sent, row)
}

/// Whether a ledger row is the first report of a payment that its order did not want.
#[must_use]
pub fn is_refusal(sent: &Sent<'_>, row: &FoundNotification) -> bool {
    sent.callback.claim.payment().is_some() && refused_as(row).is_some_and(|reason| REFUSALS.contains(&reason))
}

/// Why a ledger row's payment was refused, as it was first decided.
#[must_use]
pub fn refused_as(row: &FoundNotification) -> Option<&str> {
    if is_decided_again(row) {
        row.caused.as_ref().and_then(|caused| caused.reason.as_deref())
    } else {
        row.reason.as_deref().filter(|_| row.outcome == "quarantined")
    }
}

/// Whether an operator had a refused payment decided again after some or all of it had gone back.
#[must_use]
pub fn is_decided_again(row: &FoundNotification) -> bool {
    let now = (row.outcome.as_str(), row.reason.as_deref());
    [PARTLY_RETURNED, RETURNED].contains(&now) && row.caused.is_some()
}

/// The rows of orders, by number, of which each is some order's.
struct Rows<'run>(HashMap<&'run str, Vec<&'run FoundOrder>>);

impl<'run> Rows<'run> {
    fn take(&mut self, order: &Order, is_own: impl Fn(&FoundOrder) -> bool) -> Option<&'run FoundOrder> {
        let rows = self.0.get_mut(order.out_trade_no.as_str())?;
        let own = rows.iter().position(|row| row.mch_id == order.mch_id && is_own(row))?;
        Some(rows.swap_remove(own))
    }

    /// The row of each order; the rest stay. A row whose shop was changed is still its order's.
    fn deal(&mut self, orders: &[Order]) -> Vec<Option<&'run FoundOrder>> {
        let same_shop = |order: &Order, row: &FoundOrder| row.sub_mch_id.as_deref() == order.sub_mch_id;
        let exact: Vec<_> = orders.iter().map(|order| self.take(order, |row| same_shop(order, row))).collect();
        exact.into_iter().zip(orders).map(|(row, order)| row.or_else(|| self.take(order, |_| true))).collect()
    }
}

impl<'run> Index<'run> {
    /// Joins the two sides.
    #[must_use]
    pub fn new(plan: &'run Plan, log: &'run RequestLog, found: &'run Found, consumed: &'run Consumed) -> Self {
        let prefix = plan.run.prefix.as_str();
        let mut rows_by_body = group(&found.notifications, |row| row.body_sha256);
        let mut orders = Rows(group(&found.orders, |order| order.out_trade_no.as_str()));
        let mut payments = group(&found.payments, |payment| payment.order_id);
        let mut refunds = group(&found.refunds, |refund| refund.order_id);
        let shop = |event: &'run Event| (event.payload.out_trade_no.as_str(), event.payload.sub_mch_id.as_deref());
        let mut events = group(consumed.events.values(), shop);

        let mut cases: Vec<Case<'run>> = orders
            .deal(&plan.orders)
            .into_iter()
            .zip(&plan.orders)
            .map(|(found, order)| Case {
                order,
                found,
                payments: found.and_then(|found| payments.remove(&found.id)).unwrap_or_default(),
                refunds: found.and_then(|found| refunds.remove(&found.id)).unwrap_or_default(),
                sent: Vec::new(),
                events: events.remove(&(order.out_trade_no.as_str(), order.sub_mch_id)).unwrap_or_default(),
            })
            .collect();
        for (callback, record) in plan.callbacks.iter().zip(&log.records) {
            let rows = record.body_sha256.and_then(|body| rows_by_body.remove(&Some(body))).unwrap_or_default();
            if let Some(case) = cases.get_mut(callback.order) {
                case.sent.push(Sent { callback, record, rows });
            }
        }
        let is_ours = |row: &&FoundNotification| row.out_trade_no.as_deref().is_some_and(|no| no.starts_with(prefix));
        Self {
            cases,
            unknown_bodies: rows_by_body.into_values().flatten().filter(is_ours).collect(),
            unplanned_orders: orders.0.into_values().flatten().collect(),
            unplanned_payments: payments.into_values().flatten().collect(),
            unplanned_events: events.into_values().flatten().collect(),
            quarantine: found
                .quarantine
                .iter()
                .map(|row| ((row.notification_id, row.notification_part), row))
                .collect(),
            unreadable_events: &consumed.unreadable,
            outbox: found.outbox,
            prefix,
        }
    }

    /// Every ledger row of the run, with the order number that it belongs to.
    pub fn rows(&self) -> impl Iterator<Item = (&str, &'run FoundNotification)> {
        let known = self.cases.iter().flat_map(|case| {
            let number = case.order.out_trade_no.as_str();
            case.sent.iter().flat_map(move |sent| sent.rows.iter().map(move |row| (number, *row)))
        });
        let unknown = self.unknown_bodies.iter().map(|row| (row.out_trade_no.as_deref().unwrap_or_default(), *row));
        known.chain(unknown)
    }
}

fn group<'run, T, K: Eq + std::hash::Hash>(
    rows: impl IntoIterator<Item = &'run T>,
    key: impl Fn(&'run T) -> K,
) -> HashMap<K, Vec<&'run T>> {
    let mut groups: HashMap<K, Vec<&T>> = HashMap::new();
    for row in rows {
        groups.entry(key(row)).or_default().push(row);
    }
    groups
}
