//! Every combination of the facts that the table looks at, and every short history of two refunds: money moves once, never
//! beyond the amount, and only when everything matches.

use std::collections::BTreeMap;

use shared::domain::decide::decide;
use shared::domain::ids::OutRefundNo;
use shared::domain::money::Currency;
use shared::domain::notification::{Notification, RefundResult, ReportedRefund};
use shared::domain::order::{Order, OrderState, Surplus};
use shared::domain::refund::{Refund, RefundState};
use shared::domain::verdict::{Change, Verdict};

use super::{HAS_SUCCEEDED, SUCCEEDED, Scene, app, matching, refund_id, requested, sub_mch, transaction};

const RESULTS: [fn() -> RefundResult; 3] = [SUCCEEDED, || RefundResult::Abnormal, || RefundResult::Closed];

#[test]
fn money_moves_once_and_never_beyond_the_amount() {
    let mut moved = 0;
    for before in every_scene() {
        let (verdict, after) = before.step();
        let (order, next) = (before.order.as_ref().unwrap(), after.order.as_ref().unwrap());
        let grown = next.refunded_minor - order.refunded_minor;
        let is_new = before.refund.as_ref().is_none_or(|refund| refund.state != HAS_SUCCEEDED());
        match &verdict {
            Verdict::Apply(Change::Refund(Refund { state: RefundState::Succeeded(_), amount_minor, .. })) => {
                assert!(is_new, "{before:?} gives the money back twice");
                assert_eq!(grown, *amount_minor, "{before:?}");
                moved += 1;
            }
            _ => assert_eq!(grown, 0, "{before:?} → {verdict:?}"),
        }
        assert!(next.refunded_minor <= next.amount.amount_minor, "{before:?} → {after:?}");
        let is_refunded = matches!(next.state, OrderState::Refunded(_));
        assert_eq!(is_refunded, next.refunded_minor == next.amount.amount_minor, "{before:?} → {after:?}");
    }
    assert!(moved > 0, "no combination moves money: the test tests nothing");
}

#[test]
fn what_was_applied_is_a_duplicate_and_what_was_not_stays_what_it_is() {
    for before in every_scene() {
        let (verdict, after) = before.step();
        let (again, unchanged) = after.step();
        match verdict {
            Verdict::Apply(_) => assert_eq!(again, Verdict::Duplicate, "{before:?}"),
            other => {
                assert_eq!((&after, &again), (&before, &other), "{before:?}");
            }
        }
        assert_eq!(unchanged, after, "{before:?} has more to change the second time");
    }
}

#[test]
fn every_change_to_a_refund_has_a_version_and_touches_nothing_else_of_the_order() {
    for before in every_scene() {
        let (verdict, after) = before.step();
        let (order, next) = (before.order.unwrap(), after.order.unwrap());
        let expected = match &verdict {
            Verdict::Apply(Change::Refund(_)) => Order {
                version: order.version + 1,
                state: next.state.clone(),
                refunded_minor: next.refunded_minor,
                ..order.clone()
            },
            Verdict::Apply(Change::ReturnSurplus { .. }) => Order { surplus: next.surplus.clone(), ..order.clone() },
            _ => order.clone(),
        };
        assert_eq!(next, expected, "{verdict:?}");
        assert_eq!(next.state.transaction_id(), order.state.transaction_id(), "{verdict:?}");
    }
}

#[test]
fn a_refund_is_applied_only_when_it_matches_in_everything() {
    let [mut applied, mut returned] = [0, 0];
    for scene in every_scene() {
        let verdict = scene.verdict();
        let is_applied = matches!(verdict, Verdict::Apply(Change::Refund(_)));
        let is_returned = matches!(verdict, Verdict::Apply(Change::ReturnSurplus { .. }));
        assert_eq!(is_applied, matches_the_order(&scene) && moves_on(&scene), "{scene:?} → {verdict:?}");
        assert_eq!(is_returned, returns_a_surplus(&scene), "{scene:?} → {verdict:?}");
        applied += usize::from(is_applied);
        returned += usize::from(is_returned);
    }
    assert!(applied > 0 && returned > 0, "the test tests nothing: {applied} applied, {returned} returned");
}

/// Two refunds of one order, of every pair of sums, reported in every way, four times in every order.
#[test]
fn whatever_is_reported_in_whatever_order_the_books_add_up() {
    let sums = [999, 1000, 1999];
    for (first, second) in sums.iter().flat_map(|first| sums.map(|second| (*first, second))) {
        let reports: Vec<ReportedRefund> = [("refund-1", first), ("refund-2", second)]
            .into_iter()
            .flat_map(|refund| RESULTS.map(|result| report(refund, result())))
            .collect();
        let mut open = vec![(matching().order.unwrap(), BTreeMap::new(), 0)];
        while let Some((order, refunds, length)) = open.pop() {
            assert_the_books_add_up(&order, &refunds);
            for reported in reports.iter().filter(|_| length < 4) {
                let (mut order, mut refunds) = (order.clone(), refunds.clone());
                let notification = Notification::Refund(reported.clone());
                let known = refunds.get(&reported.out_refund_no);
                if let Verdict::Apply(change) = decide(Some(&order), known, &notification) {
                    order = change.applied_to(&order);
                    let Change::Refund(refund) = change else { panic!("{change:?}") };
                    refunds.insert(reported.out_refund_no.clone(), refund);
                }
                open.push((order, refunds, length + 1));
            }
        }
    }
}

fn report((number, amount_minor): (&str, i64), result: RefundResult) -> ReportedRefund {
    let out_refund_no = OutRefundNo::parse(number).unwrap();
    ReportedRefund { out_refund_no, refund_id: refund_id(number), amount_minor, result, ..matching().reported }
}

fn assert_the_books_add_up(order: &Order, refunds: &BTreeMap<OutRefundNo, Refund>) {
    let succeeded = refunds.values().filter(|refund| refund.state == HAS_SUCCEEDED());
    let sum: i64 = succeeded.map(|refund| refund.amount_minor).sum();
    assert_eq!(order.refunded_minor, sum, "{order:?} {refunds:?}");
    assert!(sum <= order.amount.amount_minor, "{order:?} {refunds:?}");
    let is_refunded = matches!(order.state, OrderState::Refunded(_));
    assert_eq!(is_refunded, sum == order.amount.amount_minor, "{order:?} {refunds:?}");
}

impl Scene {
    /// The verdict, and the scene once its change is made.
    fn step(&self) -> (Verdict, Scene) {
        let (verdict, mut after) = (self.verdict(), self.clone());
        if let Verdict::Apply(change) = &verdict {
            after.order = after.order.map(|order| change.applied_to(&order));
            if let Change::Refund(refund) = change {
                after.refund = Some(refund.clone());
            }
        }
        (verdict, after)
    }
}

fn matches_the_order(scene: &Scene) -> bool {
    let (order, reported) = (scene.order.as_ref().unwrap(), &scene.reported);
    order.state.transaction_id() == Some(&reported.transaction_id)
        && order.sub_mch_id == reported.sub_mch_id
        && reported.app_id.as_ref().is_none_or(|app_id| order.app_id.as_ref() == Some(app_id))
        && reported.currency.is_none_or(|currency| currency == order.amount.currency)
        && reported.total_minor == order.amount.amount_minor
        && scene.refund.as_ref().is_none_or(|refund| {
            refund.amount_minor == reported.amount_minor
                && refund.refund_id.as_ref().is_none_or(|known| *known == reported.refund_id)
        })
}

/// Forward, with enough left.
fn moves_on(scene: &Scene) -> bool {
    let (order, reported) = (scene.order.as_ref().unwrap(), &scene.reported);
    let succeeds = reported.result == SUCCEEDED();
    let left = order.amount.amount_minor - if succeeds { order.refunded_minor } else { 0 };
    let is_forward = match scene.refund.as_ref().map(|refund| refund.state) {
        None | Some(RefundState::Requested) => true,
        Some(RefundState::Abnormal) => reported.result != RefundResult::Abnormal,
        Some(RefundState::Succeeded(_) | RefundState::Closed) => false,
    };
    is_forward && reported.amount_minor <= left
}

fn returns_a_surplus(scene: &Scene) -> bool {
    let (order, reported) = (scene.order.as_ref().unwrap(), &scene.reported);
    order.state.transaction_id() != Some(&reported.transaction_id)
        && order.surplus.iter().any(|one| one.transaction_id == reported.transaction_id && !one.is_settled)
        && [reported.amount_minor, reported.total_minor] == [1999; 2]
        && reported.result == SUCCEEDED()
}

fn every_scene() -> impl Iterator<Item = Scene> {
    every_ledger().into_iter().flat_map(|(order, refund)| {
        every_report().into_iter().map(move |reported| Scene {
            order: Some(order.clone()),
            refund: refund.clone(),
            reported,
        })
    })
}

/// Every order with every row of the refund that the database would hold.
fn every_ledger() -> Vec<(Order, Option<Refund>)> {
    let (base, surplus) = (matching().order.unwrap(), |is_settled| Surplus {
        transaction_id: transaction("tx-9"),
        total_minor: 1999,
        is_settled,
        is_returned: is_settled,
    });
    let mut ledgers = Vec::new();
    for refund in every_row() {
        let own =
            refund.as_ref().filter(|refund| refund.state == HAS_SUCCEEDED()).map_or(0, |refund| refund.amount_minor);
        for surplus in [vec![], vec![surplus(false)], vec![surplus(true)]] {
            for of_others in
                [0, 1498, 1499, 1500, 1999].map(|of_others| of_others + own).into_iter().filter(|sum| *sum <= 1999)
            {
                for paid_by in ["tx-1", "tx-0", "tx-9"].map(transaction) {
                    let state =
                        if of_others == 1999 { OrderState::Refunded(paid_by) } else { OrderState::Paid(paid_by) };
                    let surplus = surplus.clone();
                    ledgers.push((Order { state, refunded_minor: of_others, surplus, ..base.clone() }, refund.clone()));
                }
            }
            for state in [OrderState::Pending, OrderState::Closed].into_iter().filter(|_| own == 0) {
                ledgers.push((Order { state, surplus: surplus.clone(), ..base.clone() }, refund.clone()));
            }
        }
    }
    ledgers
}

fn every_row() -> Vec<Option<Refund>> {
    let mut rows = vec![None];
    for amount_minor in [500, 499] {
        rows.push(Some(Refund { amount_minor, ..requested() }));
        for state in [RefundState::Requested, HAS_SUCCEEDED(), RefundState::Abnormal, RefundState::Closed] {
            for known in ["5001", "5000"] {
                rows.push(Some(Refund { amount_minor, refund_id: Some(refund_id(known)), state, ..requested() }));
            }
        }
    }
    rows
}

fn every_report() -> Vec<ReportedRefund> {
    let mut reports = Vec::new();
    for result in RESULTS {
        for amount_minor in [500, 499, 1999, 2000] {
            for paid_by in ["tx-1", "tx-9"] {
                for total_minor in [1999, 500] {
                    for currency in [None, Some(Currency::CNY)] {
                        for app_id in [None, Some(app("app-2"))] {
                            for sub_mch_id in [Some(sub_mch("shop-1")), None] {
                                let app_id = app_id.clone();
                                let transaction_id = transaction(paid_by);
                                let result = result();
                                reports.push(ReportedRefund {
                                    sub_mch_id,
                                    app_id,
                                    transaction_id,
                                    total_minor,
                                    amount_minor,
                                    currency,
                                    result,
                                    ..matching().reported
                                });
                            }
                        }
                    }
                }
            }
        }
    }
    reports
}
