//! A run that can be tampered with: a perfect pipeline, small enough to be trusted.

use std::time::{Duration, Instant};

use crate::audit::{Findings, audit};
use crate::fulfilment::{Consumed, Event};
use crate::merchants::tests::merchants;
use crate::plan::{self, Checkout, Order, Plan, Requested, Run};
use crate::request_log::{Answer, RequestLog};
use crate::scenarios::Scenario;
use crate::scenarios::tests::mix;
use crate::snapshot::{Found, FoundNotification, FoundOrder, FoundPayment, FoundQuarantine, FoundRefund};
use chrono::DateTime;
use rand::SeedableRng;
use rand::rngs::StdRng;

mod pipeline;

/// What was told and what was found.
pub(super) struct World {
    pub(super) plan: Plan,
    pub(super) log: RequestLog,
    pub(super) found: Found,
    pub(super) consumed: Consumed,
}

impl World {
    /// Every callback answered as it should be and handled at once, in the order of the plan.
    pub(super) fn perfect() -> Self {
        Self::delivered(|_| {})
    }

    /// The same with the callbacks delivered in another order.
    pub(super) fn delivered(reorder: impl FnOnce(&mut [usize])) -> Self {
        let run = Run { prefix: "SIM-".to_owned(), serial: 1, started_at: DateTime::UNIX_EPOCH };
        let plan = plan::draw(run, 600, &merchants(), &mix(&[]), &mut StdRng::seed_from_u64(11));
        let log = RequestLog::new(plan.callbacks.len(), Instant::now());
        let mut world = Self { plan, log, found: Found::default(), consumed: Consumed::default() };
        world.found.orders = world.plan.orders.iter().enumerate().filter_map(found_order).collect();
        world.found.refunds = world.plan.orders.iter().enumerate().flat_map(requested).collect();
        let mut callbacks: Vec<usize> = (0..world.plan.callbacks.len()).collect();
        reorder(&mut callbacks);
        for index in callbacks {
            world.deliver(index);
        }
        world
    }

    fn deliver(&mut self, index: usize) {
        let callback = self.plan.callbacks[index].clone();
        self.log.records[index].body_sha256 = Some(body(index));
        for _ in 0..callback.copies + callback.repeats {
            self.log.records[index].sent += 1;
            let answer = if callback.forgery.is_some() { Answer::Status(401) } else { Answer::Success };
            self.log.note(index, answer, Duration::from_millis(1), Instant::now());
            if answer == Answer::Success {
                self.handle(index, &callback);
            }
        }
    }

    pub(super) fn audit(&self) -> Findings {
        audit(&self.plan, &self.log, &self.found, &self.consumed)
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
        self.found.notifications.iter_mut().find(|row| row.body_sha256 == Some(body(callback))).unwrap()
    }

    pub(super) fn quarantine(&mut self, scenario: Scenario) -> &mut FoundQuarantine {
        let callback = self.callback(scenario);
        let id = self.row(callback).id;
        self.found.quarantine.iter_mut().find(|row| row.notification_id == id).unwrap()
    }

    pub(super) fn event(&mut self, scenario: Scenario) -> &mut Event {
        let number = self.order(scenario).out_trade_no.clone();
        self.consumed.events.values_mut().find(|event| event.payload.out_trade_no == number).unwrap()
    }

    /// The record of the payment that the first callback of that order is about.
    pub(super) fn payment(&mut self, scenario: Scenario) -> &mut FoundPayment {
        let callback = self.callback(scenario);
        self.payment_of(callback)
    }

    /// The record of the payment that a callback is about.
    pub(super) fn payment_of(&mut self, callback: usize) -> &mut FoundPayment {
        let transaction_id = self.plan.callbacks[callback].claim.transaction_id();
        self.found.payments.iter_mut().find(|row| Some(row.transaction_id.as_str()) == transaction_id).unwrap()
    }

    /// The event of that type about that order.
    pub(super) fn event_of(&mut self, scenario: Scenario, kind: &str) -> &mut Event {
        let number = self.order(scenario).out_trade_no.clone();
        let is_meant = |event: &&mut Event| event.payload.out_trade_no == number && event.payload.kind == kind;
        self.consumed.events.values_mut().find(is_meant).unwrap()
    }

    /// The first refund's row of the first order in this scenario.
    pub(super) fn refund_row(&mut self, scenario: Scenario) -> &mut FoundRefund {
        let id = self.order(scenario).id;
        self.found.refunds.iter_mut().find(|row| row.order_id == id).unwrap()
    }

    /// An event of that order about its refund.
    pub(super) fn refund_event(&mut self, scenario: Scenario) -> &mut Event {
        let number = self.order(scenario).out_trade_no.clone();
        let is_meant =
            |event: &&mut Event| event.payload.out_trade_no == number && event.payload.out_refund_no.is_some();
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
        transaction_id: None,
        amount_minor: asked.amount_minor,
        state: "requested".to_owned(),
        succeeded_at: None,
    };
    order.requested.iter().map(row).collect()
}
