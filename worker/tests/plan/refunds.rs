//! What is written and told of refunds: of accepted and of refused payments, and what an operator accepts.

use shared::domain::ids::{RefundId, SubMchId};
use shared::domain::notification::{Notification, RefundResult};
use shared::domain::order::{Order, OrderState};
use shared::domain::payment::Disposition;
use shared::domain::refund::RefundState;
use worker::batch::message::Finding;
use worker::batch::plan::{ChangedRefund, Happened, Item, OrderEvent, Rows, plan};

use super::{
    OPERATOR, accepted, assert_changes_nothing, names, order, orders, paid_at, paid_by, payment, plan_reports,
    recorded, refund, refund_row, replayed, requested, succeeded, told, transaction, under_another_number,
    written_payment, written_refund,
};

const HAS_SUCCEEDED: fn() -> RefundState = || RefundState::Succeeded(paid_at());

#[test]
fn each_change_has_its_event_with_what_the_shop_needs() {
    let closed = order(7, "A", OrderState::Closed);
    let paid = order(7, "A", paid_by("t1"));
    let refunded = Order { state: OrderState::Refunded(transaction("t1")), refunded_minor: 100, ..paid.clone() };
    let part = Order { refunded_minor: 30, ..paid.clone() };
    let (accepted, refused) = (Disposition::Accepted, Disposition::Refused);
    let cases = [
        (paid.clone(), accepted, 100, succeeded(), "order.refunded", refunded),
        (paid.clone(), accepted, 30, succeeded(), "order.partially_refunded", part),
        (paid.clone(), accepted, 30, RefundResult::Abnormal, "refund.abnormal", paid.clone()),
        (paid.clone(), accepted, 30, RefundResult::Closed, "refund.closed", paid),
        (closed.clone(), refused, 100, succeeded(), "payment.returned", closed.clone()),
        (closed.clone(), refused, 30, succeeded(), "payment.partially_returned", closed.clone()),
        (closed.clone(), refused, 30, RefundResult::Abnormal, "refund.abnormal", closed.clone()),
        (closed.clone(), refused, 100, RefundResult::Closed, "refund.closed", closed),
    ];
    for (order, disposition, amount_minor, result, name, after) in cases {
        let rows = with(order, disposition, 0);
        let plan = plan_reports(rows, &[refund("A", "t1", "r1", amount_minor, result)]);
        let (state, returned_minor) = match result {
            RefundResult::Succeeded(at) => (RefundState::Succeeded(at), amount_minor),
            RefundResult::Abnormal => (RefundState::Abnormal, 0),
            RefundResult::Closed => (RefundState::Closed, 0),
        };
        let is_returned = disposition == refused && returned_minor == 100;
        let disposition = if is_returned { Disposition::Returned } else { disposition };
        let (refund, payment) =
            (refund_row("r1", "t1", amount_minor, state), recorded("t1", disposition, returned_minor));
        let order = Order { version: 4, ..after };
        let happened = Happened::Refund { refund: refund.clone(), payment: payment.clone() };
        let event = OrderEvent { order: order.clone(), happened };
        assert_eq!((names(&plan), event.name()), (vec![("applied", None)], name));
        assert_eq!(plan.events, [event]);
        assert_eq!((&plan.orders[&7].order, plan.orders[&7].paid_at), (&order, None));
        assert_eq!(*written_refund(&plan, "r1"), ChangedRefund { was: None, now: refund, accepted_by: None });
        // A payment of which nothing has moved is not written.
        let written: Vec<_> = plan.payments.values().map(|changed| changed.now.clone()).collect();
        assert_eq!(written, if returned_minor > 0 { vec![payment] } else { Vec::new() }, "{name}");
    }
}

#[test]
fn a_refund_finds_its_payment_in_the_same_batch() {
    let findings = [
        payment("A", "t1", 100),
        payment("A", "t2", 100),
        refund("A", "t2", "r1", 30, succeeded()),
        refund("A", "t2", "r2", 70, succeeded()),
        refund("A", "t2", "r2", 70, succeeded()),
    ];
    let plan = plan_reports(orders(vec![order(7, "A", OrderState::Pending)]), &findings);
    let expected = [
        ("applied", None),
        ("quarantined", Some("paid_twice")),
        ("applied", None),
        ("applied", None),
        ("duplicate", None),
    ];
    assert_eq!(names(&plan), expected);
    let expected =
        [("order.paid", 4), ("payment.refused", 5), ("payment.partially_returned", 6), ("payment.returned", 7)];
    assert_eq!(told(&plan), expected);
    let order = &plan.orders[&7].order;
    assert_eq!((&order.state, order.refunded_minor), (&paid_by("t1"), 0), "the order's own payment is all there");
    let returned = written_payment(&plan, "t2");
    assert_eq!((returned.was.as_ref(), returned.brought_by), (None, 1));
    assert_eq!(returned.now, recorded("t2", Disposition::Returned, 100));
    assert_eq!(plan.refunds.len(), 2);
}

/// By the payment that it names, not by the order's number: that number may be another shop's.
#[test]
fn a_refund_finds_its_order_by_its_payment() {
    let mut of_shop = order(8, "A", paid_by("t9"));
    of_shop.sub_mch_id = SubMchId::parse("1900000300");
    let mut rows = with(order(7, "A", paid_by("t1")), Disposition::Accepted, 0);
    rows.orders.push(of_shop);
    let plan = plan_reports(rows, &[refund("A", "t1", "r1", 100, succeeded())]);
    assert_eq!(plan.orders.keys().copied().collect::<Vec<_>>(), [7]);
    assert_eq!(told(&plan), [("order.refunded", 4)]);
}

#[test]
fn a_refund_of_an_unknown_payment_waits_and_changes_nothing() {
    let states = [OrderState::Pending, OrderState::Closed, paid_by("t1"), OrderState::Refunded(transaction("t1"))];
    for state in states {
        let rows = Rows {
            orders: vec![order(7, "A", state)],
            refunds: vec![requested("r1", 30)],
            payments: vec![recorded("t2", Disposition::Refused, 0)],
            ..Rows::default()
        };
        let finding = refund("A", "t1", "r1", 30, succeeded());
        let items = [Item::reported(&finding), replayed(&finding), accepted(&finding)];
        let plan = plan(rows, items.into_iter());
        assert_eq!(names(&plan), [("waiting", Some("for_payment")); 3]);
        assert_changes_nothing(&plan);
    }
}

#[test]
fn a_repeated_refund_that_an_operator_accepts_names_the_operator() {
    let closed = refund("A", "t1", "r1", 30, RefundResult::Closed);
    let repeated = under_another_number(&refund("A", "t1", "r1", 30, succeeded()), "r1 again");
    let was = refund_row("r1", "t1", 30, RefundState::Closed);
    for (finding, conflict) in
        [(&refund("A", "t1", "r1", 30, succeeded()), "refund_state_conflict"), (&repeated, "refund_id_mismatch")]
    {
        let rows = || {
            let rows = with(order(7, "A", paid_by("t1")), Disposition::Accepted, 0);
            Rows { refunds: vec![was.clone()], ..rows }
        };
        let held = plan(rows(), [Item::reported(finding), replayed(finding)].into_iter());
        assert_eq!(names(&held), [("quarantined", Some(conflict)); 2]);
        assert_changes_nothing(&held);

        // The repeats beside it do not take the name away, and have none of their own.
        let items = [Item::reported(&closed), accepted(finding), Item::reported(finding)];
        let taken = plan(rows(), items.into_iter());
        assert_eq!(names(&taken), [("duplicate", None), ("applied", None), ("duplicate", None)]);
        let changed = written_refund(&taken, "r1");
        assert_eq!((changed.was.as_ref(), changed.now.state), (Some(&was), HAS_SUCCEEDED()));
        assert_eq!(changed.now.refund_id, Some(refund_id_of(finding)));
        assert_eq!(changed.accepted_by.as_deref(), Some(OPERATOR));
        assert_eq!(told(&taken), [("order.partially_refunded", 4)]);
    }
}

/// Closed and accepted in one batch: one write, which the database allows because it names the operator.
#[test]
fn an_acceptance_after_a_report_in_one_batch_is_written_once() {
    let rows =
        Rows { refunds: vec![requested("r1", 30)], ..with(order(7, "A", paid_by("t1")), Disposition::Accepted, 0) };
    let closed = refund("A", "t1", "r1", 30, RefundResult::Closed);
    let finding = refund("A", "t1", "r1", 30, succeeded());
    let plan = plan(rows, [Item::reported(&closed), accepted(&finding)].into_iter());
    assert_eq!(told(&plan), [("refund.closed", 4), ("order.partially_refunded", 5)]);
    let changed = written_refund(&plan, "r1");
    assert_eq!((changed.was.clone(), changed.now.state), (Some(requested("r1", 30)), HAS_SUCCEEDED()));
    assert_eq!(changed.accepted_by.as_deref(), Some(OPERATOR));
}

/// What follows in the batch does not take the name away.
#[test]
fn the_operator_of_an_acceptance_stays_named_when_a_report_follows() {
    let rows =
        Rows { refunds: vec![requested("r1", 30)], ..with(order(7, "A", paid_by("t1")), Disposition::Accepted, 0) };
    let abnormal = refund("A", "t1", "r1", 30, RefundResult::Abnormal);
    let finding = refund("A", "t1", "r1", 30, succeeded());
    let plan = plan(rows, [accepted(&abnormal), Item::reported(&finding)].into_iter());
    assert_eq!(told(&plan), [("refund.abnormal", 4), ("order.partially_refunded", 5)]);
    assert_eq!(written_refund(&plan, "r1").accepted_by.as_deref(), Some(OPERATOR));
}

#[test]
fn only_an_acceptance_names_an_operator() {
    let finding = refund("A", "t1", "r1", 30, succeeded());
    for (item, accepted_by) in
        [(Item::reported(&finding), None), (replayed(&finding), None), (accepted(&finding), Some(OPERATOR))]
    {
        let plan = plan(with(order(7, "A", paid_by("t1")), Disposition::Accepted, 0), [item].into_iter());
        assert_eq!(written_refund(&plan, "r1").accepted_by.as_deref(), accepted_by, "{item:?}");
    }
}

/// Each of two payments of one order counts for itself.
#[test]
fn refunds_of_two_payments_of_one_order_do_not_mix() {
    let rows = Rows {
        orders: vec![order(7, "A", paid_by("t1"))],
        payments: vec![recorded("t1", Disposition::Accepted, 0), recorded("t2", Disposition::Refused, 0)],
        ..Rows::default()
    };
    let findings = [
        refund("A", "t1", "r1", 60, succeeded()),
        refund("A", "t2", "r2", 100, succeeded()),
        refund("A", "t1", "r2", 100, succeeded()),
        refund("A", "t1", "r3", 60, succeeded()),
        refund("A", "t1", "r3", 40, succeeded()),
    ];
    let plan = plan_reports(rows, &findings);
    let expected = [
        ("applied", None),
        ("applied", None),
        ("quarantined", Some("transaction_conflict")),
        ("quarantined", Some("refund_exceeds_payment")),
        ("applied", None),
    ];
    assert_eq!(names(&plan), expected);
    assert_eq!(told(&plan), [("order.partially_refunded", 4), ("payment.returned", 5), ("order.refunded", 6)]);
}

/// Order 7, and its payment t1.
fn with(order: Order, disposition: Disposition, returned_minor: i64) -> Rows {
    Rows { orders: vec![order], payments: vec![recorded("t1", disposition, returned_minor)], ..Rows::default() }
}

fn refund_id_of(finding: &Finding) -> RefundId {
    let Finding::Notified(Notification::Refund(refund)) = finding else { panic!("not a refund: {finding:?}") };
    refund.refund_id.clone()
}
