//! The protocol as it is: in every scenario no reachable state is broken, none is a trap, and every end is right.
//!
//! The lower bounds are there because a model that cannot move finds nothing wrong either.

use std::mem::discriminant;

use model::explore::explore;
use model::mutation::Mutation;
use model::protocol::Protocol;
use model::scenario::{
    ALL_EARLY, COMBINED, COMBINED_LATE, COPIED, GIVEN_UP, GIVEN_UP_BY_OPERATOR, ORDER_LATE, PAID_TWICE, REFUND_EARLY,
    REFUND_REPEATED, REFUSED_AND_RETURNED, REPLAYED_BESIDE_REFUND, REPORTED_TWICE, RETURNED_IN_PARTS, SHOP_IN_THE_WAY,
    SURPLUS_RETURNED, Scenario, TOLD_AGAIN, TWO_ORDERS,
};
use model::step::Step;

#[test]
fn a_payment_that_is_reported_repeatedly_is_applied_once() {
    holds(TOLD_AGAIN, 600_000, 60);
}

#[test]
fn two_messages_with_one_id_are_one_row() {
    holds(COPIED, 100_000, 20);
}

#[test]
fn of_two_transactions_one_pays_and_the_other_is_refused() {
    holds(PAID_TWICE, 300_000, 60);
}

#[test]
fn a_payment_waits_for_its_order_and_heals() {
    holds(ORDER_LATE, 150_000, 40);
}

#[test]
fn an_order_is_either_paid_or_given_up() {
    holds(GIVEN_UP, 80_000, 40);
}

#[test]
fn a_refund_waits_for_its_payment_and_heals() {
    holds(REFUND_EARLY, 200_000, 15);
}

#[test]
fn a_refund_and_its_payment_wait_for_their_order_and_heal() {
    holds(ALL_EARLY, 900_000, 50);
}

#[test]
fn the_merchant_receives_the_refusal_and_the_return_of_a_payment() {
    holds(REFUSED_AND_RETURNED, 350_000, 25);
}

#[test]
fn a_payment_that_the_order_did_not_want_goes_back_once() {
    holds(SURPLUS_RETURNED, 1_000_000, 10);
}

#[test]
fn money_that_went_back_pays_no_order_whatever_shop_and_operator_do() {
    holds(REPLAYED_BESIDE_REFUND, 400_000, 150);
}

#[test]
fn a_payment_reported_twice_is_refused_once_and_goes_back_once() {
    holds(REPORTED_TWICE, 200_000, 500);
}

#[test]
fn a_refused_payment_that_goes_back_in_parts_pays_no_order() {
    holds(RETURNED_IN_PARTS, 200_000, 500);
}

#[test]
fn one_transaction_pays_one_order() {
    holds(TWO_ORDERS, 150_000, 20);
}

#[test]
fn each_part_of_a_combined_callback_is_decided_on_its_own() {
    holds(COMBINED, 1_500_000, 400);
}

#[test]
fn a_combined_callback_held_as_a_whole_is_taken_apart_later() {
    holds(COMBINED_LATE, 1_000_000, 200);
}

#[test]
fn a_shop_that_locks_and_saves_late_undoes_no_payment() {
    holds(SHOP_IN_THE_WAY, 100_000, 100);
}

#[test]
fn what_an_operator_gave_up_is_decided_anew_when_it_is_reported_again() {
    holds(GIVEN_UP_BY_OPERATOR, 60_000, 100);
}

#[test]
fn a_contradiction_that_an_operator_accepts_is_applied_once() {
    holds(REFUND_REPEATED, 400_000, 60);
}

/// What never happens in the model is not checked by it. Four steps belong to spoilt protocols alone.
#[test]
fn every_step_happens_in_some_scenario() {
    let mut happened: Vec<Step> = Vec::new();
    for scenario in [COPIED, ORDER_LATE, GIVEN_UP, TWO_ORDERS, SHOP_IN_THE_WAY, SURPLUS_RETURNED] {
        for step in explore(&Protocol { scenario, mutation: Mutation::None }).happened {
            if happened.iter().all(|other| discriminant(other) != discriminant(&step)) {
                happened.push(step);
            }
        }
    }
    let sentences: Vec<String> = happened.iter().map(ToString::to_string).collect();
    assert_eq!(happened.len(), 51 - 4, "{sentences:#?}");
}

#[track_caller]
fn holds(scenario: Scenario, states_min: usize, at_rest_min: usize) {
    let explored = explore(&Protocol { scenario, mutation: Mutation::None });
    println!("{}: {} states, {} at rest", scenario.name, explored.states, explored.quiescent);
    assert!(explored.problems().is_empty(), "{}:\n{}", scenario.name, explored.problems());
    assert!(explored.states >= states_min, "only {} states", explored.states);
    assert!(explored.quiescent >= at_rest_min, "only {} states at rest", explored.quiescent);
}
