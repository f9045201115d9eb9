//! A run that can be tampered with: a perfect pipeline, small enough to be trusted.

use std::time::{Duration, Instant};

use chrono::DateTime;
use rand::SeedableRng;
use rand::rngs::StdRng;
use secrecy::SecretString;
use uuid::Uuid;

use crate::audit::{Findings, audit};
use crate::book::{Answer, Book};
use crate::evidence::{Found, FoundNotification, FoundOrder, FoundQuarantine};
use crate::fulfilment::{Consumed, Event, Payload};
use crate::merchants::Merchant;
use crate::model::{Alone, alone};
use crate::plan::{self, Callback, Checkout, Order, Plan, Run};
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
        let merchant =
            Merchant { mch_id: "1900000109".to_owned(), key: SecretString::from("k"), sign_types: Vec::new() };
        let plan = plan::draw(run, 600, &[merchant], &mix(&[]), &mut StdRng::seed_from_u64(11));
        let book = Book::new(plan.callbacks.len(), Instant::now()).unwrap();
        let mut world = Self { plan, book, found: Found::default(), consumed: Consumed::default() };
        world.found.orders = world.plan.orders.iter().enumerate().filter_map(found_order).collect();
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
        let says = &callback.says;
        let row = self.found.orders.iter_mut().find(|row| row.out_trade_no == order.out_trade_no);
        let (outcome, reason) = match (alone(&order, says), row) {
            (Alone::Ignored, _) => ("ignored", Some("not_successful")),
            (Alone::Waits, _) | (_, None) => ("waiting", Some("for_order")),
            (Alone::Refused(reason), _) => ("quarantined", Some(reason)),
            (Alone::Pays, Some(row)) if row.state == "pending" => {
                row.state = "paid".to_owned();
                row.transaction_id = Some(says.transaction_id.clone());
                row.paid_at = Some(says.paid_at);
                row.version = 1;
                let event = paid_event(row);
                self.consumed.events.insert(event.id.clone(), event);
                ("applied", None)
            }
            (Alone::Pays, Some(row)) if row.transaction_id.as_ref() == Some(&says.transaction_id) => {
                ("duplicate", None)
            }
            (Alone::Pays, Some(_)) => ("quarantined", Some("paid_twice")),
        };
        let id = Uuid::from_u128(u128::try_from(self.found.notifications.len()).unwrap() + 1);
        self.found.notifications.push(FoundNotification {
            id,
            body_sha256: body(index),
            mch_id: Some(order.mch_id.clone()),
            out_trade_no: Some(order.out_trade_no.clone()),
            transaction_id: (outcome != "ignored").then(|| says.transaction_id.clone()),
            outcome: outcome.to_owned(),
            reason: reason.map(str::to_owned),
        });
        if let ("waiting" | "quarantined", Some(reason)) = (outcome, reason) {
            self.found.quarantine.push(FoundQuarantine {
                notification_id: id,
                out_trade_no: Some(order.out_trade_no),
                reason: reason.to_owned(),
                state: if outcome == "waiting" { "waiting" } else { "open" }.to_owned(),
            });
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

fn paid_event(row: &FoundOrder) -> Event {
    let id = format!("event-{}", row.id);
    let says = Payload {
        event_id: id.clone(),
        kind: "order.paid".to_owned(),
        order_id: row.id,
        version: row.version,
        mch_id: row.mch_id.clone(),
        out_trade_no: row.out_trade_no.clone(),
        transaction_id: row.transaction_id.clone(),
        amount_minor: Some(row.amount_minor),
        currency: Some(row.currency.clone()),
    };
    Event { id, says, consumed_at: Instant::now() }
}
