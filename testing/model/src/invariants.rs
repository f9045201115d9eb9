//! What must hold in every state. What must hold in a final state is in [`crate::ends`].

use crate::protocol::Protocol;
use crate::rows::{
    Disposition, End, Event, Happened, HeldState, Order, OrderState, Outcome, PRICE, Payment, Row, Told,
};
use crate::scenario::Content;
use crate::state::{Item, MessageId, PARTS, Queued, State};
use crate::violation::Violation;

/// A check that failed, or did not.
pub type Check = (Violation, bool);

impl Protocol {
    /// What must never be.
    #[must_use]
    pub fn broken_now(&self, state: &State) -> Vec<Violation> {
        let mut checks = Vec::with_capacity(32);
        checks.push((Violation::SuccessLost, (0..).zip(state.told).any(|(call, told)| told && !is_kept(state, call))));
        checks.push((Violation::TwoRows, state.database.has_row_twice));
        checks.push((Violation::IllegalChange, state.database.is_illegal));
        let events = || state.database.events.iter();
        checks.push((Violation::EventLost, events().any(|row| !row.is_in_outbox && !row.is_heard)));
        check_events(state, &mut checks);
        for (order, row) in (0..).zip(state.database.orders) {
            checks.extend(row.map_or([(Violation::SumsDiffer, false); 4], |row| check_order(state, order, row)));
        }
        for (transaction, rows) in (0..).zip(state.database.payments) {
            let is_of_two = rows.iter().flatten().count() > 1;
            checks.push((Violation::TransactionPaysTwo, is_of_two));
            for (order, row) in (0..).zip(rows) {
                let Some(payment) = row else { continue };
                self.check_payment(state, Content::Payment { order, transaction }, payment, &mut checks);
            }
        }
        self.check_rows(state, &mut checks);
        failed(&checks)
    }

    fn check_payment(&self, state: &State, content: Content, payment: Payment, checks: &mut Vec<Check>) {
        let transaction = content.transaction();
        let returned = succeeded(state, transaction);
        let is_all = payment.returned == PRICE;
        let is_told_wrong =
            payment.disposition != Disposition::Accepted && (payment.disposition == Disposition::Returned) != is_all;
        checks.push((Violation::SumsDiffer, payment.returned != returned || is_told_wrong));
        match payment.disposition {
            Disposition::Accepted => {
                checks.push((Violation::ReturnedMoneyPays, payment.is_spent));
                checks.push((Violation::ChangeWithoutRow, !self.is_applied(state, content)));
            }
            Disposition::Refused => {
                let is_seen = |row: &Row| row.held.is_some_and(|held| held.state != HeldState::Resolved);
                checks.push((Violation::RefusedUnseen, !self.rows(state, content).iter().any(is_seen)));
            }
            Disposition::Returned => {}
        }
    }

    fn check_rows(&self, state: &State, checks: &mut Vec<Check>) {
        let database = &state.database;
        for content in self.contents() {
            let applied = self.rows(state, content).iter().filter(|row| row.outcome == Outcome::Applied).count();
            checks.push((Violation::AppliedTwice, applied > 1));
            let Content::Refund { order, transaction, number, amount, end } = content else { continue };
            let refund = crate::rows::Refund { order, transaction, amount, end };
            let counts = database.refunds[usize::from(number)] == Some(refund);
            checks.push((Violation::ChangeWithoutRow, counts && applied == 0));
        }
        for (item, row) in database.items() {
            let Some(content) = self.content(state, item) else { continue };
            let is_resolved = row.held.is_some_and(|held| held.state == HeldState::ResolvedByOperator);
            let is_known = database.payments[usize::from(content.transaction())].iter().any(Option::is_some);
            checks.push((Violation::WorkHidden, is_resolved && row.outcome != Outcome::Abandoned && !is_known));
        }
    }

    /// Whether a row says that it was applied.
    fn is_applied(&self, state: &State, content: Content) -> bool {
        self.rows(state, content).iter().any(|row| row.outcome == Outcome::Applied)
    }

    /// The rows of every part that says this.
    #[must_use]
    pub fn rows(&self, state: &State, content: Content) -> Vec<Row> {
        let says = |item| self.content(state, item) == Some(content);
        state.database.items().filter(|(item, _)| says(*item)).map(|(_, row)| row).collect()
    }

    /// What the callbacks of the scenario say, each thing once.
    #[must_use]
    pub fn contents(&self) -> Vec<Content> {
        let mut contents = Vec::with_capacity(4);
        for content in self.scenario.callbacks.iter().copied().flatten() {
            if !contents.contains(content) {
                contents.push(*content);
            }
        }
        contents
    }

    /// Every part of a message that the broker ever stored, with what it says.
    #[must_use]
    pub fn stored(&self, state: &State) -> Vec<(Item, Content)> {
        let messages = (0..).zip(state.messages.iter()).filter(|(_, message)| message.was_stored);
        let items =
            messages.flat_map(|(message, _)| (0..).zip([(); PARTS]).map(move |(part, ())| Item { message, part }));
        items.filter_map(|item| Some((item, self.content(state, item)?))).collect()
    }
}

/// Those of the checks that failed.
#[must_use]
pub fn failed(checks: &[Check]) -> Vec<Violation> {
    checks.iter().filter(|(_, is_broken)| *is_broken).map(|(broken, _)| *broken).collect()
}

/// An order is paid by exactly the payments on record as accepted: by one, or by none.
fn check_order(state: &State, order: u8, row: Order) -> [Check; 4] {
    let database = &state.database;
    let accepted: Vec<u8> = (0..)
        .zip(database.payments)
        .filter(|(_, rows)| rows[usize::from(order)].is_some_and(|row| row.disposition == Disposition::Accepted))
        .map(|(transaction, _)| transaction)
        .collect();
    let (paid_by, is_all) = match row.state {
        OrderState::Pending | OrderState::Closed => (None, false),
        OrderState::Paid(transaction) => (Some(transaction), false),
        OrderState::Refunded(transaction) => (Some(transaction), true),
    };
    let refunded = paid_by.map_or(0, |transaction| succeeded(state, transaction));
    let of_version =
        |version| database.events.iter().filter(|row| (row.event.order, row.event.version) == (order, version)).count();
    let is_beyond = database.events.iter().any(|event| event.event.order == order && event.event.version > row.version);
    [
        (Violation::OrderPaidByTwo, accepted != paid_by.into_iter().collect::<Vec<_>>()),
        (Violation::SumsDiffer, row.refunded != refunded || is_all != (row.refunded == PRICE)),
        (Violation::ChangeWithoutEvent, (1..=row.version).any(|version| of_version(version) == 0)),
        (Violation::EventWithoutChange, is_beyond || (1..=row.version).any(|version| of_version(version) > 1)),
    ]
}

/// No two events report the same payment as accepted or refused, or the same end of one refund.
fn check_events(state: &State, checks: &mut Vec<Check>) {
    let what = |event: Event| match event.happened {
        Happened::Refund(number, told) => (event.order, 2 + u8::from(told == Told::RefundClosed), number),
        Happened::Refused(transaction) => (event.order, 1, transaction),
        Happened::Paid(_) => (event.order, 0, 0),
    };
    let mut seen = Vec::with_capacity(8);
    for row in state.database.events.iter() {
        let what = what(row.event);
        checks.push((Violation::AppliedTwice, seen.contains(&what)));
        seen.push(what);
    }
}

/// The sum of the refunds of a transaction that succeeded.
#[must_use]
pub fn succeeded(state: &State, transaction: u8) -> u8 {
    let refunds = state.database.refunds.iter().flatten();
    let own = refunds.filter(|refund| refund.transaction == transaction && refund.end == End::Succeeded);
    own.map(|refund| refund.amount).sum()
}

/// Whether anything that was made of this callback is safe: in the broker, delivered or not, or in the ledger.
fn is_kept(state: &State, callback: u8) -> bool {
    let unacked = || state.lanes.iter().filter(|lane| !lane.is_cut_off).flat_map(|lane| lane.batch.iter());
    let delivered = || state.lanes.iter().flat_map(|lane| lane.inbox.iter()).chain(unacked());
    own_messages(state, callback).any(|message| {
        state.queue[usize::from(message)] != Queued::default()
            || delivered().any(|delivery| delivery.message == message)
            || state.database.knows(message)
    })
}

/// The messages that were made of one callback.
pub fn own_messages(state: &State, callback: u8) -> impl Iterator<Item = MessageId> {
    (0..).zip(state.messages.iter()).filter(move |(_, sent)| sent.callback == callback).map(|(message, _)| message)
}
