//! What a payment does to an order.
//!
//! `table`: each row of the decision table alone with its full verdict, against every later one, because the earlier must
//! win, and again on what it made. `sweep`: every combination of facts, for what must never happen. Here: what the table
//! leaves open.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail like tests")]

mod sweep;
mod table;

use chrono::{DateTime, Utc};
use shared::domain::decide::{Asked, Known, decide};
use shared::domain::ids::{AppId, MchId, OutTradeNo, SubMchId, TransactionId};
use shared::domain::money::{Currency, Money};
use shared::domain::notification::{Notification, Payment, PaymentResult, PaymentSuccess};
use shared::domain::order::{Order, OrderState};
use shared::domain::payment::{Disposition, PaymentRecord};
use shared::domain::verdict::{Change, Refusal, Verdict};

const ASKED: [Asked; 3] = [Asked::ByReport, Asked::ByReplay, Asked::ByAcceptance];

/// An order, what is on record about a payment, and the payment's callback that meets them.
#[derive(Debug, Clone, PartialEq)]
struct Scene {
    order: Option<Order>,
    recorded: Option<PaymentRecord>,
    asked: Asked,
    payment: Payment,
}

#[test]
fn either_app_of_a_notification_may_be_the_orders() {
    let mut scene = matching();
    scene.payment.app_id = Some(app("app of the institution"));
    scene.payment.sub_app_id = Some(app("app-1"));
    assert_eq!(kind(&scene.verdict()), "pay");
}

#[test]
fn an_order_that_names_no_app_takes_any() {
    for app_id in [None, Some(app("app-2"))] {
        let mut scene = matching();
        change(&mut scene, |order| order.app_id = None);
        scene.payment.app_id = app_id;
        assert_eq!(kind(&scene.verdict()), "pay");
    }
}

#[test]
fn paying_changes_the_state_and_the_version_and_nothing_else() {
    let order = matching().order.unwrap();
    let paid = Change::Pay(recorded_as(Disposition::Accepted)).applied_to(&order);
    assert_eq!(paid.state, OrderState::Paid(transaction("tx-1")));
    assert_eq!(paid.version, order.version + 1);
    assert_eq!(Order { state: order.state.clone(), version: order.version, ..paid }, order);
}

#[test]
fn adopting_changes_nothing_of_the_order() {
    let order = Order { state: OrderState::Paid(transaction("tx-1")), ..matching().order.unwrap() };
    assert_eq!(Change::Adopt(recorded_as(Disposition::Accepted)).applied_to(&order), order);
}

/// An order from before Countersign, of which the shop has given a part or all back: the order's sum is that of its accepted
/// payment, so the next refund must not begin from 0.
#[test]
fn an_adopted_payment_keeps_the_orders_refunded_amount() {
    for (state, refunded_minor) in
        [(OrderState::Paid(transaction("tx-1")), 500), (OrderState::Refunded(transaction("tx-1")), 1999)]
    {
        let mut scene = matching();
        change(&mut scene, |order| (order.state, order.refunded_minor) = (state.clone(), refunded_minor));
        let adopted = PaymentRecord { returned_minor: refunded_minor, ..recorded_as(Disposition::Accepted) };
        assert_eq!(scene.verdict(), Verdict::Apply(Change::Adopt(adopted)), "{state:?}");
    }
}

/// The documented way out of `paid_after_close`: the shop reopens the order, and an operator replays.
#[test]
fn a_payment_refused_because_the_order_was_closed_pays_it_once_it_is_reopened_and_replayed() {
    let mut scene = matching();
    change(&mut scene, |order| order.state = OrderState::Closed);
    scene = scene.step().1;
    change(&mut scene, |order| order.state = OrderState::Pending);
    assert_eq!(scene.verdict(), Verdict::Duplicate, "a repeat does not undo the refusal");
    scene.asked = Asked::ByReplay;
    assert_eq!(scene.verdict(), Verdict::Apply(Change::Pay(recorded_as(Disposition::Accepted))));
}

/// The shop reopens an order whose late payment has been given back, and the callback is repeated or replayed.
#[test]
fn a_payment_that_has_gone_back_never_pays_a_reopened_order() {
    for asked in ASKED {
        for (disposition, returned_minor) in [(Disposition::Refused, 1), (Disposition::Returned, 1999)] {
            let mut scene = matching();
            scene.asked = asked;
            scene.recorded = Some(PaymentRecord { returned_minor, ..recorded_as(disposition) });
            let verdict = scene.verdict();
            assert!(!matches!(verdict, Verdict::Apply(_)), "{asked:?} {disposition:?}: {verdict:?}");
        }
    }
}

#[test]
fn a_refusal_shows_both_sides_as_a_person_reads_them() {
    let money = Money { amount_minor: 1998, currency: currency("HKD") };
    let conflict = Refusal::TransactionConflict { expected: "x".to_owned(), got: "y".to_owned() };
    let cases = [
        (Refusal::SubMchIdMismatch { expected: Some(sub_mch("s")), got: None }, Some("s"), None),
        (Refusal::AppIdMismatch { expected: app("a"), got: Some(app("b")) }, Some("a"), Some("b")),
        (Refusal::CurrencyMismatch { expected: currency("HKD"), got: Currency::CNY }, Some("HKD"), Some("CNY")),
        (Refusal::AmountMismatch { expected: total(), got: money }, Some("1999 HKD"), Some("1998 HKD")),
        (Refusal::PaidTwice { expected: transaction("x"), got: transaction("y") }, Some("x"), Some("y")),
        (Refusal::PaidAfterClose { got: transaction("y") }, Some("pending"), Some("y")),
        (Refusal::PartlyReturned { paid: total(), returned: money }, Some("1999 HKD"), Some("1998 HKD returned")),
        (conflict, Some("x"), Some("y")),
    ];
    for (refusal, expected, got) in cases {
        assert_eq!(refusal.evidence(), (expected.map(str::to_owned), got.map(str::to_owned)), "{}", refusal.name());
    }
}

impl Scene {
    fn verdict(&self) -> Verdict {
        let known = Known { order: self.order.as_ref(), payment: self.recorded.as_ref(), refund: None };
        decide(known, self.asked, &Notification::Payment(self.payment.clone()))
    }

    /// The verdict, and the scene once it is on record.
    fn step(&self) -> (Verdict, Scene) {
        let (verdict, mut after) = (self.verdict(), self.clone());
        match &verdict {
            Verdict::Apply(change) => {
                after.order = after.order.map(|order| change.applied_to(&order));
                after.recorded = Some(change.payment().clone());
            }
            Verdict::Refuse(_, refused) => after.recorded = Some(refused.clone()),
            Verdict::Duplicate | Verdict::Ignore(_) | Verdict::Wait(_) | Verdict::Quarantine(_) => {}
        }
        (verdict, after)
    }

    /// What the notification says was paid.
    fn success(&self) -> Option<&PaymentSuccess> {
        match &self.payment.result {
            PaymentResult::Success(success) => Some(success),
            PaymentResult::NotSuccessful => None,
        }
    }
}

/// A pending order of a shop behind an institution, nothing on record, and the callback that pays it.
fn matching() -> Scene {
    let order = Order {
        id: 7,
        mch_id: mch("1900000109"),
        sub_mch_id: Some(sub_mch("shop-1")),
        app_id: Some(app("app-1")),
        out_trade_no: OutTradeNo::parse("order-1").unwrap(),
        amount: total(),
        state: OrderState::Pending,
        refunded_minor: 0,
        version: 3,
    };
    let payment = Payment {
        mch_id: order.mch_id.clone(),
        sub_mch_id: order.sub_mch_id.clone(),
        app_id: order.app_id.clone(),
        sub_app_id: None,
        out_trade_no: Some(order.out_trade_no.clone()),
        result: success(total(), "tx-1"),
    };
    Scene { order: Some(order), recorded: None, asked: Asked::ByReport, payment }
}

/// The payment of the scene on the order's record; nothing of it has gone back.
fn recorded_as(disposition: Disposition) -> PaymentRecord {
    PaymentRecord {
        order_id: 7,
        mch_id: mch("1900000109"),
        transaction_id: transaction("tx-1"),
        amount: total(),
        paid_at: noon(),
        disposition,
        returned_minor: 0,
    }
}

fn kind(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Apply(Change::Pay(_)) => "pay",
        Verdict::Apply(Change::Adopt(_)) => "adopt",
        Verdict::Apply(Change::Refund { .. }) => panic!("a payment never makes a refund"),
        Verdict::Duplicate => "duplicate",
        Verdict::Ignore(ignored) => ignored.name(),
        Verdict::Wait(awaited) => awaited.name(),
        Verdict::Quarantine(refusal) | Verdict::Refuse(refusal, _) => refusal.name(),
    }
}

fn change(scene: &mut Scene, change: impl FnOnce(&mut Order)) {
    if let Some(order) = &mut scene.order {
        change(order);
    }
}

fn success(total: Money, transaction_id: &str) -> PaymentResult {
    PaymentResult::Success(PaymentSuccess { transaction_id: transaction(transaction_id), total, paid_at: noon() })
}

fn total() -> Money {
    Money { amount_minor: 1999, currency: currency("HKD") }
}

fn noon() -> DateTime<Utc> {
    "2026-11-23T04:00:00Z".parse().unwrap()
}

fn mch(id: &str) -> MchId {
    MchId::parse(id).unwrap()
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

fn currency(code: &str) -> Currency {
    Currency::parse(code).unwrap()
}
