//! Money that goes back to the payer: one row per refund of an order.

use chrono::{DateTime, Utc};

use super::ids::{OutRefundNo, RefundId, TransactionId};

/// A refund as the database holds it, read under the lock of its order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refund {
    /// The order's key.
    pub order_id: i64,
    /// The merchant's number.
    pub out_refund_no: OutRefundNo,
    /// WeChat Pay's number, once WeChat Pay has reported on the refund.
    pub refund_id: Option<RefundId>,
    /// The payment that it refunds, once WeChat Pay has reported on the refund.
    pub transaction_id: Option<TransactionId>,
    /// The refunded amount, in the smallest unit of the payment's currency.
    pub amount_minor: i64,
    /// Its state.
    pub state: RefundState,
}

/// The state of a refund. Succeeded and closed are final.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefundState {
    /// The merchant has asked for it.
    Requested,
    /// The money arrived at this time.
    Succeeded(DateTime<Utc>),
    /// The payer's account cannot receive it: the merchant has to act in WeChat Pay's portal.
    Abnormal,
    /// It will not happen.
    Closed,
}

impl RefundState {
    /// The name under which it is stored.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Succeeded(_) => "succeeded",
            Self::Abnormal => "abnormal",
            Self::Closed => "closed",
        }
    }

    /// When the money arrived.
    #[must_use]
    pub fn succeeded_at(self) -> Option<DateTime<Utc>> {
        match self {
            Self::Succeeded(at) => Some(at),
            Self::Requested | Self::Abnormal | Self::Closed => None,
        }
    }
}
