//! The rules about refunds, each broken on purpose.

use uuid::Uuid;

use super::breaks;
use crate::audit::Violation;
use crate::fulfilment::Payload;
use crate::scenarios::Scenario;
use crate::snapshot::{FoundNotification, FoundRefund};

#[test]
fn a_refund_that_is_not_as_reported_is_found() {
    breaks(&[Violation::WrongRefundState], |world| {
        world.refund_row(Scenario::RefundClosed).state = "abnormal".to_owned();
    });
    breaks(&[Violation::WrongRefundState], |world| world.refund_row(Scenario::FullRefund).succeeded_at = None);
    breaks(&[Violation::WrongRefundState], |world| {
        world.refund_row(Scenario::WrongRefundAmount).state = "succeeded".to_owned();
    });
    breaks(&[Violation::WrongPaymentRecord, Violation::WrongRefundState, Violation::WrongEventContent], |world| {
        world.refund_row(Scenario::FullRefund).transaction_id = Some("another".to_owned());
    });
    breaks(&[Violation::WrongRefundState, Violation::WrongEventContent], |world| {
        world.refund_row(Scenario::RefundClosed).refund_id = Some("another".to_owned());
    });
    breaks(&[Violation::WrongRefundState], |world| {
        let row = world.refund_row(Scenario::RefundClosed).clone();
        world.found.refunds.push(FoundRefund { out_refund_no: "of nobody".to_owned(), ..row });
    });
}

#[test]
fn refunds_that_do_not_add_up_are_found() {
    breaks(&[Violation::WrongRefundState], |world| world.order(Scenario::PartOnly).refunded_minor -= 1);
    breaks(&[Violation::WrongOrderState], |world| world.order(Scenario::FullRefund).state = "paid".to_owned());
}

#[test]
fn a_refund_applied_twice_or_without_an_event_is_found() {
    breaks(
        &[
            Violation::WrongOutcome,
            Violation::WrongOrderState,
            Violation::WrongRefundEventCount,
            Violation::WrongCausedEvent,
        ],
        |world| {
            let refund = world.callback(Scenario::RefundClosed) + 1;
            world.log.records[refund].accepted += 1;
            let row = world.row(refund).clone();
            world.found.notifications.push(FoundNotification { id: Uuid::from_u128(9_999_999), ..row });
        },
    );
    breaks(&[Violation::WrongRefundEventCount, Violation::WrongEventVersions, Violation::WrongCausedEvent], |world| {
        let gone = world.refund_event(Scenario::RefundClosed).id.clone();
        world.consumed.events.remove(&gone);
    });
    breaks(&[Violation::WrongRefundEventCount, Violation::WrongEventVersions, Violation::WrongCausedEvent], |world| {
        let mut second = world.refund_event(Scenario::FullRefund).clone();
        second.id = "second".to_owned();
        second.payload.event_id = "second".to_owned();
        world.consumed.events.insert(second.id.clone(), second);
    });
}

#[test]
fn a_refund_event_that_says_something_else_is_found() {
    breaks(&[Violation::WrongEventVersions, Violation::WrongCausedEvent], |world| {
        world.refund_event(Scenario::FullRefund).payload.version = 1;
    });
    let tampers: [fn(&mut Payload); 4] = [
        |claim| claim.payment_amount_minor = None,
        |claim| claim.refund_id = None,
        |claim| claim.refund_amount_minor = Some(0),
        |claim| claim.refunded_minor = Some(0),
    ];
    for tamper in tampers {
        breaks(&[Violation::WrongEventContent], |world| tamper(&mut world.refund_event(Scenario::FullRefund).payload));
    }
}

#[test]
fn a_surplus_that_went_back_is_resolved_and_no_other_refusal_is() {
    breaks(&[Violation::QuarantineMismatch], |world| {
        let refused = world.callback(Scenario::SecondTransaction) + 1;
        let id = world.row(refused).id;
        world.found.quarantine.iter_mut().find(|row| row.notification_id == id).unwrap().state = "resolved".to_owned();
    });
}
