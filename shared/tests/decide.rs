//! The decision table of payments, walked in the order in which `decide` documents it.
//!
//! Each row alone with its full verdict; each row against every later one, because the earlier must win; each
//! notification again on the order that it made; and every combination of facts, for what must never happen.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail like tests")]

use chrono::{DateTime, Utc};
use shared::domain::decide::decide;
use shared::domain::ids::{AppId, MchId, OutTradeNo, SubMchId, TransactionId};
use shared::domain::money::{Currency, Money};
use shared::domain::notification::{Notification, Payment, PaymentResult, PaymentSuccess};
use shared::domain::order::{Order, OrderState, Surplus};
use shared::domain::verdict::{Awaited, Change, Ignored, Refusal, Verdict};

/// An order and the payment callback that meets it.
#[derive(Debug, Clone)]
struct Scene {
    order: Option<Order>,
    payment: Payment,
}

/// One row of the table: what makes its condition true, and what follows when no earlier row applies.
struct Row {
    name: &'static str,
    arrange: fn(&mut Scene),
    verdict: fn() -> Verdict,
}

const ROWS: [Row; 16] = [
    Row {
        name: "1 the callback does not report success",
        arrange: |scene| scene.payment.result = PaymentResult::NotSuccessful,
        verdict: || Verdict::Ignore(Ignored::NotSuccessful),
    },
    Row { name: "2 no such order", arrange: |scene| scene.order = None, verdict: || Verdict::Wait(Awaited::Order) },
    Row {
        name: "2 a payment that has gone back",
        arrange: |scene| {
            let PaymentResult::Success(success) = &scene.payment.result else { panic!("a failed payment") };
            let transaction_id = success.transaction_id.clone();
            let surplus = Surplus { transaction_id, total_minor: 1999, is_settled: true, is_returned: true };
            change(scene, |order| order.surplus = vec![surplus.clone()]);
        },
        verdict: || Verdict::Ignore(Ignored::Returned),
    },
    Row {
        name: "3 another sub-merchant",
        arrange: |scene| scene.payment.sub_mch_id = Some(sub_mch("shop-2")),
        verdict: || {
            let (expected, got) = (Some(sub_mch("shop-1")), Some(sub_mch("shop-2")));
            Verdict::Quarantine(Refusal::SubMchIdMismatch { expected, got })
        },
    },
    Row {
        name: "3 a sub-merchant on the order only",
        arrange: |scene| scene.payment.sub_mch_id = None,
        verdict: || Verdict::Quarantine(Refusal::SubMchIdMismatch { expected: Some(sub_mch("shop-1")), got: None }),
    },
    Row {
        name: "3 a sub-merchant on the notification only",
        arrange: |scene| change(scene, |order| order.sub_mch_id = None),
        verdict: || Verdict::Quarantine(Refusal::SubMchIdMismatch { expected: None, got: Some(sub_mch("shop-1")) }),
    },
    Row {
        name: "3 another app",
        arrange: |scene| scene.payment.app_id = Some(app("app-2")),
        verdict: || Verdict::Quarantine(Refusal::AppIdMismatch { expected: app("app-1"), got: Some(app("app-2")) }),
    },
    Row {
        name: "3 an app on the order only",
        arrange: |scene| scene.payment.app_id = None,
        verdict: || Verdict::Quarantine(Refusal::AppIdMismatch { expected: app("app-1"), got: None }),
    },
    Row {
        name: "4 another currency",
        arrange: |scene| change_success(scene, |success| success.total.currency = currency("USD")),
        verdict: || Verdict::Quarantine(Refusal::CurrencyMismatch { expected: currency("HKD"), got: currency("USD") }),
    },
    Row {
        name: "5 another amount",
        arrange: |scene| change_success(scene, |success| success.total.amount_minor = 1998),
        verdict: || {
            let got = Money { amount_minor: 1998, currency: currency("HKD") };
            Verdict::Quarantine(Refusal::AmountMismatch { expected: total(), got })
        },
    },
    Row {
        name: "6 order pending",
        arrange: |scene| change(scene, |order| order.state = OrderState::Pending),
        verdict: || Verdict::Apply(Change::Pay { transaction_id: transaction("tx-1"), paid_at: noon() }),
    },
    Row {
        name: "7 order paid by the same transaction",
        arrange: |scene| change(scene, |order| order.state = OrderState::Paid(transaction("tx-1"))),
        verdict: || Verdict::Duplicate,
    },
    Row {
        name: "7 order refunded, paid by the same transaction",
        arrange: |scene| change(scene, |order| order.state = OrderState::Refunded(transaction("tx-1"))),
        verdict: || Verdict::Duplicate,
    },
    Row {
        name: "8 order paid by another transaction",
        arrange: |scene| change(scene, |order| order.state = OrderState::Paid(transaction("tx-0"))),
        verdict: paid_twice,
    },
    Row {
        name: "8 order refunded, paid by another transaction",
        arrange: |scene| change(scene, |order| order.state = OrderState::Refunded(transaction("tx-0"))),
        verdict: paid_twice,
    },
    Row {
        name: "9 order closed",
        arrange: |scene| change(scene, |order| order.state = OrderState::Closed),
        verdict: || Verdict::Quarantine(Refusal::PaidAfterClose { got: transaction("tx-1") }),
    },
];

#[test]
fn every_row_alone_gives_its_verdict() {
    for row in &ROWS {
        let mut scene = matching();
        (row.arrange)(&mut scene);
        assert_eq!(scene.verdict(), (row.verdict)(), "row {}", row.name);
    }
}

#[test]
fn an_earlier_row_wins_over_every_later_one() {
    for (at, earlier) in ROWS.iter().enumerate() {
        for later in ROWS[at + 1..].iter().filter(|later| number(later) != number(earlier)) {
            let mut scene = matching();
            (later.arrange)(&mut scene);
            (earlier.arrange)(&mut scene);
            let [got, expected] = [scene.verdict(), (earlier.verdict)()];
            assert_eq!(kind(&got), kind(&expected), "row {} against row {}", earlier.name, later.name);
        }
    }
}

#[test]
fn a_sub_merchant_that_differs_is_told_before_an_app_that_differs() {
    let mut scene = matching();
    scene.payment.app_id = Some(app("app-2"));
    scene.payment.sub_mch_id = Some(sub_mch("shop-2"));
    assert_eq!(kind(&scene.verdict()), "sub_mch_id_mismatch");
}

#[test]
fn either_app_of_a_notification_may_be_the_orders() {
    let mut scene = matching();
    scene.payment.app_id = Some(app("app of the institution"));
    scene.payment.sub_app_id = Some(app("app-1"));
    assert_eq!(kind(&scene.verdict()), "apply");
}

#[test]
fn an_order_that_names_no_app_takes_any() {
    for app_id in [None, Some(app("app-2"))] {
        let mut scene = matching();
        change(&mut scene, |order| order.app_id = None);
        scene.payment.app_id = app_id;
        assert_eq!(kind(&scene.verdict()), "apply");
    }
}

#[test]
fn a_notification_that_was_applied_is_a_duplicate_ever_after() {
    let mut scene = matching();
    let Verdict::Apply(change) = scene.verdict() else { panic!("{:?}", scene.verdict()) };
    for _ in 0..3 {
        scene.order = scene.order.map(|order| change.applied_to(&order));
        assert_eq!(scene.verdict(), Verdict::Duplicate);
    }
}

#[test]
fn a_notification_that_was_not_applied_gets_the_same_verdict_again() {
    for row in ROWS.iter().filter(|row| number(row) != '6') {
        let mut scene = matching();
        (row.arrange)(&mut scene);
        assert_eq!(scene.verdict(), scene.verdict(), "row {}", row.name);
    }
}

#[test]
fn paying_changes_the_state_and_the_version_and_nothing_else() {
    let order = matching().order.unwrap();
    let paid = Change::Pay { transaction_id: transaction("tx-1"), paid_at: noon() }.applied_to(&order);
    assert_eq!(paid.state, OrderState::Paid(transaction("tx-1")));
    assert_eq!(paid.version, order.version + 1);
    assert_eq!(Order { state: order.state.clone(), version: order.version, ..paid }, order);
}

/// Every combination of the facts that the table looks at: 6 states times 768 notifications.
#[test]
fn money_moves_only_an_order_that_is_pending_and_matches_in_everything() {
    let mut applied = 0;
    for scene in every_scene() {
        let matches = scene.order.as_ref().is_some_and(|order| {
            let PaymentResult::Success(success) = &scene.payment.result else { return false };
            let apps = [&scene.payment.app_id, &scene.payment.sub_app_id];
            order.state == OrderState::Pending
                && order.amount == success.total
                && order.sub_mch_id == scene.payment.sub_mch_id
                && (order.app_id.is_none() || apps.contains(&&order.app_id))
        });
        let is_applied = matches!(scene.verdict(), Verdict::Apply(_));
        assert_eq!(is_applied, matches, "{scene:?}");
        applied += usize::from(is_applied);
    }
    assert!(applied > 0, "no combination is applied: the test tests nothing");
}

#[test]
fn a_refusal_shows_both_sides_as_a_person_reads_them() {
    let money = Money { amount_minor: 1998, currency: currency("HKD") };
    let cases = [
        (Refusal::SubMchIdMismatch { expected: Some(sub_mch("s")), got: None }, Some("s"), None),
        (Refusal::AppIdMismatch { expected: app("a"), got: Some(app("b")) }, Some("a"), Some("b")),
        (Refusal::CurrencyMismatch { expected: currency("HKD"), got: Currency::CNY }, Some("HKD"), Some("CNY")),
        (Refusal::AmountMismatch { expected: total(), got: money }, Some("1999 HKD"), Some("1998 HKD")),
        (Refusal::PaidTwice { expected: transaction("x"), got: transaction("y") }, Some("x"), Some("y")),
        (Refusal::PaidAfterClose { got: transaction("y") }, Some("pending"), Some("y")),
    ];
    for (refusal, expected, got) in cases {
        assert_eq!(refusal.evidence(), (expected.map(str::to_owned), got.map(str::to_owned)), "{}", refusal.name());
    }
}

impl Scene {
    fn verdict(&self) -> Verdict {
        decide(self.order.as_ref(), None, &Notification::Payment(self.payment.clone()))
    }
}

/// A pending order of a shop behind an institution, and the callback that pays it.
fn matching() -> Scene {
    let order = Order {
        id: 7,
        mch_id: MchId::parse("1900000109").unwrap(),
        sub_mch_id: Some(sub_mch("shop-1")),
        app_id: Some(app("app-1")),
        out_trade_no: OutTradeNo::parse("order-1").unwrap(),
        amount: total(),
        state: OrderState::Pending,
        refunded_minor: 0,
        surplus: Vec::new(),
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
    Scene { order: Some(order), payment }
}

fn every_scene() -> impl Iterator<Item = Scene> {
    let states = [
        OrderState::Pending,
        OrderState::Paid(transaction("tx-1")),
        OrderState::Paid(transaction("tx-0")),
        OrderState::Refunded(transaction("tx-1")),
        OrderState::Refunded(transaction("tx-0")),
        OrderState::Closed,
    ];
    let subs = [None, Some(sub_mch("shop-1")), Some(sub_mch("shop-2"))];
    let apps = [None, Some(app("app-1")), Some(app("app-2"))];
    let mut results = vec![PaymentResult::NotSuccessful];
    for code in ["HKD", "CNY"] {
        for amount_minor in [1999, 1998, 0] {
            results.push(success(Money { amount_minor, currency: currency(code) }, "tx-1"));
        }
    }
    let mut scenes = Vec::new();
    for state in &states {
        for (order_sub, sub) in pairs(&subs) {
            for (order_app, app) in pairs(&apps) {
                for sub_app in &apps {
                    for result in &results {
                        let Scene { mut order, mut payment } = matching();
                        order = order.map(|order| Order {
                            state: state.clone(),
                            sub_mch_id: order_sub.clone(),
                            app_id: order_app.clone(),
                            ..order
                        });
                        payment.sub_mch_id.clone_from(sub);
                        payment.app_id.clone_from(app);
                        payment.sub_app_id.clone_from(sub_app);
                        payment.result = result.clone();
                        scenes.push(Scene { order: None, payment: payment.clone() });
                        scenes.push(Scene { order, payment });
                    }
                }
            }
        }
    }
    scenes.into_iter()
}

fn pairs<T>(all: &[T]) -> impl Iterator<Item = (&T, &T)> {
    all.iter().flat_map(move |one| all.iter().map(move |other| (one, other)))
}

fn number(row: &Row) -> char {
    row.name.chars().next().unwrap()
}

fn kind(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Apply(Change::Pay { .. }) => "apply",
        Verdict::Apply(other) => panic!("a payment never makes this change: {other:?}"),
        Verdict::Duplicate => "duplicate",
        Verdict::Ignore(ignored) => ignored.name(),
        Verdict::Wait(awaited) => awaited.name(),
        Verdict::Quarantine(refusal) => refusal.name(),
    }
}

fn paid_twice() -> Verdict {
    Verdict::Quarantine(Refusal::PaidTwice { expected: transaction("tx-0"), got: transaction("tx-1") })
}

fn change(scene: &mut Scene, change: impl FnOnce(&mut Order)) {
    if let Some(order) = &mut scene.order {
        change(order);
    }
}

fn change_success(scene: &mut Scene, change: impl FnOnce(&mut PaymentSuccess)) {
    if let PaymentResult::Success(success) = &mut scene.payment.result {
        change(success);
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

#[test]
fn a_surplus_that_a_person_has_settled_or_of_another_payment_changes_nothing() {
    for (name, is_settled, is_returned) in [("another", true, true), ("tx-1", false, false), ("tx-1", true, false)] {
        let mut scene = matching();
        let transaction_id = TransactionId::parse(name).unwrap();
        change(&mut scene, |order| {
            order.surplus =
                vec![Surplus { transaction_id: transaction_id.clone(), total_minor: 1999, is_settled, is_returned }];
        });
        assert_eq!(scene.verdict(), matching().verdict(), "{name} {is_settled} {is_returned}");
    }
}
