//! What a refund does to an order.
//!
//! `table`: each row of the decision table alone with its full verdict, and against every later one, because the earlier
//! must win. `sweep`: every combination of facts, and every short history, for what must never happen. Here: what the table
//! leaves open, and what a change makes of an order.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail like tests")]

mod sweep;
mod table;

use chrono::{DateTime, Utc};
use shared::domain::decide::decide;
use shared::domain::ids::{AppId, MchId, OutRefundNo, OutTradeNo, RefundId, SubMchId, TransactionId};
use shared::domain::money::{Currency, Money};
use shared::domain::notification::{Notification, Other, RefundResult, ReportedRefund};
use shared::domain::order::{Order, OrderState, Surplus};
use shared::domain::refund::{Refund, RefundState};
use shared::domain::verdict::{Change, Ignored, Refusal, Verdict};

/// An order, the row of its refund, and the refund callback that meets them.
#[derive(Debug, Clone, PartialEq)]
struct Scene {
    order: Option<Order>,
    refund: Option<Refund>,
    reported: ReportedRefund,
}

const SUCCEEDED: fn() -> RefundResult = || RefundResult::Succeeded(noon());
const HAS_SUCCEEDED: fn() -> RefundState = || RefundState::Succeeded(noon());

#[test]
fn what_is_about_no_order_touches_none() {
    let Scene { order, refund, reported } = matching();
    let other = Notification::Other(Other { mch_id: reported.mch_id });
    for (order, refund) in [(None, None), (order.as_ref(), None), (order.as_ref(), refund.as_ref())] {
        assert_eq!(decide(order, refund, &other), Verdict::Ignore(Ignored::NotForOrders));
    }
}

#[test]
fn either_app_of_a_notification_may_be_the_orders_and_an_order_without_an_app_takes_any() {
    let institution = || Some(app("app of the institution"));
    for (app_id, sub_app_id) in
        [(None, None), (Some(app("app-1")), None), (None, Some(app("app-1"))), (institution(), Some(app("app-1")))]
    {
        let mut scene = matching();
        (scene.reported.app_id, scene.reported.sub_app_id) = (app_id, sub_app_id);
        assert_eq!(kind(&scene.verdict()), "apply");
    }
    let mut scene = matching();
    change(&mut scene, |order| order.app_id = None);
    scene.reported.app_id = institution();
    assert_eq!(kind(&scene.verdict()), "apply");
}

#[test]
fn the_orders_own_currency_may_be_said() {
    let mut scene = matching();
    scene.reported.currency = Some(money(0).currency);
    assert_eq!(kind(&scene.verdict()), "apply");
}

#[test]
fn a_refund_that_the_merchant_did_not_ask_for_is_known_from_then_on() {
    let mut scene = matching();
    scene.refund = None;
    let Verdict::Apply(Change::Refund(made)) = scene.verdict() else { panic!("{:?}", scene.verdict()) };
    assert_eq!(made, Refund { state: HAS_SUCCEEDED(), refund_id: Some(refund_id("5001")), ..requested() });
}

#[test]
fn a_refund_that_did_not_succeed_needs_nothing_to_be_left() {
    for result in [RefundResult::Abnormal, RefundResult::Closed] {
        let mut scene = matching();
        change(&mut scene, |order| order.refunded_minor = 1999);
        scene.reported.result = result;
        assert_eq!(kind(&scene.verdict()), "apply");
    }
}

#[test]
fn the_last_refund_takes_exactly_what_is_left_and_makes_the_order_refunded() {
    let mut scene = matching();
    change(&mut scene, |order| order.refunded_minor = 1499);
    let Verdict::Apply(change) = scene.verdict() else { panic!("{:?}", scene.verdict()) };
    let order = scene.order.unwrap();
    let refunded = change.applied_to(&order);
    assert_eq!((refunded.refunded_minor, refunded.version), (1999, order.version + 1));
    assert_eq!(refunded.state, OrderState::Refunded(transaction("tx-1")));
}

#[test]
fn a_refund_of_a_refunded_order_counts_as_a_change_and_leaves_it_refunded() {
    let mut scene = matching();
    change(&mut scene, |order| {
        order.refunded_minor = 1999;
        order.state = OrderState::Refunded(transaction("tx-1"));
    });
    scene.reported.result = RefundResult::Closed;
    let Verdict::Apply(change) = scene.verdict() else { panic!("{:?}", scene.verdict()) };
    let order = scene.order.unwrap();
    assert_eq!(change.applied_to(&order), Order { version: order.version + 1, ..order });
}

#[test]
fn the_transaction_that_paid_an_order_is_never_its_surplus() {
    let mut scene = matching();
    change(&mut scene, |order| {
        order.surplus = vec![Surplus {
            transaction_id: transaction("tx-1"),
            total_minor: 1999,
            is_settled: false,
            is_returned: false,
        }];
    });
    assert_eq!(scene.verdict(), now(HAS_SUCCEEDED()));
}

#[test]
fn a_surplus_payment_goes_back_whatever_became_of_its_order() {
    let states = [OrderState::Pending, OrderState::Closed, OrderState::Paid(transaction("tx-1"))];
    for state in states.into_iter().chain([OrderState::Refunded(transaction("tx-1"))]) {
        let mut scene = matching();
        change(&mut scene, |order| {
            order.surplus = vec![Surplus {
                transaction_id: transaction("tx-9"),
                total_minor: 1999,
                is_settled: false,
                is_returned: false,
            }];
            order.state = state;
        });
        (scene.reported.amount_minor, scene.reported.transaction_id) = (1999, transaction("tx-9"));
        assert_eq!(kind(&scene.verdict()), "return surplus", "{scene:?}");
    }
}

#[test]
fn each_surplus_payment_is_returned_for_itself() {
    let surplus = |name, is_settled| Surplus {
        transaction_id: transaction(name),
        total_minor: 1999,
        is_settled,
        is_returned: is_settled,
    };
    let mut scene = matching();
    change(&mut scene, |order| {
        order.state = OrderState::Closed;
        order.surplus = vec![surplus("tx-8", true), surplus("tx-9", false), surplus("tx-10", false)];
    });
    (scene.reported.amount_minor, scene.reported.transaction_id) = (1999, transaction("tx-9"));
    let Verdict::Apply(change) = scene.verdict() else { panic!("{:?}", scene.verdict()) };
    let order = scene.order.unwrap();
    let surplus = vec![surplus("tx-8", true), surplus("tx-9", true), surplus("tx-10", false)];
    assert_eq!(change.applied_to(&order), Order { surplus, ..order }, "the order itself stays as it was");
}

#[test]
fn a_refusal_shows_both_sides_as_a_person_reads_them() {
    let cases = [
        (other_transaction(), "tx-0", "tx-1"),
        (Verdict::Quarantine(Refusal::RefundOfClosedOrder { got: transaction("tx-1") }), "paid", "tx-1"),
        (
            Verdict::Quarantine(Refusal::RefundAmountMismatch { expected: money(499), got: money(500) }),
            "499 HKD",
            "500 HKD",
        ),
        (Verdict::Quarantine(Refusal::RefundIdMismatch { expected: refund_id("a"), got: refund_id("b") }), "a", "b"),
        (
            Verdict::Quarantine(Refusal::RefundExceedsPayment { left: money(499), got: money(500) }),
            "at most 499 HKD",
            "500 HKD",
        ),
        (conflict(HAS_SUCCEEDED(), RefundState::Closed), "succeeded", "closed"),
        (not_returned(RefundState::Abnormal, 1), "succeeded 1999 HKD", "abnormal 1 HKD"),
    ];
    for (verdict, expected, got) in cases {
        let Verdict::Quarantine(refusal) = verdict else { panic!("not a refusal") };
        assert_eq!(refusal.evidence(), (Some(expected.to_owned()), Some(got.to_owned())), "{}", refusal.name());
    }
}

impl Scene {
    fn verdict(&self) -> Verdict {
        decide(self.order.as_ref(), self.refund.as_ref(), &Notification::Refund(self.reported.clone()))
    }
}

/// A paid order of a shop behind an institution, the refund that the merchant asked for, and the callback that it
/// succeeded.
fn matching() -> Scene {
    let order = Order {
        id: 7,
        mch_id: MchId::parse("1900000109").unwrap(),
        sub_mch_id: Some(sub_mch("shop-1")),
        app_id: Some(app("app-1")),
        out_trade_no: OutTradeNo::parse("order-1").unwrap(),
        amount: money(1999),
        state: OrderState::Paid(transaction("tx-1")),
        refunded_minor: 0,
        surplus: Vec::new(),
        version: 3,
    };
    let reported = ReportedRefund {
        mch_id: order.mch_id.clone(),
        sub_mch_id: order.sub_mch_id.clone(),
        app_id: None,
        sub_app_id: None,
        out_trade_no: order.out_trade_no.clone(),
        transaction_id: transaction("tx-1"),
        out_refund_no: requested().out_refund_no,
        refund_id: refund_id("5001"),
        total_minor: 1999,
        amount_minor: 500,
        currency: None,
        result: SUCCEEDED(),
    };
    Scene { order: Some(order), refund: Some(requested()), reported }
}

fn requested() -> Refund {
    let out_refund_no = OutRefundNo::parse("refund-1").unwrap();
    Refund { order_id: 7, out_refund_no, refund_id: None, amount_minor: 500, state: RefundState::Requested }
}

fn change(scene: &mut Scene, change: impl FnOnce(&mut Order)) {
    if let Some(order) = &mut scene.order {
        change(order);
    }
}

fn kind(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Apply(Change::Refund(_)) => "apply",
        Verdict::Apply(Change::ReturnSurplus { .. }) => "return surplus",
        Verdict::Apply(Change::Pay { .. }) => panic!("a refund never pays"),
        Verdict::Duplicate => "duplicate",
        Verdict::Ignore(ignored) => ignored.name(),
        Verdict::Wait(awaited) => awaited.name(),
        Verdict::Quarantine(refusal) => refusal.name(),
    }
}

/// The refund of the scene, as WeChat Pay has reported it.
fn now(state: RefundState) -> Verdict {
    Verdict::Apply(Change::Refund(Refund { state, refund_id: Some(refund_id("5001")), ..requested() }))
}

fn not_returned(got: RefundState, amount_minor: i64) -> Verdict {
    Verdict::Quarantine(Refusal::SurplusNotReturned { expected: money(1999), got, amount: money(amount_minor) })
}

fn other_transaction() -> Verdict {
    Verdict::Quarantine(Refusal::TransactionIdMismatch { expected: transaction("tx-0"), got: transaction("tx-1") })
}

fn conflict(expected: RefundState, got: RefundState) -> Verdict {
    Verdict::Quarantine(Refusal::RefundStateConflict { expected, got })
}

fn money(amount_minor: i64) -> Money {
    Money { amount_minor, currency: Currency::parse("HKD").unwrap() }
}

fn noon() -> DateTime<Utc> {
    "2026-11-24T04:00:00Z".parse().unwrap()
}

fn sub_mch(id: &str) -> SubMchId {
    SubMchId::parse(id).unwrap()
}

fn app(id: &str) -> AppId {
    AppId::parse(id).unwrap()
}

fn transaction(id: &str) -> TransactionId {
    TransactionId::parse(id).unwrap()
}

fn refund_id(id: &str) -> RefundId {
    RefundId::parse(id).unwrap()
}
