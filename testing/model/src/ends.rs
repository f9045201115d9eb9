//! What must hold where nothing more happens but by chance: everything that came is decided, and decided right.

use crate::invariants::{Check, failed, own_messages};
use crate::protocol::Protocol;
use crate::rows::{
    Disposition, End, Happened, Held, HeldState, OrderState, Outcome, PRICE, Payment, Reason, Row, Told,
};
use crate::scenario::{Content, Start};
use crate::shop::PENDING;
use crate::state::{Item, Lane, Queued, Relay, Shop, State, Sweeper};
use crate::violation::Violation;

impl Protocol {
    /// What must not be where nothing more happens but by chance.
    #[must_use]
    pub fn broken_in_the_end(&self, state: &State) -> Vec<Violation> {
        let database = &state.database;
        let has_row = |callback| own_messages(state, callback).any(|message| database.knows(message));
        let is_left_over = state.queue.iter().any(|queued| *queued != Queued::default())
            || state.lanes.iter().any(|lane| *lane != Lane::IDLE)
            || (state.sweeper, state.relay, state.shop) != (Sweeper::Idle, Relay::Idle, Shop::Idle)
            || database.events.iter().any(|row| row.is_in_outbox);
        let stored = self.stored(state);
        let mut checks: Vec<Check> = vec![
            (Violation::NotEmpty, is_left_over),
            (Violation::NoRowInTheEnd, stored.iter().any(|(item, _)| !is_in_the_ledger(state, *item))),
            (
                Violation::SuccessWithoutRowInTheEnd,
                (0..).zip(state.told).any(|(callback, told)| told && !has_row(callback)),
            ),
            (Violation::WrongEventsHeard, !heard_each_change(state)),
        ];
        for (item, content) in stored {
            let Some(held) = database.held(item) else { continue };
            checks.push((Violation::StillWaiting, waits_for_what_is_there(state, content, held)));
            checks.push((Violation::StillOpen, is_over_and_open(state, content, held)));
        }
        let is_right = |content| match content {
            Content::Payment { .. } => self.is_payment_right(state, content),
            Content::Refund { .. } => self.is_refund_right(state, content),
        };
        checks.push((Violation::WrongOutcomes, !self.contents().into_iter().all(is_right)));
        for (order, start) in (0..).zip(self.scenario.orders) {
            checks.push((Violation::WrongOrder, !self.is_order_right(state, order, *start)));
        }
        failed(&checks)
    }

    /// The rows of what was not given up: an operator who abandons a message makes it one that never came.
    fn counting(&self, state: &State, content: Content) -> Vec<Row> {
        let rows = self.rows(state, content);
        rows.into_iter().filter(|row| row.outcome != Outcome::Abandoned).collect()
    }

    /// Whether the rows of one payment fit what is on record of its transaction.
    fn is_payment_right(&self, state: &State, content: Content) -> bool {
        let rows = self.counting(state, content);
        let paid = state.database.payments[usize::from(content.transaction())];
        let is_held_as = |row: &Row, is_so: fn(Reason) -> bool| row.held.is_some_and(|held| is_so(held.reason));
        let is_refused =
            |row: &Row| row.outcome == Outcome::Quarantined && is_held_as(row, Reason::is_of_refused_payment);
        let own = paid[usize::from(content.order())];
        let all = |is_so: &dyn Fn(&Row) -> bool| rows.iter().all(is_so);
        if rows.is_empty() {
            return own.is_none();
        }
        let Some(Payment { disposition, .. }) = own else {
            let is_conflict = |row: &Row| {
                row.outcome == Outcome::Quarantined && is_held_as(row, |it| it == Reason::TransactionConflict)
            };
            // Of another order, or of one that does not come any more: nothing is known of it.
            return paid.iter().any(Option::is_some) && all(&is_conflict);
        };
        match disposition {
            Disposition::Accepted => {
                let applied = rows.iter().filter(|row| row.outcome == Outcome::Applied).count();
                let fits = |row: &Row| matches!(row.outcome, Outcome::Applied | Outcome::Duplicate) || is_refused(row);
                applied == 1 && all(&fits)
            }
            Disposition::Refused => all(&|row| row.outcome == Outcome::Duplicate || is_refused(row)),
            Disposition::Returned => {
                all(&|row| matches!(row.outcome, Outcome::Duplicate | Outcome::Ignored) || is_refused(row))
            }
        }
    }

    /// A refund of a payment on record is applied once, or contradicts what is on record; any other waits.
    fn is_refund_right(&self, state: &State, content: Content) -> bool {
        let Content::Refund { order, transaction, .. } = content else { return false };
        let rows = self.counting(state, content);
        let count = |outcome| rows.iter().filter(|row| row.outcome == outcome).count();
        let is_for = |row: &Row, reason| row.held.is_some_and(|held| held.reason == reason);
        let paid = state.database.payments[usize::from(transaction)];
        let others = count(Outcome::Duplicate) + count(Outcome::Ignored);
        if rows.is_empty() {
            return true;
        }
        if paid.iter().all(Option::is_none) {
            return rows.iter().all(|row| is_for(row, Reason::ForPayment) && row.held.is_some_and(Held::is_unresolved));
        }
        if paid[usize::from(order)].is_none() {
            return rows.iter().all(|row| is_for(row, Reason::TransactionConflict));
        }
        let contradicts = rows.iter().filter(|row| {
            row.outcome == Outcome::Quarantined
                && (is_for(row, Reason::RefundStateConflict) || is_for(row, Reason::RefundExceedsPayment))
        });
        match count(Outcome::Applied) {
            1 => others + 1 == rows.len(),
            // Both ends of one refund were reported, or more than is left.
            0 => self.is_contradicted(content) && others + contradicts.count() == rows.len(),
            _ => false,
        }
    }

    /// Whether another callback of the scenario contradicts the refund.
    fn is_contradicted(&self, content: Content) -> bool {
        let Content::Refund { number, end, .. } = content else { return false };
        self.contents().into_iter().any(|other| {
            matches!(other, Content::Refund { number: other, end: ended, .. } if (other, ended) != (number, end) && other == number)
        })
    }

    /// Whether the order is as what is on record and the shop make it.
    fn is_order_right(&self, state: &State, order: u8, start: Start) -> bool {
        let Some(row) = state.database.orders[usize::from(order)] else { return false };
        let may_be_closed = self.scenario.changes > 0 || start == Start::There(OrderState::Closed);
        let may_be_opened = self.scenario.changes > 0 || start != Start::There(OrderState::Closed);
        let refused_any = state.database.payments.iter().any(|rows| rows[usize::from(order)].is_some());
        match row.state {
            // An order that was never closed refuses only a second payment.
            OrderState::Pending => may_be_opened && (!refused_any || may_be_closed) && row.refunded == PENDING.refunded,
            OrderState::Closed => may_be_closed,
            OrderState::Paid(_) => row.refunded < PRICE,
            OrderState::Refunded(_) => row.refunded == PRICE,
        }
    }
}

/// Whether the part has a row. The one row of a message that is held as a whole stands for all parts until it is taken apart,
/// so an operator who gives that up gives up all of them.
fn is_in_the_ledger(state: &State, item: Item) -> bool {
    let is_given_up = |row: Row| row.outcome == Outcome::Abandoned;
    let whole = state.database.row(Item { part: 0, ..item });
    state.database.row(item).is_some() || whole.is_some_and(is_given_up)
}

/// In the end what waits may wait for an order or a payment that is not there, and for nothing else.
fn waits_for_what_is_there(state: &State, content: Content, held: Held) -> bool {
    if !held.is_unresolved() {
        return false;
    }
    match held.reason {
        Reason::ForOrder => state.database.orders[usize::from(content.order())].is_some(),
        Reason::ForPayment => state.database.payments[usize::from(content.transaction())].iter().any(Option::is_some),
        Reason::ForLock => true,
        _ => held.state == HeldState::Waiting,
    }
}

/// Nobody has to look at a refused payment any more that was accepted or has gone back.
fn is_over_and_open(state: &State, content: Content, held: Held) -> bool {
    let rows = state.database.payments[usize::from(content.transaction())];
    let is_over = rows.iter().flatten().any(|payment| payment.disposition != Disposition::Refused);
    held.is_unresolved() && held.reason.is_of_refused_payment() && is_over
}

/// Whether the merchant has heard of each order that it is paid, of each payment that it was refused and has gone back, and of
/// each refund, once and only if it is so.
fn heard_each_change(state: &State) -> bool {
    let database = &state.database;
    let heard = |happened| database.events.iter().filter(|row| row.is_heard && row.event.happened == happened).count();
    let refund = |number, told: &[Told]| told.iter().map(|told| heard(Happened::Refund(number, *told))).sum::<usize>();
    let mut payments = (0..)
        .zip(database.payments)
        .filter_map(|(transaction, rows)| Some((transaction, rows.into_iter().flatten().next()?.disposition)));
    let paid_right = payments.all(|(transaction, disposition)| {
        let counts = (heard(Happened::Paid(transaction)), heard(Happened::Refused(transaction)));
        match disposition {
            Disposition::Accepted => matches!(counts, (1, 0 | 1)),
            Disposition::Refused | Disposition::Returned => counts == (0, 1),
        }
    });
    let refunds_right = (0..).zip(database.refunds).all(|(number, row)| {
        let came = refund(
            number,
            &[Told::OrderRefunded, Told::OrderPartiallyRefunded, Told::PaymentReturned, Told::PaymentPartiallyReturned],
        );
        let closed = refund(number, &[Told::RefundClosed]);
        match row.map(|row| row.end) {
            None => (came, closed) == (0, 0),
            Some(End::Closed) => (came, closed) == (0, 1),
            Some(End::Succeeded) => matches!((came, closed), (1, 0 | 1)),
        }
    });
    let ends = |told| (0..).zip(database.refunds).map(|(number, _)| refund(number, &[told])).sum::<usize>();
    let returned = database.payments.iter().flatten().flatten();
    let all_back = returned.filter(|payment| payment.disposition == Disposition::Returned).count();
    let orders = database.orders.iter().flatten();
    let refunded = orders.filter(|order| matches!(order.state, OrderState::Refunded(_))).count();
    paid_right && refunds_right && (ends(Told::PaymentReturned), ends(Told::OrderRefunded)) == (all_back, refunded)
}
