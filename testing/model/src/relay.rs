//! The relay: reads the outbox, publishes, and deletes what the broker has confirmed. One at a time, by its lock.

use crate::inline_vec::InlineVec;
use crate::mutation::Mutation;
use crate::protocol::{Next, Protocol};
use crate::state::{EVENTS, Relay, State};
use crate::step::Step;

impl Protocol {
    /// What can happen at the relay.
    pub fn relay_steps(&self, state: &State, next: &mut Next) {
        let Relay::Publishing { left, confirmed } = state.relay else { return self.begin(state, next) };
        next.fault(state, Step::RelayBreaks, |state| state.relay = Relay::Idle);
        let Some(event) = left.iter().next() else {
            let step = |state: &mut State| {
                state.relay = Relay::Idle;
                delete(state, confirmed);
            };
            return next.step(state, Step::RelayDelete, step);
        };
        let left = left.iter().skip(1).collect();
        next.step(state, Step::RelayPublish(event), |state| {
            let confirmed = confirmed.iter().chain([event]).collect();
            state.relay = Relay::Publishing { left, confirmed };
            hear(state, event);
        });
        next.fault(state, Step::RelayUnconfirmed(event), |state| {
            state.relay = Relay::Publishing { left, confirmed };
            hear(state, event);
        });
        next.fault(state, Step::RelayLost(event), |state| state.relay = Relay::Publishing { left, confirmed });
    }

    fn begin(&self, state: &State, next: &mut Next) {
        let rows = (0..).zip(state.database.events.iter());
        let left: InlineVec<u8, EVENTS> = rows.filter(|(_, row)| row.is_in_outbox).map(|(place, _)| place).collect();
        if left.is_empty() {
            return;
        }
        next.step(state, Step::RelayRead, |state| {
            state.relay = Relay::Publishing { left, confirmed: InlineVec::EMPTY };
            if self.mutation == Mutation::DeleteBeforeConfirm {
                delete(state, left);
            }
        });
    }
}

fn delete(state: &mut State, places: InlineVec<u8, EVENTS>) {
    let rows = (0..).zip(state.database.events.iter_mut());
    rows.filter(|(place, _)| places.contains(*place)).for_each(|(_, row)| row.is_in_outbox = false);
}

fn hear(state: &mut State, event: u8) {
    if let Some(row) = state.database.events.get_mut(usize::from(event)) {
        row.is_heard = true;
    }
}
