//! The fold itself: `decide`, once per item, on the rows as the last step left them.

use std::collections::{HashMap, HashSet};

use shared::domain::decide::{Asked, Known, decide};
use shared::domain::ids::{MchId, OutRefundNo, TransactionId};
use shared::domain::notification::Notification;
use shared::domain::order::Order;
use shared::domain::payment::PaymentRecord;
use shared::domain::refund::Refund;
use shared::domain::verdict::{Awaited, Change, Verdict};

use super::{
    ChangedOrder, ChangedPayment, ChangedRefund, Decided, Happened, Item, OrderEvent, OrderKey, Plan, Rows, Seen,
    named_order_key, order_key,
};
use crate::batch::message::Finding;
use crate::batch::outcome::{Held, NotDecided, Outcome};

/// Decides every item of a batch against `rows`.
#[must_use]
pub fn plan<'batch>(rows: Rows, items: impl Iterator<Item = Item<'batch>>) -> Plan {
    let mut state = State::new(rows);
    let mut plan = Plan::default();
    for (place, item) in items.enumerate() {
        let decided = match item.finding {
            Finding::Notified(notification) => plan.step(&mut state, place, item, notification),
            Finding::NotDecided(undecided) => Decided { outcome: undecided.outcome(), seen: None, event: None },
        };
        plan.decided.push(decided);
    }
    plan
}

/// The rows as the last step left them.
struct State {
    ids: HashMap<OrderKey, i64>,
    orders: HashMap<i64, Order>,
    busy_ids: HashSet<i64>,
    busy_keys: HashSet<OrderKey>,
    payments: HashMap<(MchId, TransactionId), PaymentRecord>,
    refunds: HashMap<(i64, OutRefundNo), Refund>,
}

/// Where the order of a notification is.
enum Place {
    Here(i64),
    Busy,
    Absent,
}

impl State {
    fn new(rows: Rows) -> Self {
        let payment_key = |payment: &PaymentRecord| (payment.mch_id.clone(), payment.transaction_id.clone());
        let (busy_ids, busy_keys) = rows.busy.into_iter().unzip();
        Self {
            ids: rows.orders.iter().map(|order| (order_key(order), order.id)).collect(),
            orders: rows.orders.into_iter().map(|order| (order.id, order)).collect(),
            busy_ids,
            busy_keys,
            payments: rows.payments.into_iter().map(|payment| (payment_key(&payment), payment)).collect(),
            refunds: rows.refunds.into_iter().map(|row| ((row.order_id, row.out_refund_no.clone()), row)).collect(),
        }
    }

    /// A payment finds its order by its numbers, a refund by the payment that it names.
    fn place(&self, notification: &Notification, payment: Option<&PaymentRecord>) -> Place {
        let (id, is_busy) = match notification {
            Notification::Payment(_) => {
                let Some(key) = named_order_key(notification) else { return Place::Absent };
                (self.ids.get(&key).copied(), self.busy_keys.contains(&key))
            }
            Notification::Refund(_) => {
                let id = payment.map(|payment| payment.order_id);
                (id.filter(|id| self.orders.contains_key(id)), id.is_some_and(|id| self.busy_ids.contains(&id)))
            }
            Notification::Other(_) => (None, false),
        };
        match id {
            Some(id) => Place::Here(id),
            None if is_busy => Place::Busy,
            None => Place::Absent,
        }
    }
}

impl Plan {
    fn step(&mut self, state: &mut State, place: usize, item: Item<'_>, notification: &Notification) -> Decided {
        let transaction = notification.transaction_id().map(|id| (notification.mch_id().clone(), id.clone()));
        let payment = transaction.as_ref().and_then(|key| state.payments.get(key));
        let order = match state.place(notification, payment) {
            Place::Here(id) => state.orders.get(&id),
            // Without a transaction no money moved, so the order does not matter.
            Place::Busy if transaction.is_some() => {
                let locked = NotDecided::ForLock("another session has locked the order".to_owned());
                return Decided { outcome: locked.outcome(), seen: None, event: None };
            }
            Place::Busy | Place::Absent => None,
        };
        let refund_key = order.zip(notification.out_refund_no()).map(|(order, number)| (order.id, number.clone()));
        let refund = refund_key.and_then(|key| state.refunds.get(&key));
        let seen = order.map(Seen::from_order);
        let mut event = None;
        let outcome = match (decide(Known { order, payment, refund }, item.asked, notification), order) {
            (Verdict::Apply(change), Some(order)) => {
                let order = change.applied_to(order);
                let has_event = !matches!(change, Change::Adopt(_));
                event = self.apply(state, place, item, order, change);
                if has_event { Outcome::Applied } else { Outcome::Duplicate }
            }
            (Verdict::Refuse(refusal, payment), Some(order)) => {
                let order = Order { version: order.version.saturating_add(1), ..order.clone() };
                // A replay that is refused again causes no second event.
                if self.record(state, place, &payment) {
                    let reason = refusal.name();
                    event = Some(self.push_event(state, order, Happened::Refused { payment, reason }));
                }
                Outcome::Quarantined(Held::Refused(refusal))
            }
            (Verdict::Apply(_) | Verdict::Refuse(..), None) => {
                debug_assert!(false, "`decide` changes only an order that it was given");
                Outcome::Waiting(Held::Awaiting(Awaited::Order))
            }
            (Verdict::Wait(awaited), _) => Outcome::Waiting(Held::Awaiting(awaited)),
            (Verdict::Duplicate, _) => Outcome::Duplicate,
            (Verdict::Ignore(ignored), _) => Outcome::Ignored(ignored),
            (Verdict::Quarantine(refusal), _) => Outcome::Quarantined(Held::Refused(refusal)),
        };
        Decided { outcome, seen, event }
    }

    /// Records the changed `order` and its payment; returns the index of the event, if there is one.
    fn apply(
        &mut self,
        state: &mut State,
        place: usize,
        item: Item<'_>,
        order: Order,
        change: Change,
    ) -> Option<usize> {
        self.record(state, place, change.payment());
        let happened = match change {
            Change::Pay(payment) => Happened::Paid(payment),
            Change::Adopt(_) => return None,
            Change::Refund { refund: now, payment } => {
                let key = (order.id, now.out_refund_no.clone());
                let was = state.refunds.insert(key.clone(), now.clone());
                let accepted_by = item.by.filter(|_| item.asked == Asked::ByAcceptance).map(ToOwned::to_owned);
                let changed = ChangedRefund { was, now: now.clone(), accepted_by: accepted_by.clone() };
                let changed = self.refunds.entry(key).or_insert(changed);
                changed.now = now.clone();
                changed.accepted_by = changed.accepted_by.take().or(accepted_by);
                Happened::Refund { refund: now, payment }
            }
        };
        Some(self.push_event(state, order, happened))
    }

    /// Records a payment as it is now; false when that changes nothing.
    fn record(&mut self, state: &mut State, place: usize, now: &PaymentRecord) -> bool {
        let key = (now.mch_id.clone(), now.transaction_id.clone());
        let was = state.payments.insert(key.clone(), now.clone());
        if was
            .as_ref()
            .is_some_and(|was| (was.disposition, was.returned_minor) == (now.disposition, now.returned_minor))
        {
            return false;
        }
        let changed = ChangedPayment { was, now: now.clone(), brought_by: place };
        self.payments.entry(key).or_insert(changed).now = now.clone();
        true
    }

    /// Records a changed order and the event for it; returns the event's index.
    fn push_event(&mut self, state: &mut State, order: Order, happened: Happened) -> usize {
        let unpaid = ChangedOrder { order: order.clone(), paid_at: None };
        let changed = self.orders.entry(order.id).or_insert(unpaid);
        changed.order = order.clone();
        if let Happened::Paid(payment) = &happened {
            changed.paid_at = Some(payment.paid_at);
        }
        state.orders.insert(order.id, order.clone());
        self.events.push(OrderEvent { order, happened });
        self.events.len().saturating_sub(1)
    }
}

impl Seen {
    fn from_order(order: &Order) -> Self {
        Self { version: order.version, state: order.state.name(), amount: order.amount }
    }
}
