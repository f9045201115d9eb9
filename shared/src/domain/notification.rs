//! What an authentic callback says, decoded. Made only by `protocol`, from verified fields.

use chrono::{DateTime, Utc};

use super::ids::{AppId, MchId, OutTradeNo, SubMchId, TransactionId};
use super::money::Money;

/// One authentic callback, decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notification {
    /// An order was paid, or an attempt to pay it failed.
    Payment(Payment),
}

/// The result of a payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payment {
    /// The merchant or institution whose key authenticated the callback.
    pub mch_id: MchId,
    /// The shop behind an institution.
    pub sub_mch_id: Option<SubMchId>,
    /// The merchant's or institution's app.
    pub app_id: Option<AppId>,
    /// The shop's own app, when the shop has one.
    pub sub_app_id: Option<AppId>,
    /// The merchant's number for the order; a failed payment may come without one.
    pub out_trade_no: Option<OutTradeNo>,
    /// Whether money moved.
    pub result: PaymentResult,
}

/// Whether money moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PaymentResult {
    /// The payer paid.
    Success(PaymentSuccess),
    /// The attempt failed; no money moved.
    NotSuccessful,
}

/// A payment that went through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaymentSuccess {
    /// WeChat Pay's number.
    pub transaction_id: TransactionId,
    /// The order's price as WeChat Pay charged it: `total_fee`, never `cash_fee`.
    pub total: Money,
    /// When the payer paid.
    pub paid_at: DateTime<Utc>,
}

impl Notification {
    /// The merchant or institution whose key authenticated the callback.
    #[must_use]
    pub fn mch_id(&self) -> &MchId {
        match self {
            Self::Payment(payment) => &payment.mch_id,
        }
    }

    /// The order it speaks of, when it names one.
    #[must_use]
    pub fn out_trade_no(&self) -> Option<&OutTradeNo> {
        match self {
            Self::Payment(payment) => payment.out_trade_no.as_ref(),
        }
    }

    /// WeChat Pay's number for the payment, when money moved.
    #[must_use]
    pub fn transaction_id(&self) -> Option<&TransactionId> {
        match self {
            Self::Payment(Payment { result: PaymentResult::Success(success), .. }) => Some(&success.transaction_id),
            Self::Payment(Payment { result: PaymentResult::NotSuccessful, .. }) => None,
        }
    }
}
