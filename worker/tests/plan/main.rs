//! The pure fold of a batch: each step sees what the last one left, and what is written names each order once.

#![expect(clippy::unwrap_used, reason = "the values of a test are what they are")]

use chrono::{DateTime, Utc};
use shared::domain::ids::{MchId, OutRefundNo, OutTradeNo, RefundId, TransactionId};
use shared::domain::money::{Currency, Money};
use shared::domain::notification::{
    Notification, Payment, PaymentResult, PaymentSuccess, RefundResult, ReportedRefund,
};
use shared::domain::order::{Order, OrderState};
use shared::domain::refund::{Refund, RefundState};
use shared::domain::verdict::{Awaited, Refusal};
use worker::plan::{ChangedOrder, Finding, Held, Outcome, Plan, Undecided, plan};

fn order(id: i64, number: &str, state: OrderState) -> Order {
    Order {
        id,
        mch_id: MchId::parse("1900000109").unwrap(),
        sub_mch_id: None,
        app_id: None,
        out_trade_no: OutTradeNo::parse(number).unwrap(),
        amount: Money { amount_minor: 100, currency: Currency::CNY },
        state,
        refunded_minor: 0,
        surplus: Vec::new(),
        version: 3,
    }
}

fn changed(plan: &Plan, id: i64) -> &ChangedOrder {
    plan.orders.get(&id).unwrap()
}

fn transaction(number: &str) -> TransactionId {
    TransactionId::parse(number).unwrap()
}

fn paid_at() -> DateTime<Utc> {
    DateTime::from_timestamp(1_763_000_000, 0).unwrap()
}

fn payment(number: &str, transaction_id: &str, amount_minor: i64) -> Finding {
    Finding::Notified(Notification::Payment(Payment {
        mch_id: MchId::parse("1900000109").unwrap(),
        sub_mch_id: None,
        app_id: None,
        sub_app_id: None,
        out_trade_no: OutTradeNo::parse(number),
        result: PaymentResult::Success(PaymentSuccess {
            transaction_id: transaction(transaction_id),
            total: Money { amount_minor, currency: Currency::CNY },
            paid_at: paid_at(),
        }),
    }))
}

#[test]
fn a_repeat_in_the_same_batch_sees_the_order_that_the_first_one_paid() {
    let findings = [payment("A", "t1", 100), payment("A", "t1", 100), payment("A", "t2", 100)];
    let plan = plan(vec![order(7, "A", OrderState::Pending)], Vec::new(), findings.iter());

    let twice = Refusal::PaidTwice { expected: transaction("t1"), got: transaction("t2") };
    assert_eq!(plan.outcomes, [Outcome::Applied, Outcome::Duplicate, Outcome::Quarantined(Held::Refused(twice))]);
    assert_eq!(plan.orders.len(), 1);
    assert_eq!(changed(&plan, 7).order.state, OrderState::Paid(transaction("t1")));
    assert_eq!(changed(&plan, 7).order.version, 4);
    assert_eq!(changed(&plan, 7).paid_at, Some(paid_at()));
    assert_eq!(plan.events.len(), 1, "one event per change");
}

#[test]
fn delivery_order_decides_which_transaction_pays() {
    let findings = [payment("A", "t2", 100), payment("A", "t1", 100)];
    let plan = plan(vec![order(7, "A", OrderState::Pending)], Vec::new(), findings.iter());
    assert_eq!(changed(&plan, 7).order.state, OrderState::Paid(transaction("t2")));
}

#[test]
fn changed_orders_are_sorted_by_id_whatever_the_delivery_order() {
    let rows = vec![
        order(9, "C", OrderState::Pending),
        order(2, "A", OrderState::Pending),
        order(5, "B", OrderState::Pending),
    ];
    let findings = [payment("C", "t3", 100), payment("A", "t1", 100), payment("B", "t2", 100)];
    let plan = plan(rows, Vec::new(), findings.iter());
    assert_eq!(plan.orders.keys().copied().collect::<Vec<_>>(), [2, 5, 9]);
    assert_eq!(
        plan.events.iter().map(|event| event.order.id).collect::<Vec<_>>(),
        [9, 2, 5],
        "events as they happened"
    );
}

#[test]
fn one_bad_message_changes_nothing_for_its_neighbours() {
    let findings = [
        payment("A", "t1", 100),
        Finding::Undecided(Undecided::Malformed("not UTF-8".to_owned())),
        payment("NOBODY", "t9", 100),
        payment("B", "t2", 99),
        payment("C", "t3", 100),
        Finding::Undecided(Undecided::ForKey("unknown".to_owned())),
        Finding::Undecided(Undecided::DecideAlone),
    ];
    let rows = vec![
        order(1, "A", OrderState::Pending),
        order(2, "B", OrderState::Pending),
        order(3, "C", OrderState::Pending),
    ];
    let plan = plan(rows, Vec::new(), findings.iter());

    let names: Vec<_> = plan.outcomes.iter().map(|outcome| (outcome.name(), outcome.reason())).collect();
    assert_eq!(
        names,
        [
            ("applied", None),
            ("quarantined", Some("malformed")),
            ("waiting", Some("for_order")),
            ("quarantined", Some("amount_mismatch")),
            ("applied", None),
            ("waiting", Some("for_key")),
            ("waiting", Some("decide_alone")),
        ]
    );
    assert_eq!(plan.outcomes[2], Outcome::Waiting(Held::Awaiting(Awaited::Order)));
    assert_eq!(plan.orders.keys().copied().collect::<Vec<_>>(), [1, 3]);
}

#[test]
fn an_order_of_another_merchant_with_the_same_number_is_not_touched() {
    let mut foreign = order(1, "A", OrderState::Pending);
    foreign.mch_id = MchId::parse("1900000200").unwrap();
    let plan = plan(vec![foreign], Vec::new(), [payment("A", "t1", 100)].iter());
    assert_eq!(plan.outcomes, [Outcome::Waiting(Held::Awaiting(Awaited::Order))]);
    assert!(plan.orders.is_empty() && plan.events.is_empty());
}

#[test]
fn the_evidence_of_a_refusal_says_what_was_expected_and_what_came() {
    let plan = plan(vec![order(1, "A", OrderState::Pending)], Vec::new(), [payment("A", "t1", 99)].iter());
    let held = plan.outcomes[0].held().unwrap();
    assert_eq!(held.detail(), serde_json::json!({ "expected": "100 CNY", "got": "99 CNY" }));
}

fn refund(number: &str, transaction_id: &str, out_refund_no: &str, amount_minor: i64, result: RefundResult) -> Finding {
    Finding::Notified(Notification::Refund(ReportedRefund {
        mch_id: MchId::parse("1900000109").unwrap(),
        sub_mch_id: None,
        app_id: None,
        sub_app_id: None,
        out_trade_no: OutTradeNo::parse(number).unwrap(),
        transaction_id: transaction(transaction_id),
        out_refund_no: OutRefundNo::parse(out_refund_no).unwrap(),
        refund_id: RefundId::parse(out_refund_no).unwrap(),
        total_minor: 100,
        amount_minor,
        currency: None,
        result,
    }))
}

#[test]
fn a_whole_life_in_one_batch_is_written_once_and_told_step_by_step() {
    let findings = [
        refund("A", "t1", "r0", 100, RefundResult::Succeeded(paid_at())),
        payment("A", "t1", 100),
        refund("A", "t1", "r1", 30, RefundResult::Abnormal),
        refund("A", "t1", "r1", 30, RefundResult::Succeeded(paid_at())),
        refund("A", "t1", "r2", 70, RefundResult::Succeeded(paid_at())),
        refund("A", "t1", "r2", 70, RefundResult::Succeeded(paid_at())),
        refund("A", "t1", "r3", 1, RefundResult::Succeeded(paid_at())),
    ];
    let requested = Refund {
        order_id: 7,
        out_refund_no: OutRefundNo::parse("r1").unwrap(),
        refund_id: None,
        amount_minor: 30,
        state: RefundState::Requested,
    };
    let plan = plan(vec![order(7, "A", OrderState::Pending)], vec![requested.clone()], findings.iter());
    let names: Vec<_> = plan.outcomes.iter().map(|outcome| (outcome.name(), outcome.reason())).collect();
    assert_eq!(
        names,
        [
            ("waiting", Some("for_payment")),
            ("applied", None),
            ("applied", None),
            ("applied", None),
            ("applied", None),
            ("duplicate", None),
            ("quarantined", Some("refund_exceeds_payment")),
        ]
    );
    let changed = changed(&plan, 7);
    assert_eq!((plan.orders.len(), &changed.order.state), (1, &OrderState::Refunded(transaction("t1"))));
    assert_eq!((changed.order.refunded_minor, changed.order.version), (100, 7));
    assert_eq!(changed.paid_at, Some(paid_at()), "a later refund must not lose the time of the payment");
    let written: Vec<_> = plan.refunds.values().map(|refund| (refund.was.clone(), refund.now.state)).collect();
    let succeeded = RefundState::Succeeded(paid_at());
    assert_eq!(
        written,
        [(Some(requested), succeeded), (None, succeeded)],
        "each refund once, as it was read and as it ends"
    );
    let told: Vec<_> = plan.events.iter().map(|event| (event.name(), event.order.version)).collect();
    let expected = [("order.paid", 4), ("refund.abnormal", 5), ("order.partially_refunded", 6), ("order.refunded", 7)];
    assert_eq!(told, expected);
}

#[test]
fn a_payment_refused_in_the_batch_can_be_returned_in_it() {
    let findings = [
        payment("A", "t1", 100),
        payment("A", "t2", 100),
        refund("A", "t2", "r1", 100, RefundResult::Succeeded(paid_at())),
        refund("A", "t2", "r1", 100, RefundResult::Succeeded(paid_at())),
    ];
    let plan = plan(vec![order(7, "A", OrderState::Pending)], Vec::new(), findings.iter());
    let names: Vec<_> = plan.outcomes.iter().map(Outcome::name).collect();
    assert_eq!(names, ["applied", "quarantined", "applied", "duplicate"]);
    assert_eq!(plan.returned.iter().map(|returned| returned.transaction_id.as_str()).collect::<Vec<_>>(), ["t2"]);
    assert!(plan.refunds.is_empty());
    assert_eq!(plan.events.len(), 1, "nothing happened to the order but its payment");
}
