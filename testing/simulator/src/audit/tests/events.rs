//! The rules about events, each broken on purpose.

use super::breaks;
use crate::audit::Violation;
use crate::fulfilment::Payload;
use crate::scenarios::Scenario;

#[test]
fn a_payment_without_event_or_with_two_is_found() {
    breaks(&[Violation::WrongPaidEventCount, Violation::WrongEventVersions, Violation::WrongCausedEvent], |world| {
        let gone = world.event(Scenario::Plain).id.clone();
        world.consumed.events.remove(&gone);
    });
    breaks(&[Violation::WrongPaidEventCount, Violation::WrongEventVersions, Violation::WrongCausedEvent], |world| {
        let mut second = world.event(Scenario::Plain).clone();
        second.id = "second".to_owned();
        second.payload.event_id = "second".to_owned();
        world.consumed.events.insert(second.id.clone(), second);
    });
}

#[test]
fn an_event_published_twice_is_no_breach() {
    breaks(&[], |world| world.consumed.published_twice = 3);
}

#[test]
fn an_event_that_says_something_else_is_found() {
    let tampers: [fn(&mut Payload); 6] = [
        |claim| claim.event_id = "another".to_owned(),
        |claim| claim.order_id += 1_000_000,
        |claim| claim.mch_id = "another".to_owned(),
        |claim| claim.paid_at = None,
        |claim| claim.amount_minor = Some(0),
        |claim| claim.currency = Some("HKD".to_owned()),
    ];
    for tamper in tampers {
        breaks(&[Violation::WrongEventContent], |world| tamper(&mut world.event(Scenario::Plain).payload));
    }
    breaks(&[Violation::WrongEventContent, Violation::WrongCausedEvent], |world| {
        world.event(Scenario::Plain).payload.transaction_id = None;
    });
    breaks(&[Violation::WrongEventVersions, Violation::WrongEventContent, Violation::WrongCausedEvent], |world| {
        world.event(Scenario::Plain).payload.version = 2;
    });
    breaks(
        &[
            Violation::WrongPaidEventCount,
            Violation::WrongEventVersions,
            Violation::StrayEvent,
            Violation::WrongCausedEvent,
        ],
        |world| {
            world.event(Scenario::Plain).payload.sub_mch_id = Some("another".to_owned());
        },
    );
}

#[test]
fn stray_events_are_found() {
    breaks(
        &[
            Violation::WrongEventVersions,
            Violation::WrongEventContent,
            Violation::StrayEvent,
            Violation::WrongCausedEvent,
        ],
        |world| {
            let mut event = world.event(Scenario::Plain).clone();
            event.id = "stray".to_owned();
            let order = world.order(Scenario::WrongAmount);
            (event.payload.out_trade_no, event.payload.sub_mch_id) =
                (order.out_trade_no.clone(), order.sub_mch_id.clone());
            world.consumed.events.insert(event.id.clone(), event);
        },
    );
    breaks(&[Violation::StrayEvent], |world| {
        let mut event = world.event(Scenario::Plain).clone();
        event.id = "stray".to_owned();
        event.payload.out_trade_no = "SIM-of nobody".to_owned();
        world.consumed.events.insert(event.id.clone(), event);
    });
    breaks(
        &[
            Violation::WrongEventVersions,
            Violation::WrongEventContent,
            Violation::StrayEvent,
            Violation::WrongCausedEvent,
        ],
        |world| {
            let mut event = world.event(Scenario::Plain).clone();
            event.id = "stray".to_owned();
            event.payload.kind = "order.vanished".to_owned();
            world.consumed.events.insert(event.id.clone(), event);
        },
    );
    breaks(&[Violation::StrayEvent], |world| world.consumed.unreadable.push("message".to_owned()));
}
