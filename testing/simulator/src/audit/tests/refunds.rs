//! The rules about refunds, each broken on purpose.

use uuid::Uuid;

use super::breaks;
use crate::audit::Rule;
use crate::evidence::{FoundNotification, FoundRefund};
use crate::fulfilment::Payload;
use crate::scenarios::Scenario;

#[test]
fn a_refund_that_is_not_as_reported_is_found() {
    breaks(&[Rule::RefundState], |world| world.refund_row(Scenario::RefundClosed).state = "abnormal".to_owned());
    breaks(&[Rule::RefundState], |world| world.refund_row(Scenario::FullRefund).succeeded_at = None);
    breaks(&[Rule::RefundState], |world| world.refund_row(Scenario::WrongRefundAmount).state = "succeeded".to_owned());
    breaks(&[Rule::PaymentRecord, Rule::RefundState, Rule::EventContent], |world| {
        world.refund_row(Scenario::FullRefund).transaction_id = Some("another".to_owned());
    });
    breaks(&[Rule::RefundState, Rule::EventContent], |world| {
        world.refund_row(Scenario::RefundClosed).refund_id = Some("another".to_owned());
    });
    breaks(&[Rule::RefundState], |world| {
        let row = world.refund_row(Scenario::RefundClosed).clone();
        world.found.refunds.push(FoundRefund { out_refund_no: "of nobody".to_owned(), ..row });
    });
}

#[test]
fn refunds_that_do_not_add_up_are_found() {
    breaks(&[Rule::RefundState], |world| world.order(Scenario::PartOnly).refunded_minor -= 1);
    breaks(&[Rule::OrderState], |world| world.order(Scenario::FullRefund).state = "paid".to_owned());
}

#[test]
fn a_refund_applied_twice_or_untold_is_found() {
    breaks(&[Rule::Outcome, Rule::OrderState, Rule::OneRefundEvent, Rule::CausedEvent], |world| {
        let refund = world.callback(Scenario::RefundClosed) + 1;
        world.book.records[refund].accepted += 1;
        let row = world.row(refund).clone();
        world.found.notifications.push(FoundNotification { id: Uuid::from_u128(9_999_999), ..row });
    });
    breaks(&[Rule::OneRefundEvent, Rule::Versions, Rule::CausedEvent], |world| {
        let gone = world.refund_event(Scenario::RefundClosed).id.clone();
        world.consumed.events.remove(&gone);
    });
    breaks(&[Rule::OneRefundEvent, Rule::Versions, Rule::CausedEvent], |world| {
        let mut second = world.refund_event(Scenario::FullRefund).clone();
        second.id = "second".to_owned();
        second.says.event_id = "second".to_owned();
        world.consumed.events.insert(second.id.clone(), second);
    });
}

#[test]
fn a_refund_event_that_says_something_else_is_found() {
    breaks(&[Rule::Versions, Rule::CausedEvent], |world| world.refund_event(Scenario::FullRefund).says.version = 1);
    let tampers: [fn(&mut Payload); 4] = [
        |says| says.payment_amount_minor = None,
        |says| says.refund_id = None,
        |says| says.refund_amount_minor = Some(0),
        |says| says.refunded_minor = Some(0),
    ];
    for tamper in tampers {
        breaks(&[Rule::EventContent], |world| tamper(&mut world.refund_event(Scenario::FullRefund).says));
    }
}

#[test]
fn a_surplus_that_went_back_is_resolved_and_no_other_refusal_is() {
    breaks(&[Rule::Quarantine], |world| {
        let refused = world.callback(Scenario::SecondTransaction) + 1;
        let id = world.row(refused).id;
        world.found.quarantine.iter_mut().find(|row| row.notification_id == id).unwrap().state = "resolved".to_owned();
    });
}
