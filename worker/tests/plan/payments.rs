//! What is written and told of payments: accepted, refused, adopted, decided again.

use shared::domain::ids::MchId;
use shared::domain::notification::PaymentResult;
use shared::domain::order::{Order, OrderState};
use shared::domain::payment::{Disposition, PaymentRecord};
use worker::batch::message::Finding;
use worker::batch::plan::{ChangedPayment, Happened, Item, OrderEvent, Rows, plan};

use super::{
    accepted, assert_changes_nothing, cny, names, order, orders, paid_at, paid_by, payment, payment_of, pending,
    plan_reports, recorded, refund, replayed, succeeded, told, written_payment,
};

#[test]
fn a_payment_is_recorded_as_accepted_with_the_order_that_it_pays() {
    let plan = plan_reports(orders(vec![pending(7, "A")]), &[payment("A", "t1", 100)]);
    let now = recorded("t1", Disposition::Accepted, 0);
    assert_eq!(*written_payment(&plan, "t1"), ChangedPayment { was: None, now: now.clone(), brought_by: 0 });
    let paid = Order { state: paid_by("t1"), version: 4, ..pending(7, "A") };
    assert_eq!(plan.events, [OrderEvent { order: paid.clone(), happened: Happened::Paid(now) }]);
    assert_eq!(plan.orders[&7].order, paid);
}

/// Whatever the reason, what came is on record as it came, and the shop hears once that it owes it.
#[test]
fn a_refused_payment_is_recorded_once_with_one_event() {
    let cases = [
        (pending(7, "A"), 99, "amount_mismatch"),
        (order(7, "A", paid_by("t0")), 100, "paid_twice"),
        (order(7, "A", OrderState::Closed), 100, "paid_after_close"),
    ];
    for (order, amount_minor, reason) in cases {
        let finding = payment("A", "t1", amount_minor);
        let findings = [finding.clone(), finding.clone(), finding];
        let plan = plan_reports(orders(vec![order.clone()]), &findings);
        let expected = [("quarantined", Some(reason)), ("duplicate", None), ("duplicate", None)];
        assert_eq!(names(&plan), expected);
        let now = PaymentRecord { amount: cny(amount_minor), ..recorded("t1", Disposition::Refused, 0) };
        assert_eq!(*written_payment(&plan, "t1"), ChangedPayment { was: None, now: now.clone(), brought_by: 0 });
        let order = Order { version: 4, ..order };
        let event = OrderEvent { order: order.clone(), happened: Happened::Refused { payment: now, reason } };
        assert_eq!((event.name(), &plan.events), ("payment.refused", &vec![event.clone()]));
        assert_eq!((&plan.orders[&7].order, plan.orders[&7].paid_at), (&order, None));
    }
}

#[test]
fn a_repeat_of_a_refused_payment_in_a_later_batch_is_no_news() {
    for order in [pending(7, "A"), order(7, "A", OrderState::Closed), order(7, "A", paid_by("t0"))] {
        let rows = with_payment(order, recorded("t1", Disposition::Refused, 0));
        let plan = plan_reports(rows, &[payment("A", "t1", 100)]);
        assert_eq!(names(&plan), [("duplicate", None)]);
        assert_changes_nothing(&plan);
    }
}

#[test]
fn a_refused_payment_that_is_replayed_pays_the_order_that_wants_it_now() {
    let was = recorded("t1", Disposition::Refused, 0);
    for item in [replayed, accepted] {
        let (finding, rows) = (payment("A", "t1", 100), with_payment(pending(7, "A"), was.clone()));
        let plan = plan(rows, [item(&finding)].into_iter());
        assert_eq!((names(&plan), told(&plan)), (vec![("applied", None)], vec![("order.paid", 4)]));
        let now = recorded("t1", Disposition::Accepted, 0);
        let changed = ChangedPayment { was: Some(was.clone()), now, brought_by: 0 };
        assert_eq!(*written_payment(&plan, "t1"), changed);
        assert_eq!((&plan.orders[&7].order.state, plan.orders[&7].paid_at), (&paid_by("t1"), Some(paid_at())));
    }
}

/// The row stays open for the operator; the shop has been told before.
#[test]
fn a_replay_that_is_refused_again_writes_and_tells_nothing() {
    let rows = with_payment(order(7, "A", OrderState::Closed), recorded("t1", Disposition::Refused, 0));
    let finding = payment("A", "t1", 100);
    let plan = plan(rows, [replayed(&finding), accepted(&finding)].into_iter());
    assert_eq!(names(&plan), [("quarantined", Some("paid_after_close")); 2]);
    assert_changes_nothing(&plan);
}

/// No order is paid by money that has gone back.
#[test]
fn a_replay_and_a_refund_in_one_batch_leave_a_true_order_whichever_comes_first() {
    let rows = || with_payment(pending(7, "A"), recorded("t1", Disposition::Refused, 0));
    for amount_minor in [30, 100] {
        let (paid, back) = (payment("A", "t1", 100), refund("A", "t1", "r1", amount_minor, succeeded()));
        let is_all = amount_minor == 100;

        let late = plan(rows(), [reported(&back), replayed(&paid)].into_iter());
        let expected = if is_all { ("ignored", Some("returned")) } else { ("quarantined", Some("partly_returned")) };
        assert_eq!(names(&late), [("applied", None), expected]);
        assert_eq!(late.orders[&7].order.state, OrderState::Pending);
        let disposition = if is_all { Disposition::Returned } else { Disposition::Refused };
        assert_eq!(written_payment(&late, "t1").now, recorded("t1", disposition, amount_minor));

        let early = plan(rows(), [replayed(&paid), reported(&back)].into_iter());
        assert_eq!(names(&early), [("applied", None), ("applied", None)]);
        assert_eq!(early.orders[&7].order.refunded_minor, amount_minor);
        assert_eq!(written_payment(&early, "t1").now, recorded("t1", Disposition::Accepted, amount_minor));
    }
}

#[test]
fn a_payment_that_the_shop_recorded_is_adopted_without_a_change_of_its_order() {
    let rows = orders(vec![order(7, "A", paid_by("t1"))]);
    let plan = plan_reports(rows, &[payment("A", "t1", 100), payment("A", "t1", 100)]);
    assert_eq!(names(&plan), [("duplicate", None), ("duplicate", None)]);
    let now = recorded("t1", Disposition::Accepted, 0);
    assert_eq!(*written_payment(&plan, "t1"), ChangedPayment { was: None, now, brought_by: 0 });
    assert!(plan.orders.is_empty() && plan.events.is_empty(), "the shop knows already");
}

#[test]
fn an_adopted_payment_is_refunded_in_the_same_batch() {
    let rows = orders(vec![order(7, "A", paid_by("t1"))]);
    let findings =
        [refund("A", "t1", "r1", 100, succeeded()), payment("A", "t1", 100), refund("A", "t1", "r1", 100, succeeded())];
    let plan = plan_reports(rows, &findings);
    assert_eq!(names(&plan), [("waiting", Some("for_payment")), ("duplicate", None), ("applied", None)]);
    assert_eq!(told(&plan), [("order.refunded", 4)]);
    assert_eq!(plan.orders[&7].order.refunded_minor, 100);
    let payment = written_payment(&plan, "t1");
    assert_eq!((payment.was.as_ref(), payment.brought_by), (None, 1));
    assert_eq!(payment.now, recorded("t1", Disposition::Accepted, 100));
}

/// An order from before Countersign, of which a part has gone back already: `refunded_minor` never falls, and no more goes
/// back than was paid.
#[test]
fn a_refund_of_an_adopted_payment_goes_on_from_what_has_gone_back_before() {
    let rows = || orders(vec![Order { refunded_minor: 60, ..order(7, "A", paid_by("t1")) }]);
    let findings = [payment("A", "t1", 100), refund("A", "t1", "r2", 50, succeeded())];
    assert_eq!(names(&plan_reports(rows(), &findings))[1], ("quarantined", Some("refund_exceeds_payment")));
    let findings = [payment("A", "t1", 100), refund("A", "t1", "r2", 40, succeeded())];
    let plan = plan_reports(rows(), &findings);
    assert_eq!(told(&plan), [("order.refunded", 4)]);
    assert_eq!(plan.orders[&7].order.refunded_minor, 100);
}

#[test]
fn the_shop_records_one_payment_and_another_one_comes() {
    let rows = orders(vec![order(7, "A", paid_by("t1"))]);
    let plan = plan_reports(rows, &[payment("A", "t2", 100), payment("A", "t1", 90)]);
    assert_eq!(names(&plan), [("quarantined", Some("paid_twice")), ("quarantined", Some("transaction_conflict"))]);
    assert_eq!(told(&plan), [("payment.refused", 4)]);
    assert_eq!(plan.payments.len(), 1);
    assert_eq!(written_payment(&plan, "t2").now, recorded("t2", Disposition::Refused, 0));
}

#[test]
fn one_transaction_pays_one_order() {
    let rows = || orders(vec![pending(7, "A"), pending(8, "B")]);
    let twice = [payment("A", "t1", 100), payment("B", "t1", 100)];
    let in_one_batch = plan_reports(rows(), &twice);
    assert_eq!(names(&in_one_batch), [("applied", None), ("quarantined", Some("transaction_conflict"))]);
    assert_eq!(in_one_batch.orders.keys().copied().collect::<Vec<_>>(), [7]);
    assert_eq!((in_one_batch.payments.len(), in_one_batch.events.len()), (1, 1));

    for disposition in Disposition::ALL {
        let payments = vec![recorded("t1", disposition, if disposition == Disposition::Returned { 100 } else { 0 })];
        let later = plan_reports(Rows { payments, ..rows() }, &twice[1..]);
        assert_eq!(names(&later), [("quarantined", Some("transaction_conflict"))], "{disposition:?}");
        assert_changes_nothing(&later);
    }
}

#[test]
fn a_transaction_of_another_merchant_is_another_payment() {
    let mut foreign = recorded("t1", Disposition::Accepted, 0);
    foreign.mch_id = MchId::parse("1900000200").unwrap();
    let plan = plan_reports(with_payment(pending(7, "A"), foreign), &[payment("A", "t1", 100)]);
    assert_eq!(names(&plan), [("applied", None)]);
}

#[test]
fn a_payment_that_failed_is_no_payment() {
    let findings = [payment_of("A", None, PaymentResult::NotSuccessful)];
    let plan = plan_reports(orders(vec![pending(7, "A")]), &findings);
    assert_eq!(names(&plan), [("ignored", Some("not_successful"))]);
    assert_changes_nothing(&plan);
}

fn reported(finding: &Finding) -> Item<'_> {
    Item::reported(finding)
}

fn with_payment(order: Order, payment: PaymentRecord) -> Rows {
    Rows { orders: vec![order], payments: vec![payment], ..Rows::default() }
}
