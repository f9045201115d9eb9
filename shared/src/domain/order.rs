//! The merchant's own record of what is to be paid, against which every callback is checked.

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
    /// Its state.
    pub state: OrderState,
    /// The total of its refunds that succeeded.
    pub refunded_minor: i64,
    /// Counts the changes, so that readers of order events can sort them.
    pub version: i32,
}

/// The state of an order. Money has arrived in exactly the states that have a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OrderState {
    /// Waiting for the payer.
    Pending,
    /// Paid by this transaction.
    Paid(TransactionId),
    /// Closed by the merchant before anyone paid.
    Closed,
    /// Paid by this transaction and refunded in full.
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
