//! Each rule is violated on purpose: a perfect run with one thing changed.

mod caused;
mod events;
mod payments;
mod refunds;
mod world;

use uuid::Uuid;

use self::world::{World, body};
use super::{EXAMPLES_MAX, Violation};
use crate::scenarios::Scenario;
use crate::snapshot::{FoundNotification, FoundOrder, FoundQuarantine};

type TamperWithOrder = fn(&mut FoundOrder);

/// `tamper`, then exactly these rules must be broken.
#[track_caller]
fn breaks(rules: &[Violation], tamper: impl FnOnce(&mut World)) {
    let mut world = World::perfect();
    tamper(&mut world);
    let findings = world.audit();
    let broken: Vec<Violation> =
        Violation::ALL.into_iter().filter(|violation| findings.count(*violation) > 0).collect();
    assert_eq!(broken, rules, "{findings:#?}");
    for violation in rules {
        assert!(!findings.examples(*violation).is_empty());
    }
}

#[test]
fn a_perfect_run_breaks_no_rule_and_has_every_scenario() {
    breaks(&[], |world| {
        for scenario in Scenario::all() {
            world.callback(scenario);
        }
    });
}

#[test]
fn a_forgery_answered_success_is_found() {
    breaks(&[Violation::ForgeryAccepted], |world| {
        let forged = world.callback(Scenario::Forgery);
        world.log.records[forged].accepted = 1;
    });
}

#[test]
fn a_forgery_in_the_ledger_is_found() {
    breaks(&[Violation::ForgeryStored], |world| {
        let forged = world.callback(Scenario::Forgery);
        let plain = world.callback(Scenario::Plain);
        let row = FoundNotification {
            id: Uuid::from_u128(9_999_999),
            body_sha256: Some(body(forged)),
            outcome: "ignored".to_owned(),
            ..world.row(plain).clone()
        };
        world.found.notifications.push(row);
    });
}

#[test]
fn a_genuine_callback_that_was_rejected_is_found() {
    breaks(&[Violation::GenuineRejected], |world| {
        let plain = world.callback(Scenario::Plain);
        world.log.records[plain].rejected = 1;
    });
}

#[test]
fn a_callback_answered_success_and_lost_is_found() {
    breaks(&[Violation::WrongRowCount], |world| {
        let ignored = world.callback(Scenario::NotSuccessful);
        world.found.notifications.retain(|row| row.body_sha256 != Some(body(ignored)));
    });
}

#[test]
fn a_payment_answered_success_and_lost_is_found() {
    let rules = [
        Violation::WrongRowCount,
        Violation::WrongOutcome,
        Violation::WrongOrderState,
        Violation::WrongPaymentRecord,
        Violation::WrongEventContent,
        Violation::WrongCausedEvent,
    ];
    breaks(&rules, |world| {
        let plain = world.callback(Scenario::Plain);
        world.found.notifications.retain(|row| row.body_sha256 != Some(body(plain)));
        let order = world.order(Scenario::Plain);
        order.transaction_id = Some("of nobody".to_owned());
        let event = world.event(Scenario::Plain);
        event.payload.transaction_id = Some("of nobody".to_owned());
    });
}

#[test]
fn a_second_row_for_one_success_is_found() {
    breaks(&[Violation::WrongRowCount], |world| {
        let ignored = world.callback(Scenario::NotSuccessful);
        let row = world.row(ignored).clone();
        world.found.notifications.push(FoundNotification { id: Uuid::from_u128(9_999_999), ..row });
    });
}

#[test]
fn an_answer_in_doubt_may_be_in_the_ledger_or_not() {
    breaks(&[], |world| {
        let ignored = world.callback(Scenario::NotSuccessful);
        world.log.records[ignored].unsure = 1;
        let row = world.row(ignored).clone();
        world.found.notifications.push(FoundNotification { id: Uuid::from_u128(9_999_999), ..row });
        let plain = world.callback(Scenario::Plain);
        world.log.records[plain].unsure = 1;
    });
}

#[test]
fn bytes_that_were_never_sent_are_found() {
    breaks(&[Violation::WrongRowCount, Violation::UnknownBody], |world| {
        let ignored = world.callback(Scenario::NotSuccessful);
        world.row(ignored).body_sha256 = Some([7; 32]);
    });
}

#[test]
fn rows_of_other_traffic_are_left_alone() {
    breaks(&[], |world| {
        let ignored = world.callback(Scenario::NotSuccessful);
        let row = world.row(ignored).clone();
        let out_trade_no = Some("another shop's".to_owned());
        world.found.notifications.push(FoundNotification { body_sha256: Some([7; 32]), out_trade_no, ..row });
        let refused = world.quarantine(Scenario::WrongAmount).clone();
        world.found.quarantine.push(FoundQuarantine {
            notification_id: Uuid::from_u128(9_999_999),
            out_trade_no: None,
            ..refused
        });
    });
}

#[test]
fn a_wrong_outcome_is_found() {
    let of_a_change = [
        Violation::WrongOutcome,
        Violation::WrongOrderState,
        Violation::WrongPaymentRecord,
        Violation::WrongCausedEvent,
    ];
    for (scenario, rules) in
        [(Scenario::NotSuccessful, [Violation::WrongOutcome].as_slice()), (Scenario::Plain, of_a_change.as_slice())]
    {
        breaks(rules, |world| {
            let callback = world.callback(scenario);
            let row = world.row(callback);
            row.outcome = "duplicate".to_owned();
            row.reason = None;
        });
    }
}

#[test]
fn a_wrong_reason_is_found_in_both_places() {
    breaks(&[Violation::WrongOutcome, Violation::WrongEventContent, Violation::WrongCausedEvent], |world| {
        let callback = world.callback(Scenario::WrongCurrency);
        world.row(callback).reason = Some("amount_mismatch".to_owned());
        world.quarantine(Scenario::WrongCurrency).reason = "amount_mismatch".to_owned();
    });
}

#[test]
fn an_order_applied_twice_is_found() {
    breaks(
        &[
            Violation::WrongOutcome,
            Violation::WrongOrderState,
            Violation::WrongCausedEvent,
            Violation::WrongDecisionBasis,
        ],
        |world| {
            let callback = world.callback(Scenario::ConcurrentRepeats);
            for row in world.found.notifications.iter_mut().filter(|row| row.body_sha256 == Some(body(callback))) {
                row.outcome = "applied".to_owned();
            }
        },
    );
}

#[test]
fn a_row_with_the_numbers_of_another_order_is_found() {
    breaks(&[Violation::WrongOutcome], |world| {
        let callback = world.callback(Scenario::Plain);
        world.row(callback).transaction_id = Some("of another".to_owned());
    });
}

#[test]
fn either_of_two_transactions_may_win() {
    let first = World::perfect().callback(Scenario::SecondTransaction);
    let mut world = World::delivered(|callbacks| callbacks.swap(first, first + 1));
    assert_eq!(world.payment_of(first).disposition, "refused");
    assert_eq!(world.payment_of(first + 1).disposition, "accepted");
    assert!(world.audit().is_clean(), "{:#?}", world.audit());
}

#[test]
fn every_change_to_an_order_is_found() {
    let tampers: [(Scenario, TamperWithOrder); 8] = [
        (Scenario::Plain, |order| order.amount_minor += 1),
        (Scenario::Plain, |order| order.version = 2),
        (Scenario::Plain, |order| order.sub_mch_id = Some("another".to_owned())),
        (Scenario::Plain, |order| order.paid_at = Some(chrono::DateTime::UNIX_EPOCH)),
        (Scenario::WrongAmount, |order| order.version = 0),
        (Scenario::WrongAmount, |order| order.app_id = Some("another".to_owned())),
        (Scenario::ClosedOrder, |order| order.state = "pending".to_owned()),
        (Scenario::NotSuccessful, |order| order.currency = "HKD".to_owned()),
    ];
    for (scenario, tamper) in tampers {
        let mut world = World::perfect();
        tamper(world.order(scenario));
        assert_eq!(world.audit().count(Violation::WrongOrderState), 1, "{scenario:?}");
    }
}

#[test]
fn an_order_that_nobody_paid_is_found_paid() {
    breaks(
        &[
            Violation::WrongOutcome,
            Violation::WrongOrderState,
            Violation::WrongPaymentRecord,
            Violation::WrongPaidEventCount,
        ],
        |world| {
            let order = world.order(Scenario::WrongAmount);
            order.state = "paid".to_owned();
            order.transaction_id = Some("T".to_owned());
        },
    );
}

#[test]
fn an_order_that_was_paid_is_found_pending() {
    let rules = [
        Violation::WrongOutcome,
        Violation::WrongOrderState,
        Violation::WrongPaymentRecord,
        Violation::WrongEventVersions,
        Violation::WrongEventContent,
        Violation::StrayEvent,
    ];
    breaks(&rules, |world| {
        let order = world.order(Scenario::Plain);
        order.state = "pending".to_owned();
        order.transaction_id = None;
        order.paid_at = None;
        order.version = 0;
    });
}

#[test]
fn missing_and_surplus_orders_are_found() {
    breaks(&[Violation::WrongOrderState], |world| {
        let gone = world.order(Scenario::NotSuccessful).out_trade_no.clone();
        world.found.orders.retain(|row| row.out_trade_no != gone);
    });
    breaks(&[Violation::WrongOrderState], |world| {
        let unknown = world.plan.callbacks[world.callback(Scenario::UnknownOrder)].order;
        let number = world.plan.orders[unknown].out_trade_no.clone();
        let row = world.order(Scenario::NotSuccessful).clone();
        world.found.orders.push(FoundOrder { out_trade_no: number, ..row });
    });
    breaks(&[Violation::WrongOrderState], |world| {
        let row = world.order(Scenario::Plain).clone();
        world.found.orders.push(FoundOrder { mch_id: "another".to_owned(), ..row });
    });
}

#[test]
fn ledger_and_quarantine_that_disagree_are_found() {
    breaks(&[Violation::QuarantineMismatch], |world| {
        world.quarantine(Scenario::WrongAmount).state = "resolved".to_owned();
    });
    breaks(&[Violation::QuarantineMismatch], |world| {
        world.quarantine(Scenario::WrongAmount).reason = "paid_twice".to_owned();
    });
    breaks(&[Violation::QuarantineMismatch], |world| {
        world.quarantine(Scenario::UnknownOrder).state = "open".to_owned();
    });
    breaks(&[Violation::QuarantineMismatch], |world| {
        world.found.quarantine.pop();
    });
    breaks(&[Violation::QuarantineMismatch], |world| {
        let row = world.quarantine(Scenario::WrongAmount).clone();
        world.found.quarantine.push(FoundQuarantine { notification_id: Uuid::from_u128(9_999_999), ..row });
    });
    breaks(&[Violation::QuarantineMismatch], |world| {
        let plain = world.callback(Scenario::Plain);
        let notification_id = world.row(plain).id;
        let row = world.quarantine(Scenario::WrongAmount).clone();
        world.found.quarantine.push(FoundQuarantine { notification_id, ..row });
    });
}

#[test]
fn a_healed_wait_leaves_a_resolved_row() {
    breaks(&[], |world| {
        let late = world.callback(Scenario::LateOrder);
        let notification_id = world.row(late).id;
        let row = world.quarantine(Scenario::UnknownOrder).clone();
        let state = "resolved".to_owned();
        world.found.quarantine.push(FoundQuarantine { notification_id, state, ..row });
    });
}

#[test]
fn an_expired_wait_is_open() {
    breaks(&[], |world| {
        let callback = world.callback(Scenario::UnknownOrder);
        world.row(callback).outcome = "quarantined".to_owned();
        world.quarantine(Scenario::UnknownOrder).state = "open".to_owned();
    });
}

#[test]
fn an_event_left_in_the_outbox_is_found() {
    breaks(&[Violation::OutboxNotEmpty], |world| world.found.outbox = 1);
}

#[test]
fn only_lateness_may_mend_with_time() {
    let mut late = World::perfect();
    late.found.outbox = 1;
    assert!(!late.audit().is_final());
    let mut wrong = World::perfect();
    wrong.event(Scenario::Plain).payload.amount_minor = Some(0);
    assert!(wrong.audit().is_final());
}

#[test]
fn many_breaches_are_counted_and_a_few_shown() {
    let mut world = World::perfect();
    world.found.notifications.clear();
    let findings = world.audit();
    assert!(findings.count(Violation::WrongRowCount) > 500);
    assert_eq!(findings.examples(Violation::WrongRowCount).len(), EXAMPLES_MAX);
}
