//! The merchant's own record of what was to be paid: the truth that every callback is checked against.

use super::ids::{AppId, MchId, OutTradeNo, SubMchId, TransactionId};
use super::money::Money;

/// An order as the database holds it under the row lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// The row's key.
    pub id: i64,
    /// The merchant or institution that WeChat Pay knows.
    pub mch_id: MchId,
    /// Unset for a direct merchant.
    pub sub_mch_id: Option<SubMchId>,
    /// Checked only when the merchant recorded one.
    pub app_id: Option<AppId>,
    /// The merchant's number.
    pub out_trade_no: OutTradeNo,
    /// What the payer owes.
    pub amount: Money,
    /// Where the order stands.
    pub state: OrderState,
    /// The sum of its refunds that succeeded.
    pub refunded_minor: i64,
    /// Counts the changes, so that readers of order events can sort them.
    pub version: i32,
}

/// Where an order stands. Money has arrived in exactly the states that know a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OrderState {
    /// Waiting for the payer.
    Pending,
    /// Paid by this transaction.
    Paid(TransactionId),
    /// Given up by the merchant before anybody paid.
    Closed,
    /// Paid by this transaction and given back in full.
    Refunded(TransactionId),
}

impl OrderState {
    /// The name under which it is stored.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Paid(_) => "paid",
            Self::Closed => "closed",
            Self::Refunded(_) => "refunded",
        }
    }

    /// The transaction that paid the order.
    #[must_use]
    pub fn transaction_id(&self) -> Option<&TransactionId> {
        match self {
            Self::Paid(transaction_id) | Self::Refunded(transaction_id) => Some(transaction_id),
            Self::Pending | Self::Closed => None,
        }
    }
}
