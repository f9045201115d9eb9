//! What an authentic callback says, decoded. Made only by `protocol`, from verified fields.

use chrono::{DateTime, Utc};

use super::ids::{AppId, MchId, OutRefundNo, OutTradeNo, RefundId, SubMchId, TransactionId};
use super::money::{Currency, Money};

/// One authentic callback, decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notification {
    /// An order was paid, or an attempt to pay it failed.
    Payment(Payment),
    /// A refund of an order succeeded or failed.
    Refund(ReportedRefund),
    /// Something about no order: a contract, profit sharing, an echo.
    Other(Other),
}

/// The result of a payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payment {
    /// The merchant or institution whose key authenticated the callback. For a sub-order of a combined order, the merchant of
    /// the sub-order.
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

/// A payment that succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaymentSuccess {
    /// WeChat Pay's number.
    pub transaction_id: TransactionId,
    /// The order's price as WeChat Pay charged it: `total_fee`, never `cash_fee`.
    pub total: Money,
    /// When the payer paid.
    pub paid_at: DateTime<Utc>,
}

/// The result of a refund.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportedRefund {
    /// The merchant or institution whose key authenticated the callback.
    pub mch_id: MchId,
    /// The shop behind an institution.
    pub sub_mch_id: Option<SubMchId>,
    /// The merchant's or institution's app; v3 names none.
    pub app_id: Option<AppId>,
    /// The shop's own app.
    pub sub_app_id: Option<AppId>,
    /// The merchant's number for the order.
    pub out_trade_no: OutTradeNo,
    /// WeChat Pay's number for the payment that is refunded.
    pub transaction_id: TransactionId,
    /// The merchant's number for the refund.
    pub out_refund_no: OutRefundNo,
    /// WeChat Pay's number for the refund.
    pub refund_id: RefundId,
    /// The amount of the payment, in the smallest unit of its currency.
    pub total_minor: i64,
    /// The refunded amount: above 0.
    pub amount_minor: i64,
    /// The currency of both; only global v3 names it.
    pub currency: Option<Currency>,
    /// Its result.
    pub result: RefundResult,
}

/// The result of a refund.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefundResult {
    /// The money arrived at this time.
    Succeeded(DateTime<Utc>),
    /// The payer's account cannot receive it.
    Abnormal,
    /// It will not happen.
    Closed,
}

/// An event about no order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Other {
    /// The merchant or institution whose key authenticated the callback.
    pub mch_id: MchId,
}

impl Notification {
    /// The merchant or institution that it is for.
    #[must_use]
    pub fn mch_id(&self) -> &MchId {
        match self {
            Self::Payment(payment) => &payment.mch_id,
            Self::Refund(refund) => &refund.mch_id,
            Self::Other(other) => &other.mch_id,
        }
    }

    /// The order's number, if it names one.
    #[must_use]
    pub fn out_trade_no(&self) -> Option<&OutTradeNo> {
        match self {
            Self::Payment(payment) => payment.out_trade_no.as_ref(),
            Self::Refund(refund) => Some(&refund.out_trade_no),
            Self::Other(_) => None,
        }
    }

    /// WeChat Pay's number for the payment, if money moved.
    #[must_use]
    pub fn transaction_id(&self) -> Option<&TransactionId> {
        match self {
            Self::Payment(Payment { result: PaymentResult::Success(success), .. }) => Some(&success.transaction_id),
            Self::Payment(Payment { result: PaymentResult::NotSuccessful, .. }) | Self::Other(_) => None,
            Self::Refund(refund) => Some(&refund.transaction_id),
        }
    }

    /// The merchant's number for the refund, if it is about one.
    #[must_use]
    pub fn out_refund_no(&self) -> Option<&OutRefundNo> {
        match self {
            Self::Refund(refund) => Some(&refund.out_refund_no),
            Self::Payment(_) | Self::Other(_) => None,
        }
    }

    /// The ledger's name for what it is about.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Payment(_) => "payment",
            Self::Refund(_) => "refund",
            Self::Other(_) => "other",
        }
    }
}
