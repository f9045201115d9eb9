//! The protocol as a state machine: the initial state of a scenario, and all steps of all parts.

use crate::explore::Machine;
use crate::inline_vec::InlineVec;
use crate::mutation::Mutation;
use crate::rows::{Database, Order, REFUNDS, TRANSACTIONS};
use crate::scenario::{Scenario, Start};
use crate::shop::PENDING;
use crate::state::{
    CALLBACKS, LANES, Lane, MESSAGES, Message, ORDERS, PARTS, Phase, Queued, Relay, Request, Shop, State, Sweeper,
};
use crate::step::Step;
use crate::violation::Violation;

/// One scenario under the protocol, or under a mutation of it.
#[derive(Debug, Clone, Copy)]
pub struct Protocol {
    /// What is told, and what may go wrong.
    pub scenario: Scenario,
    /// The bug that the protocol has.
    pub mutation: Mutation,
}

/// The steps that can happen in one state, each with the state after it.
#[derive(Debug)]
pub struct Next<'a> {
    steps: &'a mut Vec<(Step, State)>,
    only_lock_time_outs: bool,
}

impl Next<'_> {
    /// Adds one step.
    pub fn step(&mut self, state: &State, step: Step, change: impl FnOnce(&mut State)) {
        let mut after = *state;
        change(&mut after);
        self.steps.push((step, after));
    }

    /// Adds a fault, if there may be another.
    pub fn fault(&mut self, state: &State, step: Step, change: impl FnOnce(&mut State)) {
        if self.only_lock_time_outs && !matches!(step, Step::LockTimesOut(_)) {
            return;
        }
        if let Some(faults_left) = state.faults_left.checked_sub(1) {
            self.step(&State { faults_left, ..*state }, step, change);
        }
    }
}

impl Lane {
    /// Nothing in hand.
    pub const IDLE: Self =
        Self { inbox: InlineVec::EMPTY, batch: InlineVec::EMPTY, is_cut_off: false, phase: Phase::Idle };
}

impl Machine for Protocol {
    type State = State;
    type Step = Step;
    type Violation = Violation;

    /// The workers are alike, and what WeChat Pay would send again is nothing once it has been told of everything.
    fn key(&self, state: &State) -> State {
        let mut key = *state;
        key.lanes.sort_unstable();
        if state.told.iter().zip(self.scenario.callbacks).all(|(told, _)| *told) {
            key.retries_left = 0;
        }
        key
    }

    fn start(&self) -> State {
        let mut state = State {
            told: [false; CALLBACKS],
            messages: InlineVec::EMPTY,
            queue: [Queued::default(); MESSAGES],
            lanes: [Lane::IDLE; LANES],
            sweeper: Sweeper::Idle,
            relay: Relay::Idle,
            shop: Shop::Idle,
            database: Database {
                orders: [None; ORDERS],
                payments: [[None; ORDERS]; TRANSACTIONS],
                refunds: [None; REFUNDS],
                ledger: [[None; PARTS]; MESSAGES],
                events: InlineVec::EMPTY,
                has_row_twice: false,
                is_illegal: false,
            },
            retries_left: self.scenario.retries,
            faults_left: self.scenario.faults,
            copies_left: self.scenario.copies,
            changes_left: self.scenario.changes,
            deeds_left: self.scenario.deeds,
        };
        for (row, start) in state.database.orders.iter_mut().zip(self.scenario.orders) {
            *row = match *start {
                Start::There(state) => Some(Order { state, ..PENDING }),
                Start::Late => None,
            };
        }
        if !self.scenario.with_ingest {
            for (callback, _) in (0..).zip(self.scenario.callbacks) {
                state.told[usize::from(callback)] = true;
                state.queue[usize::from(callback)].fresh = 1;
                state.messages.push(Message { callback, request: Request::Over, was_stored: true });
            }
        }
        state
    }

    fn steps(&self, state: &State, next: &mut Vec<(Step, State)>) {
        let mut next = Next { steps: next, only_lock_time_outs: self.scenario.only_lock_time_outs };
        self.edge_steps(state, &mut next);
        self.shop_steps(state, &mut next);
        self.operator_steps(state, &mut next);
        self.lane_steps(state, &mut next);
        self.sweep_steps(state, &mut next);
        self.relay_steps(state, &mut next);
    }

    fn is_chance(&self, step: Step) -> bool {
        step.is_chance()
    }

    fn violations(&self, state: &State) -> Vec<Violation> {
        self.broken_now(state)
    }

    fn violations_when_quiescent(&self, state: &State) -> Vec<Violation> {
        self.broken_in_the_end(state)
    }
}
