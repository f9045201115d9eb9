//! The workers' lanes: deliver, take a batch, look up, lock and read, decide and write, commit, acknowledge.
//!
//! Between any two of these a worker may crash, lose its broker and go on without knowing, or lose its database.

use crate::database::{Open, Owner};
use crate::decide::{Came, Write};
use crate::inline_vec::InlineVec;
use crate::mutation::Mutation;
use crate::protocol::{Next, Protocol};
use crate::rows::{Outcome, Reason};
use crate::state::{Attempt, Delivery, Fresh, Item, LANES, Lane, ORDERS, Orders, PREFETCH, Phase, Read, State};
use crate::step::Step;

impl Protocol {
    /// What can happen at the lanes.
    pub fn lane_steps(&self, state: &State, next: &mut Next) {
        for at in 0..LANES {
            let lane = &state.lanes[at];
            deliver(state, at, next);
            if lane.phase == Phase::Idle && !lane.inbox.is_empty() {
                next.step(state, Step::Take(at), |state| {
                    let lane = &mut state.lanes[at];
                    lane.batch = lane.inbox;
                    lane.inbox = InlineVec::EMPTY;
                    self.start_over(state, at, false);
                });
            }
            self.batch_steps(state, at, next);
            self.lane_faults(state, at, next);
        }
    }

    fn batch_steps(&self, state: &State, at: usize, next: &mut Next) {
        let lane = &state.lanes[at];
        match lane.phase {
            Phase::Idle => {}
            Phase::Taken { ask_for_all } => {
                let fresh = look_up(state, at, ask_for_all);
                let attempt = Attempt::of(fresh);
                next.step(state, Step::LookUp(at), |state| {
                    state.lanes[at].phase = if fresh.is_empty() { Phase::Committed } else { Phase::Fresh(attempt) };
                });
            }
            Phase::Fresh(attempt) => self.lock(state, at, attempt, next),
            Phase::Joined(attempt, payments) => {
                let orders = self.orders_of(state, at, attempt);
                if !any(self.locked_among(state, at, orders)) {
                    let read = self.read(state, orders, NONE, payments);
                    next.step(state, Step::Lock(at), |state| state.lanes[at].phase = Phase::Locked(attempt, read));
                }
            }
            Phase::Locked(attempt, read) => self.write(state, at, attempt, read, next),
            Phase::Written(attempt, read) => self.commit(state, at, attempt, read, next),
            Phase::EventsOwed(attempt, read) => next.step(state, Step::WriteEvents(at), |state| {
                let write = self.decided(state, Owner::Lane(at), self.parts(state, attempt.fresh), read);
                self.add_events(&mut state.database, write.events);
                state.lanes[at].phase = Phase::Committed;
            }),
            Phase::Committed => finish_batch(state, at, next),
        }
    }

    /// A batch from its beginning: only what was delivered before can be in the ledger, so only that is looked up.
    fn start_over(&self, state: &mut State, at: usize, ask_for_all: bool) {
        let lane = &mut state.lanes[at];
        let asks = match self.mutation {
            Mutation::LedgerIgnored => false,
            Mutation::LookUpLeftOut => ask_for_all,
            _ => ask_for_all || lane.batch.iter().any(|delivery| delivery.redelivered),
        };
        let attempt = Attempt::of(distinct(lane));
        lane.phase = if asks { Phase::Taken { ask_for_all } } else { Phase::Fresh(attempt) };
    }

    fn lock(&self, state: &State, at: usize, attempt: Attempt, next: &mut Next) {
        let questions = self.questions(state, Owner::Lane(at), self.parts(state, attempt.fresh));
        let any_refund = questions.iter().any(|question| question.content.is_refund());
        if any_refund && attempt.refunded.is_none() {
            let found = attempt.with_orders(Some(self.refunded_orders(state, questions)));
            return next.step(state, Step::FindOrders(at), |state| state.lanes[at].phase = Phase::Fresh(found));
        }
        let orders = self.orders_of(state, at, attempt);
        let busy = self.locked_among(state, at, orders);
        let payments = self.payments(state, questions);
        if !any(busy) || attempt.skips {
            let read = self.read(state, orders, busy, payments);
            return next.step(state, Step::Lock(at), |state| state.lanes[at].phase = Phase::Locked(attempt, read));
        }
        let passing_by = attempt.passing_by();
        next.fault(state, Step::LockTimesOut(at), |state| state.lanes[at].phase = Phase::Fresh(passing_by));
        if matches!(self.mutation, Mutation::PaymentsJoined | Mutation::PaymentsJoinedAndOverwritten) {
            next.step(state, Step::LockBegins(at), |state| state.lanes[at].phase = Phase::Joined(attempt, payments));
        }
    }

    /// The orders that a batch names.
    fn orders_of(&self, state: &State, at: usize, attempt: Attempt) -> Orders {
        let questions = self.questions(state, Owner::Lane(at), self.parts(state, attempt.fresh));
        let mut orders = Self::paid_orders(questions);
        let refunded = attempt.refunded.unwrap_or(NONE);
        orders.iter_mut().zip(refunded).for_each(|(order, refunded)| *order |= refunded);
        orders
    }

    /// Those of the orders that others have locked.
    fn locked_among(&self, state: &State, at: usize, orders: Orders) -> Orders {
        let mut locked = self.locked(state, Owner::Lane(at));
        locked.iter_mut().zip(orders).for_each(|(locked, is_wanted)| *locked &= is_wanted);
        if self.mutation == Mutation::LockLeftOut { NONE } else { locked }
    }

    fn write(&self, state: &State, at: usize, attempt: Attempt, read: Read, next: &mut Next) {
        let own = self.own(state, at, attempt, read);
        let write = self.decided(state, own.owner, own.items, read);
        let (again, passing_by) = (attempt.with_orders(None), attempt.passing_by());
        match self.obstacle(state, own, &write) {
            Some(Obstacle::Waits) => {}
            Some(Obstacle::LedgerDiffers) => next.step(state, Step::LedgerDiffers(at), |state| {
                state.lanes[at].phase = Phase::Taken { ask_for_all: true };
            }),
            Some(Obstacle::PaymentRecorded) => next.step(state, Step::PaymentRecorded(at), |state| {
                state.lanes[at].phase = Phase::Fresh(again);
            }),
            Some(Obstacle::RowDiffers) => next.step(state, Step::RowDiffers(at), |state| {
                state.lanes[at].phase = Phase::Fresh(passing_by);
            }),
            None => next.step(state, Step::Write(at), |state| {
                state.lanes[at].phase = Phase::Written(attempt, read);
                if self.mutation == Mutation::EventBeforeTransaction {
                    self.add_events(&mut state.database, write.events);
                }
            }),
        }
    }

    fn commit(&self, state: &State, at: usize, attempt: Attempt, read: Read, next: &mut Next) {
        let lane = &state.lanes[at];
        if self.mutation == Mutation::AckBeforeCommit && !lane.batch.is_empty() && !lane.is_cut_off {
            return next.step(state, Step::Ack(at), |state| state.lanes[at].batch = InlineVec::EMPTY);
        }
        let with_events = !matches!(self.mutation, Mutation::EventAfterTransaction | Mutation::EventBeforeTransaction);
        let own = self.own(state, at, attempt, read);
        let write = self.decided(state, own.owner, own.items, read);
        let commit = |state: &mut State| {
            self.change(state, &write, with_events);
            own.items.iter().zip(write.came.iter()).for_each(|(item, came)| state.database.insert(item, came));
        };
        next.step(state, Step::Commit(at), |state| {
            commit(state);
            state.lanes[at].phase = match self.mutation {
                Mutation::EventAfterTransaction if !write.events.is_empty() => Phase::EventsOwed(attempt, read),
                _ => Phase::Committed,
            };
        });
        next.fault(state, Step::CommitUnanswered(at), |state| {
            commit(state);
            self.start_over(state, at, false);
        });
    }

    fn own(&self, state: &State, at: usize, attempt: Attempt, read: Read) -> Open {
        Open { owner: Owner::Lane(at), items: self.parts(state, attempt.fresh), read, has_written: false }
    }

    fn lane_faults(&self, state: &State, at: usize, next: &mut Next) {
        let lane = &state.lanes[at];
        let is_at_work = lane.phase != Phase::Idle;
        let has_deliveries = !lane.inbox.is_empty() || !(lane.batch.is_empty() || lane.is_cut_off);
        if is_at_work || has_deliveries {
            next.fault(state, Step::WorkerCrashes(at), |state| {
                give_back(state, at);
                state.lanes[at] = Lane::IDLE;
            });
        }
        if is_at_work && has_deliveries {
            next.fault(state, Step::WorkerIsCutOff(at), |state| {
                give_back(state, at);
                let lane = &mut state.lanes[at];
                lane.inbox = InlineVec::EMPTY;
                lane.is_cut_off = true;
            });
        }
        if let Phase::Fresh(Attempt { fresh, .. }) = lane.phase {
            self.attempt_fails(state, at, fresh, next);
        }
        if matches!(lane.phase, Phase::Fresh(_) | Phase::Joined(..) | Phase::Locked(..) | Phase::Written(..)) {
            next.fault(state, Step::TransactionBreaks(at), |state| self.start_over(state, at, false));
        }
    }

    /// A batch goes in halves; a message that fails alone, too, is held as a whole.
    fn attempt_fails(&self, state: &State, at: usize, fresh: Fresh, next: &mut Next) {
        let first = fresh.iter().take(1).collect::<Fresh>();
        if fresh.len() > 1 {
            let attempt = Attempt::of(first).passing_by();
            return next.fault(state, Step::BatchFails(at), |state| state.lanes[at].phase = Phase::Fresh(attempt));
        }
        let Some(message) = first.get(0) else { return };
        let is_being_written = self
            .open(state, Owner::Lane(at))
            .iter()
            .any(|open| open.has_written && open.items.iter().any(|item| item.message == message));
        if !is_being_written && !state.database.knows(message) {
            next.fault(state, Step::HoldsWhole(at), |state| {
                let came = Came { outcome: Outcome::Waiting, reason: Some(Reason::ForLock) };
                state.database.insert(Item { message, part: 0 }, came);
                state.lanes[at].phase = Phase::Committed;
            });
        }
    }

    /// What keeps a transaction from writing.
    #[must_use]
    pub fn obstacle(&self, state: &State, own: Open, write: &Write) -> Option<Obstacle> {
        let new = || own.items.iter().filter(|item| own.owner != Owner::Sweeper || state.database.row(*item).is_none());
        let locked = self.locked(state, own.owner);
        if write.orders.iter().zip(locked).any(|(order, is_locked)| order.is_some() && is_locked) {
            return Some(Obstacle::Waits);
        }
        let is_first = |open: &Open| {
            let other = self.decided(state, open.owner, open.items, open.read);
            let has_items = new().any(|item| open.items.contains(item));
            has_items || write.inserted().any(|payment| other.inserted().any(|other| self.collide(payment, other)))
        };
        if self.open(state, own.owner).iter().any(|open| open.has_written && is_first(open)) {
            return Some(Obstacle::Waits);
        }
        if self.rows_differ(state, write) {
            return Some(Obstacle::RowDiffers);
        }
        let is_recorded = |(transaction, order): (usize, usize)| {
            let rows = (0..ORDERS).filter(|other| state.database.payments[transaction][*other].is_some());
            rows.into_iter().any(|other| self.collide((transaction, order), (transaction, other)))
        };
        if !self.infers() && write.inserted().any(is_recorded) {
            return Some(Obstacle::PaymentRecorded);
        }
        let is_ignored = matches!(self.mutation, Mutation::ConflictIgnored | Mutation::LedgerIgnored);
        (!is_ignored && new().any(|item| state.database.row(item).is_some())).then_some(Obstacle::LedgerDiffers)
    }

    /// Whether the unique constraints let only one of two payments in, each a transaction and an order.
    fn collide(&self, one: (usize, usize), other: (usize, usize)) -> bool {
        one.0 == other.0 && (one.1 == other.1 || self.mutation != Mutation::TransactionNotUnique)
    }

    /// Whether an order has a newer version, or a payment or refund is not as it was read.
    fn rows_differ(&self, state: &State, write: &Write) -> bool {
        let database = &state.database;
        if self.mutation == Mutation::LockAndVersionIgnored {
            return false;
        }
        let is_newer = database
            .orders
            .iter()
            .zip(write.orders)
            .any(|(row, written)| row.zip(written).is_some_and(|(row, written)| row.version >= written.version));
        let overwrites =
            matches!(self.mutation, Mutation::PaymentsJoinedAndOverwritten | Mutation::ReplayIgnoresReturned);
        let rows = database.payments.iter().flatten().zip(write.payments.iter().flatten());
        let payment_moved = rows.into_iter().any(|(row, written)| {
            let was = written.and_then(|written| written.was);
            was.is_some() && was != row.map(|row| (row.disposition, row.returned))
        });
        let mut refunds = database.refunds.iter().zip(write.refunds);
        let refund_moved = refunds.any(|(row, written)| written.is_some_and(|written| written.was != *row));
        is_newer || (payment_moved && !overwrites && !self.infers()) || (refund_moved && !self.infers())
    }
}

/// What keeps a transaction from writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Obstacle {
    /// Another transaction has written the same and is still open.
    Waits,
    /// The ledger has a part already.
    LedgerDiffers,
    /// A payment with the transaction is on record.
    PaymentRecorded,
    /// A row is not as it was read.
    RowDiffers,
}

/// No order.
const NONE: Orders = [false; ORDERS];

fn any(orders: Orders) -> bool {
    orders.contains(&true)
}

/// The messages of a batch, each once.
fn distinct(lane: &Lane) -> Fresh {
    let mut seen = Fresh::EMPTY;
    for delivery in lane.batch.iter() {
        if !seen.contains(delivery.message) {
            seen.push(delivery.message);
        }
    }
    seen
}

/// The messages of the batch, each once, but for those in the ledger among those that may be there.
fn look_up(state: &State, at: usize, ask_for_all: bool) -> Fresh {
    let lane = &state.lanes[at];
    let is_redelivered = |message| lane.batch.contains(Delivery { message, redelivered: true });
    let is_known = |message| (ask_for_all || is_redelivered(message)) && state.database.knows(message);
    distinct(lane).iter().filter(|message| !is_known(*message)).collect()
}

/// Acknowledges, or goes on with the other half of a batch that failed.
fn finish_batch(state: &State, at: usize, next: &mut Next) {
    let lane = &state.lanes[at];
    let left: Fresh = distinct(lane).iter().filter(|message| !state.database.knows(*message)).collect();
    let done = Lane { inbox: lane.inbox, ..Lane::IDLE };
    if !left.is_empty() {
        let attempt = Attempt::of(left).passing_by();
        next.step(state, Step::GoOn(at), |state| state.lanes[at].phase = Phase::Fresh(attempt));
    } else if lane.is_cut_off {
        next.step(state, Step::AckStale(at), |state| state.lanes[at] = done);
    } else {
        next.step(state, Step::Ack(at), |state| state.lanes[at] = done);
    }
}

/// In any order, those that came back before or after those that are new.
fn deliver(state: &State, at: usize, next: &mut Next) {
    let lane = &state.lanes[at];
    if lane.is_cut_off || lane.inbox.len() + lane.batch.len() == PREFETCH {
        return;
    }
    for (message, queued) in (0..).zip(state.queue) {
        for (redelivered, copies) in [(false, queued.fresh), (true, queued.returned)] {
            if copies > 0 {
                next.step(state, Step::Deliver { lane: at, message }, |state| {
                    let queued = &mut state.queue[usize::from(message)];
                    let copies = if redelivered { &mut queued.returned } else { &mut queued.fresh };
                    *copies -= 1;
                    state.lanes[at].inbox.push(Delivery { message, redelivered });
                });
            }
        }
    }
}

/// The broker takes back what the lane holds, if it has not done so already.
fn give_back(state: &mut State, at: usize) {
    let lane = state.lanes[at];
    let batch = lane.batch.iter().filter(|_| !lane.is_cut_off);
    for delivery in lane.inbox.iter().chain(batch) {
        state.queue[usize::from(delivery.message)].returned += 1;
    }
}
