//! Every combination of the facts that the table looks at, for what must never happen.

use shared::domain::decide::Asked;
use shared::domain::money::Money;
use shared::domain::notification::PaymentResult;
use shared::domain::order::{Order, OrderState};
use shared::domain::payment::{Disposition, PaymentRecord};
use shared::domain::verdict::{Awaited, Change, Ignored, Verdict};

use super::{ASKED, Scene, app, currency, kind, matching, recorded_as, success, transaction};

#[test]
fn money_pays_only_an_order_that_is_pending_and_matches_in_everything_and_only_while_all_of_it_is_there() {
    let [mut paid, mut adopted] = [0, 0];
    for scene in every_scene() {
        let verdict = scene.verdict();
        let is_paid = matches!(verdict, Verdict::Apply(Change::Pay(_)));
        let is_adopted = matches!(verdict, Verdict::Apply(Change::Adopt(_)));
        let may_decide = is_free(&scene);
        assert_eq!(is_paid, may_decide && wants(&scene), "{scene:?} → {verdict:?}");
        assert_eq!(is_adopted, may_decide && names(&scene), "{scene:?} → {verdict:?}");
        paid += usize::from(is_paid);
        adopted += usize::from(is_adopted);
    }
    assert!(paid > 0 && adopted > 0, "the test tests nothing: {paid} paid, {adopted} adopted");
}

#[test]
fn a_payment_is_refused_only_when_the_order_is_certain_and_does_not_want_it() {
    let mut refused = 0;
    for scene in every_scene() {
        let verdict = scene.verdict();
        let is_refused = matches!(verdict, Verdict::Refuse(..));
        let is_of_the_order = scene.order.as_ref().is_some_and(|order| {
            order.state.transaction_id() == scene.success().map(|success| &success.transaction_id)
        });
        assert_eq!(is_refused, is_free(&scene) && !is_of_the_order && !wants(&scene), "{scene:?} → {verdict:?}");
        refused += usize::from(is_refused);
    }
    assert!(refused > 0, "no combination is refused: the test tests nothing");
}

/// What is recorded is what the notification says, of this very order, and nothing of it has gone back.
#[test]
fn an_applied_payment_records_what_was_reported() {
    for scene in every_scene() {
        let (recorded, disposition) = match scene.verdict() {
            Verdict::Apply(change) => (change.payment().clone(), Disposition::Accepted),
            Verdict::Refuse(_, refused) => (refused, Disposition::Refused),
            Verdict::Duplicate | Verdict::Ignore(_) | Verdict::Wait(_) | Verdict::Quarantine(_) => continue,
        };
        let amount = scene.success().unwrap().total;
        assert_eq!(recorded, PaymentRecord { amount, ..recorded_as(disposition) }, "{scene:?}");
    }
}

/// Whatever the order, the notification and the operator say.
#[test]
fn accepted_and_returned_are_final() {
    for scene in every_scene() {
        let Some(recorded) = scene.recorded.as_ref().filter(|recorded| recorded.disposition != Disposition::Refused)
        else {
            continue;
        };
        let (verdict, after) = scene.step();
        assert_eq!(after, scene, "{verdict:?}");
        let expected = match recorded.disposition {
            Disposition::Accepted => Verdict::Duplicate,
            Disposition::Refused | Disposition::Returned => Verdict::Ignore(Ignored::Returned),
        };
        let says_nothing_new =
            scene.success().is_none() || kind(&verdict) == "transaction_conflict" || verdict == expected;
        assert!(says_nothing_new, "{scene:?} → {verdict:?}");
    }
}

#[test]
fn a_report_never_changes_what_is_on_record() {
    for scene in every_scene().filter(|scene| scene.asked == Asked::ByReport && scene.recorded.is_some()) {
        let (verdict, after) = scene.step();
        assert_eq!(after, scene, "{verdict:?}");
        assert!(!matches!(verdict, Verdict::Refuse(..)), "{scene:?} → {verdict:?}");
    }
}

#[test]
fn a_payment_of_which_anything_has_gone_back_is_never_accepted() {
    let mut asked_for = 0;
    let is_touched =
        |recorded: &PaymentRecord| recorded.disposition == Disposition::Refused && recorded.returned_minor > 0;
    for scene in every_scene().filter(|scene| scene.recorded.as_ref().is_some_and(is_touched)) {
        let (verdict, after) = scene.step();
        assert_eq!(after, scene, "{verdict:?}");
        asked_for += usize::from(kind(&verdict) == "partly_returned");
        assert_eq!(
            kind(&verdict) == "partly_returned",
            scene.asked != Asked::ByReport && is_same_story(&scene),
            "{scene:?}"
        );
    }
    assert!(asked_for > 0, "no combination is partly returned: the test tests nothing");
}

/// For a payment an acceptance is a replay: it takes no other amount, app or transaction.
#[test]
fn an_acceptance_does_no_more_than_a_replay() {
    for scene in every_scene().filter(|scene| scene.asked == Asked::ByReplay) {
        let accepted = Scene { asked: Asked::ByAcceptance, ..scene.clone() };
        assert_eq!(accepted.verdict(), scene.verdict(), "{scene:?}");
    }
}

#[test]
fn a_payment_waits_only_when_neither_its_order_nor_its_transaction_is_known() {
    for scene in every_scene() {
        let is_unknown = scene.order.is_none() && scene.recorded.is_none() && scene.success().is_some();
        assert_eq!(scene.verdict() == Verdict::Wait(Awaited::Order), is_unknown, "{scene:?}");
    }
}

#[test]
fn only_paying_changes_the_order() {
    for scene in every_scene() {
        let (verdict, after) = scene.step();
        match (verdict, scene.order.as_ref(), after.order) {
            (Verdict::Apply(Change::Pay(payment)), Some(order), after) => {
                let state = OrderState::Paid(payment.transaction_id);
                assert_eq!(after, Some(Order { state, version: order.version + 1, ..order.clone() }), "{scene:?}");
            }
            (_, before, after) => assert_eq!(before, after.as_ref(), "{scene:?}"),
        }
    }
}

/// Nothing is on record, or a refusal that an operator has decided again; and the order is there.
fn is_free(scene: &Scene) -> bool {
    let may_decide = scene.recorded.as_ref().is_none_or(|recorded| {
        let is_whole = recorded.disposition == Disposition::Refused && recorded.returned_minor == 0;
        is_whole && scene.asked != Asked::ByReport && is_same_story(scene)
    });
    may_decide && scene.order.is_some() && scene.success().is_some()
}

/// The record is of the order and the sum that the notification names.
fn is_same_story(scene: &Scene) -> bool {
    scene.success().zip(scene.recorded.as_ref()).is_some_and(|(success, recorded)| {
        let is_of_the_order = scene.order.as_ref().is_some_and(|order| order.id == recorded.order_id);
        is_of_the_order && recorded.amount == success.total
    })
}

/// The order is pending, and matches in everything.
fn wants(scene: &Scene) -> bool {
    scene.order.as_ref().zip(scene.success()).is_some_and(|(order, success)| {
        let apps = [&scene.payment.app_id, &scene.payment.sub_app_id];
        order.state == OrderState::Pending
            && order.amount == success.total
            && (order.app_id.is_none() || apps.contains(&&order.app_id))
    })
}

/// The order says that this transaction has paid it, and the sum is the same.
fn names(scene: &Scene) -> bool {
    scene.order.as_ref().zip(scene.success()).is_some_and(|(order, success)| {
        order.state.transaction_id() == Some(&success.transaction_id) && order.amount == success.total
    })
}

fn every_scene() -> impl Iterator<Item = Scene> {
    let (orders, records, notifications) = (every_order(), every_record(), every_notification());
    orders.into_iter().flat_map(move |order| {
        let notifications = notifications.clone();
        records.clone().into_iter().flat_map(move |recorded| {
            let (order, notifications) = (order.clone(), notifications.clone());
            notifications.into_iter().flat_map(move |Scene { payment, .. }| {
                let (order, recorded) = (order.clone(), recorded.clone());
                ASKED.into_iter().map(move |asked| Scene {
                    order: order.clone(),
                    recorded: recorded.clone(),
                    asked,
                    payment: payment.clone(),
                })
            })
        })
    })
}

/// No order, and an order in each state, with and without an app.
fn every_order() -> Vec<Option<Order>> {
    let states = [
        OrderState::Pending,
        OrderState::Paid(transaction("tx-1")),
        OrderState::Paid(transaction("tx-0")),
        OrderState::Refunded(transaction("tx-1")),
        OrderState::Refunded(transaction("tx-0")),
        OrderState::Closed,
    ];
    let order = matching().order.unwrap();
    let with = |state: &OrderState, app_id| Some(Order { state: state.clone(), app_id, ..order.clone() });
    let known = states.iter().flat_map(|state| [None, Some(app("app-1"))].map(|app_id| with(state, app_id)));
    known.chain([None]).collect()
}

/// No record, and one of each disposition with each sum that can have gone back, of this order and another, of three sums.
fn every_record() -> Vec<Option<PaymentRecord>> {
    let mut records = vec![None];
    for (amount_minor, code) in [(1999, "HKD"), (1998, "HKD"), (1999, "CNY")] {
        let amount = Money { amount_minor, currency: currency(code) };
        for order_id in [7, 8] {
            for (disposition, sums) in [
                (Disposition::Accepted, vec![0, 500, amount_minor]),
                (Disposition::Refused, vec![0, 1, amount_minor - 1]),
                (Disposition::Returned, vec![amount_minor]),
            ] {
                for returned_minor in sums {
                    let base = recorded_as(disposition);
                    records.push(Some(PaymentRecord { order_id, amount, returned_minor, ..base }));
                }
            }
        }
    }
    records
}

/// A payment that failed, and payments of every sum, each through every pair of apps.
fn every_notification() -> Vec<Scene> {
    let apps = [None, Some(app("app-1")), Some(app("app-2"))];
    let mut results = vec![PaymentResult::NotSuccessful];
    for code in ["HKD", "CNY"] {
        for amount_minor in [1999, 1998, 0] {
            results.push(success(Money { amount_minor, currency: currency(code) }, "tx-1"));
        }
    }
    let mut scenes = Vec::new();
    for result in results {
        for app_id in &apps {
            for sub_app_id in &apps {
                let mut scene = matching();
                scene.payment.result = result.clone();
                (scene.payment.app_id, scene.payment.sub_app_id) = (app_id.clone(), sub_app_id.clone());
                scenes.push(scene);
            }
        }
    }
    scenes
}
