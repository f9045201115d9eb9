//! The rules about payments as facts, each broken on purpose.

use uuid::Uuid;

use super::breaks;
use crate::audit::Violation;
use crate::fulfilment::Payload;
use crate::scenarios::Scenario;
use crate::snapshot::FoundPayment;

#[test]
fn a_payment_that_is_not_on_record_as_it_was_reported_is_found() {
    let tampers: [fn(&mut FoundPayment); 5] = [
        |payment| payment.currency = "HKD".to_owned(),
        |payment| payment.mch_id = "another".to_owned(),
        |payment| payment.brought_by = None,
        |payment| payment.brought_by = Some((Uuid::from_u128(9_999_999), 0)),
        |payment| payment.returned_minor += 1,
    ];
    for tamper in tampers {
        breaks(&[Violation::WrongPaymentRecord], |world| tamper(world.payment(Scenario::Plain)));
        breaks(&[Violation::WrongPaymentRecord], |world| tamper(world.payment(Scenario::PartOnly)));
    }
    let also_in_the_event: [fn(&mut FoundPayment); 3] = [
        |payment| payment.amount_minor += 1,
        |payment| payment.currency = "HKD".to_owned(),
        |payment| payment.paid_at = chrono::DateTime::UNIX_EPOCH,
    ];
    for tamper in also_in_the_event {
        breaks(&[Violation::WrongPaymentRecord, Violation::WrongEventContent], |world| {
            tamper(world.payment(Scenario::WrongAmount));
        });
    }
}

#[test]
fn a_payment_that_is_missing_on_record_is_found() {
    // The events that tell of it have nothing to agree with.
    breaks(&[Violation::WrongPaymentRecord, Violation::WrongEventContent], |world| {
        let gone = world.payment(Scenario::Plain).transaction_id.clone();
        world.found.payments.retain(|payment| payment.transaction_id != gone);
    });
    breaks(
        &[Violation::WrongOutcome, Violation::WrongPaymentRecord, Violation::WrongEventContent, Violation::StrayEvent],
        |world| {
            let gone = world.payment(Scenario::WrongCurrency).transaction_id.clone();
            world.found.payments.retain(|payment| payment.transaction_id != gone);
        },
    );
}

#[test]
fn a_payment_on_record_that_was_not_reported_is_found() {
    breaks(&[Violation::WrongPaymentRecord], |world| {
        let payment = world.payment(Scenario::Plain).clone();
        let (transaction_id, disposition) = ("of nobody".to_owned(), "accepted".to_owned());
        world.found.payments.push(FoundPayment { transaction_id, disposition, ..payment });
    });
    breaks(&[Violation::WrongPaymentRecord], |world| {
        let payment = world.payment(Scenario::Plain).clone();
        world.found.payments.push(FoundPayment { order_id: 9_999_999, ..payment });
    });
}

#[test]
fn a_payment_of_another_shop_on_record_is_found() {
    breaks(&[Violation::WrongPaymentRecord], |world| {
        let of_another = world.callback(Scenario::WrongSubMchId);
        let claim = world.plan.callbacks[of_another].claim.payment().unwrap().clone();
        let order_id = world.order(Scenario::WrongSubMchId).id;
        let payment = FoundPayment {
            order_id,
            transaction_id: claim.transaction_id,
            disposition: "accepted".to_owned(),
            ..world.payment(Scenario::Plain).clone()
        };
        world.found.payments.push(payment);
    });
}

#[test]
fn a_transaction_that_is_on_record_twice_or_pays_two_orders_is_found() {
    breaks(&[Violation::WrongPaymentRecord], |world| {
        let payment = world.payment(Scenario::Plain).clone();
        world.found.payments.push(payment);
    });
    breaks(
        &[
            Violation::WrongOutcome,
            Violation::WrongOrderState,
            Violation::WrongPaymentRecord,
            Violation::WrongPaidEventCount,
        ],
        |world| {
            let (transaction_id, paid_at) = {
                let order = world.order(Scenario::Plain);
                (order.transaction_id.clone(), order.paid_at)
            };
            let order = world.order(Scenario::NotSuccessful);
            order.state = "paid".to_owned();
            (order.transaction_id, order.paid_at) = (transaction_id, paid_at);
        },
    );
}

#[test]
fn a_refused_payment_that_counts_as_accepted_is_found() {
    breaks(
        &[Violation::WrongOutcome, Violation::WrongPaymentRecord, Violation::WrongEventContent, Violation::StrayEvent],
        |world| {
            world.payment(Scenario::WrongCurrency).disposition = "accepted".to_owned();
        },
    );
}

#[test]
fn what_has_gone_back_of_a_refused_payment_adds_up() {
    breaks(&[Violation::WrongPaymentRecord, Violation::QuarantineMismatch], |world| {
        world.payment(Scenario::RefusedRefunded).disposition = "refused".to_owned();
    });
    breaks(&[Violation::WrongPaymentRecord], |world| world.payment(Scenario::RefusedRefunded).returned_minor -= 1);
}

#[test]
fn a_refused_payment_without_exactly_one_event_is_found() {
    breaks(&[Violation::WrongRefusedEventCount, Violation::WrongEventVersions, Violation::WrongCausedEvent], |world| {
        let gone = world.event_of(Scenario::WrongAmount, "payment.refused").id.clone();
        world.consumed.events.remove(&gone);
    });
    breaks(&[Violation::WrongRefusedEventCount, Violation::WrongEventVersions, Violation::WrongCausedEvent], |world| {
        let mut second = world.event_of(Scenario::WrongAmount, "payment.refused").clone();
        second.id = "second".to_owned();
        second.payload.event_id = "second".to_owned();
        world.consumed.events.insert(second.id.clone(), second);
    });
}

#[test]
fn an_event_of_a_refused_payment_that_says_something_else_is_found() {
    let tampers: [fn(&mut Payload); 4] = [
        |claim| claim.payment_amount_minor = Some(0),
        |claim| claim.payment_currency = None,
        |claim| claim.paid_at = None,
        |claim| claim.amount_minor = None,
    ];
    for tamper in tampers {
        breaks(&[Violation::WrongEventContent], |world| {
            tamper(&mut world.event_of(Scenario::WrongAmount, "payment.refused").payload);
        });
    }
    breaks(&[Violation::WrongEventContent, Violation::WrongCausedEvent], |world| {
        world.event_of(Scenario::WrongAmount, "payment.refused").payload.reason = Some("paid_twice".to_owned());
    });
}

#[test]
fn a_refused_payment_that_nobody_sees_is_found() {
    breaks(&[Violation::QuarantineMismatch], |world| {
        let held = world.quarantine(Scenario::WrongCurrency);
        held.state = "resolved".to_owned();
        (held.resolved_by, held.resolution) = (Some("sweeper".to_owned()), Some("returned".to_owned()));
    });
    breaks(
        &[
            Violation::WrongOutcome,
            Violation::WrongOrderState,
            Violation::WrongPaymentRecord,
            Violation::WrongEventContent,
            Violation::WrongCausedEvent,
        ],
        |world| {
            let callback = world.callback(Scenario::WrongCurrency);
            let row = world.row(callback);
            (row.outcome, row.reason) = ("duplicate".to_owned(), None);
            let id = row.id;
            world.found.quarantine.retain(|held| held.notification_id != id);
        },
    );
}

#[test]
fn a_row_of_a_payment_that_went_back_is_resolved_by_the_sweeper() {
    breaks(&[Violation::QuarantineMismatch], |world| {
        world.quarantine(Scenario::RefusedRefunded).state = "open".to_owned();
    });
    breaks(&[Violation::QuarantineMismatch], |world| {
        world.quarantine(Scenario::RefusedRefunded).resolved_by = Some("an operator".to_owned());
    });
    breaks(&[Violation::QuarantineMismatch], |world| {
        world.quarantine(Scenario::RefusedRefunded).resolution = Some("accepted".to_owned());
    });
}

#[test]
fn the_orders_of_two_shops_with_one_number_are_kept_apart() {
    breaks(&[Violation::WrongOrderState, Violation::WrongEventContent, Violation::WrongDecisionBasis], |world| {
        let number = world.order(Scenario::SameNumber).out_trade_no.clone();
        let mut both: Vec<_> = world.found.orders.iter_mut().filter(|row| row.out_trade_no == number).collect();
        let [first, second] = both.as_mut_slice() else { panic!("two orders have the number {number}") };
        std::mem::swap(&mut first.amount_minor, &mut second.amount_minor);
    });
}
