//! The protocol spoilt on purpose: the explorer finds each fault, and the way to it reads as a story.

use model::explore::explore;
use model::invariants::Broken;
use model::protocol::Protocol;
use model::scenario::{GIVEN_UP, PAID_TWICE, Scenario, Swap, TOLD_AGAIN};

/// Big enough for every swap: a repeat for the other worker, and one fault.
const SMALL: Scenario = Scenario { name: "one payment, told up to twice", retries: 1, faults: 1, ..TOLD_AGAIN };

#[test]
fn acknowledging_before_the_commit_loses_payments() {
    let told = [Broken::SuccessLost, Broken::NoRowInTheEnd, Broken::SuccessWithoutRowInTheEnd];
    let trace = finds(Swap::AckBeforeCommit, SMALL, &told);
    assert!(trace.contains("worker 0 acknowledges its batch\nworker 0 crashes"), "{trace}");
}

#[test]
fn replying_before_the_confirm_loses_payments() {
    let trace = finds(Swap::ReplyBeforeConfirm, SMALL, &[Broken::SuccessLost, Broken::SuccessWithoutRowInTheEnd]);
    assert!(trace.contains("ingest says SUCCESS for message 0, unconfirmed"), "{trace}");
    assert!(trace.ends_with("message 0 is lost on the wire"), "{trace}");
}

#[test]
fn events_after_the_transaction_are_lost() {
    finds(Swap::EventAfterTransaction, SMALL, &[Broken::ChangeWithoutEvent, Broken::WrongEventsHeard]);
}

#[test]
fn events_before_the_transaction_tell_of_nothing() {
    finds(Swap::EventBeforeTransaction, SMALL, &[Broken::EventWithoutChange, Broken::WrongEventsHeard]);
}

#[test]
fn deleting_events_before_the_confirm_loses_them() {
    finds(Swap::DeleteBeforeConfirm, SMALL, &[Broken::EventLost, Broken::WrongEventsHeard]);
}

#[test]
fn a_ledger_that_is_only_looked_up_gets_a_message_twice() {
    finds(Swap::ConflictIgnored, SMALL, &[Broken::TwoRows, Broken::NoRowInTheEnd]);
}

#[test]
fn a_ledger_that_nobody_asks_gets_a_message_twice() {
    finds(Swap::LedgerIgnored, SMALL, &[Broken::TwoRows, Broken::NoRowInTheEnd]);
}

#[test]
fn orders_without_lock_and_version_are_paid_twice() {
    finds(Swap::LockAndVersionIgnored, SMALL, &[Broken::AppliedTwice, Broken::EventWithoutChange]);
}

#[test]
fn the_version_alone_does_not_keep_the_shop_out() {
    finds(Swap::LockLeftOut, GIVEN_UP, &[Broken::WrongOutcomes]);
}

/// What stands twice in the protocol may fail once: these are no faults, and the explorer must not find any.
#[test]
fn the_key_of_the_ledger_stands_in_for_the_look_up() {
    holds(Swap::LookUpLeftOut, TOLD_AGAIN);
}

#[test]
fn the_version_of_the_order_stands_in_for_its_lock_among_workers() {
    holds(Swap::LockLeftOut, PAID_TWICE);
}

/// All of `expected` is found; returns the way to the last of them.
#[track_caller]
fn finds(swap: Swap, scenario: Scenario, expected: &[Broken]) -> String {
    let explored = explore(&Protocol { scenario, swap });
    println!("{swap:?}, {} states\n{}", explored.states, explored.problems());
    let trace = |broken: &Broken| {
        let found = explored.violations.iter().find(|violation| violation.broken == *broken);
        assert!(found.is_some(), "{swap:?} is not found out: {broken}\n{}", explored.problems());
        found.map(|violation| violation.trace.join("\n"))
    };
    let traces: Vec<String> = expected.iter().filter_map(trace).collect();
    traces.last().cloned().unwrap_or_default()
}

#[track_caller]
fn holds(swap: Swap, scenario: Scenario) {
    let explored = explore(&Protocol { scenario, swap });
    assert!(explored.problems().is_empty(), "{swap:?}:\n{}", explored.problems());
}
