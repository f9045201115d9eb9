//! A perfect pipeline: every callback is handled at once, alone, and as the model has it.

use std::time::Instant;

use uuid::Uuid;

use super::{World, body};
use crate::fulfilment::{Event, Payload};
use crate::model::{Expectation, Outcome, PAID_TWICE, expectation, refund_outcomes};
use crate::plan::{Callback, Claim, Order, PaymentClaim, RefundClaim, RefundResult};
use crate::snapshot::{Caused, FoundNotification, FoundOrder, FoundPayment, FoundQuarantine, FoundRefund, Seen};

/// What one ledger row says.
struct Came {
    outcome: Outcome,
    seen: Option<Seen>,
    caused: Option<Caused>,
}

impl Came {
    fn to(outcome: Outcome) -> Self {
        Self { outcome, seen: None, caused: None }
    }
}

impl World {
    pub(super) fn handle(&mut self, index: usize, callback: &Callback) {
        let order = self.plan.orders[callback.order].clone();
        let id = Uuid::from_u128(u128::try_from(self.found.notifications.len()).unwrap() + 1);
        let (kind, shop, out_refund_no) = match &callback.claim {
            Claim::Payment(payment) => ("payment", payment.sub_mch_id, None),
            Claim::Refund(refund) => ("refund", order.sub_mch_id, Some(refund.out_refund_no.clone())),
            Claim::NoOrder(_) => ("other", None, None),
        };
        let came = match &callback.claim {
            Claim::Payment(claim) => self.pay(&order, claim, id),
            Claim::Refund(claim) => self.refund(&order, claim),
            Claim::NoOrder(_) => Came::to(("ignored", Some("not_for_orders"))),
        };
        let (outcome, reason) = came.outcome;
        self.found.notifications.push(FoundNotification {
            id,
            part: 0,
            body_sha256: Some(body(index)),
            kind: kind.to_owned(),
            mch_id: Some(order.mch_id.clone()),
            sub_mch_id: shop.map(str::to_owned),
            out_trade_no: (kind != "other").then(|| order.out_trade_no.clone()),
            transaction_id: callback.claim.transaction_id().map(str::to_owned),
            out_refund_no,
            key_fingerprint: Some("v2-1".to_owned()),
            outcome: outcome.to_owned(),
            reason: reason.map(str::to_owned),
            seen: came.seen,
            caused: came.caused,
        });
        if let ("waiting" | "quarantined", Some(reason)) = (outcome, reason) {
            self.found.quarantine.push(FoundQuarantine {
                notification_id: id,
                notification_part: 0,
                out_trade_no: Some(order.out_trade_no.clone()),
                reason: reason.to_owned(),
                state: if outcome == "waiting" { "waiting" } else { "open" }.to_owned(),
                resolved_by: None,
                resolution: None,
            });
        }
        if let Claim::Payment(claim) = &callback.claim {
            self.heal(&order, &claim.transaction_id);
        }
    }

    fn pay(&mut self, order: &Order, claim: &PaymentClaim, id: Uuid) -> Came {
        let refusal = match expectation(order, claim) {
            Expectation::Ignored => return Came::to(("ignored", Some("not_successful"))),
            Expectation::Waits => return Came::to(("waiting", Some("for_order"))),
            Expectation::Refused(reason) => Some(reason),
            Expectation::Pays => None,
        };
        let row = row_of(&mut self.found.orders, order).unwrap();
        let seen = Some(see(row));
        let is_it =
            |payment: &&FoundPayment| payment.order_id == row.id && payment.transaction_id == claim.transaction_id;
        if let Some(known) = self.found.payments.iter().find(is_it) {
            let is_returned = known.disposition == "returned";
            let outcome = if is_returned { ("ignored", Some("returned")) } else { ("duplicate", None) };
            return Came { outcome, seen, caused: None };
        }
        let refusal = refusal.or_else(|| (row.state != "pending").then_some(PAID_TWICE));
        row.version += 1;
        let payment = FoundPayment {
            order_id: row.id,
            mch_id: row.mch_id.clone(),
            transaction_id: claim.transaction_id.clone(),
            amount_minor: claim.amount_minor,
            currency: claim.currency.to_owned(),
            paid_at: claim.paid_at,
            disposition: if refusal.is_some() { "refused" } else { "accepted" }.to_owned(),
            returned_minor: 0,
            brought_by: Some((id, 0)),
        };
        if refusal.is_none() {
            row.state = "paid".to_owned();
            row.transaction_id = Some(claim.transaction_id.clone());
            row.paid_at = Some(claim.paid_at);
        }
        let kind = if refusal.is_some() { "payment.refused" } else { "order.paid" };
        let event = event(row, kind, &payment, refusal, None);
        self.found.payments.push(payment);
        let outcome = if refusal.is_some() { ("quarantined", refusal) } else { ("applied", None) };
        Came { outcome, seen, caused: Some(self.publish(event)) }
    }

    /// As the pipeline would when nothing overtakes anything but where the plan wants it.
    fn refund(&mut self, order: &Order, claim: &RefundClaim) -> Came {
        let row = row_of(&mut self.found.orders, order).unwrap();
        let is_it =
            |payment: &&mut FoundPayment| payment.order_id == row.id && payment.transaction_id == claim.transaction_id;
        let payments = self.plan.callbacks.iter().filter_map(|callback| callback.claim.payment());
        let mut of_payment = payments.filter(|payment| payment.transaction_id == claim.transaction_id);
        let Some(payment) = self.found.payments.iter_mut().find(is_it) else {
            return Came::to(refund_outcomes(order, claim, None, &[])[0]);
        };
        let seen = Some(see(row));
        let outcome = refund_outcomes(order, claim, of_payment.next(), &[])[0];
        if outcome.0 != "applied" {
            return Came { outcome, seen, caused: None };
        }
        if let Some(outcome) = move_refund(&mut self.found.refunds, row.id, claim) {
            return Came { outcome, seen, caused: None };
        }
        row.version += 1;
        payment.returned_minor += if claim.result == RefundResult::Succeeded { claim.amount_minor } else { 0 };
        let is_all = payment.returned_minor == payment.amount_minor;
        if payment.disposition == "accepted" {
            row.refunded_minor = payment.returned_minor;
            row.state = if is_all { "refunded" } else { "paid" }.to_owned();
        } else if is_all {
            payment.disposition = "returned".to_owned();
        }
        let kind = match (claim.result, payment.disposition.as_str(), is_all) {
            (RefundResult::Abnormal, ..) => "refund.abnormal",
            (RefundResult::Closed, ..) => "refund.closed",
            (RefundResult::Succeeded, "accepted", true) => "order.refunded",
            (RefundResult::Succeeded, "accepted", false) => "order.partially_refunded",
            (RefundResult::Succeeded, _, true) => "payment.returned",
            (RefundResult::Succeeded, _, false) => "payment.partially_returned",
        };
        let event = event(row, kind, payment, None, Some(claim));
        self.sweep();
        Came { outcome, seen, caused: Some(self.publish(event)) }
    }

    fn publish(&mut self, event: Event) -> Caused {
        let caused = Caused {
            id: event.id.clone(),
            kind: event.payload.kind.clone(),
            version: event.payload.version,
            reason: event.payload.reason.clone(),
        };
        self.consumed.events.insert(event.id.clone(), event);
        caused
    }

    /// Open rows of payments that have gone back are resolved.
    fn sweep(&mut self) {
        let returned = |id: Option<&str>| {
            let mut payments = self.found.payments.iter();
            payments.any(|payment| payment.disposition == "returned" && Some(payment.transaction_id.as_str()) == id)
        };
        for held in self.found.quarantine.iter_mut().filter(|held| held.state == "open") {
            let row = self.found.notifications.iter().find(|row| row.id == held.notification_id).unwrap();
            if row.kind == "payment" && returned(row.transaction_id.as_deref()) {
                resolve(held, "returned");
            }
        }
    }

    /// What waited for the payment is decided again.
    fn heal(&mut self, order: &Order, transaction_id: &str) {
        let waits = |row: &&FoundNotification| {
            row.reason.as_deref() == Some("for_payment") && row.transaction_id.as_deref() == Some(transaction_id)
        };
        let rows: Vec<FoundNotification> = self.found.notifications.iter().filter(waits).cloned().collect();
        for row in rows {
            let index = (0..self.plan.callbacks.len()).find(|index| row.body_sha256 == Some(body(*index))).unwrap();
            let claim = self.plan.callbacks[index].claim.refund().unwrap().clone();
            let Came { outcome: (outcome, reason), seen, caused } = self.refund(order, &claim);
            let moved = FoundNotification {
                outcome: outcome.to_owned(),
                reason: reason.map(str::to_owned),
                seen,
                caused,
                ..row.clone()
            };
            *self.found.notifications.iter_mut().find(|old| old.id == row.id).unwrap() = moved;
            resolve(self.found.quarantine.iter_mut().find(|held| held.notification_id == row.id).unwrap(), outcome);
        }
    }
}

fn resolve(held: &mut FoundQuarantine, resolution: &str) {
    held.state = "resolved".to_owned();
    held.resolved_by = Some("sweeper".to_owned());
    held.resolution = Some(resolution.to_owned());
}

fn row_of<'a>(orders: &'a mut [FoundOrder], order: &Order) -> Option<&'a mut FoundOrder> {
    let is_it =
        |row: &&mut FoundOrder| row.out_trade_no == order.out_trade_no && row.sub_mch_id.as_deref() == order.sub_mch_id;
    orders.iter_mut().find(is_it)
}

fn see(row: &FoundOrder) -> Seen {
    Seen {
        version: row.version,
        state: row.state.clone(),
        amount_minor: row.amount_minor,
        currency: row.currency.clone(),
    }
}

/// Moves the refund's row; says so when it is not moved.
fn move_refund(refunds: &mut Vec<FoundRefund>, order_id: i64, claim: &RefundClaim) -> Option<Outcome> {
    let state = match claim.result {
        RefundResult::Abnormal => "abnormal",
        RefundResult::Closed => "closed",
        RefundResult::Succeeded => "succeeded",
    };
    let refund = FoundRefund {
        order_id,
        out_refund_no: claim.out_refund_no.clone(),
        refund_id: Some(claim.refund_id.clone()),
        transaction_id: Some(claim.transaction_id.clone()),
        amount_minor: claim.amount_minor,
        state: state.to_owned(),
        succeeded_at: (claim.result == RefundResult::Succeeded).then_some(claim.succeeded_at),
    };
    let known = |refund: &&mut FoundRefund| refund.order_id == order_id && refund.out_refund_no == claim.out_refund_no;
    match refunds.iter_mut().find(known) {
        Some(old) if old.state == state => return Some(("duplicate", None)),
        Some(old) if ["succeeded", "closed"].contains(&old.state.as_str()) => return Some(("ignored", Some("stale"))),
        Some(old) => *old = refund,
        None => refunds.push(refund),
    }
    None
}

fn event(
    row: &FoundOrder,
    kind: &str,
    payment: &FoundPayment,
    reason: Option<&str>,
    refund: Option<&RefundClaim>,
) -> Event {
    let id = format!("event-{}-{}", row.id, row.version);
    let payload = Payload {
        event_id: id.clone(),
        kind: kind.to_owned(),
        order_id: row.id,
        version: row.version,
        mch_id: row.mch_id.clone(),
        sub_mch_id: row.sub_mch_id.clone(),
        out_trade_no: row.out_trade_no.clone(),
        transaction_id: Some(payment.transaction_id.clone()),
        amount_minor: Some(row.amount_minor),
        currency: Some(row.currency.clone()),
        paid_at: refund.is_none().then_some(payment.paid_at),
        reason: reason.map(str::to_owned),
        payment_amount_minor: (kind != "order.paid").then_some(payment.amount_minor),
        payment_currency: reason.map(|_| payment.currency.clone()),
        payment_returned_minor: refund.map(|_| payment.returned_minor),
        refunded_minor: refund.map(|_| row.refunded_minor),
        out_refund_no: refund.map(|refund| refund.out_refund_no.clone()),
        refund_id: refund.map(|refund| refund.refund_id.clone()),
        refund_amount_minor: refund.map(|refund| refund.amount_minor),
    };
    Event { id, payload, consumed_at: Instant::now() }
}
