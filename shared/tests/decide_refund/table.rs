//! The table, row by row, in the order in which `decide` documents it.

use shared::domain::decide::Asked;
use shared::domain::ids::OutTradeNo;
use shared::domain::money::Currency;
use shared::domain::notification::RefundResult;
use shared::domain::payment::{Disposition, PaymentRecord};
use shared::domain::refund::{Refund, RefundState};
use shared::domain::verdict::{Awaited, Change, Ignored, Refusal, Verdict};

use super::{
    ASKED, HAS_SUCCEEDED, SUCCEEDED, Scene, change, change_payment, kind, matching, money, of_refused, refund_id,
    reported, requested, sub_mch, transaction,
};

/// One row of the table: what makes its condition true, and what follows when no earlier row applies.
struct Row {
    name: &'static str,
    arrange: fn(&mut Scene),
    verdict: fn() -> Verdict,
}

fn rows() -> Vec<&'static Row> {
    [OF_THE_PAYMENT, OF_THE_NUMBER, OF_THE_SUM, MOVES, ENDS].into_iter().flatten().collect()
}

/// Rows 1 to 3: whether it is about this payment of this order.
const OF_THE_PAYMENT: &[Row] = &[
    Row {
        name: "1 no such payment",
        arrange: |scene| scene.payment = None,
        verdict: || Verdict::Wait(Awaited::Payment),
    },
    Row {
        name: "1 neither payment nor order",
        arrange: |scene| (scene.order, scene.payment) = (None, None),
        verdict: || Verdict::Wait(Awaited::Payment),
    },
    Row {
        name: "1 a payment whose order was not read",
        arrange: |scene| scene.order = None,
        verdict: || Verdict::Wait(Awaited::Payment),
    },
    Row {
        name: "2 another order",
        arrange: |scene| scene.reported.out_trade_no = OutTradeNo::parse("order-2").unwrap(),
        verdict: || conflict("1999 HKD of order-1", "1999 HKD of order-2"),
    },
    Row {
        name: "2 another total",
        arrange: |scene| scene.reported.total_minor = 1998,
        verdict: || conflict("1999 HKD of order-1", "1998 HKD of order-1"),
    },
    Row {
        name: "2 the total of the order, which refused a payment of another sum",
        arrange: |scene| change_payment(scene, |payment| payment.amount = money(2500)),
        verdict: || conflict("2500 HKD of order-1", "1999 HKD of order-1"),
    },
    Row {
        name: "2 another currency",
        arrange: |scene| scene.reported.currency = Some(Currency::CNY),
        verdict: || conflict("1999 HKD of order-1", "1999 CNY of order-1"),
    },
    Row {
        name: "3 another sub-merchant",
        arrange: |scene| scene.reported.sub_mch_id = Some(sub_mch("shop-2")),
        verdict: || {
            let (expected, got) = (Some(sub_mch("shop-1")), Some(sub_mch("shop-2")));
            Verdict::Quarantine(Refusal::SubMchIdMismatch { expected, got })
        },
    },
    Row {
        name: "3 a sub-merchant on the order only",
        arrange: |scene| scene.reported.sub_mch_id = None,
        verdict: || Verdict::Quarantine(Refusal::SubMchIdMismatch { expected: Some(sub_mch("shop-1")), got: None }),
    },
    Row {
        name: "3 a sub-merchant on the notification only",
        arrange: |scene| change(scene, |order| order.sub_mch_id = None),
        verdict: || Verdict::Quarantine(Refusal::SubMchIdMismatch { expected: None, got: Some(sub_mch("shop-1")) }),
    },
];

/// Row 4: whether it is the refund that has this number.
const OF_THE_NUMBER: &[Row] = &[
    Row {
        name: "4a the refund is known of another payment",
        arrange: |scene| change_refund(scene, |refund| refund.transaction_id = Some(transaction("tx-0"))),
        verdict: || conflict("tx-0", "tx-1"),
    },
    Row {
        name: "4a the refund is known of another payment, and an operator accepts it",
        arrange: |scene| {
            scene.asked = Asked::ByAcceptance;
            change_refund(scene, |refund| refund.transaction_id = Some(transaction("tx-0")));
        },
        verdict: || conflict("tx-0", "tx-1"),
    },
    Row {
        name: "4b the refund is known with another sum",
        arrange: |scene| change_refund(scene, |refund| refund.amount_minor = 499),
        verdict: || Verdict::Quarantine(Refusal::RefundAmountMismatch { expected: money(499), got: money(500) }),
    },
    Row {
        name: "4b the refund is known with another sum, and an operator accepts it",
        arrange: |scene| {
            scene.asked = Asked::ByAcceptance;
            change_refund(scene, |refund| refund.amount_minor = 499);
        },
        verdict: || Verdict::Quarantine(Refusal::RefundAmountMismatch { expected: money(499), got: money(500) }),
    },
    Row {
        name: "4c the refund is known under another number",
        arrange: |scene| repeat(scene, RefundState::Closed, Asked::ByReport),
        verdict: other_number,
    },
    Row {
        name: "4c the refund is known under another number, and an operator replays it",
        arrange: |scene| repeat(scene, RefundState::Closed, Asked::ByReplay),
        verdict: other_number,
    },
    Row {
        name: "4c the refund has succeeded under another number, and an operator accepts it",
        arrange: |scene| repeat(scene, HAS_SUCCEEDED(), Asked::ByAcceptance),
        verdict: other_number,
    },
];

/// Row 5: whether as much is left.
const OF_THE_SUM: &[Row] = &[
    Row {
        name: "5 more goes back than the other refunds leave",
        arrange: |scene| {
            scene.reported.result = SUCCEEDED();
            change_payment(scene, |payment| payment.returned_minor += 1500);
        },
        verdict: || Verdict::Quarantine(Refusal::RefundExceedsPayment { left: money(499), got: money(500) }),
    },
    Row {
        name: "5 more would have gone back than was paid",
        arrange: |scene| {
            (scene.reported.result, scene.reported.amount_minor) = (RefundResult::Closed, 2000);
            change_refund(scene, |refund| refund.amount_minor = 2000);
        },
        verdict: || Verdict::Quarantine(Refusal::RefundExceedsPayment { left: money(1999), got: money(2000) }),
    },
];

/// Rows 6 and 7: whether it is news, and moves the refund on.
const MOVES: &[Row] = &[
    Row {
        name: "6 it is known to have succeeded",
        arrange: |scene| stand(scene, Some(HAS_SUCCEEDED()), SUCCEEDED(), Asked::ByReport),
        verdict: || Verdict::Duplicate,
    },
    Row {
        name: "6 it is known to be abnormal",
        arrange: |scene| stand(scene, Some(RefundState::Abnormal), RefundResult::Abnormal, Asked::ByReport),
        verdict: || Verdict::Duplicate,
    },
    Row {
        name: "6 it is known to be closed",
        arrange: |scene| stand(scene, Some(RefundState::Closed), RefundResult::Closed, Asked::ByReport),
        verdict: || Verdict::Duplicate,
    },
    Row {
        name: "7 new, and succeeded",
        arrange: |scene| stand(scene, None, SUCCEEDED(), Asked::ByReport),
        verdict: || now(HAS_SUCCEEDED()),
    },
    Row {
        name: "7 new, and abnormal",
        arrange: |scene| stand(scene, None, RefundResult::Abnormal, Asked::ByReport),
        verdict: || now(RefundState::Abnormal),
    },
    Row {
        name: "7 new, and closed",
        arrange: |scene| stand(scene, None, RefundResult::Closed, Asked::ByReport),
        verdict: || now(RefundState::Closed),
    },
    Row {
        name: "7 requested, now succeeded",
        arrange: |scene| stand(scene, Some(RefundState::Requested), SUCCEEDED(), Asked::ByReport),
        verdict: || now(HAS_SUCCEEDED()),
    },
    Row {
        name: "7 requested, now abnormal",
        arrange: |scene| stand(scene, Some(RefundState::Requested), RefundResult::Abnormal, Asked::ByReport),
        verdict: || now(RefundState::Abnormal),
    },
    Row {
        name: "7 requested, now closed",
        arrange: |scene| stand(scene, Some(RefundState::Requested), RefundResult::Closed, Asked::ByReport),
        verdict: || now(RefundState::Closed),
    },
    Row {
        name: "7 abnormal, now succeeded",
        arrange: |scene| stand(scene, Some(RefundState::Abnormal), SUCCEEDED(), Asked::ByReport),
        verdict: || now(HAS_SUCCEEDED()),
    },
    Row {
        name: "7 abnormal, now closed",
        arrange: |scene| stand(scene, Some(RefundState::Abnormal), RefundResult::Closed, Asked::ByReport),
        verdict: || now(RefundState::Closed),
    },
    Row {
        name: "7 abnormal, repeated under another number, and an operator accepts that it succeeded",
        arrange: |scene| repeat(scene, RefundState::Abnormal, Asked::ByAcceptance),
        verdict: || now(HAS_SUCCEEDED()),
    },
    Row {
        name: "7 a part of a refused payment",
        arrange: |scene| {
            (scene.order, scene.payment) = (of_refused().order, of_refused().payment);
            stand(scene, None, SUCCEEDED(), Asked::ByReport);
        },
        verdict: || applied(reported(HAS_SUCCEEDED()), Disposition::Refused, 500),
    },
    Row {
        name: "7 all of a refused payment",
        arrange: |scene| {
            (scene.order, scene.payment) = (of_refused().order, of_refused().payment);
            stand(scene, None, SUCCEEDED(), Asked::ByReport);
            scene.reported.amount_minor = 1999;
        },
        verdict: || {
            let refund = Refund { amount_minor: 1999, ..reported(HAS_SUCCEEDED()) };
            applied(refund, Disposition::Returned, 1999)
        },
    },
];

/// Rows 8 and 9: it has come to its end before.
const ENDS: &[Row] = &[
    Row {
        name: "8 abnormal, but it has succeeded since",
        arrange: |scene| stand(scene, Some(HAS_SUCCEEDED()), RefundResult::Abnormal, Asked::ByReport),
        verdict: || Verdict::Ignore(Ignored::Stale),
    },
    Row {
        name: "8 abnormal, but it was closed since, and an operator accepts it",
        arrange: |scene| stand(scene, Some(RefundState::Closed), RefundResult::Abnormal, Asked::ByAcceptance),
        verdict: || Verdict::Ignore(Ignored::Stale),
    },
    Row {
        name: "9 closed, but it has succeeded",
        arrange: |scene| stand(scene, Some(HAS_SUCCEEDED()), RefundResult::Closed, Asked::ByReport),
        verdict: || state_conflict(HAS_SUCCEEDED(), RefundState::Closed),
    },
    Row {
        name: "9 closed, but it has succeeded, and an operator accepts it",
        arrange: |scene| stand(scene, Some(HAS_SUCCEEDED()), RefundResult::Closed, Asked::ByAcceptance),
        verdict: || state_conflict(HAS_SUCCEEDED(), RefundState::Closed),
    },
    Row {
        name: "9 succeeded, but it was closed",
        arrange: |scene| stand(scene, Some(RefundState::Closed), SUCCEEDED(), Asked::ByReport),
        verdict: || state_conflict(RefundState::Closed, HAS_SUCCEEDED()),
    },
    Row {
        name: "9 succeeded, but it was closed, and an operator replays it",
        arrange: |scene| stand(scene, Some(RefundState::Closed), SUCCEEDED(), Asked::ByReplay),
        verdict: || state_conflict(RefundState::Closed, HAS_SUCCEEDED()),
    },
    Row {
        name: "9 succeeded, but it was closed, and an operator accepts it",
        arrange: |scene| stand(scene, Some(RefundState::Closed), SUCCEEDED(), Asked::ByAcceptance),
        verdict: || now(HAS_SUCCEEDED()),
    },
    Row {
        name: "9 succeeded under another number, but it was closed, and an operator accepts it",
        arrange: |scene| repeat(scene, RefundState::Closed, Asked::ByAcceptance),
        verdict: || now(HAS_SUCCEEDED()),
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
    for earlier in rows() {
        for later in rows().into_iter().filter(|later| number(later) > number(earlier)) {
            let mut scene = matching();
            (later.arrange)(&mut scene);
            (earlier.arrange)(&mut scene);
            let [got, expected] = [scene.verdict(), (earlier.verdict)()];
            assert_eq!(kind(&got), kind(&expected), "row {} against row {}", earlier.name, later.name);
        }
    }
}

#[test]
fn a_repeated_notification_changes_nothing_more() {
    for row in rows() {
        let mut scene = matching();
        (row.arrange)(&mut scene);
        let (first, after) = scene.step();
        for asked in ASKED {
            let again = Scene { asked, ..after.clone() };
            match &first {
                Verdict::Apply(_) => assert_eq!(again.verdict(), Verdict::Duplicate, "row {}, {asked:?}", row.name),
                other if asked == scene.asked => assert_eq!(&again.verdict(), other, "row {}", row.name),
                // Another asks now: the rows of the table say what that comes to.
                _ => continue,
            }
            assert_eq!(again.step().1, again, "row {}, {asked:?}", row.name);
        }
    }
}

/// The place of a row, as `decide` documents it.
fn number(row: &Row) -> &str {
    row.name.split(' ').next().unwrap()
}

/// The refund stands at `state`, and is reported as `result`.
fn stand(scene: &mut Scene, state: Option<RefundState>, result: RefundResult, asked: Asked) {
    let of_shop = |state| if state == RefundState::Requested { requested() } else { reported(state) };
    (scene.refund, scene.asked) = (state.map(of_shop), asked);
    (scene.reported.result, scene.reported.amount_minor) = (result, 500);
    let succeeded = if state == Some(HAS_SUCCEEDED()) { 500 } else { 0 };
    change(scene, |order| order.refunded_minor = succeeded);
    change_payment(scene, |payment| payment.returned_minor = succeeded);
}

/// The refund was at `state` under another number of WeChat Pay's, and succeeds now.
fn repeat(scene: &mut Scene, state: RefundState, asked: Asked) {
    stand(scene, Some(state), SUCCEEDED(), asked);
    change_refund(scene, |refund| refund.refund_id = Some(refund_id("5000")));
}

fn change_refund(scene: &mut Scene, change: impl FnOnce(&mut Refund)) {
    change(scene.refund.get_or_insert_with(requested));
}

/// The refund of the scene and its accepted payment, after it was reported.
fn now(state: RefundState) -> Verdict {
    applied(reported(state), Disposition::Accepted, state.succeeded_at().map_or(0, |_| 500))
}

fn applied(refund: Refund, disposition: Disposition, returned_minor: i64) -> Verdict {
    let payment = matching().payment.unwrap();
    Verdict::Apply(Change::Refund { refund, payment: PaymentRecord { disposition, returned_minor, ..payment } })
}

fn other_number() -> Verdict {
    Verdict::Quarantine(Refusal::RefundIdMismatch { expected: refund_id("5000"), got: refund_id("5001") })
}

fn conflict(expected: &str, got: &str) -> Verdict {
    Verdict::Quarantine(Refusal::TransactionConflict { expected: expected.to_owned(), got: got.to_owned() })
}

fn state_conflict(expected: RefundState, got: RefundState) -> Verdict {
    Verdict::Quarantine(Refusal::RefundStateConflict { expected, got })
}
