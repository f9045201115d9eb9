//! The table, row by row, in the order in which `decide` documents it.

use super::{
    HAS_SUCCEEDED, SUCCEEDED, Scene, app, change, conflict, kind, matching, money, not_returned, now,
    other_transaction, refund_id, requested, sub_mch, transaction,
};
use shared::domain::money::Currency;
use shared::domain::notification::RefundResult;
use shared::domain::order::{OrderState, Surplus};
use shared::domain::refund::{Refund, RefundState};
use shared::domain::verdict::{Awaited, Change, Ignored, Refusal, Verdict};

/// One row of the table: what makes its condition true, and what follows when no earlier row applies.
struct Row {
    name: &'static str,
    arrange: fn(&mut Scene),
    verdict: fn() -> Verdict,
}

fn rows() -> Vec<&'static Row> {
    [OF_THE_ORDER, OF_THE_PAYMENT, OF_THE_REFUND].into_iter().flatten().collect()
}

/// Rows 1 to 4: whether there is a paid order that the refund can be about.
const OF_THE_ORDER: &[Row] = &[
    Row { name: "1 no such order", arrange: |scene| scene.order = None, verdict: || Verdict::Wait(Awaited::Order) },
    Row {
        name: "2 a surplus payment went back",
        arrange: |scene| return_surplus(scene, false, 1999, SUCCEEDED()),
        verdict: || Verdict::Apply(Change::ReturnSurplus { transaction_id: transaction("tx-9") }),
    },
    Row {
        name: "2 a surplus payment went back that was settled",
        arrange: |scene| return_surplus(scene, true, 1999, SUCCEEDED()),
        verdict: || Verdict::Duplicate,
    },
    Row {
        name: "2 a part of a surplus payment went back",
        arrange: |scene| return_surplus(scene, false, 1998, SUCCEEDED()),
        verdict: || not_returned(HAS_SUCCEEDED(), 1998),
    },
    Row {
        name: "2 a part of a surplus payment went back that was settled",
        arrange: |scene| return_surplus(scene, true, 1, SUCCEEDED()),
        verdict: || not_returned(HAS_SUCCEEDED(), 1),
    },
    Row {
        name: "2 the account cannot take a surplus payment",
        arrange: |scene| return_surplus(scene, false, 1999, RefundResult::Abnormal),
        verdict: || not_returned(RefundState::Abnormal, 1999),
    },
    Row {
        name: "2 a surplus payment will not go back",
        arrange: |scene| return_surplus(scene, false, 1999, RefundResult::Closed),
        verdict: || not_returned(RefundState::Closed, 1999),
    },
    Row {
        name: "2 a surplus payment of another sum went back",
        arrange: |scene| {
            return_surplus(scene, false, 2500, SUCCEEDED());
            scene.reported.total_minor = 2500;
            change(scene, |order| order.surplus.iter_mut().for_each(|surplus| surplus.total_minor = 2500));
        },
        verdict: || Verdict::Apply(Change::ReturnSurplus { transaction_id: transaction("tx-9") }),
    },
    Row {
        name: "2 only the order's sum went back of a surplus payment of another sum",
        arrange: |scene| {
            return_surplus(scene, false, 1999, SUCCEEDED());
            scene.reported.total_minor = 2500;
            change(scene, |order| order.surplus.iter_mut().for_each(|surplus| surplus.total_minor = 2500));
        },
        verdict: || {
            let (expected, amount) = (money(2500), money(1999));
            Verdict::Quarantine(Refusal::SurplusNotReturned { expected, got: HAS_SUCCEEDED(), amount })
        },
    },
    Row {
        name: "2 another sum is said to be the whole of a surplus payment",
        arrange: |scene| {
            return_surplus(scene, false, 100, SUCCEEDED());
            scene.reported.total_minor = 100;
        },
        verdict: || not_returned(HAS_SUCCEEDED(), 100),
    },
    Row {
        name: "3 order closed",
        arrange: |scene| change(scene, |order| order.state = OrderState::Closed),
        verdict: || Verdict::Quarantine(Refusal::RefundOfClosedOrder { got: transaction("tx-1") }),
    },
    Row {
        name: "4 order not paid yet",
        arrange: |scene| change(scene, |order| order.state = OrderState::Pending),
        verdict: || Verdict::Wait(Awaited::Payment),
    },
];

/// Rows 5 and 6: whether it is about this order's payment.
const OF_THE_PAYMENT: &[Row] = &[
    Row {
        name: "5a another sub-merchant",
        arrange: |scene| scene.reported.sub_mch_id = Some(sub_mch("shop-2")),
        verdict: || {
            let (expected, got) = (Some(sub_mch("shop-1")), Some(sub_mch("shop-2")));
            Verdict::Quarantine(Refusal::SubMchIdMismatch { expected, got })
        },
    },
    Row {
        name: "5a a sub-merchant on the order only",
        arrange: |scene| scene.reported.sub_mch_id = None,
        verdict: || Verdict::Quarantine(Refusal::SubMchIdMismatch { expected: Some(sub_mch("shop-1")), got: None }),
    },
    Row {
        name: "5a a sub-merchant on the notification only",
        arrange: |scene| change(scene, |order| order.sub_mch_id = None),
        verdict: || Verdict::Quarantine(Refusal::SubMchIdMismatch { expected: None, got: Some(sub_mch("shop-1")) }),
    },
    Row {
        name: "5b another app",
        arrange: |scene| scene.reported.app_id = Some(app("app-2")),
        verdict: || Verdict::Quarantine(Refusal::AppIdMismatch { expected: app("app-1"), got: Some(app("app-2")) }),
    },
    Row {
        name: "5b another app of the shop and none of the institution",
        arrange: |scene| (scene.reported.app_id, scene.reported.sub_app_id) = (None, Some(app("app-2"))),
        verdict: || Verdict::Quarantine(Refusal::AppIdMismatch { expected: app("app-1"), got: None }),
    },
    Row {
        name: "5c another currency",
        arrange: |scene| scene.reported.currency = Some(Currency::CNY),
        verdict: || {
            let (expected, got) = (money(0).currency, Currency::CNY);
            Verdict::Quarantine(Refusal::CurrencyMismatch { expected, got })
        },
    },
    Row {
        name: "6a order paid by another transaction",
        arrange: |scene| change(scene, |order| order.state = OrderState::Paid(transaction("tx-0"))),
        verdict: other_transaction,
    },
    Row {
        name: "6a order refunded, paid by another transaction",
        arrange: |scene| change(scene, |order| order.state = OrderState::Refunded(transaction("tx-0"))),
        verdict: other_transaction,
    },
    Row {
        name: "6b another total",
        arrange: |scene| scene.reported.total_minor = 1998,
        verdict: || Verdict::Quarantine(Refusal::AmountMismatch { expected: money(1999), got: money(1998) }),
    },
];

/// Rows 7 to 12: what is known of the refund itself.
const OF_THE_REFUND: &[Row] = &[
    Row {
        name: "7a the refund is known with another sum",
        arrange: |scene| change_refund(scene, |refund| refund.amount_minor = 499),
        verdict: || Verdict::Quarantine(Refusal::RefundAmountMismatch { expected: money(499), got: money(500) }),
    },
    Row {
        name: "7b the refund is known under another number",
        arrange: |scene| change_refund(scene, |refund| refund.refund_id = Some(refund_id("5000"))),
        verdict: || {
            let (expected, got) = (refund_id("5000"), refund_id("5001"));
            Verdict::Quarantine(Refusal::RefundIdMismatch { expected, got })
        },
    },
    Row {
        name: "8 more goes back than the other refunds leave",
        arrange: |scene| {
            scene.reported.result = SUCCEEDED();
            change(scene, |order| order.refunded_minor += 1500);
        },
        verdict: || Verdict::Quarantine(Refusal::RefundExceedsPayment { left: money(499), got: money(500) }),
    },
    Row {
        name: "8 more would have gone back than was paid",
        arrange: |scene| {
            (scene.reported.result, scene.reported.amount_minor) = (RefundResult::Closed, 2000);
            change_refund(scene, |refund| refund.amount_minor = 2000);
        },
        verdict: || Verdict::Quarantine(Refusal::RefundExceedsPayment { left: money(1999), got: money(2000) }),
    },
    Row {
        name: "9 it is known to have succeeded",
        arrange: |scene| stand(scene, Some(HAS_SUCCEEDED()), SUCCEEDED()),
        verdict: || Verdict::Duplicate,
    },
    Row {
        name: "9 it is known to be abnormal",
        arrange: |scene| stand(scene, Some(RefundState::Abnormal), RefundResult::Abnormal),
        verdict: || Verdict::Duplicate,
    },
    Row {
        name: "9 it is known to be closed",
        arrange: |scene| stand(scene, Some(RefundState::Closed), RefundResult::Closed),
        verdict: || Verdict::Duplicate,
    },
    Row {
        name: "10 new, and succeeded",
        arrange: |scene| stand(scene, None, SUCCEEDED()),
        verdict: || now(HAS_SUCCEEDED()),
    },
    Row {
        name: "10 new, and abnormal",
        arrange: |scene| stand(scene, None, RefundResult::Abnormal),
        verdict: || now(RefundState::Abnormal),
    },
    Row {
        name: "10 new, and closed",
        arrange: |scene| stand(scene, None, RefundResult::Closed),
        verdict: || now(RefundState::Closed),
    },
    Row {
        name: "10 requested, now succeeded",
        arrange: |scene| stand(scene, Some(RefundState::Requested), SUCCEEDED()),
        verdict: || now(HAS_SUCCEEDED()),
    },
    Row {
        name: "10 requested, now abnormal",
        arrange: |scene| stand(scene, Some(RefundState::Requested), RefundResult::Abnormal),
        verdict: || now(RefundState::Abnormal),
    },
    Row {
        name: "10 requested, now closed",
        arrange: |scene| stand(scene, Some(RefundState::Requested), RefundResult::Closed),
        verdict: || now(RefundState::Closed),
    },
    Row {
        name: "10 abnormal, now succeeded",
        arrange: |scene| stand(scene, Some(RefundState::Abnormal), SUCCEEDED()),
        verdict: || now(HAS_SUCCEEDED()),
    },
    Row {
        name: "10 abnormal, now closed",
        arrange: |scene| stand(scene, Some(RefundState::Abnormal), RefundResult::Closed),
        verdict: || now(RefundState::Closed),
    },
    Row {
        name: "11 abnormal, but it has succeeded since",
        arrange: |scene| stand(scene, Some(HAS_SUCCEEDED()), RefundResult::Abnormal),
        verdict: || Verdict::Ignore(Ignored::Stale),
    },
    Row {
        name: "11 abnormal, but it was closed since",
        arrange: |scene| stand(scene, Some(RefundState::Closed), RefundResult::Abnormal),
        verdict: || Verdict::Ignore(Ignored::Stale),
    },
    Row {
        name: "12 closed, but it has succeeded",
        arrange: |scene| stand(scene, Some(HAS_SUCCEEDED()), RefundResult::Closed),
        verdict: || conflict(HAS_SUCCEEDED(), RefundState::Closed),
    },
    Row {
        name: "12 succeeded, but it was closed",
        arrange: |scene| stand(scene, Some(RefundState::Closed), SUCCEEDED()),
        verdict: || conflict(RefundState::Closed, HAS_SUCCEEDED()),
    },
];

#[test]
fn every_row_alone_gives_its_verdict() {
    for row in rows() {
        let mut scene = matching();
        (row.arrange)(&mut scene);
        assert_eq!(scene.verdict(), (row.verdict)(), "row {}", row.name);
    }
}

#[test]
fn an_earlier_row_wins_over_every_later_one() {
    let rows = rows();
    for (at, earlier) in rows.iter().enumerate() {
        for later in rows[at + 1..].iter().filter(|later| number(later) != number(earlier)) {
            let mut scene = matching();
            (later.arrange)(&mut scene);
            (earlier.arrange)(&mut scene);
            let [got, expected] = [scene.verdict(), (earlier.verdict)()];
            assert_eq!(kind(&got), kind(&expected), "row {} against row {}", earlier.name, later.name);
        }
    }
}

fn number(row: &Row) -> &str {
    row.name.split(' ').next().unwrap()
}

fn return_surplus(scene: &mut Scene, is_settled: bool, amount_minor: i64, result: RefundResult) {
    change(scene, |order| {
        order.surplus = vec![Surplus {
            transaction_id: transaction("tx-9"),
            total_minor: 1999,
            is_settled,
            is_returned: is_settled,
        }];
    });
    scene.reported.transaction_id = transaction("tx-9");
    (scene.reported.total_minor, scene.reported.amount_minor) = (1999, amount_minor);
    scene.reported.result = result;
}

/// The refund stands at `state`, and is reported as `result`.
fn stand(scene: &mut Scene, state: Option<RefundState>, result: RefundResult) {
    scene.refund = state.map(|state| Refund { state, ..requested() });
    scene.reported.result = result;
    let succeeded = if state == Some(HAS_SUCCEEDED()) { 500 } else { 0 };
    change(scene, |order| order.refunded_minor = succeeded);
}

fn change_refund(scene: &mut Scene, change: impl FnOnce(&mut Refund)) {
    change(scene.refund.get_or_insert_with(requested));
}
