//! The workers' lanes: deliver, take a batch, look up, lock and read, decide and write, commit, acknowledge.
//!
//! Between any two of these a worker may crash, lose its broker and go on without knowing, or lose its database.

use crate::database::Owner;
use crate::few::Few;
use crate::protocol::{Next, Protocol};
use crate::scenario::Swap;
use crate::state::{Delivery, LANES, Lane, MESSAGES, MessageId, PREFETCH, Phase, Read, State, Write};
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
                    lane.inbox = Few::EMPTY;
                    lane.phase = Phase::Taken { ask_for_all: false };
                });
            }
            self.batch_steps(state, at, next);
            lane_faults(state, at, next);
        }
    }

    fn batch_steps(&self, state: &State, at: usize, next: &mut Next) {
        match state.lanes[at].phase {
            Phase::Idle => {}
            Phase::Taken { ask_for_all } => {
                let fresh = self.look_up(state, at, ask_for_all);
                next.step(state, Step::LookUp(at), |state| {
                    state.lanes[at].phase = if fresh.is_empty() { Phase::Committed } else { Phase::Fresh(fresh) };
                });
            }
            Phase::Fresh(fresh) => self.lock(state, at, fresh, next),
            Phase::Locked(fresh, read) => self.write(state, at, fresh, read, next),
            Phase::Written(write, _) => self.commit(state, at, write, next),
            Phase::EventsOwed(events) => next.step(state, Step::WriteEvents(at), |state| {
                state.database.add_events(events);
                state.lanes[at].phase = Phase::Committed;
            }),
            Phase::Committed if !is_done(state, at) => next.step(state, Step::GoOn(at), |state| {
                state.lanes[at].phase = Phase::Taken { ask_for_all: false };
            }),
            Phase::Committed if state.lanes[at].is_cut_off => next.step(state, Step::AckStale(at), |state| {
                let lane = &mut state.lanes[at];
                *lane = Lane { inbox: lane.inbox, ..Lane::IDLE };
            }),
            Phase::Committed => next.step(state, Step::Ack(at), |state| {
                let lane = &mut state.lanes[at];
                *lane = Lane { inbox: lane.inbox, ..Lane::IDLE };
            }),
        }
    }

    /// The messages of the batch, each once, but for those in the ledger among those that may be there.
    fn look_up(&self, state: &State, at: usize, ask_for_all: bool) -> Few<MessageId, MESSAGES> {
        let mut fresh = Few::EMPTY;
        let mut seen = Few::<MessageId, MESSAGES>::EMPTY;
        for delivery in state.lanes[at].batch.iter() {
            let is_first = !seen.contains(delivery.message);
            let is_asked_for = match self.swap {
                Swap::LedgerIgnored => false,
                Swap::LookUpLeftOut => ask_for_all,
                _ => ask_for_all || delivery.redelivered,
            };
            if is_first {
                seen.push(delivery.message);
                if !(is_asked_for && state.database.knows(delivery.message)) {
                    fresh.push(delivery.message);
                }
            }
        }
        fresh
    }

    fn lock(&self, state: &State, at: usize, fresh: Few<MessageId, MESSAGES>, next: &mut Next) {
        let read = |order| Phase::Locked(fresh, self.read(state, fresh, order));
        if self.swap == Swap::LockLeftOut || !self.is_locked(state, Owner::Lane(at)) {
            next.step(state, Step::Lock(at), |state| state.lanes[at].phase = read(true));
        } else {
            next.fault(state, Step::LockTimesOut(at), |state| state.lanes[at].phase = read(false));
        }
    }

    fn write(&self, state: &State, at: usize, fresh: Few<MessageId, MESSAGES>, read: Read, next: &mut Next) {
        let write = self.decided(state, fresh, read);
        let order_is_held = write.order.is_some() && self.is_locked(state, Owner::Lane(at));
        if order_is_held || Self::is_being_written(state, Owner::Lane(at), fresh) {
            return;
        }
        let is_ignored = matches!(self.swap, Swap::ConflictIgnored | Swap::LedgerIgnored);
        if !is_ignored && fresh.iter().any(|message| state.database.knows(message)) {
            return next.step(state, Step::LedgerDiffers(at), |state| {
                state.lanes[at].phase = Phase::Taken { ask_for_all: true };
            });
        }
        let is_newer = |version| state.database.order.is_some_and(|order| order.version >= version);
        if self.swap != Swap::LockAndVersionIgnored && write.order.is_some_and(|order| is_newer(order.version)) {
            return next.step(state, Step::VersionDiffers(at), |state| {
                state.lanes[at].phase = Phase::Taken { ask_for_all: false };
            });
        }
        next.step(state, Step::Write(at), |state| {
            state.lanes[at].phase = Phase::Written(write, read);
            if self.swap == Swap::EventBeforeTransaction {
                state.database.add_events(write.events);
            }
        });
    }

    fn commit(&self, state: &State, at: usize, write: Write, next: &mut Next) {
        let lane = &state.lanes[at];
        if self.swap == Swap::AckBeforeCommit && !lane.batch.is_empty() && !lane.is_cut_off {
            return next.step(state, Step::Ack(at), |state| state.lanes[at].batch = Few::EMPTY);
        }
        let is_apart = matches!(self.swap, Swap::EventAfterTransaction | Swap::EventBeforeTransaction);
        let written = if is_apart { Write { events: Few::EMPTY, ..write } } else { write };
        next.step(state, Step::Commit(at), |state| {
            state.database.insert(&written);
            state.lanes[at].phase = match self.swap {
                Swap::EventAfterTransaction if !write.events.is_empty() => Phase::EventsOwed(write.events),
                _ => Phase::Committed,
            };
        });
        next.fault(state, Step::CommitUnanswered(at), |state| {
            state.database.insert(&written);
            state.lanes[at].phase = Phase::Taken { ask_for_all: false };
        });
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

fn lane_faults(state: &State, at: usize, next: &mut Next) {
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
            lane.inbox = Few::EMPTY;
            lane.is_cut_off = true;
        });
    }
    if let Phase::Fresh(fresh) = lane.phase
        && fresh.len() > 1
    {
        next.fault(state, Step::BatchFails(at), |state| {
            state.lanes[at].phase = Phase::Fresh(fresh.iter().take(1).collect());
        });
    }
    if matches!(lane.phase, Phase::Fresh(_) | Phase::Locked(..) | Phase::Written(..)) {
        next.fault(state, Step::TransactionBreaks(at), |state| {
            state.lanes[at].phase = Phase::Taken { ask_for_all: false };
        });
    }
}

/// Whether the ledger has all of the batch. It has not while a batch that failed goes one message at a time.
fn is_done(state: &State, at: usize) -> bool {
    state.lanes[at].batch.iter().all(|delivery| state.database.knows(delivery.message))
}

/// The broker takes back what the lane holds, if it has not done so already.
fn give_back(state: &mut State, at: usize) {
    let lane = state.lanes[at];
    let batch = lane.batch.iter().filter(|_| !lane.is_cut_off);
    for delivery in lane.inbox.iter().chain(batch) {
        state.queue[usize::from(delivery.message)].returned += 1;
    }
}
