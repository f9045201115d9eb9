//! Who belongs to whom: ledger rows to callbacks by their bytes, callbacks, events and rows to orders by their number.

use std::collections::HashMap;

use uuid::Uuid;

use crate::book::{Book, Record};
use crate::evidence::{Found, FoundNotification, FoundOrder, FoundQuarantine, FoundRefund};
use crate::fulfilment::{Consumed, Event};
use crate::plan::{Callback, Order, Plan, RefundSays};

/// A run's two sides, joined.
#[derive(Debug)]
pub struct Index<'run> {
    /// One per order of the plan, in its order.
    pub cases: Vec<Case<'run>>,
    /// Ledger rows of the run whose bytes were never sent.
    pub unknown_bodies: Vec<&'run FoundNotification>,
    /// Rows of `orders` with a number of the run that the plan does not have.
    pub unplanned_orders: Vec<&'run FoundOrder>,
    /// Events of the run about an order that the plan does not have.
    pub unplanned_events: Vec<&'run Event>,
    /// By the ledger row's id.
    pub quarantine: HashMap<Uuid, &'run FoundQuarantine>,
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
    /// Its row.
    pub found: Option<&'run FoundOrder>,
    /// Its refunds' rows.
    pub refunds: Vec<&'run FoundRefund>,
    /// What was sent about it.
    pub sent: Vec<Sent<'run>>,
    /// What the merchant heard about it.
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

impl Case<'_> {
    /// Who paid it.
    #[must_use]
    pub fn paid_by(&self) -> Option<&str> {
        self.found.and_then(|order| order.transaction_id.as_deref())
    }

    /// Genuine callbacks about refunds of the payment that counts.
    pub fn own_refunds(&self) -> impl Iterator<Item = (&RefundSays, &Sent<'_>)> {
        let genuine = self.sent.iter().filter(|sent| sent.callback.forgery.is_none());
        let refunds = genuine.filter_map(|sent| Some((sent.callback.says.refund()?, sent)));
        refunds.filter(|(says, _)| self.paid_by() == Some(&says.transaction_id))
    }
}

impl<'run> Index<'run> {
    /// Joins the two sides.
    #[must_use]
    pub fn new(plan: &'run Plan, book: &'run Book, found: &'run Found, consumed: &'run Consumed) -> Self {
        let prefix = plan.run.prefix.as_str();
        let mut rows_by_body: HashMap<[u8; 32], Vec<&FoundNotification>> = HashMap::new();
        for row in &found.notifications {
            rows_by_body.entry(row.body_sha256).or_default().push(row);
        }
        let mut orders_by_number: HashMap<&str, Vec<&FoundOrder>> = HashMap::new();
        for order in &found.orders {
            orders_by_number.entry(order.out_trade_no.as_str()).or_default().push(order);
        }
        let mut refunds_by_order: HashMap<i64, Vec<&FoundRefund>> = HashMap::new();
        for refund in &found.refunds {
            refunds_by_order.entry(refund.order_id).or_default().push(refund);
        }
        let mut events_by_number: HashMap<&str, Vec<&Event>> = HashMap::new();
        for event in consumed.events.values() {
            events_by_number.entry(event.says.out_trade_no.as_str()).or_default().push(event);
        }

        let mut cases: Vec<Case<'run>> = plan
            .orders
            .iter()
            .map(|order| {
                let number = order.out_trade_no.as_str();
                // Of several rows with the number (of other merchants) one is this order's; the rest stay unplanned.
                let found = orders_by_number.get_mut(number).and_then(|rows| {
                    let own = rows.iter().position(|row| row.mch_id == order.mch_id)?;
                    Some(rows.swap_remove(own))
                });
                let refunds = found.and_then(|found| refunds_by_order.remove(&found.id)).unwrap_or_default();
                let events = events_by_number.remove(number).unwrap_or_default();
                Case { order, found, refunds, sent: Vec::new(), events }
            })
            .collect();
        for (callback, record) in plan.callbacks.iter().zip(&book.records) {
            let rows = record.body_sha256.and_then(|body| rows_by_body.remove(&body)).unwrap_or_default();
            if let Some(case) = cases.get_mut(callback.order) {
                case.sent.push(Sent { callback, record, rows });
            }
        }
        let is_ours = |row: &&FoundNotification| row.out_trade_no.as_deref().is_some_and(|no| no.starts_with(prefix));
        Self {
            cases,
            unknown_bodies: rows_by_body.into_values().flatten().filter(is_ours).collect(),
            unplanned_orders: orders_by_number.into_values().flatten().collect(),
            unplanned_events: events_by_number.into_values().flatten().collect(),
            quarantine: found.quarantine.iter().map(|row| (row.notification_id, row)).collect(),
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
