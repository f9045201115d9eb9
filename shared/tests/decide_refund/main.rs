//! What a refund does to its payment and to the order.
//!
//! `table`: each row of the decision table alone with its full verdict, against every later one, because the earlier must
//! win, and again on what it made. `sweep`: every combination of facts, and every short history, for what must never happen.
//! Here: what the table leaves open, and what a change makes of an order.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail like tests")]

mod sweep;
mod table;

use chrono::{DateTime, Utc};
use shared::domain::decide::{Asked, Known, decide};
use shared::domain::ids::{AppId, MchId, OutRefundNo, OutTradeNo, RefundId, SubMchId, TransactionId};
use shared::domain::money::{Currency, Money};
use shared::domain::notification::{Notification, Other, RefundResult, ReportedRefund};
use shared::domain::order::{Order, OrderState};
use shared::domain::payment::{Disposition, PaymentRecord};
use shared::domain::refund::{Refund, RefundState};
use shared::domain::verdict::{Awaited, Change, Ignored, Refusal, Verdict};

/// An order, the payment that is refunded, the row of the refund, and the refund callback that meets them.
#[derive(Debug, Clone, PartialEq)]
struct Scene {
    order: Option<Order>,
    payment: Option<PaymentRecord>,
    refund: Option<Refund>,
    asked: Asked,
    reported: ReportedRefund,
}

const ASKED: [Asked; 3] = [Asked::ByReport, Asked::ByReplay, Asked::ByAcceptance];
const SUCCEEDED: fn() -> RefundResult = || RefundResult::Succeeded(noon());
const HAS_SUCCEEDED: fn() -> RefundState = || RefundState::Succeeded(noon());

#[test]
fn an_event_about_no_order_changes_none() {
    let Scene { order, payment, refund, reported, .. } = matching();
    let other = Notification::Other(Other { mch_id: reported.mch_id });
    for known in [
        Known::default(),
        Known { order: order.as_ref(), payment: None, refund: None },
        Known { order: order.as_ref(), payment: payment.as_ref(), refund: refund.as_ref() },
    ] {
        for asked in ASKED {
            assert_eq!(decide(known, asked, &other), Verdict::Ignore(Ignored::NotForOrders));
        }
    }
}

/// The payment that it names may be one that the order refused for its app.
#[test]
fn the_app_of_a_refund_is_not_compared() {
    for (app_id, sub_app_id) in [(Some(app("app-1")), None), (Some(app("app-2")), None), (None, Some(app("app-2")))] {
        let mut scene = matching();
        (scene.reported.app_id, scene.reported.sub_app_id) = (app_id, sub_app_id);
        assert_eq!(kind(&scene.verdict()), "apply");
    }
}

#[test]
fn the_payments_own_currency_may_be_said() {
    let mut scene = matching();
    scene.reported.currency = Some(money(0).currency);
    assert_eq!(kind(&scene.verdict()), "apply");
}

/// Whatever became of its order: the money is on its way all the same, and nothing on record says whose it is.
#[test]
fn a_refund_of_an_unknown_payment_waits_whatever_the_order_and_the_refund_are() {
    let states = [OrderState::Pending, OrderState::Closed, OrderState::Paid(transaction("tx-1"))];
    for state in states.into_iter().chain([OrderState::Refunded(transaction("tx-1"))]) {
        for asked in ASKED {
            for refund in [None, matching().refund] {
                let mut scene = Scene { asked, refund, payment: None, ..matching() };
                change(&mut scene, |order| order.state = state.clone());
                assert_eq!(scene.step(), (Verdict::Wait(Awaited::Payment), scene.clone()), "{scene:?}");
            }
        }
    }
}

#[test]
fn a_refund_that_the_merchant_did_not_ask_for_is_known_from_then_on() {
    let mut scene = matching();
    scene.refund = None;
    let Verdict::Apply(Change::Refund { refund, .. }) = scene.verdict() else { panic!("{:?}", scene.verdict()) };
    assert_eq!(refund, reported(HAS_SUCCEEDED()));
}

#[test]
fn a_refund_that_did_not_succeed_needs_nothing_to_be_left() {
    for result in [RefundResult::Abnormal, RefundResult::Closed] {
        let mut scene = matching();
        change_payment(&mut scene, |payment| payment.returned_minor = 1999);
        scene.reported.result = result;
        assert_eq!(kind(&scene.verdict()), "apply");
    }
}

#[test]
fn the_last_refund_takes_exactly_what_is_left_and_makes_the_order_refunded() {
    let mut scene = matching();
    change(&mut scene, |order| order.refunded_minor = 1499);
    change_payment(&mut scene, |payment| payment.returned_minor = 1499);
    let (before, after) = (scene.order.clone().unwrap(), scene.step().1);
    let refunded = after.order.unwrap();
    assert_eq!((refunded.refunded_minor, refunded.version), (1999, before.version + 1));
    assert_eq!(refunded.state, OrderState::Refunded(transaction("tx-1")));
    let payment = after.payment.unwrap();
    assert_eq!((payment.returned_minor, payment.disposition), (1999, Disposition::Accepted));
}

#[test]
fn a_refund_of_a_refunded_order_counts_as_a_change_and_leaves_it_refunded() {
    let mut scene = matching();
    change(&mut scene, |order| {
        order.refunded_minor = 1999;
        order.state = OrderState::Refunded(transaction("tx-1"));
    });
    change_payment(&mut scene, |payment| payment.returned_minor = 1999);
    scene.reported.result = RefundResult::Closed;
    let order = scene.order.clone().unwrap();
    assert_eq!(scene.step().1.order, Some(Order { version: order.version + 1, ..order }));
}

/// Nothing of the order changes but its version, in whatever state it is: its own payment is another one.
#[test]
fn a_refused_payment_goes_back_part_by_part_whatever_became_of_its_order() {
    let states = [OrderState::Pending, OrderState::Closed, OrderState::Paid(transaction("tx-0"))];
    for state in states.into_iter().chain([OrderState::Refunded(transaction("tx-0"))]) {
        let mut scene = of_refused();
        let refunded_minor = if matches!(state, OrderState::Refunded(_)) { 1999 } else { 0 };
        change(&mut scene, |order| (order.state, order.refunded_minor) = (state.clone(), refunded_minor));
        let order = scene.order.clone().unwrap();

        let (_, mut scene) = scene.step();
        assert_eq!(scene.order, Some(Order { version: order.version + 1, ..order.clone() }));
        let payment = scene.payment.clone().unwrap();
        assert_eq!((payment.returned_minor, payment.disposition), (500, Disposition::Refused));

        (scene.refund, scene.reported.amount_minor) = (None, 1499);
        scene.reported.out_refund_no = OutRefundNo::parse("refund-2").unwrap();
        let (_, scene) = scene.step();
        assert_eq!(scene.order, Some(Order { version: order.version + 2, ..order }));
        let payment = scene.payment.unwrap();
        assert_eq!((payment.returned_minor, payment.disposition), (1999, Disposition::Returned));
    }
}

/// The sum that is left is the payment's own: an order of 1999 may have refused a payment of 2500.
#[test]
fn a_refused_payment_of_another_sum_goes_back_as_it_was_paid() {
    let mut scene = of_refused();
    change_payment(&mut scene, |payment| payment.amount.amount_minor = 2500);
    (scene.reported.total_minor, scene.reported.amount_minor, scene.refund) = (2500, 2500, None);
    let payment = scene.step().1.payment.unwrap();
    assert_eq!((payment.returned_minor, payment.disposition), (2500, Disposition::Returned));
    scene.reported.total_minor = 1999;
    assert_eq!(kind(&scene.verdict()), "transaction_conflict", "the order's sum is not the payment's");
}

#[test]
fn a_refusal_shows_both_sides_as_a_person_reads_them() {
    let cases = [
        (Refusal::RefundAmountMismatch { expected: money(499), got: money(500) }, "499 HKD", "500 HKD"),
        (Refusal::RefundIdMismatch { expected: refund_id("a"), got: refund_id("b") }, "a", "b"),
        (Refusal::RefundExceedsPayment { left: money(499), got: money(500) }, "at most 499 HKD", "500 HKD"),
        (Refusal::RefundStateConflict { expected: HAS_SUCCEEDED(), got: RefundState::Closed }, "succeeded", "closed"),
    ];
    for (refusal, expected, got) in cases {
        assert_eq!(refusal.evidence(), (Some(expected.to_owned()), Some(got.to_owned())), "{}", refusal.name());
    }
}

impl Scene {
    fn verdict(&self) -> Verdict {
        let Self { order, payment, refund, asked, reported } = self;
        let known = Known { order: order.as_ref(), payment: payment.as_ref(), refund: refund.as_ref() };
        decide(known, *asked, &Notification::Refund(reported.clone()))
    }

    /// The verdict, and the scene once its change is made.
    fn step(&self) -> (Verdict, Scene) {
        let (verdict, mut after) = (self.verdict(), self.clone());
        if let Verdict::Apply(change) = &verdict {
            let Change::Refund { refund, payment } = change else { panic!("a refund never pays: {change:?}") };
            after.order = after.order.map(|order| change.applied_to(&order));
            (after.payment, after.refund) = (Some(payment.clone()), Some(refund.clone()));
        }
        (verdict, after)
    }
}

/// A paid order of a shop behind an institution, its payment, the refund that the merchant asked for, and the callback that it
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
        version: 3,
    };
    let payment = PaymentRecord {
        order_id: 7,
        mch_id: order.mch_id.clone(),
        transaction_id: transaction("tx-1"),
        amount: money(1999),
        paid_at: noon(),
        disposition: Disposition::Accepted,
        returned_minor: 0,
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
    Scene { order: Some(order), payment: Some(payment), refund: Some(requested()), asked: Asked::ByReport, reported }
}

/// The same with a closed order, which has refused the payment.
fn of_refused() -> Scene {
    let mut scene = matching();
    change(&mut scene, |order| order.state = OrderState::Closed);
    change_payment(&mut scene, |payment| payment.disposition = Disposition::Refused);
    scene
}

fn requested() -> Refund {
    Refund {
        order_id: 7,
        out_refund_no: OutRefundNo::parse("refund-1").unwrap(),
        refund_id: None,
        transaction_id: None,
        amount_minor: 500,
        state: RefundState::Requested,
    }
}

/// The refund of the scene, as WeChat Pay has reported it.
fn reported(state: RefundState) -> Refund {
    Refund { refund_id: Some(refund_id("5001")), transaction_id: Some(transaction("tx-1")), state, ..requested() }
}

fn change(scene: &mut Scene, change: impl FnOnce(&mut Order)) {
    if let Some(order) = &mut scene.order {
        change(order);
    }
}

fn change_payment(scene: &mut Scene, change: impl FnOnce(&mut PaymentRecord)) {
    if let Some(payment) = &mut scene.payment {
        change(payment);
    }
}

fn kind(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Apply(Change::Refund { .. }) => "apply",
        Verdict::Apply(Change::Pay(_) | Change::Adopt(_)) => panic!("a refund never pays"),
        Verdict::Refuse(..) => panic!("a refund is no payment that an order could refuse"),
        Verdict::Duplicate => "duplicate",
        Verdict::Ignore(ignored) => ignored.name(),
        Verdict::Wait(awaited) => awaited.name(),
        Verdict::Quarantine(refusal) => refusal.name(),
    }
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
