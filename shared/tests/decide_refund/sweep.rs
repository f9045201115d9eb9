//! Every combination of the facts that the table looks at, and every short history of two refunds: money moves once, never
//! beyond the payment, and only when everything matches.

use std::collections::BTreeMap;

use shared::domain::decide::{Asked, Known, decide};
use shared::domain::ids::{OutRefundNo, OutTradeNo};
use shared::domain::money::Currency;
use shared::domain::notification::{Notification, RefundResult, ReportedRefund};
use shared::domain::order::{Order, OrderState};
use shared::domain::payment::{Disposition, PaymentRecord};
use shared::domain::refund::{Refund, RefundState};
use shared::domain::verdict::{Awaited, Change, Refusal, Verdict};

use super::{
    ASKED, HAS_SUCCEEDED, SUCCEEDED, Scene, app, matching, of_refused, refund_id, requested, sub_mch, transaction,
};

const RESULTS: [fn() -> RefundResult; 3] = [SUCCEEDED, || RefundResult::Abnormal, || RefundResult::Closed];

#[test]
fn money_moves_once_and_never_beyond_the_payment() {
    let [mut moved, mut returned] = [0, 0];
    for before in every_scene() {
        let (verdict, after) = before.step();
        let Some((payment, next)) = before.payment.as_ref().zip(after.payment.as_ref()) else { continue };
        let grown = next.returned_minor - payment.returned_minor;
        let is_new = before.refund.as_ref().is_none_or(|refund| refund.state != HAS_SUCCEEDED());
        match &verdict {
            Verdict::Apply(Change::Refund { refund, .. }) if refund.state == HAS_SUCCEEDED() => {
                assert!(is_new, "{before:?} gives the money back twice");
                assert_eq!(grown, before.reported.amount_minor, "{before:?}");
                moved += 1;
            }
            _ => assert_eq!(grown, 0, "{before:?} → {verdict:?}"),
        }
        assert!(next.returned_minor <= next.amount.amount_minor, "{before:?} → {after:?}");
        let is_returned =
            payment.disposition != Disposition::Accepted && next.returned_minor == next.amount.amount_minor;
        let expected = if is_returned { Disposition::Returned } else { payment.disposition };
        assert_eq!(next.disposition, expected, "{before:?} → {after:?}");
        returned += usize::from(next.disposition != payment.disposition);
        let same = PaymentRecord { returned_minor: next.returned_minor, disposition: expected, ..payment.clone() };
        assert_eq!(*next, same, "a refund changes nothing else of its payment");
    }
    assert!(moved > 0 && returned > 0, "the test tests nothing: {moved} moved, {returned} returned");
}

/// An order counts what went back of the payment that it accepted, and of no other.
#[test]
fn the_order_follows_the_payment_that_it_accepted_and_no_other() {
    for before in every_scene() {
        let (verdict, after) = before.step();
        let (order, next) = (before.order.unwrap(), after.order.unwrap());
        let accepted = after.payment.filter(|payment| payment.disposition == Disposition::Accepted);
        let refunded_minor = accepted.map_or(order.refunded_minor, |payment| payment.returned_minor);
        let state = match &order.state {
            OrderState::Paid(paid_by) if refunded_minor == order.amount.amount_minor => {
                OrderState::Refunded(paid_by.clone())
            }
            state => state.clone(),
        };
        let version = order.version + i32::from(matches!(verdict, Verdict::Apply(_)));
        assert_eq!(next, Order { version, state, refunded_minor, ..order }, "{verdict:?}");
    }
}

#[test]
fn an_applied_notification_is_then_a_duplicate_and_others_keep_their_verdict() {
    for before in every_scene() {
        let (verdict, after) = before.step();
        let (again, unchanged) = after.step();
        match verdict {
            Verdict::Apply(_) => assert_eq!(again, Verdict::Duplicate, "{before:?}"),
            other => assert_eq!((&after, &again), (&before, &other), "{before:?}"),
        }
        assert_eq!(unchanged, after, "{before:?} has more to change the second time");
    }
}

#[test]
fn a_refund_is_applied_only_when_it_matches_in_everything() {
    let mut applied = 0;
    for scene in every_scene() {
        let verdict = scene.verdict();
        let is_applied = matches!(verdict, Verdict::Apply(_));
        assert_eq!(is_applied, is_of_the_payment(&scene) && moves_on(&scene), "{scene:?} → {verdict:?}");
        applied += usize::from(is_applied);
    }
    assert!(applied > 0, "no combination is applied: the test tests nothing");
}

#[test]
fn a_refund_of_an_unknown_payment_waits_and_changes_nothing() {
    for scene in every_scene() {
        let (verdict, after) = scene.step();
        assert_eq!(verdict == Verdict::Wait(Awaited::Payment), scene.payment.is_none(), "{scene:?} → {verdict:?}");
        if scene.payment.is_none() {
            assert_eq!(after, scene);
        }
    }
}

/// What WeChat Pay has reported of a refund names its payment, and stays with it.
#[test]
fn an_applied_refund_records_what_was_reported() {
    for scene in every_scene() {
        let Verdict::Apply(Change::Refund { refund, .. }) = scene.verdict() else { continue };
        let Scene { reported, .. } = &scene;
        let state = match reported.result {
            RefundResult::Succeeded(at) => RefundState::Succeeded(at),
            RefundResult::Abnormal => RefundState::Abnormal,
            RefundResult::Closed => RefundState::Closed,
        };
        let expected = Refund {
            order_id: 7,
            out_refund_no: reported.out_refund_no.clone(),
            refund_id: Some(reported.refund_id.clone()),
            transaction_id: Some(reported.transaction_id.clone()),
            amount_minor: reported.amount_minor,
            state,
        };
        assert_eq!(refund, expected, "{scene:?}");
    }
}

/// A replay decides as a report does; an acceptance takes a second number of WeChat Pay's, and a refund that succeeded after
/// it was closed, and nothing else.
#[test]
fn an_operator_can_accept_two_contradictions_and_no_other() {
    let mut accepted = 0;
    for report in every_scene().filter(|scene| scene.asked == Asked::ByReport) {
        let [by_replay, by_acceptance] =
            [Asked::ByReplay, Asked::ByAcceptance].map(|asked| Scene { asked, ..report.clone() });
        let verdict = report.verdict();
        assert_eq!(by_replay.verdict(), verdict, "{report:?}");
        if by_acceptance.verdict() == verdict {
            continue;
        }
        accepted += 1;
        let has_succeeded = report.refund.as_ref().is_some_and(|refund| refund.state == HAS_SUCCEEDED());
        let may_be_accepted = match &verdict {
            Verdict::Quarantine(Refusal::RefundIdMismatch { .. }) => !has_succeeded,
            Verdict::Quarantine(Refusal::RefundStateConflict { expected, got }) => {
                (*expected, *got) == (RefundState::Closed, HAS_SUCCEEDED())
            }
            _ => false,
        };
        assert!(may_be_accepted, "{report:?}: {verdict:?} is accepted as {:?}", by_acceptance.verdict());
    }
    assert!(accepted > 0, "no combination is accepted: the test tests nothing");
}

/// Two refunds of one payment, accepted or refused, of every pair of sums, reported in every way, four times in every order,
/// and an operator accepts whatever contradicts.
#[test]
fn whatever_is_reported_in_whatever_order_the_books_add_up() {
    let sums = [999, 1000, 1999];
    for (first, second) in sums.iter().flat_map(|first| sums.map(|second| (*first, second))) {
        let reports: Vec<ReportedRefund> = [("refund-1", first), ("refund-2", second)]
            .into_iter()
            .flat_map(|refund| RESULTS.map(|result| report(refund, result())))
            .collect();
        for (base, asked) in [matching(), of_refused()].iter().flat_map(|base| ASKED.map(|asked| (base, asked))) {
            let mut open = vec![(base.clone(), BTreeMap::new(), 0)];
            while let Some((scene, refunds, length)) = open.pop() {
                assert_the_books_add_up(&scene, &refunds);
                for reported in reports.iter().filter(|_| length < 4) {
                    let (mut scene, mut refunds) = (scene.clone(), refunds.clone());
                    tell(&mut scene, &mut refunds, asked, reported);
                    open.push((scene, refunds, length + 1));
                }
            }
        }
    }
}

fn tell(scene: &mut Scene, refunds: &mut BTreeMap<OutRefundNo, Refund>, asked: Asked, reported: &ReportedRefund) {
    let refund = refunds.get(&reported.out_refund_no);
    let known = Known { order: scene.order.as_ref(), payment: scene.payment.as_ref(), refund };
    if let Verdict::Apply(change) = decide(known, asked, &Notification::Refund(reported.clone())) {
        scene.order = scene.order.as_ref().map(|order| change.applied_to(order));
        let Change::Refund { refund, payment } = change else { panic!("{change:?}") };
        scene.payment = Some(payment);
        refunds.insert(reported.out_refund_no.clone(), refund);
    }
}

fn report((number, amount_minor): (&str, i64), result: RefundResult) -> ReportedRefund {
    let out_refund_no = OutRefundNo::parse(number).unwrap();
    ReportedRefund { out_refund_no, refund_id: refund_id(number), amount_minor, result, ..matching().reported }
}

fn assert_the_books_add_up(scene: &Scene, refunds: &BTreeMap<OutRefundNo, Refund>) {
    let (order, payment) = (scene.order.as_ref().unwrap(), scene.payment.as_ref().unwrap());
    let succeeded = refunds.values().filter(|refund| refund.state == HAS_SUCCEEDED());
    let sum: i64 = succeeded.map(|refund| refund.amount_minor).sum();
    assert_eq!(payment.returned_minor, sum, "{scene:?} {refunds:?}");
    assert!(sum <= payment.amount.amount_minor, "{scene:?} {refunds:?}");
    let is_all = sum == payment.amount.amount_minor;
    if order.state == OrderState::Closed {
        let expected = if is_all { Disposition::Returned } else { Disposition::Refused };
        assert_eq!((payment.disposition, order.refunded_minor), (expected, 0), "{scene:?} {refunds:?}");
    } else {
        assert_eq!((payment.disposition, order.refunded_minor), (Disposition::Accepted, sum), "{scene:?} {refunds:?}");
        assert_eq!(matches!(order.state, OrderState::Refunded(_)), is_all, "{scene:?} {refunds:?}");
    }
}

/// It names this payment, of this order, and the refund that has its number.
fn is_of_the_payment(scene: &Scene) -> bool {
    let (order, reported) = (scene.order.as_ref().unwrap(), &scene.reported);
    let is_known = scene.payment.as_ref().is_some_and(|payment| {
        let currency = reported.currency.unwrap_or(payment.amount.currency);
        (reported.total_minor, currency) == (payment.amount.amount_minor, payment.amount.currency)
    });
    is_known
        && order.out_trade_no == reported.out_trade_no
        && order.sub_mch_id == reported.sub_mch_id
        && scene.refund.as_ref().is_none_or(|refund| {
            let may_be_repeated = scene.asked == Asked::ByAcceptance && refund.state != HAS_SUCCEEDED();
            refund.amount_minor == reported.amount_minor
                && refund.transaction_id.as_ref().is_none_or(|known| *known == reported.transaction_id)
                && (may_be_repeated || refund.refund_id.as_ref().is_none_or(|known| *known == reported.refund_id))
        })
}

/// Forward, with enough left; or an operator accepts that what was closed has succeeded.
fn moves_on(scene: &Scene) -> bool {
    let (payment, reported) = (scene.payment.as_ref().unwrap(), &scene.reported);
    let succeeds = reported.result == SUCCEEDED();
    let left = payment.amount.amount_minor - if succeeds { payment.returned_minor } else { 0 };
    let is_forward = match scene.refund.as_ref().map(|refund| refund.state) {
        None | Some(RefundState::Requested) => true,
        Some(RefundState::Abnormal) => reported.result != RefundResult::Abnormal,
        Some(RefundState::Closed) => succeeds && scene.asked == Asked::ByAcceptance,
        Some(RefundState::Succeeded(_)) => false,
    };
    is_forward && reported.amount_minor <= left
}

fn every_scene() -> impl Iterator<Item = Scene> {
    let reports = every_report();
    every_ledger().into_iter().flat_map(move |(order, payment, refund)| {
        let scene = Scene { order: Some(order), payment, refund, ..matching() };
        reports.clone().into_iter().flat_map(move |reported| {
            let scene = Scene { reported, ..scene.clone() };
            ASKED.into_iter().map(move |asked| Scene { asked, ..scene.clone() })
        })
    })
}

/// Every order with every payment and every row of the refund that the database would hold beside each other.
fn every_ledger() -> Vec<(Order, Option<PaymentRecord>, Option<Refund>)> {
    let (order, payment) = (matching().order.unwrap(), matching().payment.unwrap());
    let mut ledgers = Vec::new();
    for refund in every_row() {
        let is_own =
            |refund: &&Refund| refund.state == HAS_SUCCEEDED() && refund.transaction_id == Some(transaction("tx-1"));
        let own = refund.as_ref().filter(is_own).map_or(0, |refund| refund.amount_minor);
        for of_others in [0, 1498, 1499, 1500, 1999] {
            let returned_minor = of_others + own;
            let is_all = returned_minor == 1999;
            if returned_minor > 1999 {
                continue;
            }
            let paid_by = transaction("tx-1");
            let state = if is_all { OrderState::Refunded(paid_by) } else { OrderState::Paid(paid_by) };
            let accepted = PaymentRecord { returned_minor, ..payment.clone() };
            let paid = Order { state, refunded_minor: returned_minor, ..order.clone() };
            ledgers.push((paid, Some(accepted.clone()), refund.clone()));
            let disposition = if is_all { Disposition::Returned } else { Disposition::Refused };
            for (state, refunded_minor) in without_it() {
                let refused = PaymentRecord { disposition, ..accepted.clone() };
                let order = Order { state, refunded_minor, ..order.clone() };
                ledgers.push((order, Some(refused), refund.clone()));
            }
        }
        for (state, refunded_minor) in without_it() {
            ledgers.push((Order { state, refunded_minor, ..order.clone() }, None, refund.clone()));
        }
    }
    ledgers
}

/// Where an order can stand that has not accepted the payment.
fn without_it() -> [(OrderState, i64); 4] {
    [
        (OrderState::Pending, 0),
        (OrderState::Closed, 0),
        (OrderState::Paid(transaction("tx-0")), 300),
        (OrderState::Refunded(transaction("tx-0")), 1999),
    ]
}

fn every_row() -> Vec<Option<Refund>> {
    let mut rows = vec![None];
    for amount_minor in [500, 499] {
        rows.push(Some(Refund { amount_minor, ..requested() }));
        for state in [HAS_SUCCEEDED(), RefundState::Abnormal, RefundState::Closed] {
            for (known, paid_by) in [("5001", "tx-1"), ("5000", "tx-1"), ("5001", "tx-0")] {
                let (refund_id, transaction_id) = (Some(refund_id(known)), Some(transaction(paid_by)));
                rows.push(Some(Refund { amount_minor, refund_id, transaction_id, state, ..requested() }));
            }
        }
    }
    rows
}

fn every_report() -> Vec<ReportedRefund> {
    let mut reports = Vec::new();
    for result in RESULTS {
        for amount_minor in [500, 499, 1999, 2000] {
            for (total_minor, number) in [(1999, "order-1"), (500, "order-1"), (1999, "order-2")] {
                for currency in [None, Some(Currency::CNY)] {
                    for app_id in [None, Some(app("app-2"))] {
                        for sub_mch_id in [Some(sub_mch("shop-1")), None] {
                            reports.push(ReportedRefund {
                                sub_mch_id,
                                app_id: app_id.clone(),
                                out_trade_no: OutTradeNo::parse(number).unwrap(),
                                total_minor,
                                amount_minor,
                                currency,
                                result: result(),
                                ..matching().reported
                            });
                        }
                    }
                }
            }
        }
    }
    reports
}
