//! Draws a plan: which orders there are, and which callbacks each gets.

use chrono::{DateTime, TimeDelta, Utc};
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use super::{
    Api, Callback, Checkout, Claim, Forgery, Order, PayResult, PaymentClaim, Plan, RefundClaim, RefundResult,
    Requested, Run,
};
use crate::merchants::Merchant;
use crate::scenarios::{Mix, Scenario};

/// Notified at the same instant at most this often; WeChat Pay notifies from a few servers.
pub const COPIES_MAX: usize = 5;
/// Repeats of a callback that was answered SUCCESS already.
const REPEATS_MAX: usize = 3;
/// Partial refunds of one payment.
const PARTS_MAX: i64 = 4;

const CURRENCIES: [&str; 3] = ["CNY", "USD", "JPY"];
const APP_IDS: [&str; 3] = ["wxd930ea5d5a258f4f", "wx8888888888888888", "wx2421b1c4370ec43b"];
const SUB_MCH_IDS: [&str; 4] = ["1900000301", "1900000302", "1900000303", "1900000304"];
/// Events of API v3 that are about no order.
const NO_ORDER: [&str; 3] = ["TRANSACTION.SUCCESS", "SECURITY_ECHO.SUCCESS", "PROFITSHARING.SUCCESS"];

/// Lays out a run of `orders` orders for these merchants. The same `rng` state makes the same run but for its
/// name and time.
pub fn draw(run: Run, orders: usize, merchants: &[Merchant], mix: &Mix, rng: &mut StdRng) -> Plan {
    let mut plan = Plan { run, orders: Vec::with_capacity(orders), callbacks: Vec::with_capacity(orders) };
    let mut alone_with_its_number = None;
    for scenario in mix.draw(orders, rng) {
        let mut order = draw_order(scenario, &plan, merchants, mix, rng);
        if order.scenario == Scenario::SameNumber {
            match alone_with_its_number.take() {
                None => alone_with_its_number = Some(order.clone()),
                Some(first) => order = with_number_of(&first, order, rng),
            }
        }
        plan.orders.push(order.clone());
        let callbacks = Drawing { order: &order, plan: &plan, rng }.callbacks();
        plan.callbacks.extend(callbacks);
        plan.request_refunds(rng);
    }
    plan
}

fn draw_order(scenario: Scenario, plan: &Plan, merchants: &[Merchant], mix: &Mix, rng: &mut StdRng) -> Order {
    let amount_digits = rng.random_range(1..=7);
    let index = rng.random_range(0..merchants.len().max(1));
    let merchant = merchants.get(index);
    let sub_mch_id = rng.random_bool(0.4).then(|| pick(&SUB_MCH_IDS, rng));
    let by_v3 = merchant.is_some_and(|merchant| merchant.v3.is_some()) && rng.random_ratio(mix.v3.into(), 100);
    let api = match (by_v3, rng.random_bool(0.5)) {
        (false, _) => Api::V2,
        (true, false) => Api::V3Mainland,
        (true, true) => Api::V3Global,
    };
    // What is about no order is there only in v3.
    let scenario = if scenario == Scenario::NoOrder && api == Api::V2 { Scenario::Plain } else { scenario };
    Order {
        scenario,
        mch_id: merchant.map(|merchant| merchant.mch_id.clone()).unwrap_or_default(),
        merchant: index,
        out_trade_no: format!("{}{:07}", plan.run.prefix, plan.orders.len()),
        sub_mch_id,
        app_id: rng.random_bool(0.5).then(|| pick(&APP_IDS, rng)),
        amount_minor: rng.random_range(1..=10_i64.pow(amount_digits)).max(scenario.least_amount()),
        currency: if rng.random_bool(0.7) { "CNY" } else { pick(&CURRENCIES, rng) },
        checkout: match scenario {
            Scenario::UnknownOrder | Scenario::NoOrder => Checkout::Never,
            Scenario::LateOrder => Checkout::Late,
            Scenario::ClosedOrder => Checkout::Closed,
            _ => Checkout::Pending,
        },
        api,
        requested: Vec::new(),
    }
}

/// `order` as one of another shop that uses the number of `first`.
fn with_number_of(first: &Order, order: Order, rng: &mut StdRng) -> Order {
    Order {
        mch_id: first.mch_id.clone(),
        merchant: first.merchant,
        api: first.api,
        out_trade_no: first.out_trade_no.clone(),
        sub_mch_id: another_shop(first.sub_mch_id, rng),
        ..order
    }
}

impl Plan {
    /// The shop writes half of its refunds down before it asks WeChat Pay for them; the others are made in WeChat Pay's own
    /// portal. A refund of a wrong sum is wrong only beside one that was asked for.
    fn request_refunds(&mut self, rng: &mut StdRng) {
        let (Some(index), Some(order)) = (self.orders.len().checked_sub(1), self.orders.last_mut()) else { return };
        if order.scenario == Scenario::RefundTooMuch {
            return;
        }
        let is_wrong = order.scenario == Scenario::WrongRefundAmount;
        for refund in self.callbacks.iter().filter(|one| one.order == index).filter_map(|one| one.claim.refund()) {
            let is_new = order.requested.iter().all(|known| known.out_refund_no != refund.out_refund_no);
            if is_new && (is_wrong || rng.random_bool(0.5)) {
                let amount_minor = refund.amount_minor.saturating_add(i64::from(is_wrong));
                order.requested.push(Requested { out_refund_no: refund.out_refund_no.clone(), amount_minor });
            }
        }
    }
}

/// The callbacks of the newest order of a plan, being drawn.
struct Drawing<'run> {
    order: &'run Order,
    plan: &'run Plan,
    rng: &'run mut StdRng,
}

impl Drawing<'_> {
    fn callbacks(mut self) -> Vec<Callback> {
        let payment = self.payment(0);
        let genuine = self.callback(Claim::Payment(payment.clone()));
        match self.order.scenario {
            Scenario::Plain | Scenario::UnknownOrder | Scenario::LateOrder => vec![genuine],
            Scenario::ClosedOrder => vec![self.sometimes_again(genuine)],
            Scenario::Repeats | Scenario::ConcurrentRepeats => self.repeated(genuine),
            Scenario::Forgery => self.forged(genuine),
            Scenario::WrongAmount => {
                let amount_minor = another_amount(self.order.amount_minor, self.rng);
                self.expectation(PaymentClaim { amount_minor, ..payment })
            }
            Scenario::WrongCurrency => {
                let currency = another(&CURRENCIES, self.order.currency, self.rng);
                self.expectation(PaymentClaim { currency, ..payment })
            }
            Scenario::WrongSubMchId => {
                let sub_mch_id = another_shop(self.order.sub_mch_id, self.rng);
                self.expectation(PaymentClaim { sub_mch_id, ..payment })
            }
            Scenario::NotSuccessful => {
                let result = pick(&[PayResult::ResultFail, PayResult::TradeStateFail], self.rng);
                self.expectation(PaymentClaim { result, ..payment })
            }
            Scenario::SecondTransaction => {
                let second = self.payment(1);
                vec![genuine, self.second(second)]
            }
            Scenario::NoOrder => {
                let event = Claim::NoOrder(pick(&NO_ORDER, self.rng));
                vec![self.callback(event)]
            }
            Scenario::FullRefund
            | Scenario::PartialRefunds
            | Scenario::PartOnly
            | Scenario::RefundFirst
            | Scenario::AbnormalThenEnd
            | Scenario::RefundClosed
            | Scenario::ForgedRefund
            | Scenario::WrongRefundAmount
            | Scenario::RefundTooMuch
            | Scenario::SurplusRefunded
            | Scenario::SurplusPartRefunded
            | Scenario::RefusedRefunded
            | Scenario::SameNumber => self.refunded(genuine, &payment),
        }
    }

    /// A payment with what comes of it later.
    fn refunded(&mut self, genuine: Callback, payment: &PaymentClaim) -> Vec<Callback> {
        let all = self.order.amount_minor;
        match self.order.scenario {
            Scenario::PartialRefunds => {
                let mut callbacks = vec![genuine];
                let mut left = all;
                for part in 0..PARTS_MAX {
                    let is_last = part + 1 == PARTS_MAX || left == 1 || (part > 0 && self.rng.random_bool(0.4));
                    let amount_minor = if is_last { left } else { self.rng.random_range(1..left) };
                    left = left.saturating_sub(amount_minor);
                    callbacks.push(self.refund(part, payment, amount_minor, RefundResult::Succeeded));
                    if left == 0 {
                        break;
                    }
                }
                callbacks
            }
            Scenario::PartOnly => {
                let amount_minor = self.rng.random_range(1..all);
                vec![genuine, self.refund(0, payment, amount_minor, RefundResult::Succeeded)]
            }
            Scenario::RefundFirst => {
                let refund = Callback { after: None, ..self.refund(0, payment, all, RefundResult::Succeeded) };
                vec![refund, self.after_first(genuine)]
            }
            Scenario::AbnormalThenEnd => {
                let end = pick(&[RefundResult::Succeeded, RefundResult::Closed], self.rng);
                let abnormal = self.refund(0, payment, all, RefundResult::Abnormal);
                let end = self.refund(0, payment, all, end);
                let end = Callback { after: Some(self.plan.callbacks.len().saturating_add(1)), ..end };
                vec![genuine, abnormal, end]
            }
            Scenario::RefundClosed => vec![genuine, self.refund(0, payment, all, RefundResult::Closed)],
            Scenario::ForgedRefund => {
                let forged = self.refund(0, payment, all, RefundResult::Succeeded);
                vec![genuine, Callback { forgery: Some(self.forgery()), repeats: 0, copies: 1, ..forged }]
            }
            Scenario::RefundTooMuch => {
                vec![genuine, self.refund(0, payment, all.saturating_add(1), RefundResult::Succeeded)]
            }
            Scenario::SurplusRefunded | Scenario::SurplusPartRefunded => self.surplus_refunded(genuine),
            Scenario::RefusedRefunded => {
                let amount_minor = another_amount(all, self.rng);
                let refused = PaymentClaim { amount_minor, ..payment.clone() };
                let refund = self.refund(0, &refused, amount_minor, RefundResult::Succeeded);
                self.expectation(refused).into_iter().chain([refund]).collect()
            }
            Scenario::SameNumber if self.rng.random_bool(0.5) => vec![genuine],
            _ => vec![genuine, self.refund(0, payment, all, RefundResult::Succeeded)],
        }
    }

    /// A second payment that goes back, in one go or in parts.
    fn surplus_refunded(&mut self, genuine: Callback) -> Vec<Callback> {
        let all = self.order.amount_minor;
        let second = self.payment(1);
        let part = match self.order.scenario {
            Scenario::SurplusPartRefunded => self.rng.random_range(1..all),
            _ => all,
        };
        let mut parts = vec![part];
        if part < all && self.rng.random_bool(0.5) {
            parts.push(all.saturating_sub(part));
        }
        let second_index = self.plan.callbacks.len().saturating_add(1);
        let mut callbacks = vec![genuine, self.second(second.clone())];
        for (nth, part) in (0..).zip(parts) {
            let refund = self.refund(nth, &second, part, RefundResult::Succeeded);
            callbacks.push(Callback { after: Some(second_index), ..refund });
        }
        callbacks
    }

    fn callback(&self, claim: Claim) -> Callback {
        let order = self.plan.orders.len().saturating_sub(1);
        Callback { order, claim, forgery: None, copies: 1, repeats: 0, after: None }
    }

    /// A payment that is the order's only one.
    fn expectation(&mut self, payment: PaymentClaim) -> Vec<Callback> {
        let callback = self.callback(Claim::Payment(payment));
        vec![self.sometimes_again(callback)]
    }

    /// A payment of an order that another payment has paid.
    fn second(&mut self, payment: PaymentClaim) -> Callback {
        let second = self.after_first(self.callback(Claim::Payment(payment)));
        self.sometimes_again(second)
    }

    /// Some are notified several times: at the same instant, or after SUCCESS.
    fn sometimes_again(&mut self, callback: Callback) -> Callback {
        match self.rng.random_range(0..6) {
            0 => Callback { copies: self.rng.random_range(2..=COPIES_MAX), ..callback },
            1 => Callback { repeats: self.rng.random_range(1..=REPEATS_MAX), ..callback },
            _ => callback,
        }
    }

    /// Held back until the order's first callback was answered SUCCESS.
    fn after_first(&self, callback: Callback) -> Callback {
        Callback { after: Some(self.plan.callbacks.len()), ..callback }
    }

    fn repeated(&mut self, genuine: Callback) -> Vec<Callback> {
        if self.order.scenario == Scenario::ConcurrentRepeats {
            return vec![Callback { copies: self.rng.random_range(2..=COPIES_MAX), ..genuine }];
        }
        if self.rng.random_bool(0.5) {
            return vec![Callback { repeats: self.rng.random_range(1..=REPEATS_MAX), ..genuine }];
        }
        vec![genuine.clone(), self.after_first(genuine)]
    }

    fn forged(&mut self, genuine: Callback) -> Vec<Callback> {
        let forged = Callback { forgery: Some(self.forgery()), ..genuine.clone() };
        if self.rng.random_bool(0.5) { vec![forged, genuine] } else { vec![forged] }
    }

    fn forgery(&mut self) -> Forgery {
        pick(&[Forgery::WrongKey, Forgery::Altered, Forgery::NoSign], self.rng)
    }

    /// A payment of the order as it should be, with a transaction id that no other has; `nth` of the order's.
    fn payment(&mut self, nth: usize) -> PaymentClaim {
        let Plan { run, callbacks, .. } = self.plan;
        PaymentClaim {
            result: PayResult::Success,
            // 28 digits, as WeChat Pay's: 4200, two digits, the day, fourteen digits.
            transaction_id: format!(
                "4200{:02}{}{:07}{:07}",
                self.rng.random_range(0..100),
                run.started_at.format("%Y%m%d"),
                run.serial,
                callbacks.len().saturating_add(nth)
            ),
            sub_mch_id: self.order.sub_mch_id,
            app_id: self.order.app_id.unwrap_or_else(|| pick(&APP_IDS, self.rng)),
            amount_minor: self.order.amount_minor,
            currency: self.order.currency,
            paid_at: self.whole_seconds_ago(10..20),
        }
    }

    /// A refund of a payment, sent once the order's first callback was answered SUCCESS; some are repeated as payments are.
    fn refund(&mut self, nth: i64, payment: &PaymentClaim, amount_minor: i64, result: RefundResult) -> Callback {
        let Plan { run, callbacks, .. } = self.plan;
        let claim = Claim::Refund(RefundClaim {
            result,
            transaction_id: payment.transaction_id.clone(),
            // Unique for the merchant, also where two of its shops share an order number.
            out_refund_no: format!("R{}{:07}-{nth}", run.prefix, self.plan.orders.len()),
            // 29 digits, as WeChat Pay's.
            refund_id: format!(
                "5030{nth:01}{}{:07}{:09}",
                run.started_at.format("%Y%m%d"),
                run.serial,
                callbacks.len()
            ),
            total_minor: payment.amount_minor,
            amount_minor,
            succeeded_at: self.whole_seconds_ago(0..10),
        });
        let callback = self.after_first(self.callback(claim));
        self.sometimes_again(callback)
    }

    fn whole_seconds_ago(&mut self, seconds: std::ops::Range<i64>) -> DateTime<Utc> {
        let time = self.plan.run.started_at - TimeDelta::seconds(self.rng.random_range(seconds));
        DateTime::from_timestamp(time.timestamp(), 0).unwrap_or(time)
    }
}

fn another_shop(than: Option<&'static str>, rng: &mut StdRng) -> Option<&'static str> {
    match than {
        Some(_) if rng.random_bool(0.3) => None,
        Some(right) => Some(another(&SUB_MCH_IDS, right, rng)),
        None => Some(pick(&SUB_MCH_IDS, rng)),
    }
}

/// A cent less or more, ten times as much, or something else altogether.
fn another_amount(right: i64, rng: &mut StdRng) -> i64 {
    match rng.random_range(0..4) {
        0 if right > 1 => right.saturating_sub(1),
        1 => right.saturating_mul(10),
        2 => right.saturating_add(rng.random_range(2..1000)),
        _ => right.saturating_add(1),
    }
}

fn another<T: Copy + PartialEq>(choices: &[T], than: T, rng: &mut StdRng) -> T {
    let others: Vec<T> = choices.iter().copied().filter(|choice| *choice != than).collect();
    others.choose(rng).copied().unwrap_or(than)
}

fn pick<T: Copy, const N: usize>(choices: &[T; N], rng: &mut StdRng) -> T {
    const { assert!(N > 0, "there is something to pick") };
    let [first, ..] = choices.as_slice() else { unreachable!("there is something to pick") };
    *choices.choose(rng).unwrap_or(first)
}
