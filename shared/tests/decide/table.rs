//! The table, row by row, in the order in which `decide` documents it.

use shared::domain::decide::Asked;
use shared::domain::money::Money;
use shared::domain::notification::{PaymentResult, PaymentSuccess};
use shared::domain::order::OrderState;
use shared::domain::payment::{Disposition, PaymentRecord};
use shared::domain::verdict::{Awaited, Change, Ignored, Refusal, Verdict};

use super::{ASKED, Scene, app, change, currency, kind, matching, recorded_as, total, transaction};

/// One row of the table: what makes its condition true, and what follows when no earlier row applies.
struct Row {
    name: &'static str,
    arrange: fn(&mut Scene),
    verdict: fn() -> Verdict,
}

fn rows() -> Vec<&'static Row> {
    [BEFORE_THE_ORDER, ON_RECORD, OF_THE_ORDER, DECIDED_AGAIN].into_iter().flatten().collect()
}

/// Rows 1 to 3: whether there is anything to decide.
const BEFORE_THE_ORDER: &[Row] = &[
    Row {
        name: "1 the callback does not report success",
        arrange: |scene| scene.payment.result = PaymentResult::NotSuccessful,
        verdict: || Verdict::Ignore(Ignored::NotSuccessful),
    },
    Row {
        name: "2 on record for another order",
        arrange: |scene| scene.recorded = Some(PaymentRecord { order_id: 8, ..recorded_as(Disposition::Accepted) }),
        verdict: || conflict("1999 HKD of order 8", "1999 HKD of order 7"),
    },
    Row {
        name: "2 on record for another order, and the one that it names is unknown",
        arrange: |scene| {
            scene.order = None;
            scene.recorded = Some(recorded_as(Disposition::Accepted));
        },
        verdict: || conflict("1999 HKD of order 7", "1999 HKD of another order"),
    },
    Row {
        name: "2 on record with another amount",
        arrange: |scene| {
            let amount = Money { amount_minor: 2000, ..total() };
            scene.recorded = Some(PaymentRecord { amount, ..recorded_as(Disposition::Refused) });
        },
        verdict: || conflict("2000 HKD of order 7", "1999 HKD of order 7"),
    },
    Row {
        name: "2 on record in another currency, and it has gone back",
        arrange: |scene| {
            let amount = Money { currency: currency("JPY"), ..total() };
            let returned = PaymentRecord { returned_minor: 1999, ..recorded_as(Disposition::Returned) };
            scene.recorded = Some(PaymentRecord { amount, ..returned });
        },
        verdict: || conflict("1999 JPY of order 7", "1999 HKD of order 7"),
    },
    Row {
        name: "3 no such order",
        arrange: |scene| (scene.order, scene.recorded) = (None, None),
        verdict: || Verdict::Wait(Awaited::Order),
    },
];

/// Row 4: what its own record says.
const ON_RECORD: &[Row] = &[
    Row {
        name: "4 accepted",
        arrange: |scene| record(scene, Disposition::Accepted, 0, Asked::ByReport),
        verdict: || Verdict::Duplicate,
    },
    Row {
        name: "4 accepted, and a part has gone back",
        arrange: |scene| record(scene, Disposition::Accepted, 500, Asked::ByReplay),
        verdict: || Verdict::Duplicate,
    },
    Row {
        name: "4 accepted, and an operator accepts it again",
        arrange: |scene| record(scene, Disposition::Accepted, 0, Asked::ByAcceptance),
        verdict: || Verdict::Duplicate,
    },
    Row {
        name: "4 returned",
        arrange: |scene| record(scene, Disposition::Returned, 1999, Asked::ByReport),
        verdict: || Verdict::Ignore(Ignored::Returned),
    },
    Row {
        name: "4 returned, and an operator replays it",
        arrange: |scene| record(scene, Disposition::Returned, 1999, Asked::ByReplay),
        verdict: || Verdict::Ignore(Ignored::Returned),
    },
    Row {
        name: "4 returned, and an operator accepts it",
        arrange: |scene| record(scene, Disposition::Returned, 1999, Asked::ByAcceptance),
        verdict: || Verdict::Ignore(Ignored::Returned),
    },
    Row {
        name: "4 refused",
        arrange: |scene| record(scene, Disposition::Refused, 0, Asked::ByReport),
        verdict: || Verdict::Duplicate,
    },
    Row {
        name: "4 refused, and a part has gone back",
        arrange: |scene| record(scene, Disposition::Refused, 500, Asked::ByReport),
        verdict: || Verdict::Duplicate,
    },
    Row {
        name: "4 refused, a part has gone back, and an operator replays it",
        arrange: |scene| record(scene, Disposition::Refused, 1, Asked::ByReplay),
        verdict: partly_returned,
    },
    Row {
        name: "4 refused, a part has gone back, and an operator accepts it",
        arrange: |scene| record(scene, Disposition::Refused, 1, Asked::ByAcceptance),
        verdict: partly_returned,
    },
];

/// Rows 5 to 10: what the order makes of a payment that is new.
const OF_THE_ORDER: &[Row] = &[
    Row {
        name: "5 the order names it, and nothing is on record",
        arrange: |scene| {
            change_success(scene, |success| success.total = total());
            stand(scene, OrderState::Paid(transaction("tx-1")));
        },
        verdict: || Verdict::Apply(Change::Adopt(recorded_as(Disposition::Accepted))),
    },
    Row {
        name: "5 the order names it with another amount",
        arrange: |scene| {
            stand(scene, OrderState::Paid(transaction("tx-1")));
            change_success(scene, |success| success.total.amount_minor = 1998);
        },
        verdict: || conflict("1999 HKD of order 7", "1998 HKD of order 7"),
    },
    Row {
        name: "5 the order names it in another currency",
        arrange: |scene| {
            stand(scene, OrderState::Paid(transaction("tx-1")));
            change_success(scene, |success| success.total.currency = currency("USD"));
        },
        verdict: || conflict("1999 HKD of order 7", "1999 USD of order 7"),
    },
    Row {
        name: "6 another app",
        arrange: |scene| (scene.payment.app_id, scene.payment.sub_app_id) = (Some(app("app-2")), Some(app("app-3"))),
        verdict: || refused(Refusal::AppIdMismatch { expected: app("app-1"), got: Some(app("app-2")) }),
    },
    Row {
        name: "6 an app on the order only",
        arrange: |scene| (scene.payment.app_id, scene.payment.sub_app_id) = (None, None),
        verdict: || refused(Refusal::AppIdMismatch { expected: app("app-1"), got: None }),
    },
    Row {
        name: "7a another currency",
        arrange: |scene| {
            (scene.recorded, scene.asked) = (None, Asked::ByReport);
            change_success(scene, |success| success.total.currency = currency("USD"));
        },
        verdict: || {
            let refusal = Refusal::CurrencyMismatch { expected: currency("HKD"), got: currency("USD") };
            let amount = Money { currency: currency("USD"), ..total() };
            Verdict::Refuse(refusal, PaymentRecord { amount, ..recorded_as(Disposition::Refused) })
        },
    },
    Row {
        name: "7b another amount",
        arrange: |scene| {
            (scene.recorded, scene.asked) = (None, Asked::ByReport);
            change_success(scene, |success| success.total.amount_minor = 1998);
        },
        verdict: || {
            let amount = Money { amount_minor: 1998, ..total() };
            let refusal = Refusal::AmountMismatch { expected: total(), got: amount };
            Verdict::Refuse(refusal, PaymentRecord { amount, ..recorded_as(Disposition::Refused) })
        },
    },
    Row { name: "8 order pending", arrange: |scene| stand(scene, OrderState::Pending), verdict: pay },
    Row {
        name: "9 order paid by another transaction",
        arrange: |scene| stand(scene, OrderState::Paid(transaction("tx-0"))),
        verdict: paid_twice,
    },
    Row {
        name: "9 order refunded, paid by another transaction",
        arrange: |scene| stand(scene, OrderState::Refunded(transaction("tx-0"))),
        verdict: paid_twice,
    },
    Row { name: "10 order closed", arrange: |scene| stand(scene, OrderState::Closed), verdict: paid_after_close },
];

/// Rows 5 to 10 again: a refused payment that an operator has decided again.
const DECIDED_AGAIN: &[Row] = &[
    Row {
        name: "5 replayed, and the order names it meanwhile",
        arrange: |scene| {
            change_success(scene, |success| success.total = total());
            stand_again(scene, OrderState::Paid(transaction("tx-1")), Asked::ByReplay);
        },
        verdict: || Verdict::Apply(Change::Adopt(recorded_as(Disposition::Accepted))),
    },
    Row {
        name: "6 replayed, and it still has another app",
        arrange: |scene| {
            scene.payment.app_id = Some(app("app-2"));
            record(scene, Disposition::Refused, 0, Asked::ByReplay);
        },
        verdict: || refused(Refusal::AppIdMismatch { expected: app("app-1"), got: Some(app("app-2")) }),
    },
    Row {
        name: "7b accepted by an operator, and it still has another amount",
        arrange: |scene| {
            change_success(scene, |success| success.total.amount_minor = 1998);
            record(scene, Disposition::Refused, 0, Asked::ByAcceptance);
        },
        verdict: || {
            let amount = Money { amount_minor: 1998, ..total() };
            let refusal = Refusal::AmountMismatch { expected: total(), got: amount };
            Verdict::Refuse(refusal, PaymentRecord { amount, ..recorded_as(Disposition::Refused) })
        },
    },
    Row {
        name: "8 replayed, and the order is pending",
        arrange: |scene| stand_again(scene, OrderState::Pending, Asked::ByReplay),
        verdict: pay,
    },
    Row {
        name: "8 accepted by an operator, and the order is pending",
        arrange: |scene| stand_again(scene, OrderState::Pending, Asked::ByAcceptance),
        verdict: pay,
    },
    Row {
        name: "9 replayed, and the order is still paid by another transaction",
        arrange: |scene| stand_again(scene, OrderState::Paid(transaction("tx-0")), Asked::ByReplay),
        verdict: paid_twice,
    },
    Row {
        name: "10 accepted by an operator, and the order is still closed",
        arrange: |scene| stand_again(scene, OrderState::Closed, Asked::ByAcceptance),
        verdict: paid_after_close,
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

/// What was recorded is a duplicate when it is reported again, and what was refused is refused again when an operator asks;
/// everything else comes to the same again, and no repeat changes anything.
#[test]
fn a_repeated_notification_changes_nothing_more() {
    for row in rows() {
        let mut scene = matching();
        (row.arrange)(&mut scene);
        let (first, after) = scene.step();
        for asked in ASKED {
            let (again, unchanged) = Scene { asked, ..after.clone() }.step();
            let expected = match (&first, asked) {
                (Verdict::Apply(_), _) | (Verdict::Refuse(..), Asked::ByReport) => &Verdict::Duplicate,
                (other, _) if asked == scene.asked || matches!(first, Verdict::Refuse(..)) => other,
                // Another asks now: the rows of the table say what that comes to.
                _ => continue,
            };
            assert_eq!(&again, expected, "row {}, {asked:?}", row.name);
            assert_eq!(unchanged, Scene { asked, ..after.clone() }, "row {}, {asked:?}", row.name);
        }
    }
}

/// The place of a row, as `decide` documents it: `7b` is (7, "b").
fn number(row: &Row) -> (u32, &str) {
    let number = row.name.split(' ').next().unwrap();
    let (digits, letter) = number.split_at(number.trim_end_matches(char::is_alphabetic).len());
    (digits.parse().unwrap(), letter)
}

/// The payment is on record as the notification has it, and this is why it is decided.
fn record(scene: &mut Scene, disposition: Disposition, returned_minor: i64, asked: Asked) {
    let amount = scene.success().map_or(total(), |success| success.total);
    scene.recorded = Some(PaymentRecord { amount, returned_minor, ..recorded_as(disposition) });
    scene.asked = asked;
}

/// The order stands there, and nothing is on record.
fn stand(scene: &mut Scene, state: OrderState) {
    (scene.recorded, scene.asked) = (None, Asked::ByReport);
    change(scene, |order| order.state = state);
}

/// The order stands there, and the payment was refused before.
fn stand_again(scene: &mut Scene, state: OrderState, asked: Asked) {
    stand(scene, state);
    record(scene, Disposition::Refused, 0, asked);
}

fn change_success(scene: &mut Scene, change: impl FnOnce(&mut PaymentSuccess)) {
    if let PaymentResult::Success(success) = &mut scene.payment.result {
        change(success);
    }
}

fn pay() -> Verdict {
    Verdict::Apply(Change::Pay(recorded_as(Disposition::Accepted)))
}

fn refused(refusal: Refusal) -> Verdict {
    Verdict::Refuse(refusal, recorded_as(Disposition::Refused))
}

fn paid_twice() -> Verdict {
    refused(Refusal::PaidTwice { expected: transaction("tx-0"), got: transaction("tx-1") })
}

fn paid_after_close() -> Verdict {
    refused(Refusal::PaidAfterClose { got: transaction("tx-1") })
}

fn partly_returned() -> Verdict {
    let returned = Money { amount_minor: 1, ..total() };
    Verdict::Quarantine(Refusal::PartlyReturned { paid: total(), returned })
}

fn conflict(expected: &str, got: &str) -> Verdict {
    Verdict::Quarantine(Refusal::TransactionConflict { expected: expected.to_owned(), got: got.to_owned() })
}
