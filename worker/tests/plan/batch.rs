//! Steps within one batch, and the neighbours of a bad message.

use shared::domain::ids::{MchId, SubMchId};
use shared::domain::notification::RefundResult;
use shared::domain::order::{Order, OrderState};
use shared::domain::refund::RefundState;
use shared::domain::verdict::{Awaited, Refusal};
use worker::batch::message::Finding;
use worker::batch::outcome::{Held, NotDecided, Outcome};
use worker::batch::plan::{Rows, Seen};

use super::{
    assert_changes_nothing, caused, cny, names, orders, outcomes, paid_at, paid_by, payment, payment_of, pending,
    plan_reports, refund, requested, succeeded, success, told, transaction, written_payment,
};

#[test]
fn a_repeat_in_the_same_batch_sees_the_order_that_the_first_one_paid() {
    let findings = [payment("A", "t1", 100), payment("A", "t1", 100), payment("A", "t2", 100)];
    let plan = plan_reports(orders(vec![pending(7, "A")]), &findings);

    let twice = Refusal::PaidTwice { expected: transaction("t1"), got: transaction("t2") };
    assert_eq!(outcomes(&plan), [Outcome::Applied, Outcome::Duplicate, Outcome::Quarantined(Held::Refused(twice))]);
    assert_eq!(plan.orders.len(), 1);
    let changed = &plan.orders[&7];
    assert_eq!((&changed.order.state, changed.order.version), (&paid_by("t1"), 5));
    assert_eq!(changed.paid_at, Some(paid_at()));
    assert_eq!(told(&plan), [("order.paid", 4), ("payment.refused", 5)]);
    assert_eq!(caused(&plan), [Some(0), None, Some(1)]);
}

#[test]
fn delivery_order_decides_which_transaction_pays() {
    let plan = plan_reports(orders(vec![pending(7, "A")]), &[payment("A", "t2", 100), payment("A", "t1", 100)]);
    assert_eq!(plan.orders[&7].order.state, paid_by("t2"));
}

#[test]
fn each_decision_says_what_it_found() {
    let findings = [
        payment("A", "t1", 100),
        payment("A", "t1", 100),
        payment("NOBODY", "t9", 100),
        refund("A", "t1", "r1", 100, succeeded()),
        refund("A", "t9", "r2", 100, succeeded()),
        Finding::NotDecided(NotDecided::DecideAlone),
        payment("A", "t2", 100),
    ];
    let plan = plan_reports(orders(vec![pending(7, "A")]), &findings);
    let seen: Vec<_> = plan.decided.iter().map(|decided| decided.seen).collect();
    let found = |version, state| Some(Seen { version, state, amount: cny(100) });
    let expected = [found(3, "pending"), found(4, "paid"), None, found(4, "paid"), None, None, found(5, "refunded")];
    assert_eq!(seen, expected);
    assert_eq!(caused(&plan), [Some(0), None, None, Some(1), None, None, Some(2)]);
}

#[test]
fn changed_orders_are_sorted_by_id_whatever_the_delivery_order() {
    let rows = orders(vec![pending(9, "C"), pending(2, "A"), pending(5, "B")]);
    let plan = plan_reports(rows, &[payment("C", "t3", 100), payment("A", "t1", 100), payment("B", "t2", 100)]);
    assert_eq!(plan.orders.keys().copied().collect::<Vec<_>>(), [2, 5, 9]);
    let happened: Vec<_> = plan.events.iter().map(|event| event.order.id).collect();
    assert_eq!(happened, [9, 2, 5], "events as they happened");
    let brought: Vec<_> = ["t3", "t1", "t2"].map(|id| written_payment(&plan, id).brought_by).into();
    assert_eq!(brought, [0, 1, 2]);
}

#[test]
fn one_bad_message_changes_nothing_for_its_neighbours() {
    let findings = [
        payment("A", "t1", 100),
        Finding::NotDecided(NotDecided::Malformed("not UTF-8".to_owned())),
        payment("NOBODY", "t9", 100),
        payment("B", "t2", 99),
        payment("C", "t3", 100),
        Finding::NotDecided(NotDecided::ForKey("unknown".to_owned())),
        Finding::NotDecided(NotDecided::DecideAlone),
    ];
    let plan = plan_reports(orders(vec![pending(1, "A"), pending(2, "B"), pending(3, "C")]), &findings);

    let expected = [
        ("applied", None),
        ("quarantined", Some("malformed")),
        ("waiting", Some("for_order")),
        ("quarantined", Some("amount_mismatch")),
        ("applied", None),
        ("waiting", Some("for_key")),
        ("waiting", Some("decide_alone")),
    ];
    assert_eq!(names(&plan), expected);
    assert_eq!(outcomes(&plan)[2], Outcome::Waiting(Held::Awaiting(Awaited::Order)));
    let states: Vec<_> = plan.orders.values().map(|changed| changed.order.state.name()).collect();
    assert_eq!(states, ["paid", "pending", "paid"]);
    assert_eq!(plan.orders[&2].order.version, 4, "the shop is told of the payment that its order refused");
    assert_eq!(plan.orders[&2].paid_at, None);
}

#[test]
fn nothing_that_could_not_be_read_touches_anything() {
    let text = || "x".to_owned();
    let undecided = [
        (NotDecided::ForKey(text()), "waiting"),
        (NotDecided::ForLock(text()), "waiting"),
        (NotDecided::ForVersion(text()), "waiting"),
        (NotDecided::DecideAlone, "waiting"),
        (NotDecided::Malformed(text()), "quarantined"),
        (NotDecided::NotAuthentic(text()), "quarantined"),
        (NotDecided::AmbiguousSignature(text()), "quarantined"),
        (NotDecided::Undecodable(text()), "quarantined"),
        (NotDecided::MchIdMismatch(text()), "quarantined"),
        (NotDecided::RejectedByDatabase(text()), "quarantined"),
    ];
    for (undecided, name) in undecided {
        let plan = plan_reports(orders(vec![pending(7, "A")]), &[Finding::NotDecided(undecided.clone())]);
        assert_changes_nothing(&plan);
        assert_eq!(names(&plan), [(name, Some(undecided.reason()))]);
        assert_eq!(plan.decided[0].seen, None);
    }
}

#[test]
fn an_order_of_another_merchant_or_shop_with_the_same_number_is_not_touched() {
    let mut of_merchant = pending(1, "A");
    of_merchant.mch_id = MchId::parse("1900000200").unwrap();
    let mut of_shop = pending(2, "A");
    of_shop.sub_mch_id = SubMchId::parse("1900000300");
    let plan = plan_reports(orders(vec![of_merchant, of_shop]), &[payment("A", "t1", 100)]);
    assert_eq!(outcomes(&plan), [Outcome::Waiting(Held::Awaiting(Awaited::Order))]);
    assert_changes_nothing(&plan);
}

#[test]
fn each_shop_of_an_institution_has_its_own_order_with_the_same_number() {
    let of_shop = |id, shop| Order { sub_mch_id: SubMchId::parse(shop), ..pending(id, "A") };
    let rows = orders(vec![of_shop(1, "1900000300"), of_shop(2, "1900000301"), pending(3, "A")]);
    let findings = [
        payment_of("A", Some("1900000301"), success("t2", 100)),
        payment_of("A", None, success("t3", 100)),
        payment_of("A", Some("1900000302"), success("t4", 100)),
    ];
    let plan = plan_reports(rows, &findings);
    assert_eq!(names(&plan), [("applied", None), ("applied", None), ("waiting", Some("for_order"))]);
    let paid: Vec<_> = plan.orders.iter().map(|(id, changed)| (*id, changed.order.state.clone())).collect();
    assert_eq!(paid, [(2, paid_by("t2")), (3, paid_by("t3"))]);
}

#[test]
fn the_evidence_of_a_refusal_says_what_was_expected_and_what_came() {
    let plan = plan_reports(orders(vec![pending(1, "A")]), &[payment("A", "t1", 99)]);
    let outcomes = outcomes(&plan);
    assert_eq!(outcomes[0].held().unwrap().detail(), serde_json::json!({ "expected": "100 CNY", "got": "99 CNY" }));
}

#[test]
fn a_whole_life_in_one_batch_is_written_once_and_told_step_by_step() {
    let findings = [
        refund("A", "t1", "r0", 100, succeeded()),
        payment("A", "t1", 100),
        refund("A", "t1", "r1", 30, RefundResult::Abnormal),
        refund("A", "t1", "r1", 30, succeeded()),
        refund("A", "t1", "r2", 70, succeeded()),
        refund("A", "t1", "r2", 70, succeeded()),
        refund("A", "t1", "r3", 1, succeeded()),
    ];
    let rows = Rows { orders: vec![pending(7, "A")], refunds: vec![requested("r1", 30)], ..Rows::default() };
    let plan = plan_reports(rows, &findings);
    let expected = [
        ("waiting", Some("for_payment")),
        ("applied", None),
        ("applied", None),
        ("applied", None),
        ("applied", None),
        ("duplicate", None),
        ("quarantined", Some("refund_exceeds_payment")),
    ];
    assert_eq!(names(&plan), expected);
    assert_eq!(caused(&plan), [None, Some(0), Some(1), Some(2), Some(3), None, None]);
    let changed = &plan.orders[&7];
    assert_eq!((plan.orders.len(), &changed.order.state), (1, &OrderState::Refunded(transaction("t1"))));
    assert_eq!((changed.order.refunded_minor, changed.order.version), (100, 7));
    assert_eq!(changed.paid_at, Some(paid_at()), "a later refund must not lose the time of the payment");
    let payment = written_payment(&plan, "t1");
    assert_eq!((plan.payments.len(), payment.was.as_ref(), payment.brought_by), (1, None, 1));
    assert_eq!(payment.now.returned_minor, 100);
    let written: Vec<_> = plan.refunds.values().map(|refund| (refund.was.clone(), refund.now.state)).collect();
    let has_succeeded = RefundState::Succeeded(paid_at());
    let expected = [(Some(requested("r1", 30)), has_succeeded), (None, has_succeeded)];
    assert_eq!(written, expected, "each refund once, as it was read and as it ends");
    let expected = [("order.paid", 4), ("refund.abnormal", 5), ("order.partially_refunded", 6), ("order.refunded", 7)];
    assert_eq!(told(&plan), expected);
}
