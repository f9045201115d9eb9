//! Every order and every callback of a run, drawn from a seed before anything is sent.
//!
//! Pure and complete: what is sent later, how often and after what, stands here, so that the model can say what must
//! come of it. Bodies are made later, shortly before they are sent.

use chrono::{DateTime, TimeDelta, Utc};
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use crate::merchants::Merchant;
use crate::scenarios::{Mix, Scenario};

/// Notified at the same instant at most this often; WeChat Pay notifies from a few servers.
pub const COPIES_MAX: usize = 5;
/// Repeats of a callback that was told SUCCESS already.
const REPEATS_MAX: usize = 3;

const CURRENCIES: [&str; 3] = ["CNY", "USD", "JPY"];
const APP_IDS: [&str; 3] = ["wxd930ea5d5a258f4f", "wx8888888888888888", "wx2421b1c4370ec43b"];
const SUB_MCH_IDS: [&str; 4] = ["1900000301", "1900000302", "1900000303", "1900000304"];

/// What tells one run from another.
#[derive(Debug, Clone)]
pub struct Run {
    /// Every order number of the run begins with it, and no other order number does.
    pub prefix: String,
    /// Seven digits inside every transaction id of the run.
    pub serial: u32,
    /// When the run began.
    pub started_at: DateTime<Utc>,
}

/// A run, laid out. Callbacks name their orders, and each other, by index.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What tells this run from another.
    pub run: Run,
    /// The shop's orders, and those that only a callback claims to exist.
    pub orders: Vec<Order>,
    /// In the order of their first sending.
    pub callbacks: Vec<Callback>,
}

/// When the shop's checkout writes an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checkout {
    /// Before anything is sent.
    Pending,
    /// Before anything is sent, and given up already.
    Closed,
    /// Some time after the first callback for it was sent.
    Late,
    /// Never.
    Never,
}

/// One order as the shop means it.
#[derive(Debug, Clone)]
pub struct Order {
    /// What happens to it.
    pub scenario: Scenario,
    /// Whose it is.
    pub mch_id: String,
    /// The same, as an index into the run's merchants.
    pub merchant: usize,
    /// Unique in the world of simulations.
    pub out_trade_no: String,
    /// The shop behind an institution.
    pub sub_mch_id: Option<&'static str>,
    /// The app, when the shop recorded it.
    pub app_id: Option<&'static str>,
    /// In the currency's smallest unit.
    pub amount_minor: i64,
    /// ISO 4217.
    pub currency: &'static str,
    /// When it is written.
    pub checkout: Checkout,
}

/// One callback; all its sendings carry the same bytes.
#[derive(Debug, Clone)]
pub struct Callback {
    /// The order that it claims to be about.
    pub order: usize,
    /// What it says.
    pub says: Says,
    /// How it is forged, when it is.
    pub forgery: Option<Forgery>,
    /// First sent this often at the same instant, over different connections.
    pub copies: usize,
    /// Sent again this often after SUCCESS.
    pub repeats: usize,
    /// Held back until that callback was told SUCCESS.
    pub after: Option<usize>,
}

/// What a callback says about a payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Says {
    /// Whether, and how, it says that the payment went through.
    pub result: PayResult,
    /// WeChat Pay's number for the payment.
    pub transaction_id: String,
    /// The shop behind an institution.
    pub sub_mch_id: Option<&'static str>,
    /// The app of the payment.
    pub app_id: &'static str,
    /// In the currency's smallest unit.
    pub amount_minor: i64,
    /// ISO 4217.
    pub currency: &'static str,
    /// When the payer paid, in whole seconds.
    pub paid_at: DateTime<Utc>,
}

/// The two ways in which WeChat Pay reports a failed payment, and success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PayResult {
    /// Paid.
    Success,
    /// `result_code` is FAIL: a short body without sum or transaction.
    ResultFail,
    /// `result_code` is SUCCESS but `trade_state` is not.
    TradeStateFail,
}

/// The three ways of a forger without the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forgery {
    /// Signed with another key.
    WrongKey,
    /// A genuine body whose amount was altered afterwards.
    AmountAltered,
    /// Not signed at all.
    NoSign,
}

impl Plan {
    /// Requests that the run makes when nothing fails.
    #[must_use]
    pub fn sends(&self) -> usize {
        self.callbacks.iter().map(|callback| callback.copies.saturating_add(callback.repeats)).sum()
    }

    /// The order that `callback` claims to be about.
    #[must_use]
    pub fn order_of(&self, callback: &Callback) -> Option<&Order> {
        self.orders.get(callback.order)
    }
}

/// Lays out a run of `orders` orders for these merchants. The same `rng` state makes the same run but for its
/// name and time.
pub fn draw(run: Run, orders: usize, merchants: &[Merchant], mix: &Mix, rng: &mut StdRng) -> Plan {
    let mut plan = Plan { run, orders: Vec::with_capacity(orders), callbacks: Vec::with_capacity(orders) };
    for scenario in mix.draw(orders, rng) {
        let order = draw_order(scenario, &plan, merchants, rng);
        plan.orders.push(order.clone());
        draw_callbacks(&order, &mut plan, rng);
    }
    plan
}

fn draw_order(scenario: Scenario, plan: &Plan, merchants: &[Merchant], rng: &mut StdRng) -> Order {
    let amount_digits = rng.random_range(1..=7);
    let merchant = rng.random_range(0..merchants.len().max(1));
    Order {
        scenario,
        mch_id: merchants.get(merchant).map(|merchant| merchant.mch_id.clone()).unwrap_or_default(),
        merchant,
        out_trade_no: format!("{}{:07}", plan.run.prefix, plan.orders.len()),
        sub_mch_id: rng.random_bool(0.4).then(|| pick(&SUB_MCH_IDS, rng)),
        app_id: rng.random_bool(0.5).then(|| pick(&APP_IDS, rng)),
        amount_minor: rng.random_range(1..=10_i64.pow(amount_digits)),
        currency: if rng.random_bool(0.7) { "CNY" } else { pick(&CURRENCIES, rng) },
        checkout: match scenario {
            Scenario::UnknownOrder => Checkout::Never,
            Scenario::LateOrder => Checkout::Late,
            Scenario::ClosedOrder => Checkout::Closed,
            _ => Checkout::Pending,
        },
    }
}

/// The callbacks of the newest order of `plan`.
fn draw_callbacks(order: &Order, plan: &mut Plan, rng: &mut StdRng) {
    let genuine = Callback {
        order: plan.orders.len().saturating_sub(1),
        says: draw_payment(order, plan, rng),
        forgery: None,
        copies: 1,
        repeats: 0,
        after: None,
    };
    let index = plan.callbacks.len();
    let with = |change: &dyn Fn(&mut Says)| {
        let mut callback = genuine.clone();
        change(&mut callback.says);
        callback
    };
    match order.scenario {
        Scenario::Plain | Scenario::UnknownOrder | Scenario::LateOrder | Scenario::ClosedOrder => {
            plan.callbacks.push(genuine);
        }
        Scenario::Repeats if rng.random_bool(0.5) => {
            plan.callbacks.push(Callback { repeats: rng.random_range(1..=REPEATS_MAX), ..genuine });
        }
        Scenario::Repeats => {
            plan.callbacks.extend([genuine.clone(), Callback { after: Some(index), ..genuine }]);
        }
        Scenario::ConcurrentRepeats => {
            plan.callbacks.push(Callback { copies: rng.random_range(2..=COPIES_MAX), ..genuine });
        }
        Scenario::Forgery => {
            let forgery = pick(&[Forgery::WrongKey, Forgery::AmountAltered, Forgery::NoSign], rng);
            plan.callbacks.push(Callback { forgery: Some(forgery), ..genuine.clone() });
            if rng.random_bool(0.5) {
                plan.callbacks.push(genuine);
            }
        }
        Scenario::WrongAmount => {
            let wrong = another_amount(order.amount_minor, rng);
            plan.callbacks.push(with(&|says| says.amount_minor = wrong));
        }
        Scenario::WrongCurrency => {
            let wrong = another(&CURRENCIES, order.currency, rng);
            plan.callbacks.push(with(&|says| says.currency = wrong));
        }
        Scenario::WrongSubMchId => {
            let wrong = match order.sub_mch_id {
                Some(_) if rng.random_bool(0.3) => None,
                Some(right) => Some(another(&SUB_MCH_IDS, right, rng)),
                None => Some(pick(&SUB_MCH_IDS, rng)),
            };
            plan.callbacks.push(with(&|says| says.sub_mch_id = wrong));
        }
        Scenario::SecondTransaction => {
            plan.callbacks.push(genuine.clone());
            let second = draw_payment(order, plan, rng);
            plan.callbacks.push(Callback { says: second, after: Some(index), ..genuine });
        }
        Scenario::NotSuccessful => {
            let result = pick(&[PayResult::ResultFail, PayResult::TradeStateFail], rng);
            plan.callbacks.push(with(&|says| says.result = result));
        }
    }
}

/// A payment of `order` as it should be, with a transaction id that no other callback has.
fn draw_payment(order: &Order, plan: &Plan, rng: &mut StdRng) -> Says {
    let started_at = plan.run.started_at;
    Says {
        result: PayResult::Success,
        // 28 digits, as WeChat Pay's: 4200, two digits, the day, fourteen digits.
        transaction_id: format!(
            "4200{:02}{}{:07}{:07}",
            rng.random_range(0..100),
            started_at.format("%Y%m%d"),
            plan.run.serial,
            plan.callbacks.len()
        ),
        sub_mch_id: order.sub_mch_id,
        app_id: order.app_id.unwrap_or_else(|| pick(&APP_IDS, rng)),
        amount_minor: order.amount_minor,
        currency: order.currency,
        paid_at: whole_seconds(started_at - TimeDelta::seconds(rng.random_range(0..10))),
    }
}

fn whole_seconds(time: DateTime<Utc>) -> DateTime<Utc> {
    DateTime::from_timestamp(time.timestamp(), 0).unwrap_or(time)
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

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use rand::SeedableRng;

    use super::*;
    use crate::scenarios::tests::mix;

    fn plan(orders: usize) -> Plan {
        let run = Run { prefix: "SIM-".to_owned(), serial: 1_234_567, started_at: DateTime::UNIX_EPOCH };
        draw(run, orders, &[], &mix(&[]), &mut StdRng::seed_from_u64(3))
    }

    #[test]
    fn numbers_are_unique_and_have_the_documented_lengths() {
        let plan = plan(5_000);
        let orders: HashSet<&str> = plan.orders.iter().map(|order| order.out_trade_no.as_str()).collect();
        assert_eq!(orders.len(), plan.orders.len());
        for callback in &plan.callbacks {
            assert_eq!(callback.says.transaction_id.len(), 28);
        }
    }

    #[test]
    fn a_second_transaction_is_held_back_and_differs() {
        let plan = plan(5_000);
        let mut seen = 0;
        for callback in &plan.callbacks {
            let Some(first) = callback.after else { continue };
            let first = &plan.callbacks[first];
            assert_eq!(first.order, callback.order);
            let is_second = plan.orders[callback.order].scenario == Scenario::SecondTransaction;
            assert_eq!(first.says.transaction_id != callback.says.transaction_id, is_second);
            seen += 1;
        }
        assert!(seen > 100);
    }

    #[test]
    fn what_is_meant_to_be_wrong_is_wrong() {
        let plan = plan(5_000);
        for callback in &plan.callbacks {
            let order = &plan.orders[callback.order];
            let says = &callback.says;
            assert_eq!(says.amount_minor != order.amount_minor, order.scenario == Scenario::WrongAmount);
            assert_eq!(says.currency != order.currency, order.scenario == Scenario::WrongCurrency);
            assert_eq!(says.sub_mch_id != order.sub_mch_id, order.scenario == Scenario::WrongSubMchId);
            assert_eq!(says.result != PayResult::Success, order.scenario == Scenario::NotSuccessful);
            assert!(says.amount_minor > 0);
        }
    }
}
