//! The protocol spoilt on purpose: the explorer finds each fault, and the way to it reads as a story.

use model::explore::explore;
use model::mutation::Mutation;
use model::protocol::Protocol;
use model::rows::OrderState;
use model::scenario::{
    Content, Deed, GIVEN_UP, GIVEN_UP_BY_OPERATOR, PAID_TWICE, REPLAYED_BESIDE_REFUND, REPORTED_TWICE,
    RETURNED_IN_PARTS, SHOP_IN_THE_WAY, SURPLUS_RETURNED, Scenario, Start, TOLD_AGAIN, TWO_ORDERS,
};
use model::violation::Violation;

/// Big enough for the swaps of one payment's way: a repeat for the other worker, and one fault.
const SMALL: Scenario = Scenario { name: "one payment, told up to twice", retries: 1, faults: 1, ..TOLD_AGAIN };

/// No fault is needed, nor a lock of the shop's: the operator, the refund and the shop that reopens are enough.
const REPLAYED: Scenario = Scenario { faults: 0, changes: 1, shop_locks: false, ..REPLAYED_BESIDE_REFUND };

/// The operator only replays.
const ONLY_REPLAYED: Scenario = Scenario { commands: &[Deed::Replay], ..REPLAYED };

/// The operator only resolves; the payment is reported again.
const ONLY_RESOLVED: Scenario = Scenario { faults: 0, shop_locks: false, commands: &[Deed::Resolve], ..REPORTED_TWICE };

/// A closed order is paid; the shop locks it, and reopens it.
const LOCKED_BY_SHOP: Scenario = Scenario {
    name: "a refused payment replayed while the shop locks",
    callbacks: &[&[Content::Payment { order: 0, transaction: 0 }]],
    shop_locks: true,
    deeds: 1,
    ..ONLY_REPLAYED
};

#[test]
fn acknowledging_before_the_commit_loses_payments() {
    let told = [Violation::SuccessLost, Violation::NoRowInTheEnd, Violation::SuccessWithoutRowInTheEnd];
    let trace = finds(Mutation::AckBeforeCommit, SMALL, &told);
    assert!(trace.contains("worker 0 acknowledges its batch\nworker 0 crashes"), "{trace}");
}

#[test]
fn replying_before_the_confirm_loses_payments() {
    let trace =
        finds(Mutation::ReplyBeforeConfirm, SMALL, &[Violation::SuccessLost, Violation::SuccessWithoutRowInTheEnd]);
    assert!(trace.contains("ingest says SUCCESS for message 0, unconfirmed"), "{trace}");
    assert!(trace.ends_with("message 0 is lost on the wire"), "{trace}");
}

#[test]
fn events_after_the_transaction_are_lost() {
    finds(Mutation::EventAfterTransaction, SMALL, &[Violation::ChangeWithoutEvent, Violation::WrongEventsHeard]);
}

#[test]
fn events_before_the_transaction_have_no_change() {
    finds(Mutation::EventBeforeTransaction, SMALL, &[Violation::EventWithoutChange, Violation::WrongEventsHeard]);
}

#[test]
fn deleting_events_before_the_confirm_loses_them() {
    finds(Mutation::DeleteBeforeConfirm, SMALL, &[Violation::EventLost, Violation::WrongEventsHeard]);
}

#[test]
fn a_ledger_that_is_only_looked_up_gets_a_message_twice() {
    finds(Mutation::ConflictIgnored, SMALL, &[Violation::TwoRows]);
}

#[test]
fn a_ledger_that_is_not_read_gets_a_message_twice() {
    finds(Mutation::LedgerIgnored, SMALL, &[Violation::TwoRows]);
}

#[test]
fn orders_without_lock_and_version_are_paid_twice() {
    finds(Mutation::LockAndVersionIgnored, PAID_TWICE, &[Violation::OrderPaidByTwo, Violation::EventWithoutChange]);
}

#[test]
fn the_version_alone_does_not_keep_the_shop_out() {
    finds(Mutation::LockLeftOut, GIVEN_UP, &[Violation::IllegalChange]);
}

#[test]
fn a_transaction_that_is_not_unique_pays_two_orders() {
    let trace = finds(Mutation::TransactionNotUnique, TWO_ORDERS, &[Violation::TransactionPaysTwo]);
    assert!(trace.contains("worker 1"), "{trace}");
}

#[test]
fn a_locked_order_that_counts_as_absent_turns_a_payment_against_itself() {
    finds(Mutation::LockedIsAbsent, LOCKED_BY_SHOP, &[Violation::WrongOutcomes]);
}

#[test]
fn a_refund_that_is_settled_by_reason_is_forgotten_by_a_replay() {
    let trace = finds(Mutation::SettledByReason, ONLY_REPLAYED, &[Violation::ReturnedMoneyPays]);
    assert!(trace.contains("the operator gives the command Replay"), "{trace}");
}

#[test]
fn a_refund_of_a_payment_that_was_resolved_before_is_forgotten() {
    let trace = finds(Mutation::ReturnedInferred, ONLY_RESOLVED, &[Violation::ReturnedMoneyPays]);
    assert!(trace.contains("the operator gives the command Resolve"), "{trace}");
}

#[test]
fn a_resolve_that_counts_as_a_return_makes_up_money() {
    finds(Mutation::ReturnedByResolve, ONLY_RESOLVED, &[Violation::SumsDiffer]);
}

#[test]
fn a_replay_that_ignores_what_has_gone_back_pays_with_it() {
    let scenario = Scenario { faults: 0, commands: &[Deed::Replay], shop_locks: false, ..RETURNED_IN_PARTS };
    finds(Mutation::ReplayIgnoresReturned, scenario, &[Violation::ReturnedMoneyPays, Violation::SumsDiffer]);
}

#[test]
fn a_resolve_that_takes_undecided_work_hides_it() {
    finds(Mutation::ResolveClosesWork, GIVEN_UP_BY_OPERATOR, &[Violation::WorkHidden]);
}

#[test]
fn payments_joined_into_the_lock_and_overwritten_lose_a_part_refund() {
    let scenario = Scenario { faults: 0, deeds: 0, changes: 0, ..RETURNED_IN_PARTS };
    let trace = finds(Mutation::PaymentsJoinedAndOverwritten, scenario, &[Violation::SumsDiffer]);
    assert!(trace.contains("reads the payments and waits for the orders' locks"), "{trace}");
}

#[test]
fn a_replay_that_is_forgotten_because_the_order_was_locked_hides_a_refused_payment() {
    let trace = finds(Mutation::BusyReplayCleared, LOCKED_BY_SHOP, &[Violation::RefusedUnseen]);
    assert!(trace.contains("the shop locks and reads order 0"), "{trace}");
}

#[test]
fn a_lock_that_is_given_up_strands_a_payment() {
    let scenario = Scenario { may_expire: true, deeds: 0, changes: 1, ..SHOP_IN_THE_WAY };
    finds(Mutation::LocksGivenUp, scenario, &[Violation::StillWaiting]);
}

#[test]
fn without_triggers_a_late_save_undoes_a_payment() {
    finds(Mutation::TriggersLeftOut, SHOP_IN_THE_WAY, &[Violation::OrderPaidByTwo, Violation::EventWithoutChange]);
}

#[test]
fn a_replay_of_what_was_applied_takes_the_evidence_away() {
    let orders = &[Start::Late];
    let scenario = Scenario { orders, commands: &[Deed::Replay], faults: 0, deeds: 1, ..GIVEN_UP_BY_OPERATOR };
    finds(Mutation::AppliedReplayed, scenario, &[Violation::ChangeWithoutRow]);
}

#[test]
fn rows_of_payments_that_went_back_stay_open_when_nobody_resolves_them() {
    let orders = &[Start::There(OrderState::Pending)];
    let scenario = Scenario { orders, faults: 0, ..SURPLUS_RETURNED };
    finds(Mutation::RefusedNeverResolved, scenario, &[Violation::StillOpen]);
}

/// What stands twice in the protocol may fail once: these are no faults, and the explorer must not find any.
#[test]
fn the_key_of_the_ledger_stands_in_for_the_look_up() {
    holds(Mutation::LookUpLeftOut, TOLD_AGAIN);
}

#[test]
fn the_version_of_the_order_stands_in_for_its_lock_among_workers() {
    holds(Mutation::LockLeftOut, PAID_TWICE);
}

#[test]
fn the_payment_as_it_was_read_stands_in_for_reading_it_after_the_lock() {
    holds(Mutation::PaymentsJoined, RETURNED_IN_PARTS);
}

/// All of `expected` is found; returns the way to the last of them.
#[track_caller]
fn finds(mutation: Mutation, scenario: Scenario, expected: &[Violation]) -> String {
    let explored = explore(&Protocol { scenario, mutation });
    println!("{mutation:?}, {} states\n{}", explored.states, explored.problems());
    let trace = |violation: &Violation| {
        let found = explored.counterexamples.iter().find(|it| it.violation == *violation);
        assert!(found.is_some(), "{mutation:?} is not found: {violation}\n{}", explored.problems());
        found.map(|violation| violation.trace.join("\n"))
    };
    let traces: Vec<String> = expected.iter().filter_map(trace).collect();
    traces.last().cloned().unwrap_or_default()
}

#[track_caller]
fn holds(mutation: Mutation, scenario: Scenario) {
    let explored = explore(&Protocol { scenario, mutation });
    assert!(explored.problems().is_empty(), "{mutation:?}:\n{}", explored.problems());
}
