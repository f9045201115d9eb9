//! A run that can be tampered with: a perfect pipeline, small enough to be trusted.

use std::time::{Duration, Instant};

use chrono::DateTime;
use rand::SeedableRng;
use rand::rngs::StdRng;
use uuid::Uuid;

use crate::audit::{Findings, audit};
use crate::book::{Answer, Book};
use crate::evidence::{Found, FoundNotification, FoundOrder, FoundQuarantine, FoundRefund};
use crate::fulfilment::{Consumed, Event, Payload};
use crate::merchants::tests::merchants;
use crate::model::{Alone, Outcome, alone, refund_outcomes};
use crate::plan::{self, Callback, Checkout, Order, PaymentSays, Plan, RefundResult, RefundSays, Requested, Run, Says};
use crate::scenarios::Scenario;
use crate::scenarios::tests::mix;

/// What was told and what was found.
pub(super) struct World {
    pub(super) plan: Plan,
    pub(super) book: Book,
    pub(super) found: Found,
    pub(super) consumed: Consumed,
}

impl World {
    /// Every callback answered as it should be and handled at once, in the order of the plan.
    pub(super) fn perfect() -> Self {
        let run = Run { prefix: "SIM-".to_owned(), serial: 1, started_at: DateTime::UNIX_EPOCH };
        let plan = plan::draw(run, 600, &merchants(), &mix(&[]), &mut StdRng::seed_from_u64(11));
        let book = Book::new(plan.callbacks.len(), Instant::now()).unwrap();
        let mut world = Self { plan, book, found: Found::default(), consumed: Consumed::default() };
        world.found.orders = world.plan.orders.iter().enumerate().filter_map(found_order).collect();
        world.found.refunds = world.plan.orders.iter().enumerate().flat_map(requested).collect();
        for index in 0..world.plan.callbacks.len() {
            world.deliver(index);
        }
        world
    }

    fn deliver(&mut self, index: usize) {
        let callback = self.plan.callbacks[index].clone();
        self.book.records[index].body_sha256 = Some(body(index));
        for _ in 0..callback.copies + callback.repeats {
            self.book.records[index].sent += 1;
            let answer = if callback.forgery.is_some() { Answer::Status(401) } else { Answer::Success };
            self.book.note(index, answer, Duration::from_millis(1), Instant::now());
            if answer == Answer::Success {
                self.handle(index, &callback);
            }
        }
    }

    fn handle(&mut self, index: usize, callback: &Callback) {
        let order = self.plan.orders[callback.order].clone();
        let (kind, out_refund_no) = match &callback.says {
            Says::Payment(_) => ("payment", None),
            Says::Refund(refund) => ("refund", Some(refund.out_refund_no.clone())),
            Says::NoOrder(_) => ("other", None),
        };
        let (outcome, reason) = match &callback.says {
            Says::Payment(says) => self.pay(&order, says),
            Says::Refund(says) => self.refund(&order, says),
            Says::NoOrder(_) => ("ignored", Some("not_for_orders")),
        };
        let id = Uuid::from_u128(u128::try_from(self.found.notifications.len()).unwrap() + 1);
        self.found.notifications.push(FoundNotification {
            id,
            body_sha256: body(index),
            kind: kind.to_owned(),
            mch_id: Some(order.mch_id.clone()),
            out_trade_no: (kind != "other").then(|| order.out_trade_no.clone()),
            transaction_id: callback.says.transaction_id().map(str::to_owned),
            out_refund_no,
            outcome: outcome.to_owned(),
            reason: reason.map(str::to_owned),
        });
        if let ("waiting" | "quarantined", Some(reason)) = (outcome, reason) {
            self.found.quarantine.push(FoundQuarantine {
                notification_id: id,
                out_trade_no: Some(order.out_trade_no.clone()),
                reason: reason.to_owned(),
                state: if outcome == "waiting" { "waiting" } else { "open" }.to_owned(),
            });
        }
        if kind == "payment" && outcome == "applied" {
            self.heal(&order);
        }
    }

    fn pay(&mut self, order: &Order, says: &PaymentSays) -> Outcome {
        let row = self.found.orders.iter_mut().find(|row| row.out_trade_no == order.out_trade_no);
        match (alone(order, says), row) {
            (Alone::Ignored, _) => ("ignored", Some("not_successful")),
            (Alone::Waits, _) | (_, None) => ("waiting", Some("for_order")),
            (Alone::Refused(reason), _) => ("quarantined", Some(reason)),
            (Alone::Pays, Some(row)) if row.state == "pending" => {
                row.state = "paid".to_owned();
                row.transaction_id = Some(says.transaction_id.clone());
                row.paid_at = Some(says.paid_at);
                row.version = 1;
                let event = event(row, "order.paid", None);
                self.consumed.events.insert(event.id.clone(), event);
                ("applied", None)
            }
            (Alone::Pays, Some(row)) if row.transaction_id.as_ref() == Some(&says.transaction_id) => {
                ("duplicate", None)
            }
            (Alone::Pays, Some(_)) => ("quarantined", Some("paid_twice")),
        }
    }

    /// As the pipeline would when nothing overtakes anything but where the plan wants it.
    fn refund(&mut self, order: &Order, says: &RefundSays) -> Outcome {
        let row = self.found.orders.iter_mut().find(|row| row.out_trade_no == order.out_trade_no).unwrap();
        let outcomes = refund_outcomes(order, says, row.transaction_id.as_deref(), &[]);
        if outcomes[0].0 != "applied" {
            return outcomes[0];
        }
        if row.transaction_id.as_ref() != Some(&says.transaction_id) {
            return self.return_surplus(&says.transaction_id);
        }
        let (state, kind) = match says.result {
            RefundResult::Abnormal => ("abnormal", "refund.abnormal"),
            RefundResult::Closed => ("closed", "refund.closed"),
            RefundResult::Succeeded => ("succeeded", "order.partially_refunded"),
        };
        let known = |refund: &&mut FoundRefund| refund.order_id == row.id && refund.out_refund_no == says.out_refund_no;
        let is_success = says.result == RefundResult::Succeeded;
        let refund = FoundRefund {
            order_id: row.id,
            out_refund_no: says.out_refund_no.clone(),
            refund_id: Some(says.refund_id.clone()),
            amount_minor: says.amount_minor,
            state: state.to_owned(),
            succeeded_at: is_success.then_some(says.succeeded_at),
        };
        match self.found.refunds.iter_mut().find(known) {
            Some(old) if old.state == state => return ("duplicate", None),
            Some(old) if ["succeeded", "closed"].contains(&old.state.as_str()) => return ("ignored", Some("stale")),
            Some(old) => *old = refund,
            None => self.found.refunds.push(refund),
        }
        row.version += 1;
        row.refunded_minor += if is_success { says.amount_minor } else { 0 };
        let is_all = row.refunded_minor == row.amount_minor;
        row.state = if is_all { "refunded" } else { "paid" }.to_owned();
        let event = event(row, if is_success && is_all { "order.refunded" } else { kind }, Some(says));
        self.consumed.events.insert(event.id.clone(), event);
        ("applied", None)
    }

    fn return_surplus(&mut self, transaction_id: &str) -> Outcome {
        let of_it =
            |row: &&FoundNotification| row.kind == "payment" && row.transaction_id.as_deref() == Some(transaction_id);
        let ids: Vec<Uuid> = self.found.notifications.iter().filter(of_it).map(|row| row.id).collect();
        let mut open: Vec<_> = self
            .found
            .quarantine
            .iter_mut()
            .filter(|row| ids.contains(&row.notification_id) && row.state == "open")
            .collect();
        for row in &mut open {
            row.state = "resolved".to_owned();
        }
        if open.is_empty() { ("duplicate", None) } else { ("applied", None) }
    }

    /// What waited for the payment of `order` is decided again.
    fn heal(&mut self, order: &Order) {
        let waits = |row: &&FoundNotification| {
            row.reason.as_deref() == Some("for_payment") && row.out_trade_no.as_ref() == Some(&order.out_trade_no)
        };
        let ids: Vec<Uuid> = self.found.notifications.iter().filter(waits).map(|row| row.id).collect();
        let callbacks: Vec<Callback> = self.plan.callbacks.clone();
        for id in ids {
            let row = self.found.notifications.iter().position(|row| row.id == id).unwrap();
            let says = callbacks
                .iter()
                .enumerate()
                .find(|(index, _)| body(*index) == self.found.notifications[row].body_sha256);
            let (outcome, reason) = self.refund(order, says.unwrap().1.says.refund().unwrap());
            let row = &mut self.found.notifications[row];
            (row.outcome, row.reason) = (outcome.to_owned(), reason.map(str::to_owned));
            let held = self.found.quarantine.iter_mut().find(|row| row.notification_id == id).unwrap();
            held.state = "resolved".to_owned();
        }
    }

    pub(super) fn audit(&self) -> Findings {
        audit(&self.plan, &self.book, &self.found, &self.consumed)
    }

    /// The first callback of the first order in this scenario.
    pub(super) fn callback(&self, scenario: Scenario) -> usize {
        self.plan.callbacks.iter().position(|callback| self.plan.orders[callback.order].scenario == scenario).unwrap()
    }

    pub(super) fn order(&mut self, scenario: Scenario) -> &mut FoundOrder {
        let order = &self.plan.orders[self.plan.callbacks[self.callback(scenario)].order];
        self.found.orders.iter_mut().find(|row| row.out_trade_no == order.out_trade_no).unwrap()
    }

    /// The first ledger row of that callback.
    pub(super) fn row(&mut self, callback: usize) -> &mut FoundNotification {
        self.found.notifications.iter_mut().find(|row| row.body_sha256 == body(callback)).unwrap()
    }

    pub(super) fn quarantine(&mut self, scenario: Scenario) -> &mut FoundQuarantine {
        let callback = self.callback(scenario);
        let id = self.row(callback).id;
        self.found.quarantine.iter_mut().find(|row| row.notification_id == id).unwrap()
    }

    pub(super) fn event(&mut self, scenario: Scenario) -> &mut Event {
        let number = self.order(scenario).out_trade_no.clone();
        self.consumed.events.values_mut().find(|event| event.says.out_trade_no == number).unwrap()
    }

    /// The first refund's row of the first order in this scenario.
    pub(super) fn refund_row(&mut self, scenario: Scenario) -> &mut FoundRefund {
        let id = self.order(scenario).id;
        self.found.refunds.iter_mut().find(|row| row.order_id == id).unwrap()
    }

    /// An event of that order about its refund.
    pub(super) fn refund_event(&mut self, scenario: Scenario) -> &mut Event {
        let number = self.order(scenario).out_trade_no.clone();
        let is_meant = |event: &&mut Event| event.says.out_trade_no == number && event.says.out_refund_no.is_some();
        self.consumed.events.values_mut().find(is_meant).unwrap()
    }
}

/// Stands for the digest of a callback's bytes.
pub(super) fn body(callback: usize) -> [u8; 32] {
    let mut digest = [0; 32];
    digest[..8].copy_from_slice(&callback.to_be_bytes());
    digest
}

fn found_order((index, order): (usize, &Order)) -> Option<FoundOrder> {
    let state = match order.checkout {
        Checkout::Pending | Checkout::Late => "pending",
        Checkout::Closed => "closed",
        Checkout::Never => return None,
    };
    Some(FoundOrder {
        id: i64::try_from(index).unwrap(),
        mch_id: order.mch_id.clone(),
        sub_mch_id: order.sub_mch_id.map(str::to_owned),
        app_id: order.app_id.map(str::to_owned),
        out_trade_no: order.out_trade_no.clone(),
        amount_minor: order.amount_minor,
        currency: order.currency.to_owned(),
        state: state.to_owned(),
        transaction_id: None,
        paid_at: None,
        refunded_minor: 0,
        version: 0,
    })
}

fn requested((index, order): (usize, &Order)) -> Vec<FoundRefund> {
    let row = |asked: &Requested| FoundRefund {
        order_id: i64::try_from(index).unwrap(),
        out_refund_no: asked.out_refund_no.clone(),
        refund_id: None,
        amount_minor: asked.amount_minor,
        state: "requested".to_owned(),
        succeeded_at: None,
    };
    order.requested.iter().map(row).collect()
}

fn event(row: &FoundOrder, kind: &str, refund: Option<&RefundSays>) -> Event {
    let id = format!("event-{}-{}", row.id, row.version);
    let says = Payload {
        event_id: id.clone(),
        kind: kind.to_owned(),
        order_id: row.id,
        version: row.version,
        mch_id: row.mch_id.clone(),
        out_trade_no: row.out_trade_no.clone(),
        transaction_id: row.transaction_id.clone(),
        amount_minor: Some(row.amount_minor),
        currency: Some(row.currency.clone()),
        refunded_minor: refund.map(|_| row.refunded_minor),
        out_refund_no: refund.map(|refund| refund.out_refund_no.clone()),
        refund_id: refund.map(|refund| refund.refund_id.clone()),
        refund_amount_minor: refund.map(|refund| refund.amount_minor),
    };
    Event { id, says, consumed_at: Instant::now() }
}
