//! What the ledger says about itself, each thing broken on purpose.

use super::breaks;
use super::world::World;
use crate::audit::Violation;
use crate::scenarios::Scenario;
use crate::snapshot::FoundNotification;

#[test]
fn a_row_that_does_not_name_its_event_is_found() {
    for scenario in [Scenario::Plain, Scenario::WrongAmount, Scenario::FullRefund] {
        breaks(&[Violation::WrongCausedEvent], |world| {
            let callback = world.callback(scenario);
            world.row(callback).caused = None;
        });
        breaks(&[Violation::WrongCausedEvent], |world| {
            let callback = world.callback(scenario);
            world.row(callback).caused.as_mut().unwrap().id = "of nobody".to_owned();
        });
        breaks(&[Violation::WrongCausedEvent], |world| {
            let callback = world.callback(scenario);
            world.row(callback).caused.as_mut().unwrap().kind = "refund.closed".to_owned();
        });
    }
    breaks(&[Violation::WrongCausedEvent, Violation::WrongDecisionBasis], |world| {
        let callback = world.callback(Scenario::Plain);
        world.row(callback).caused.as_mut().unwrap().version = 2;
    });
}

#[test]
fn a_row_that_names_an_event_which_it_did_not_cause_is_found() {
    breaks(&[Violation::WrongCausedEvent], |world| {
        let plain = world.callback(Scenario::Plain);
        let caused = world.row(plain).caused.clone();
        let ignored = world.callback(Scenario::NotSuccessful);
        world.row(ignored).caused = caused;
    });
    breaks(&[Violation::WrongCausedEvent, Violation::WrongDecisionBasis], |world| {
        let callback = world.callback(Scenario::ConcurrentRepeats);
        let (applied, duplicate) = {
            let body = world.row(callback).body_sha256;
            let rows: Vec<_> = world.found.notifications.iter().filter(|row| row.body_sha256 == body).collect();
            let of = |outcome: &str| (*rows.iter().find(|row| row.outcome == outcome).unwrap()).clone();
            (of("applied"), of("duplicate"))
        };
        let row = world.found.notifications.iter_mut().find(|row| row.id == duplicate.id).unwrap();
        row.caused = applied.caused;
    });
}

#[test]
fn a_refused_payment_may_be_decided_again_once_part_of_it_has_gone_back() {
    let decide_again = |world: &mut World, scenario| {
        let number = world.order(scenario).out_trade_no.clone();
        let is_refused = |row: &&mut FoundNotification| {
            row.kind == "payment" && row.outcome == "quarantined" && row.out_trade_no.as_ref() == Some(&number)
        };
        let row = world.found.notifications.iter_mut().find(is_refused).unwrap();
        row.reason = Some("partly_returned".to_owned());
        let id = row.id;
        let held = world.found.quarantine.iter_mut().find(|held| held.notification_id == id).unwrap();
        held.reason = "partly_returned".to_owned();
    };
    breaks(&[], |world| decide_again(world, Scenario::SurplusPartRefunded));
    breaks(&[Violation::WrongOutcome], |world| decide_again(world, Scenario::WrongAmount));
}

#[test]
fn versions_with_a_gap_are_found() {
    breaks(&[Violation::WrongOrderState, Violation::WrongEventVersions], |world| {
        world.order(Scenario::FullRefund).version = 3;
    });
}

#[test]
fn sums_that_do_not_follow_from_event_to_event_are_found() {
    breaks(&[Violation::WrongEventContent], |world| {
        let payload = &mut world.event_of(Scenario::SurplusPartRefunded, "payment.partially_returned").payload;
        payload.payment_returned_minor = Some(0);
    });
    breaks(&[Violation::WrongEventContent], |world| {
        world.event_of(Scenario::PartOnly, "order.partially_refunded").payload.refunded_minor = Some(0);
    });
}

#[test]
fn a_row_that_was_not_decided_on_its_order_is_found() {
    let tampers: [fn(&mut FoundNotification); 7] = [
        |row| row.seen = None,
        |row| row.key_fingerprint = None,
        |row| row.seen.as_mut().unwrap().amount_minor += 1,
        |row| row.seen.as_mut().unwrap().currency = "HKD".to_owned(),
        |row| row.seen.as_mut().unwrap().version += 1,
        |row| row.seen.as_mut().unwrap().state = "paid".to_owned(),
        |row| row.seen.as_mut().unwrap().state = "of nobody".to_owned(),
    ];
    for tamper in tampers {
        breaks(&[Violation::WrongDecisionBasis], |world| {
            let callback = world.callback(Scenario::Plain);
            tamper(world.row(callback));
        });
    }
    for (scenario, state) in [(Scenario::ClosedOrder, "paid"), (Scenario::SecondTransaction, "pending")] {
        breaks(&[Violation::WrongDecisionBasis], |world| {
            let callback = world.callback(scenario) + usize::from(scenario == Scenario::SecondTransaction);
            world.row(callback).seen.as_mut().unwrap().state = state.to_owned();
        });
    }
}

#[test]
fn a_row_that_waits_was_decided_on_no_order() {
    breaks(&[Violation::WrongDecisionBasis], |world| {
        let plain = world.callback(Scenario::Plain);
        let seen = world.row(plain).seen.clone();
        let waiting = world.callback(Scenario::UnknownOrder);
        world.row(waiting).seen = seen;
    });
}
