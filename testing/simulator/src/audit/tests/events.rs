//! The rules about events, each broken on purpose.

use super::breaks;
use crate::audit::Rule;
use crate::fulfilment::Payload;
use crate::scenarios::Scenario;

#[test]
fn a_payment_without_event_or_with_two_is_found() {
    breaks(&[Rule::OnePaidEvent, Rule::Versions, Rule::CausedEvent], |world| {
        let gone = world.event(Scenario::Plain).id.clone();
        world.consumed.events.remove(&gone);
    });
    breaks(&[Rule::OnePaidEvent, Rule::Versions, Rule::CausedEvent], |world| {
        let mut second = world.event(Scenario::Plain).clone();
        second.id = "second".to_owned();
        second.says.event_id = "second".to_owned();
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
        |says| says.event_id = "another".to_owned(),
        |says| says.order_id += 1_000_000,
        |says| says.mch_id = "another".to_owned(),
        |says| says.paid_at = None,
        |says| says.amount_minor = Some(0),
        |says| says.currency = Some("HKD".to_owned()),
    ];
    for tamper in tampers {
        breaks(&[Rule::EventContent], |world| tamper(&mut world.event(Scenario::Plain).says));
    }
    breaks(&[Rule::EventContent, Rule::CausedEvent], |world| world.event(Scenario::Plain).says.transaction_id = None);
    breaks(&[Rule::Versions, Rule::EventContent, Rule::CausedEvent], |world| {
        world.event(Scenario::Plain).says.version = 2;
    });
    breaks(&[Rule::OnePaidEvent, Rule::Versions, Rule::StrayEvent, Rule::CausedEvent], |world| {
        world.event(Scenario::Plain).says.sub_mch_id = Some("another".to_owned());
    });
}

#[test]
fn stray_events_are_found() {
    breaks(&[Rule::Versions, Rule::EventContent, Rule::StrayEvent, Rule::CausedEvent], |world| {
        let mut event = world.event(Scenario::Plain).clone();
        event.id = "stray".to_owned();
        let order = world.order(Scenario::WrongAmount);
        (event.says.out_trade_no, event.says.sub_mch_id) = (order.out_trade_no.clone(), order.sub_mch_id.clone());
        world.consumed.events.insert(event.id.clone(), event);
    });
    breaks(&[Rule::StrayEvent], |world| {
        let mut event = world.event(Scenario::Plain).clone();
        event.id = "stray".to_owned();
        event.says.out_trade_no = "SIM-of nobody".to_owned();
        world.consumed.events.insert(event.id.clone(), event);
    });
    breaks(&[Rule::Versions, Rule::EventContent, Rule::StrayEvent, Rule::CausedEvent], |world| {
        let mut event = world.event(Scenario::Plain).clone();
        event.id = "stray".to_owned();
        event.says.kind = "order.vanished".to_owned();
        world.consumed.events.insert(event.id.clone(), event);
    });
    breaks(&[Rule::StrayEvent], |world| world.consumed.unreadable.push("message".to_owned()));
}
