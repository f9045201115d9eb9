//! The sweeper: held messages, decided again by the same code as the lanes', passing by what is locked.

use crate::database::Owner;
use crate::protocol::{Next, Protocol};
use crate::state::{Awaited, Entry, State, Sweeper, Write};
use crate::step::Step;

impl Protocol {
    /// What can happen at the sweeper.
    pub fn sweep_steps(&self, state: &State, next: &mut Next) {
        match state.sweeper {
            Sweeper::Idle => {
                for awaited in [Awaited::Order, Awaited::Payment] {
                    let due = state.database.due(awaited);
                    if !due.is_empty() {
                        let read = self.read(state, due, !self.is_locked(state, Owner::Sweeper));
                        next.step(state, Step::SweepLock, |state| {
                            state.sweeper = Sweeper::Locked(awaited, due, read);
                        });
                    }
                }
            }
            Sweeper::Locked(awaited, due, read) => {
                let write = self.decided(state, due, read);
                // A row that goes on waiting for the same is left as it is.
                let moved = write.entries.iter().filter(|(_, entry)| *entry != Entry::Waiting(awaited)).collect();
                next.step(state, Step::SweepWrite, |state| {
                    state.sweeper = Sweeper::Written(Write { entries: moved, ..write }, read);
                });
            }
            Sweeper::Written(write, _) => next.step(state, Step::SweepCommit, |state| {
                state.database.move_on(&write);
                state.sweeper = Sweeper::Idle;
            }),
        }
        if state.sweeper != Sweeper::Idle {
            next.fault(state, Step::SweepBreaks, |state| state.sweeper = Sweeper::Idle);
        }
        self.expire(state, next);
    }

    /// Rows that the sweeper has locked are passed by: it is one sweeper here, so they are only waited for.
    fn expire(&self, state: &State, next: &mut Next) {
        let mut expired = state.database;
        expired.expire();
        if self.scenario.may_expire && state.sweeper == Sweeper::Idle && expired != state.database {
            next.step(state, Step::Expire, |state| state.database = expired);
        }
    }
}
