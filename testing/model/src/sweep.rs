//! The sweeper: held rows, decided again by the same code as the lanes', passing by orders that are locked.

use crate::database::{Open, Owner};
use crate::decide::Came;
use crate::inline_vec::InlineVec;
use crate::lane::Obstacle;
use crate::mutation::Mutation;
use crate::protocol::{Next, Protocol};
use crate::rows::{Disposition, Held, HeldState, Outcome, Reason, Row};
use crate::scenario::Content;
use crate::state::{ITEMS, Item, Items, State, Sweeper};
use crate::step::Step;

/// Why held rows are decided again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of the worker's causes")]
pub enum Cause {
    Replay,
    OrderAppeared,
    PaymentRecorded,
    LockMayBeGone,
}

impl Cause {
    const ALL: [Self; 4] = [Self::Replay, Self::OrderAppeared, Self::PaymentRecorded, Self::LockMayBeGone];
}

impl Protocol {
    /// What can happen at the sweeper.
    pub fn sweep_steps(&self, state: &State, next: &mut Next) {
        match state.sweeper {
            Sweeper::Idle => {
                for cause in Cause::ALL {
                    self.take(state, cause, next);
                }
                self.resolve_refused(state, next);
                self.expire(state, next);
            }
            Sweeper::Locked(items, read) => {
                next.fault(state, Step::SweepBreaks, |state| state.sweeper = Sweeper::Idle);
                self.finish(state, Open { owner: Owner::Sweeper, items, read, has_written: false }, next);
            }
        }
    }

    /// Locks the rows that are due and the orders that are free, and reads.
    fn take(&self, state: &State, cause: Cause, next: &mut Next) {
        let due = |(item, row): &(Item, Row)| row.held.is_some_and(|held| self.is_due(state, cause, *item, held));
        let rows = || state.database.items().filter(due).map(|(item, _)| item);
        let items: Items = rows().flat_map(|item| self.parts_of(state, item)).take(ITEMS).collect();
        if items.is_empty() {
            return;
        }
        let questions = self.questions(state, Owner::Sweeper, items);
        let mut orders = Self::paid_orders(questions);
        let refunded = self.refunded_orders(state, questions);
        orders.iter_mut().zip(refunded).for_each(|(order, refunded)| *order |= refunded);
        let busy = self.locked(state, Owner::Sweeper);
        let read = self.read(state, orders, busy, self.payments(state, questions));
        next.step(state, Step::SweepLock(cause), |state| state.sweeper = Sweeper::Locked(items, read));
    }

    fn is_due(&self, state: &State, cause: Cause, item: Item, held: Held) -> bool {
        let Some(content) = self.content(state, item) else { return false };
        let is_for = |reason| held.is_unresolved() && held.reason == reason;
        let database = &state.database;
        match cause {
            Cause::Replay => held.is_asked_for(),
            Cause::OrderAppeared => is_for(Reason::ForOrder) && database.orders[usize::from(content.order())].is_some(),
            Cause::PaymentRecorded => {
                let rows = database.payments[usize::from(content.transaction())];
                is_for(Reason::ForPayment) && rows.iter().any(Option::is_some)
            }
            Cause::LockMayBeGone => {
                let is_tried = held.state == HeldState::Waiting || self.mutation != Mutation::LocksGivenUp;
                is_for(Reason::ForLock) && is_tried
            }
        }
    }

    /// The part of a held row. A message that was held as a whole may have more parts than rows: those are new.
    fn parts_of(&self, state: &State, item: Item) -> InlineVec<Item, 2> {
        let is_whole = item.part == 0 && state.database.row(Item { part: 1, ..item }).is_none();
        let second = Some(Item { part: 1, ..item }).filter(|second| is_whole && self.content(state, *second).is_some());
        [item].into_iter().chain(second).collect()
    }

    /// Decides, writes and commits, unless another session was first.
    fn finish(&self, state: &State, own: Open, next: &mut Next) {
        let write = self.decided(state, own.owner, own.items, own.read);
        match self.obstacle(state, own, &write) {
            Some(Obstacle::Waits) => {}
            Some(_) => next.step(state, Step::SweepDiffers, |state| state.sweeper = Sweeper::Idle),
            None => next.step(state, Step::SweepCommit, |state| {
                self.change(state, &write, true);
                for (item, came) in own.items.iter().zip(write.came.iter()) {
                    match state.database.held(item) {
                        None => state.database.insert(item, came),
                        Some(held) if self.stays(held, came) => {}
                        Some(_) => state.database.move_on(item, came),
                    }
                }
                state.sweeper = Sweeper::Idle;
            }),
        }
    }

    /// Whether a held row stays exactly as it is: it goes on waiting for the same, or its order is locked.
    fn stays(&self, held: Held, came: Came) -> bool {
        let is_locked = came.reason == Some(Reason::ForLock) && self.mutation != Mutation::BusyReplayCleared;
        let is_the_same = !held.is_asked_for() && came.reason == Some(held.reason);
        came.outcome == Outcome::Waiting && (is_locked || is_the_same)
    }

    /// Resolves open rows of refused payments that have been accepted or have gone back.
    fn resolve_refused(&self, state: &State, next: &mut Next) {
        let is_over = |item| {
            let Some(Content::Payment { transaction, .. }) = self.content(state, item) else { return false };
            let rows = state.database.payments[usize::from(transaction)];
            rows.iter().flatten().any(|payment| payment.disposition != Disposition::Refused)
        };
        let is_done = |item: Item, held: Held| {
            let is_open = held.state == HeldState::Open && !held.is_asked_for();
            is_open && held.reason.is_of_refused_payment() && is_over(item)
        };
        let rows = state.database.items().filter(|(item, row)| row.held.is_some_and(|held| is_done(*item, held)));
        let items: Vec<Item> = rows.map(|(item, _)| item).collect();
        if !items.is_empty() && self.mutation != Mutation::RefusedNeverResolved {
            next.step(state, Step::SweepResolves, |state| {
                for item in items {
                    let held = state.database.row_mut(item).iter_mut().filter_map(|row| row.held.as_mut());
                    held.for_each(|held| held.state = HeldState::Resolved);
                }
            });
        }
    }

    /// Tells an operator of everything that waits, but for what an operator has asked for.
    fn expire(&self, state: &State, next: &mut Next) {
        if !self.scenario.may_expire {
            return;
        }
        let mut expired = *state;
        for row in expired.database.ledger.iter_mut().flatten().flatten() {
            if let Some(held) = &mut row.held
                && held.state == HeldState::Waiting
                && !held.is_asked_for()
            {
                held.state = HeldState::Open;
                row.outcome = Outcome::Quarantined;
            }
        }
        if expired != *state {
            next.step(state, Step::Expire, |state| *state = expired);
        }
    }
}
