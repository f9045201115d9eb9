//! The database as transactions see it: who holds which lock, what a statement reads, and what a commit does. READ
//! COMMITTED: a statement sees what is committed when it begins.

use crate::decide::{Came, Question, Questions, Write, decide};
use crate::inline_vec::InlineVec;
use crate::mutation::Mutation;
use crate::protocol::Protocol;
use crate::rows::{
    Asked, Database, Disposition, End, Event, EventRow, Held, HeldState, Order, OrderState, Outcome, Payment, Payments,
    Row,
};
use crate::scenario::Content;
use crate::state::{Fresh, Item, Items, LANES, MessageId, ORDERS, Orders, Phase, Read, Shop, State, Sweeper};

/// Whose transaction it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    Lane(usize),
    Sweeper,
    Shop,
}

/// An open transaction that has read.
#[derive(Debug, Clone, Copy)]
pub struct Open {
    pub owner: Owner,
    /// The parts that it decides.
    pub items: Items,
    pub read: Read,
    /// Whether it has written.
    pub has_written: bool,
}

impl Database {
    /// Whether the ledger has the message.
    #[must_use]
    pub fn knows(&self, message: MessageId) -> bool {
        self.ledger[usize::from(message)].iter().any(Option::is_some)
    }

    /// The row of a part.
    #[must_use]
    pub fn row(&self, item: Item) -> Option<Row> {
        self.ledger[usize::from(item.message)][usize::from(item.part)]
    }

    /// The row of a part, to be changed.
    pub fn row_mut(&mut self, item: Item) -> &mut Option<Row> {
        &mut self.ledger[usize::from(item.message)][usize::from(item.part)]
    }

    /// The held row of a part.
    #[must_use]
    pub fn held(&self, item: Item) -> Option<Held> {
        self.row(item)?.held
    }

    /// Every part that has a row.
    pub fn items(&self) -> impl Iterator<Item = (Item, Row)> + '_ {
        (0..).zip(&self.ledger).flat_map(|(message, rows)| {
            (0..).zip(rows).filter_map(move |(part, row)| Some((Item { message, part }, (*row)?)))
        })
    }

    /// Adds the rows of parts that are new to the ledger.
    pub fn insert(&mut self, item: Item, came: Came) {
        let state = if came.outcome == Outcome::Waiting { HeldState::Waiting } else { HeldState::Open };
        let held = came.reason.map(|reason| Held { reason, state, asked: Asked::ByReport });
        let old = self.row_mut(item).replace(Row { outcome: came.outcome, held });
        self.has_row_twice |= old.is_some();
    }

    /// Moves the row of a part along.
    pub fn move_on(&mut self, item: Item, came: Came) {
        let Some(row) = self.row_mut(item) else { return };
        row.outcome = came.outcome;
        if let Some(held) = &mut row.held {
            held.reason = came.reason.unwrap_or(held.reason);
            held.asked = Asked::ByReport;
            held.state = match came.outcome {
                Outcome::Waiting => HeldState::Waiting,
                Outcome::Quarantined => HeldState::Open,
                Outcome::Applied | Outcome::Duplicate | Outcome::Ignored | Outcome::Abandoned => HeldState::Resolved,
            };
        }
    }
}

/// Whether the trigger on orders lets the change pass.
#[must_use]
pub fn is_legal(old: Order, new: Order) -> bool {
    use OrderState::{Closed, Paid, Pending, Refunded};
    let moves = match (old.state, new.state) {
        (Pending, _) | (Closed, Pending | Closed) => true,
        (Paid(was), Paid(is) | Refunded(is)) | (Refunded(was), Refunded(is)) => was == is,
        (Closed, Paid(_) | Refunded(_)) | (Paid(_), Pending | Closed) | (Refunded(_), Pending | Closed | Paid(_)) => {
            false
        }
    };
    moves && new.version >= old.version && new.refunded >= old.refunded
}

/// Whether the trigger on payments lets the change pass.
fn is_legal_payment(old: Payment, new: Payment) -> bool {
    let moves = match (old.disposition, new.disposition) {
        (Disposition::Refused, Disposition::Accepted) => old.returned == 0,
        (Disposition::Refused, Disposition::Returned) => true,
        (was, is) => was == is,
    };
    moves && new.returned >= old.returned
}

impl Protocol {
    /// Writes what a transaction writes besides the ledger's rows.
    pub fn change(&self, state: &mut State, write: &Write, with_events: bool) {
        let before = *state;
        let database = &mut state.database;
        for (old, new) in database.orders.iter_mut().zip(write.orders) {
            if let (Some(before), Some(after)) = (*old, new) {
                database.is_illegal |= !is_legal(before, after) || after.version <= before.version;
                *old = new;
            }
        }
        for (transaction, rows) in (0..).zip(&write.payments) {
            for (order, changed) in (0..).zip(rows) {
                let Some(changed) = changed else { continue };
                let row = &mut database.payments[usize::from(transaction)][usize::from(order)];
                let old = *row;
                if self.infers() && !self.may_note(&before, transaction, order, changed.now) {
                    continue;
                }
                database.is_illegal |= old.is_some_and(|old| !is_legal_payment(old, changed.now));
                let is_spent = old.is_some_and(|old| old.is_spent);
                *row = Some(Payment { is_spent, ..changed.now });
            }
        }
        for (number, changed) in write.refunds.iter().enumerate() {
            let Some(changed) = changed else { continue };
            database.refunds[number] = Some(changed.now);
            let paid = &mut database.payments[usize::from(changed.now.transaction)];
            for payment in paid.iter_mut().flatten() {
                payment.is_spent |= changed.now.end == End::Succeeded && payment.disposition != Disposition::Accepted;
            }
        }
        if with_events {
            self.add_events(database, write.events);
        }
    }

    /// Writes events.
    pub fn add_events<const N: usize>(&self, database: &mut Database, events: InlineVec<Event, N>) {
        for event in events.iter() {
            // The first one too many is a violation already.
            if !database.events.is_full() {
                let with_relay = self.scenario.with_relay;
                database.events.push(EventRow { event, is_in_outbox: with_relay, is_heard: !with_relay });
            }
        }
    }

    /// What these parts say, and, of the sweeper's held rows, what an operator has asked for.
    #[must_use]
    pub fn questions(&self, state: &State, owner: Owner, items: Items) -> Questions {
        let held = |item| state.database.held(item).filter(|_| owner == Owner::Sweeper);
        let asked = |item| held(item).map_or(Asked::ByReport, |held| held.asked);
        items
            .iter()
            .filter_map(|item| Some(Question { content: self.content(state, item)?, asked: asked(item) }))
            .collect()
    }

    /// What a part says.
    #[must_use]
    pub fn content(&self, state: &State, item: Item) -> Option<Content> {
        let message = state.messages.get(usize::from(item.message))?;
        self.scenario.callbacks[usize::from(message.callback)].get(usize::from(item.part)).copied()
    }

    /// All parts of these messages.
    #[must_use]
    pub fn parts(&self, state: &State, fresh: Fresh) -> Items {
        let parts = |message| (0..2).map(move |part| Item { message, part });
        fresh.iter().flat_map(parts).filter(|item| self.content(state, *item).is_some()).collect()
    }

    /// The orders that payments among the questions name.
    #[must_use]
    pub fn paid_orders(questions: Questions) -> Orders {
        let mut orders = [false; ORDERS];
        for question in questions.iter().filter(|question| !question.content.is_refund()) {
            orders[usize::from(question.content.order())] = true;
        }
        orders
    }

    /// The orders of the payments on record that refunds among the questions name.
    #[must_use]
    pub fn refunded_orders(&self, state: &State, questions: Questions) -> Orders {
        let payments = self.payments(state, questions);
        let mut orders = [false; ORDERS];
        for question in questions.iter().filter(|question| question.content.is_refund()) {
            let rows = payments[usize::from(question.content.transaction())];
            orders.iter_mut().zip(rows).for_each(|(order, row)| *order |= row.is_some());
        }
        orders
    }

    /// The payments on record with the transactions that the questions name.
    #[must_use]
    pub fn payments(&self, state: &State, questions: Questions) -> Payments {
        let mut payments = state.database.payments;
        for (transaction, rows) in (0..).zip(&mut payments) {
            let is_named = questions.iter().any(|question| question.content.transaction() == transaction);
            let is_replayed = questions.iter().any(|question| question.asked == Asked::ByReplay);
            for (order, row) in (0..).zip(rows) {
                let Some(payment) = row else { continue };
                payment.is_spent = false;
                if self.mutation == Mutation::ReplayIgnoresReturned
                    && is_replayed
                    && payment.disposition == Disposition::Refused
                {
                    payment.returned = 0;
                }
                if !is_named || (self.infers() && !self.is_inferred(state, transaction, order, *payment)) {
                    *row = None;
                }
            }
        }
        payments
    }

    /// What a transaction reads that holds the locks of `orders` but for those that are `busy`.
    #[must_use]
    pub fn read(&self, state: &State, orders: Orders, busy: Orders, payments: Payments) -> Read {
        let database = &state.database;
        let mut read = Read { orders: database.orders, busy, payments, refunds: database.refunds };
        for (place, row) in read.orders.iter_mut().enumerate() {
            read.busy[place] &= orders[place] && row.is_some();
            if !orders[place] || read.busy[place] {
                *row = None;
            }
        }
        let holds = |order: u8| read.orders[usize::from(order)].is_some();
        read.refunds.iter_mut().for_each(|row| *row = row.filter(|row| holds(row.order)));
        if self.mutation == Mutation::LockedIsAbsent || self.mutation == Mutation::SettledByReason {
            read.busy = [false; ORDERS];
        }
        if self.infers() {
            for rows in &mut read.payments {
                // What was inferred was inferred of the orders that were there.
                rows.iter_mut().zip(read.orders).filter(|(_, order)| order.is_none()).for_each(|(row, _)| *row = None);
            }
        }
        read
    }

    /// What the worker's own code makes of it.
    #[must_use]
    pub fn decided(&self, state: &State, owner: Owner, items: Items, read: Read) -> Write {
        let write = decide(self.questions(state, owner, items), read);
        if self.infers() { self.without_settled_refunds(state, items, write) } else { write }
    }

    /// The orders that transactions of others have locked.
    #[must_use]
    pub fn locked(&self, state: &State, owner: Owner) -> Orders {
        let mut locked = [false; ORDERS];
        if self.mutation == Mutation::LockAndVersionIgnored {
            return locked;
        }
        let mut note = |orders: [Option<Order>; ORDERS]| {
            locked.iter_mut().zip(orders).for_each(|(locked, order)| *locked |= order.is_some());
        };
        for open in self.open(state, owner) {
            match (self.mutation, open.has_written) {
                // Who does not lock when it reads locks all the same when it writes.
                (Mutation::LockLeftOut, false) => {}
                (Mutation::LockLeftOut, true) => note(self.decided(state, open.owner, open.items, open.read).orders),
                _ => note(open.read.orders),
            }
        }
        if let Shop::Changing { order, is_locked: true, .. } = state.shop
            && owner != Owner::Shop
        {
            locked[usize::from(order)] = true;
        }
        locked
    }

    /// The transactions of others that have read.
    #[must_use]
    pub fn open(&self, state: &State, owner: Owner) -> Vec<Open> {
        let lane = |lane: usize| match state.lanes[lane].phase {
            Phase::Locked(attempt, read) => Some(Open {
                owner: Owner::Lane(lane),
                items: self.parts(state, attempt.fresh),
                read,
                has_written: false,
            }),
            Phase::Written(attempt, read) => Some(Open {
                owner: Owner::Lane(lane),
                items: self.parts(state, attempt.fresh),
                read,
                has_written: true,
            }),
            Phase::Idle
            | Phase::Taken { .. }
            | Phase::Fresh(_)
            | Phase::Joined(..)
            | Phase::EventsOwed(..)
            | Phase::Committed => None,
        };
        let lanes = (0..LANES).filter(|lane| owner != Owner::Lane(*lane)).filter_map(lane);
        let sweeper = match state.sweeper {
            Sweeper::Locked(items, read) => Some(Open { owner: Owner::Sweeper, items, read, has_written: false }),
            Sweeper::Idle => None,
        };
        lanes.chain(sweeper.filter(|_| owner != Owner::Sweeper)).collect()
    }

    /// Whether the sweeper has locked the held row of the part.
    #[must_use]
    pub fn is_swept(state: &State, item: Item) -> bool {
        matches!(state.sweeper, Sweeper::Locked(items, _) if items.contains(item))
    }
}
