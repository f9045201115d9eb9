//! Every order and every callback of a run, drawn from a seed before anything is sent.
//!
//! Pure and complete: the plan contains what is sent, how often and after what, so that the model can derive the result.
//! Bodies are built later, shortly before they are sent. [`draw()`] fills the types that are defined here.

use chrono::{DateTime, Utc};

use crate::scenarios::Scenario;

mod draw;

pub use self::draw::{COPIES_MAX, draw};

/// What distinguishes one run from another.
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
    /// What distinguishes this run from others.
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
    Never,
}

/// One order as the shop means it.
#[derive(Debug, Clone)]
pub struct Order {
    pub scenario: Scenario,
    pub mch_id: String,
    /// The same, as an index into the run's merchants.
    pub merchant: usize,
    /// Unique in the world of simulations, but for the orders of two shops that share it.
    pub out_trade_no: String,
    pub sub_mch_id: Option<&'static str>,
    /// The app, when the shop recorded it.
    pub app_id: Option<&'static str>,
    pub amount_minor: i64,
    pub currency: &'static str,
    /// When it is written.
    pub checkout: Checkout,
    /// By which API WeChat Pay notifies it.
    pub api: Api,
    /// The refunds that the shop writes down before it asks WeChat Pay for them.
    pub requested: Vec<Requested>,
}

/// By which API an order is notified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Api {
    /// XML.
    V2,
    /// JSON, as in mainland China.
    V3Mainland,
    /// JSON, as elsewhere.
    V3Global,
}

/// A refund that the shop has asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requested {
    pub out_refund_no: String,
    pub amount_minor: i64,
}

/// One callback; all its sendings carry the same bytes.
#[derive(Debug, Clone)]
pub struct Callback {
    /// The order that it claims to be about.
    pub order: usize,
    pub claim: Claim,
    pub forgery: Option<Forgery>,
    /// First sent this often at the same instant, over different connections.
    pub copies: usize,
    /// Sent again this often after SUCCESS.
    pub repeats: usize,
    /// Held back until that callback was answered SUCCESS.
    pub after: Option<usize>,
}

/// What a callback says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    Payment(PaymentClaim),
    Refund(RefundClaim),
    /// Nothing about any order: the event of API v3.
    NoOrder(&'static str),
}

/// What a callback says about a payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaymentClaim {
    /// Whether, and how, it says that the payment went through.
    pub result: PayResult,
    pub transaction_id: String,
    pub sub_mch_id: Option<&'static str>,
    pub app_id: &'static str,
    pub amount_minor: i64,
    pub currency: &'static str,
    /// When the payer paid, in whole seconds.
    pub paid_at: DateTime<Utc>,
}

/// What a callback says about a refund.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefundClaim {
    /// What became of it.
    pub result: RefundResult,
    /// WeChat Pay's number for the payment that goes back.
    pub transaction_id: String,
    pub out_refund_no: String,
    pub refund_id: String,
    /// What the payer had paid.
    pub total_minor: i64,
    /// How much of the payment goes back.
    pub amount_minor: i64,
    /// When it arrived, in whole seconds; said only of a success.
    pub succeeded_at: DateTime<Utc>,
}

/// What became of a refund.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RefundResult {
    /// The payer's account cannot take it.
    Abnormal,
    /// It will not happen.
    Closed,
    /// The money arrived.
    Succeeded,
}

impl Claim {
    #[must_use]
    pub fn payment(&self) -> Option<&PaymentClaim> {
        match self {
            Self::Payment(payment) => Some(payment),
            Self::Refund(_) | Self::NoOrder(_) => None,
        }
    }

    #[must_use]
    pub fn refund(&self) -> Option<&RefundClaim> {
        match self {
            Self::Refund(refund) => Some(refund),
            Self::Payment(_) | Self::NoOrder(_) => None,
        }
    }

    /// WeChat Pay's number for the payment that it is about, when that went through.
    #[must_use]
    pub fn transaction_id(&self) -> Option<&str> {
        match self {
            Self::Payment(payment) => (payment.result == PayResult::Success).then_some(&payment.transaction_id),
            Self::Refund(refund) => Some(&refund.transaction_id),
            Self::NoOrder(_) => None,
        }
    }
}

/// The two ways in which WeChat Pay reports a failed payment, and success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PayResult {
    Success,
    /// `result_code` is FAIL: a short body without sum or transaction.
    ResultFail,
    /// `result_code` is SUCCESS but `trade_state` is not.
    TradeStateFail,
}

/// The three ways of a forger without the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forgery {
    /// Signed or sealed with another key.
    WrongKey,
    /// A genuine body that was altered afterwards.
    Altered,
    /// Not signed, or sealed, at all.
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

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use rand::SeedableRng;

    use rand::rngs::StdRng;

    use super::*;
    use crate::merchants::tests::merchants;
    use crate::scenarios::tests::mix;

    fn plan(orders: usize) -> Plan {
        let run = Run { prefix: "SIM-".to_owned(), serial: 1_234_567, started_at: DateTime::UNIX_EPOCH };
        draw(run, orders, &merchants(), &mix(&[]), &mut StdRng::seed_from_u64(3))
    }

    #[test]
    fn numbers_are_unique_and_have_the_documented_lengths() {
        let plan = plan(5_000);
        let numbers: HashSet<&str> = plan.orders.iter().map(|order| order.out_trade_no.as_str()).collect();
        let keys: HashSet<_> =
            plan.orders.iter().map(|order| (&order.mch_id, &order.out_trade_no, order.sub_mch_id)).collect();
        let shared = plan.orders.iter().filter(|order| order.scenario == Scenario::SameNumber).count() / 2;
        assert_eq!((keys.len(), numbers.len()), (plan.orders.len(), plan.orders.len() - shared));
        assert!(shared > 10);
        for callback in &plan.callbacks {
            match &callback.claim {
                Claim::Payment(payment) => assert_eq!(payment.transaction_id.len(), 28),
                Claim::Refund(refund) => assert_eq!((refund.transaction_id.len(), refund.refund_id.len()), (28, 29)),
                Claim::NoOrder(_) => {}
            }
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
            let is_second = [Scenario::SecondTransaction, Scenario::SurplusRefunded, Scenario::SurplusPartRefunded]
                .contains(&plan.orders[callback.order].scenario)
                && callback.claim.payment().is_some();
            assert_eq!(first.claim.transaction_id() != callback.claim.transaction_id(), is_second);
            seen += 1;
        }
        assert!(seen > 500);
    }

    #[test]
    fn what_is_meant_to_be_wrong_is_wrong() {
        let plan = plan(5_000);
        for callback in &plan.callbacks {
            let order = &plan.orders[callback.order];
            let Some(claim) = callback.claim.payment() else { continue };
            let is_wrong = [Scenario::WrongAmount, Scenario::RefusedRefunded].contains(&order.scenario);
            assert_eq!(claim.amount_minor != order.amount_minor, is_wrong);
            assert_eq!(claim.currency != order.currency, order.scenario == Scenario::WrongCurrency);
            assert_eq!(claim.sub_mch_id != order.sub_mch_id, order.scenario == Scenario::WrongSubMchId);
            assert_eq!(claim.result != PayResult::Success, order.scenario == Scenario::NotSuccessful);
            assert!(claim.amount_minor > 0);
        }
    }

    #[test]
    fn partial_refunds_add_up_and_none_is_of_nothing() {
        let plan = plan(5_000);
        let mut seen = 0;
        for (index, order) in plan.orders.iter().enumerate() {
            let refunds =
                || plan.callbacks.iter().filter(|one| one.order == index).filter_map(|one| one.claim.refund());
            assert!(refunds().all(|refund| refund.amount_minor > 0));
            let sum: i64 = refunds().map(|refund| refund.amount_minor).sum();
            if order.scenario == Scenario::PartialRefunds {
                assert_eq!(sum, order.amount_minor);
                seen += 1;
            }
        }
        assert!(seen > 50);
    }
}
