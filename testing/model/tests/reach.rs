//! What operator, shop and sweeper are there for does happen in the scenarios: a model in which it cannot would find nothing
//! wrong with it either.

use model::explore::{Machine, explore};
use model::mutation::Mutation;
use model::protocol::Protocol;
use model::rows::{Disposition, End, Happened, HeldState, OrderState, Outcome, Told};
use model::scenario::{
    COMBINED, COMBINED_LATE, GIVEN_UP_BY_OPERATOR, REFUND_REPEATED, REPLAYED_BESIDE_REFUND, RETURNED_IN_PARTS,
    SHOP_IN_THE_WAY, Scenario, TWO_ORDERS,
};
use model::state::State;
use model::step::Step;

/// The protocol, looking for a state at rest in which something has happened.
struct Search {
    protocol: Protocol,
    happened: fn(&State) -> bool,
}

impl Machine for Search {
    type State = State;
    type Step = Step;
    type Violation = &'static str;

    fn key(&self, state: &State) -> State {
        self.protocol.key(state)
    }

    fn start(&self) -> State {
        self.protocol.start()
    }

    fn steps(&self, state: &State, next: &mut Vec<(Step, State)>) {
        self.protocol.steps(state, next);
    }

    fn is_chance(&self, step: Step) -> bool {
        self.protocol.is_chance(step)
    }

    fn violations(&self, _: &State) -> Vec<&'static str> {
        Vec::new()
    }

    fn violations_when_quiescent(&self, state: &State) -> Vec<&'static str> {
        if (self.happened)(state) { vec!["it happens"] } else { Vec::new() }
    }
}

#[test]
fn a_refused_payment_pays_when_the_order_was_reopened_and_an_operator_replays() {
    let trace = happens(Scenario { faults: 0, ..REPLAYED_BESIDE_REFUND }, |state| {
        was_refused(state, 0) && is(state, 0, Disposition::Accepted)
    });
    assert!(trace.contains("the shop saves order 0 as it read it, pending"), "{trace}");
    assert!(trace.contains("the operator gives the command Replay"), "{trace}");
}

#[test]
fn a_payment_that_went_back_in_parts_is_returned() {
    happens(Scenario { faults: 0, ..RETURNED_IN_PARTS }, |state| {
        let told = [Happened::Refund(0, Told::PaymentPartiallyReturned), Happened::Refund(1, Told::PaymentReturned)];
        is(state, 0, Disposition::Returned) && told.into_iter().all(|told| heard(state, told))
    });
}

#[test]
fn a_payment_of_which_a_part_went_back_is_not_accepted_by_a_replay() {
    happens(Scenario { faults: 0, ..RETURNED_IN_PARTS }, |state| {
        let mut held = state.database.items().filter_map(|(_, row)| row.held);
        held.any(|held| held.reason.name() == "partly_returned")
    });
}

#[test]
fn a_transaction_of_another_order_is_held() {
    let trace = happens(Scenario { faults: 0, ..TWO_ORDERS }, |state| {
        let mut held = state.database.items().filter_map(|(_, row)| row.held);
        held.any(|held| held.reason.name() == "transaction_conflict")
    });
    assert!(!trace.is_empty());
}

#[test]
fn two_lanes_record_one_transaction_at_the_same_time() {
    let explored = explore(&Protocol { scenario: Scenario { faults: 0, ..TWO_ORDERS }, mutation: Mutation::None });
    assert!(explored.happened.iter().any(|step| matches!(step, Step::PaymentRecorded(_))));
}

#[test]
fn one_part_of_a_combined_callback_pays_and_the_other_is_refused() {
    happens(Scenario { faults: 0, ..COMBINED }, |state| {
        is(state, 0, Disposition::Accepted) && is(state, 1, Disposition::Refused)
    });
}

#[test]
fn a_combined_callback_that_was_held_as_a_whole_pays_both_orders() {
    let trace = happens(Scenario { faults: 1, ..COMBINED_LATE }, |state| {
        let whole = state.database.ledger[0][0].is_some_and(|row| row.held.is_some());
        let taken_apart = state.database.ledger[0][1].is_some_and(|row| row.held.is_none());
        whole && taken_apart && is(state, 0, Disposition::Accepted) && is(state, 1, Disposition::Accepted)
    });
    assert!(trace.contains("holds it as a whole"), "{trace}");
}

#[test]
fn a_locked_order_is_passed_by_and_its_payment_heals() {
    let trace = happens(SHOP_IN_THE_WAY, |state| {
        let mut rows = state.database.items().map(|(_, row)| row);
        rows.any(|row| row.outcome == Outcome::Applied && row.held.is_some_and(|held| held.reason.name() == "for_lock"))
    });
    assert!(trace.contains("has waited for the lock too long"), "{trace}");
}

#[test]
fn what_was_given_up_pays_when_it_is_reported_again() {
    let trace = happens(Scenario { faults: 0, ..GIVEN_UP_BY_OPERATOR }, |state| {
        let mut rows = state.database.items().map(|(_, row)| row);
        rows.any(|row| row.outcome == Outcome::Abandoned) && is(state, 0, Disposition::Accepted)
    });
    assert!(trace.contains("the operator gives the command Abandon"), "{trace}");
}

#[test]
fn what_an_operator_resolved_stays_resolved() {
    happens(Scenario { faults: 0, ..REPLAYED_BESIDE_REFUND }, |state| {
        let mut held = state.database.items().filter_map(|(_, row)| row.held);
        is(state, 0, Disposition::Returned) && held.any(|held| held.state == HeldState::ResolvedByOperator)
    });
}

#[test]
fn a_refund_that_was_closed_succeeds_when_an_operator_accepts_it() {
    let trace = happens(Scenario { faults: 0, ..REFUND_REPEATED }, |state| {
        let order = state.database.orders[0].map(|order| order.state);
        let end = state.database.refunds[0].map(|refund| refund.end);
        let closed = heard(state, Happened::Refund(0, Told::RefundClosed));
        closed && (order, end) == (Some(OrderState::Refunded(0)), Some(End::Succeeded))
    });
    assert!(trace.contains("the operator gives the command Accept"), "{trace}");
}

fn is(state: &State, transaction: usize, disposition: Disposition) -> bool {
    let mut payments = state.database.payments.get(transaction).into_iter().flatten().flatten();
    payments.any(|payment| payment.disposition == disposition)
}

fn was_refused(state: &State, transaction: u8) -> bool {
    heard(state, Happened::Refused(transaction))
}

fn heard(state: &State, happened: Happened) -> bool {
    state.database.events.iter().any(|row| row.event.happened == happened)
}

/// Returns a shortest way to it.
#[track_caller]
fn happens(scenario: Scenario, happened: fn(&State) -> bool) -> String {
    let explored = explore(&Search { protocol: Protocol { scenario, mutation: Mutation::None }, happened });
    let found = explored.counterexamples.first();
    assert!(found.is_some(), "it never happens in {} states", explored.states);
    found.map(|violation| violation.trace.join("\n")).unwrap_or_default()
}
