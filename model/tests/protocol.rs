//! The protocol as it is: in every scenario no reachable state is broken, none is a trap, and every end is right.
//!
//! The lower bounds are there because a model that cannot move finds nothing wrong either.

use std::mem::discriminant;

use model::explore::explore;
use model::protocol::Protocol;
use model::scenario::{
    ALL_EARLY, COPIED, GIVEN_UP, ORDER_LATE, PAID_TWICE, REFUND_EARLY, SURPLUS_RETURNED, Scenario, Swap, TOLD_AGAIN,
};
use model::step::Step;

#[test]
fn a_payment_told_again_and_again_is_applied_once() {
    holds(TOLD_AGAIN, 600_000, 30);
}

#[test]
fn two_messages_with_one_id_are_one_row() {
    holds(COPIED, 90_000, 12);
}

#[test]
fn of_two_transactions_one_pays_and_the_other_is_held() {
    holds(PAID_TWICE, 300_000, 60);
}

#[test]
fn a_payment_waits_for_its_order_and_heals() {
    holds(ORDER_LATE, 150_000, 10);
}

#[test]
fn an_order_is_either_paid_or_given_up() {
    holds(GIVEN_UP, 30_000, 20);
}

#[test]
fn a_refund_waits_for_its_payment_and_heals() {
    holds(REFUND_EARLY, 200_000, 15);
}

#[test]
fn a_refund_and_its_payment_wait_for_their_order_and_heal() {
    holds(ALL_EARLY, 500_000, 10);
}

#[test]
fn a_payment_that_the_order_did_not_want_goes_back_once() {
    holds(SURPLUS_RETURNED, 600_000, 10);
}

/// What never happens in the model is not checked by it. Three steps belong to spoilt protocols alone.
#[test]
fn every_step_happens_in_some_scenario() {
    let mut happened: Vec<Step> = Vec::new();
    for scenario in [COPIED, ORDER_LATE, GIVEN_UP] {
        for step in explore(&Protocol { scenario, swap: Swap::None }).happened {
            if happened.iter().all(|other| discriminant(other) != discriminant(&step)) {
                happened.push(step);
            }
        }
    }
    let sentences: Vec<String> = happened.iter().map(ToString::to_string).collect();
    assert_eq!(happened.len(), 42 - 3, "{sentences:#?}");
}

#[track_caller]
fn holds(scenario: Scenario, states_min: usize, at_rest_min: usize) {
    let explored = explore(&Protocol { scenario, swap: Swap::None });
    println!("{}: {} states, {} at rest", scenario.name, explored.states, explored.at_rest);
    assert!(explored.problems().is_empty(), "{}:\n{}", scenario.name, explored.problems());
    assert!(explored.states >= states_min, "only {} states", explored.states);
    assert!(explored.at_rest >= at_rest_min, "only {} states at rest", explored.at_rest);
}
