//! Orders that another session has locked: not decided, and never taken for absent.

use shared::domain::ids::SubMchId;
use shared::domain::notification::PaymentResult;
use shared::domain::order::{Order, OrderState};
use shared::domain::payment::Disposition;
use shared::domain::verdict::Ignored;
use worker::batch::outcome::{Held, NotDecided, Outcome};
use worker::batch::plan::{Item, Rows, plan};

use super::{
    accepted, assert_changes_nothing, key_of, names, order, outcomes, paid_by, payment, payment_of, pending,
    plan_reports, recorded, refund, replayed, succeeded, success,
};

/// "Locked" is not "absent": the order is there, and another session may be changing its payment at this moment.
#[test]
fn a_payment_of_a_locked_order_waits_for_the_lock_and_not_for_the_order() {
    let finding = payment("A", "t1", 100);
    for item in [Item::reported(&finding), replayed(&finding), accepted(&finding)] {
        for payments in [vec![], vec![recorded("t1", Disposition::Refused, 0)]] {
            let plan = plan(Rows { payments, ..busy(&[pending(7, "A")]) }, [item].into_iter());
            assert_is_locked(&outcomes(&plan)[0]);
            assert_eq!(plan.decided[0].seen, None);
            assert_changes_nothing(&plan);
        }
    }
}

#[test]
fn a_refund_of_a_locked_orders_payment_waits_for_the_lock() {
    let finding = refund("A", "t1", "r1", 100, succeeded());
    for item in [Item::reported(&finding), replayed(&finding), accepted(&finding)] {
        for disposition in [Disposition::Accepted, Disposition::Refused] {
            let payments = vec![recorded("t1", disposition, 0)];
            let plan = plan(Rows { payments, ..busy(&[order(7, "A", paid_by("t1"))]) }, [item].into_iter());
            assert_is_locked(&outcomes(&plan)[0]);
            assert_changes_nothing(&plan);
        }
    }
}

/// It names no order but by its payment, and that one is not on record.
#[test]
fn a_refund_of_an_unknown_payment_of_a_locked_order_waits_for_the_payment() {
    let findings = [payment("A", "t1", 100), refund("A", "t1", "r1", 100, succeeded())];
    let plan = plan_reports(busy(&[pending(7, "A")]), &findings);
    assert_eq!(names(&plan), [("waiting", Some("for_lock")), ("waiting", Some("for_payment"))]);
    assert_changes_nothing(&plan);
}

#[test]
fn an_order_that_is_absent_is_no_locked_one() {
    let mut of_shop = pending(8, "A");
    of_shop.sub_mch_id = SubMchId::parse("1900000300");
    let findings = [payment("NOBODY", "t2", 100), payment("A", "t1", 100)];
    let plan = plan_reports(busy(&[of_shop]), &findings);
    assert_eq!(names(&plan), [("waiting", Some("for_order")); 2]);
}

/// The lock on one order costs its neighbours nothing.
#[test]
fn the_batch_goes_on_without_a_locked_order() {
    let mut rows = busy(&[pending(7, "A")]);
    rows.orders = vec![pending(8, "B")];
    let findings = [payment("A", "t1", 100), payment("B", "t2", 100), payment("A", "t1", 100)];
    let plan = plan_reports(rows, &findings);
    assert_eq!(names(&plan), [("waiting", Some("for_lock")), ("applied", None), ("waiting", Some("for_lock"))]);
    assert_eq!(plan.orders.keys().copied().collect::<Vec<_>>(), [8]);
}

/// No order decides about it, so no lock is waited for.
#[test]
fn a_payment_that_failed_needs_no_lock() {
    let plan = plan_reports(busy(&[pending(7, "A")]), &[payment_of("A", None, PaymentResult::NotSuccessful)]);
    assert_eq!(outcomes(&plan), [Outcome::Ignored(Ignored::NotSuccessful)]);
    assert_changes_nothing(&plan);
}

/// A locked order of one shop does not stop the other shops' orders with the same number.
#[test]
fn a_locked_order_is_one_shops_own() {
    let mut rows = busy(&[pending(7, "A")]);
    rows.orders = vec![Order { sub_mch_id: SubMchId::parse("1900000300"), ..pending(8, "A") }];
    let plan = plan_reports(rows, &[payment_of("A", Some("1900000300"), success("t2", 100))]);
    assert_eq!(names(&plan), [("applied", None)]);
    assert_eq!(plan.orders[&8].order.state, paid_by("t2"));
}

/// The transaction is on record for an order that is locked, and reported for one that is not.
#[test]
fn a_conflict_needs_no_lock_on_the_order_on_record() {
    let mut rows = busy(&[order(7, "A", OrderState::Closed)]);
    (rows.orders, rows.payments) = (vec![pending(8, "B")], vec![recorded("t1", Disposition::Refused, 0)]);
    let plan = plan_reports(rows, &[payment("B", "t1", 100)]);
    assert_eq!(names(&plan), [("quarantined", Some("transaction_conflict"))]);
    assert_changes_nothing(&plan);
}

#[track_caller]
fn assert_is_locked(outcome: &Outcome) {
    let is_locked = matches!(outcome, Outcome::Waiting(Held::NotDecided(NotDecided::ForLock(_))));
    assert!(is_locked && outcome.reason() == Some("for_lock"), "{outcome:?}");
}

fn busy(orders: &[Order]) -> Rows {
    Rows { busy: orders.iter().map(|order| (order.id, key_of(order))).collect(), ..Rows::default() }
}
