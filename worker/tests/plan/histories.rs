//! Every history of one order: two transactions, two refund numbers with several sums, a second order that claims one of the
//! transactions, an operator who replays and accepts at any moment, and a shop that closes, reopens, changes the price and
//! records a payment by hand.
//!
//! All states that any history of them leads to are visited, however long it is. In each of them what must always hold is
//! checked, every step from it, and every batch of two: a batch leaves and says what its steps would one by one.

use std::collections::{BTreeMap, HashSet, VecDeque};

use shared::domain::decide::Asked;
use shared::domain::ids::{OutRefundNo, RefundId, TransactionId};
use shared::domain::notification::{Notification, RefundResult, ReportedRefund};
use shared::domain::order::{Order, OrderState};
use shared::domain::payment::{Disposition, PaymentRecord};
use shared::domain::refund::{Refund, RefundState};
use worker::batch::message::Finding;
use worker::batch::outcome::Outcome;
use worker::batch::plan::{ChangedPayment, ChangedRefund, Decided, Item, OrderEvent, Plan, Rows, plan};

use super::{
    OPERATOR, cny, mch, paid_by, payment, pending, refund, refund_no, requested, succeeded, transaction,
    under_another_number,
};

/// What the database holds: order 7 is A, order 8 is B.
#[derive(Debug, Clone, PartialEq)]
struct Facts {
    orders: Vec<Order>,
    payments: BTreeMap<TransactionId, PaymentRecord>,
    refunds: BTreeMap<(i64, OutRefundNo), Refund>,
}

/// Something that the worker is asked to decide.
#[derive(Debug, Clone, PartialEq)]
struct Ask {
    finding: Finding,
    asked: Asked,
}

/// Something that the shop writes; `None` when it cannot.
type Write = fn(&Facts) -> Option<Facts>;

const SHOP: [Write; 6] = [
    |facts| facts.with_order(|order| order.state == OrderState::Pending, |order| order.state = OrderState::Closed),
    |facts| facts.with_order(|order| order.state == OrderState::Closed, |order| order.state = OrderState::Pending),
    |facts| facts.with_order(is_unpaid, |order| order.amount = cny(90)),
    |facts| facts.with_order(is_unpaid, |order| order.amount = cny(100)),
    // By hand, a payment of which no callback has come.
    |facts| {
        let is_unknown = !facts.payments.contains_key(&transaction("t1"));
        facts.with_order(|order| is_unknown && order.state == OrderState::Pending, |order| order.state = paid_by("t1"))
    },
    |facts| {
        let mut after = facts.clone();
        let is_new = after.refunds.insert((7, refund_no("r1")), requested("r1", 40)).is_none();
        is_new.then_some(after)
    },
];

#[test]
fn every_history_keeps_what_must_always_hold() {
    let mut applied = 0;
    for facts in every_state() {
        assert_true(&facts);
        for ask in every_ask() {
            let (after, plan) = facts.decide(std::slice::from_ref(&ask));
            assert_legal_step(&facts, &ask, &after, &plan);
            assert_told(&facts, &after, &plan);
            let (again, repeat) = after.decide(std::slice::from_ref(&ask));
            assert_eq!((&again, repeat.events.len()), (&after, 0), "{ask:?} has more to change the second time");
            applied += usize::from(plan.decided[0].outcome == Outcome::Applied);
        }
    }
    assert!(applied > 0, "nothing is applied: the test tests nothing");
}

#[test]
fn a_batch_leaves_and_says_what_its_steps_would_one_by_one() {
    let asks = every_ask();
    for facts in every_state() {
        for first in &asks {
            let (between, alone) = facts.decide(std::slice::from_ref(first));
            for second in &asks {
                let (after, next) = between.decide(std::slice::from_ref(second));
                let (together, batch) = facts.decide(&[first.clone(), second.clone()]);
                assert_eq!(together, after, "{facts:?}: {first:?}, {second:?}");
                assert_eq!(said(&[&batch]), said(&[&alone, &next]), "{facts:?}: {first:?}, {second:?}");
            }
        }
    }
}

/// From the states that two steps lead to, batches of three as well.
#[test]
fn a_longer_batch_says_the_same_too() {
    let asks = every_ask();
    for facts in states_within(1) {
        for first in &asks {
            for second in &asks {
                let (between, two) = facts.decide(&[first.clone(), second.clone()]);
                for third in &asks {
                    let (after, one) = between.decide(std::slice::from_ref(third));
                    let (together, batch) = facts.decide(&[first.clone(), second.clone(), third.clone()]);
                    assert_eq!(together, after, "{facts:?}: {first:?}, {second:?}, {third:?}");
                    assert_eq!(said(&[&batch]), said(&[&two, &one]), "{facts:?}: {first:?}, {second:?}, {third:?}");
                }
            }
        }
    }
}

/// The histories are worth their name only if they lead to every end.
#[test]
fn the_histories_lead_everywhere() {
    let states = every_state();
    let ends: [fn(&Facts) -> bool; 8] = [
        |facts| matches!(facts.orders[0].state, OrderState::Refunded(_)),
        |facts| facts.orders[0].state == paid_by("t2") && facts.is(Disposition::Returned),
        |facts| facts.orders[0].state == OrderState::Closed && facts.is(Disposition::Returned),
        |facts| facts.orders[0].state == OrderState::Pending && facts.is(Disposition::Returned),
        |facts| facts.orders[1].state == paid_by("t1"),
        |facts| facts.orders[1].state == OrderState::Refunded(transaction("t1")),
        |facts| facts.orders[0].state == paid_by("t1") && !facts.payments.contains_key(&transaction("t1")),
        |facts| {
            facts
                .payments
                .values()
                .any(|payment| payment.disposition == Disposition::Refused && payment.returned_minor > 0)
        },
    ];
    for (number, is_reached) in ends.iter().enumerate() {
        assert!(states.iter().any(is_reached), "none of {} states is end {number}", states.len());
    }
}

/// What must hold in every state, whatever led to it.
fn assert_true(facts: &Facts) {
    for order in &facts.orders {
        let own = |payment: &&PaymentRecord| payment.order_id == order.id;
        let accepted: Vec<_> = facts
            .payments
            .values()
            .filter(own)
            .filter(|payment| payment.disposition == Disposition::Accepted)
            .collect();
        assert!(accepted.len() <= 1, "{facts:?}: two payments of one order are accepted");
        let returned_minor = accepted.first().map_or(0, |payment| payment.returned_minor);
        assert_eq!(order.refunded_minor, returned_minor, "{facts:?}: the order counts something else");
        let is_refunded = matches!(order.state, OrderState::Refunded(_));
        assert_eq!(is_refunded, order.refunded_minor == order.amount.amount_minor, "{facts:?}");
        // The shop may have recorded a payment of which no callback has come.
        let paid_by = order.state.transaction_id();
        let recorded = paid_by.and_then(|paid_by| facts.payments.get(paid_by)).filter(own);
        assert_eq!(
            recorded,
            accepted.first().copied(),
            "{facts:?}: the order is paid by a payment that it did not accept"
        );
    }
    for payment in facts.payments.values() {
        let refunds =
            facts.refunds.values().filter(|refund| refund.transaction_id.as_ref() == Some(&payment.transaction_id));
        let succeeded = refunds.filter(|refund| refund.state.succeeded_at().is_some());
        let sum: i64 = succeeded.map(|refund| refund.amount_minor).sum();
        assert_eq!(payment.returned_minor, sum, "{facts:?}: the books do not add up");
        assert!(sum <= payment.amount.amount_minor, "{facts:?}: more has gone back than was paid");
        let is_owed = payment.disposition == Disposition::Refused;
        let is_gone = payment.disposition == Disposition::Returned;
        let is_all = sum == payment.amount.amount_minor;
        assert!(!(is_owed && is_all) && (!is_gone || is_all), "{facts:?}: returned means that all of it has gone back");
    }
    for refund in facts.refunds.values().filter(|refund| refund.state != RefundState::Requested) {
        let payment = refund.transaction_id.as_ref().and_then(|id| facts.payments.get(id));
        assert!(payment.is_some_and(|payment| payment.order_id == refund.order_id), "{facts:?}: whose refund is it?");
    }
}

/// What one step may do, and who may ask for it.
fn assert_legal_step(before: &Facts, ask: &Ask, after: &Facts, plan: &Plan) {
    let is_refund = matches!(ask.finding, Finding::Notified(Notification::Refund(_)));
    for (id, was) in &before.payments {
        let now = &after.payments[id];
        let expected = match (was.disposition, now.disposition) {
            (Disposition::Refused, Disposition::Accepted) => {
                ask.asked != Asked::ByReport && !is_refund && was.returned_minor == 0
            }
            (Disposition::Refused, Disposition::Returned) => is_refund,
            (was, now) => was == now,
        };
        assert!(expected, "{ask:?} makes {was:?} {now:?}");
        assert!(now.returned_minor >= was.returned_minor && (is_refund || now.returned_minor == was.returned_minor));
        let same = PaymentRecord { disposition: was.disposition, returned_minor: was.returned_minor, ..now.clone() };
        assert_eq!(same, *was, "{ask:?} changes what was reported");
    }
    for (was, now) in before.orders.iter().zip(&after.orders) {
        if was.state.transaction_id() != now.state.transaction_id() {
            let payment = &after.payments[now.state.transaction_id().unwrap()];
            assert_eq!(was.state, OrderState::Pending, "{ask:?} pays {was:?}");
            assert_eq!(
                (payment.returned_minor, payment.amount),
                (0, now.amount),
                "{ask:?} pays {was:?} by {payment:?}"
            );
        }
    }
    let Finding::Notified(Notification::Refund(refund)) = &ask.finding else { return };
    let is_unknown = !before.payments.contains_key(&refund.transaction_id);
    assert_eq!(plan.decided[0].outcome.reason() == Some("for_payment"), is_unknown, "{ask:?}");
    if is_unknown {
        assert_eq!(after, before, "{ask:?} changes something");
    }
}

/// Every event has a version of its own, one above the last, and is one decision's; no order changes without one.
fn assert_told(before: &Facts, after: &Facts, plan: &Plan) {
    for (was, now) in before.orders.iter().zip(&after.orders) {
        let versions: Vec<i32> =
            plan.events.iter().filter(|event| event.order.id == was.id).map(|event| event.order.version).collect();
        let expected: Vec<i32> = (was.version + 1..=now.version).collect();
        assert_eq!(versions, expected, "{plan:?}");
        assert!(!versions.is_empty() || was == now, "{now:?} changed, and nobody is told");
    }
    let caused: Vec<usize> = plan.decided.iter().filter_map(|decided| decided.event).collect();
    assert_eq!(caused, (0..plan.events.len()).collect::<Vec<_>>(), "{plan:?}");
    for decided in &plan.decided {
        let is_told = decided.event.is_some();
        let may_be_told = matches!(decided.outcome, Outcome::Applied | Outcome::Quarantined(_));
        assert!(is_told || decided.outcome != Outcome::Applied, "{decided:?} is applied, and nobody is told");
        assert!(!is_told || may_be_told, "{decided:?} changes nothing, and something is told");
    }
}

impl Facts {
    /// The order may be written when it is in such a state.
    fn with_order(&self, may: impl Fn(&Order) -> bool, write: impl Fn(&mut Order)) -> Option<Facts> {
        let mut after = self.clone();
        let order = &mut after.orders[0];
        may(order).then(|| write(order))?;
        (after != *self).then_some(after)
    }

    fn is(&self, disposition: Disposition) -> bool {
        self.payments.values().any(|payment| payment.disposition == disposition)
    }

    /// One batch, as the worker runs it: read, plan, write.
    fn decide(&self, asks: &[Ask]) -> (Facts, Plan) {
        let rows = Rows {
            orders: self.orders.clone(),
            busy: Vec::new(),
            payments: self.payments.values().cloned().collect(),
            refunds: self.refunds.values().cloned().collect(),
        };
        let items = asks.iter().map(|Ask { finding, asked }| {
            let by = (*asked != Asked::ByReport).then_some(OPERATOR);
            Item { finding, asked: *asked, by }
        });
        let plan = plan(rows, items);
        let mut after = self.clone();
        after.write(&plan);
        (after, plan)
    }

    /// As the database takes it, which compares what was read and refuses an illegal change.
    fn write(&mut self, plan: &Plan) {
        for changed in plan.orders.values() {
            let order = self.orders.iter_mut().find(|order| order.id == changed.order.id).unwrap();
            assert!(changed.order.version > order.version, "{changed:?}");
            *order = changed.order.clone();
        }
        for ((mch_id, transaction_id), changed) in &plan.payments {
            assert_eq!(*mch_id, mch());
            assert_eq!(self.payments.insert(transaction_id.clone(), changed.now.clone()), changed.was, "{changed:?}");
            assert!(may_be_recorded(changed), "the database refuses {changed:?}");
        }
        for (key, changed) in &plan.refunds {
            assert_eq!(*key, (changed.now.order_id, changed.now.out_refund_no.clone()));
            assert_eq!(self.refunds.insert(key.clone(), changed.now.clone()), changed.was, "{changed:?}");
            assert!(may_be_written(changed), "the database refuses {changed:?}");
        }
    }
}

/// What the trigger on payments lets through, and only what is a change.
fn may_be_recorded(ChangedPayment { was, now, .. }: &ChangedPayment) -> bool {
    let Some(was) = was else { return true };
    let was_whole = was.disposition == Disposition::Refused && was.returned_minor == 0;
    let is_legal = match now.disposition {
        same if same == was.disposition => now.returned_minor > was.returned_minor,
        Disposition::Accepted => was_whole && now.returned_minor >= 0,
        Disposition::Returned => was.disposition == Disposition::Refused,
        Disposition::Refused => false,
    };
    is_legal && (was.order_id, was.amount) == (now.order_id, now.amount)
}

/// What the trigger on refunds lets through.
fn may_be_written(ChangedRefund { was, now, accepted_by }: &ChangedRefund) -> bool {
    let Some(was) = was.as_ref().filter(|was| was.state != RefundState::Requested) else { return true };
    let is_forward = was.state == now.state
        || (was.state == RefundState::Abnormal && matches!(now.state, RefundState::Succeeded(_) | RefundState::Closed));
    let may_be_accepted = was.state.succeeded_at().is_none() && accepted_by.is_some();
    was.amount_minor == now.amount_minor
        && was.transaction_id == now.transaction_id
        && ((is_forward && was.refund_id == now.refund_id) || may_be_accepted)
}

/// What was decided, and what is told of it: the same however it was cut into batches.
fn said(plans: &[&Plan]) -> (Vec<Decided>, Vec<OrderEvent>) {
    let (mut decided, mut events) = (Vec::new(), Vec::new());
    for plan in plans {
        let shift = events.len();
        decided.extend(plan.decided.iter().map(|one| Decided { event: one.event.map(|at| at + shift), ..one.clone() }));
        events.extend(plan.events.iter().cloned());
    }
    (decided, events)
}

fn every_state() -> Vec<Facts> {
    states_within(usize::MAX)
}

/// The states that histories of at most so many steps lead to. How often an order has changed makes no other state.
fn states_within(steps_max: usize) -> Vec<Facts> {
    let start =
        Facts { orders: vec![pending(7, "A"), pending(8, "B")], payments: BTreeMap::new(), refunds: BTreeMap::new() };
    let (mut open, mut seen) = (VecDeque::from([(start.clone(), 0)]), HashSet::from([format!("{start:?}")]));
    let (asks, mut states) = (every_ask(), Vec::new());
    while let Some((facts, steps)) = open.pop_front() {
        if steps < steps_max {
            let decided = asks.iter().map(|ask| facts.decide(std::slice::from_ref(ask)).0);
            for mut next in decided.chain(SHOP.iter().filter_map(|write| write(&facts))) {
                next.orders.iter_mut().for_each(|order| order.version = 3);
                if seen.insert(format!("{next:?}")) {
                    open.push_back((next, steps + 1));
                }
            }
        }
        states.push(facts);
    }
    states
}

/// Everything that WeChat Pay reports, and everything that an operator asks for.
fn every_ask() -> Vec<Ask> {
    let payments = [payment("A", "t1", 100), payment("A", "t2", 90), payment("B", "t1", 100)];
    let first = |result| refund("A", "t1", "r1", 40, result);
    let second = |result| refund("A", "t1", "r2", 60, result);
    let of_other = |number, amount_minor, result| of_90(&refund("A", "t2", number, amount_minor, result));
    let again = under_another_number(&first(succeeded()), "r1 again");
    let reported = payments.iter().cloned().chain([
        first(succeeded()),
        first(RefundResult::Abnormal),
        first(RefundResult::Closed),
        again.clone(),
        second(succeeded()),
        second(RefundResult::Abnormal),
        second(RefundResult::Closed),
        of_other("r1", 40, succeeded()),
        of_other("r1", 40, RefundResult::Closed),
        of_other("r2", 50, succeeded()),
        of_other("r2", 90, succeeded()),
        refund("B", "t1", "r1", 100, succeeded()),
    ]);
    let of = |asked| move |finding| Ask { finding, asked };
    let replayed = payments.clone().into_iter().chain([first(succeeded()), again.clone()]);
    let accepted = [
        payments[0].clone(),
        payments[1].clone(),
        first(succeeded()),
        first(RefundResult::Abnormal),
        again,
        second(succeeded()),
    ];
    reported
        .map(of(Asked::ByReport))
        .chain(replayed.map(of(Asked::ByReplay)))
        .chain(accepted.map(of(Asked::ByAcceptance)))
        .collect()
}

/// The refund of a payment of 90. WeChat Pay's number is its own, as that of every refund is.
fn of_90(finding: &Finding) -> Finding {
    let Finding::Notified(Notification::Refund(refund)) = finding else { panic!("not a refund: {finding:?}") };
    let refund_id = RefundId::parse(&format!("{} of {}", refund.out_refund_no, refund.transaction_id)).unwrap();
    Finding::Notified(Notification::Refund(ReportedRefund { total_minor: 90, refund_id, ..refund.clone() }))
}

fn is_unpaid(order: &Order) -> bool {
    matches!(order.state, OrderState::Pending | OrderState::Closed)
}
