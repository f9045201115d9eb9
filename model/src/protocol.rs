//! The protocol as a machine: the start of a scenario, and all steps of all parts.

use crate::explore::Machine;
use crate::few::Few;
use crate::invariants::Broken;
use crate::scenario::{Scenario, Swap};
use crate::state::{
    CALLBACKS, Database, LANES, Lane, MESSAGES, Order, OrderState, Phase, Queued, Relay, State, Sweeper,
};
use crate::step::Step;

/// One scenario under the protocol, or under one that is spoilt.
#[derive(Debug, Clone, Copy)]
pub struct Protocol {
    /// What is told, and what may go wrong.
    pub scenario: Scenario,
    /// How the protocol is spoilt.
    pub swap: Swap,
}

/// The steps that can happen in one state, each with the state after it.
#[derive(Debug)]
pub struct Next<'a>(&'a mut Vec<(Step, State)>);

impl Next<'_> {
    /// Adds one step.
    pub fn step(&mut self, state: &State, step: Step, change: impl FnOnce(&mut State)) {
        let mut after = *state;
        change(&mut after);
        self.0.push((step, after));
    }

    /// Adds a fault, if there may be another.
    pub fn fault(&mut self, state: &State, step: Step, change: impl FnOnce(&mut State)) {
        if let Some(faults_left) = state.faults_left.checked_sub(1) {
            self.step(&State { faults_left, ..*state }, step, change);
        }
    }
}

impl Lane {
    /// Nothing in hand.
    pub const IDLE: Self = Self { inbox: Few::EMPTY, batch: Few::EMPTY, is_cut_off: false, phase: Phase::Idle };
}

impl Machine for Protocol {
    type State = State;
    type Step = Step;
    type Broken = Broken;

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
        let order = Order { state: OrderState::Pending, version: 0 };
        State {
            told: [false; CALLBACKS],
            messages: Few::EMPTY,
            queue: [Queued::default(); MESSAGES],
            lanes: [Lane::IDLE; LANES],
            sweeper: Sweeper::Idle,
            relay: Relay::Idle,
            database: Database {
                order: self.scenario.order_is_there.then_some(order),
                is_refunded: false,
                ledger: [Few::EMPTY; MESSAGES],
                events: Few::EMPTY,
            },
            retries_left: self.scenario.retries,
            faults_left: self.scenario.faults,
            copies_left: self.scenario.copies,
        }
    }

    fn steps(&self, state: &State, next: &mut Vec<(Step, State)>) {
        let mut next = Next(next);
        self.edge_steps(state, &mut next);
        self.lane_steps(state, &mut next);
        self.sweep_steps(state, &mut next);
        self.relay_steps(state, &mut next);
    }

    fn is_fault(&self, step: Step) -> bool {
        step.is_fault()
    }

    fn broken(&self, state: &State) -> Vec<Broken> {
        self.broken_now(state)
    }

    fn broken_at_rest(&self, state: &State) -> Vec<Broken> {
        self.broken_in_the_end(state)
    }
}
