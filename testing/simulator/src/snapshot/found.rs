//! The rows that the audit reads, as they are in the database.

use chrono::{DateTime, Utc};
use uuid::Uuid;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundOrder {
    pub id: i64,
    pub mch_id: String,
    pub sub_mch_id: Option<String>,
    pub app_id: Option<String>,
    pub out_trade_no: String,
    pub amount_minor: i64,
    pub currency: String,
    /// As in `paid`.
    pub state: String,
    pub transaction_id: Option<String>,
    pub paid_at: Option<DateTime<Utc>>,
    /// Sum of the refunds.
    pub refunded_minor: i64,
    pub version: i32,
}

/// A row of `payments`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundPayment {
    pub order_id: i64,
    pub mch_id: String,
    pub transaction_id: String,
    pub amount_minor: i64,
    pub currency: String,
    pub paid_at: DateTime<Utc>,
    /// As in `accepted`.
    pub disposition: String,
    /// Sum of its refunds.
    pub returned_minor: i64,
    /// The ledger's row that brought it, and its part.
    pub brought_by: Option<(Uuid, i16)>,
}

/// A row of `refunds`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundRefund {
    pub order_id: i64,
    pub out_refund_no: String,
    pub refund_id: Option<String>,
    /// The payment that it refunds, once something was reported.
    pub transaction_id: Option<String>,
    pub amount_minor: i64,
    /// As in `succeeded`.
    pub state: String,
    /// When the money arrived.
    pub succeeded_at: Option<DateTime<Utc>>,
}

/// A row of `notifications`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundNotification {
    pub id: Uuid,
    pub part: i16,
    /// Of the stored bytes, computed by the database; the first part has them.
    pub body_sha256: Option<[u8; 32]>,
    /// As in `payment`.
    pub kind: String,
    pub mch_id: Option<String>,
    pub sub_mch_id: Option<String>,
    pub out_trade_no: Option<String>,
    pub transaction_id: Option<String>,
    pub out_refund_no: Option<String>,
    /// The key that proved it.
    pub key_fingerprint: Option<String>,
    /// As in `applied`.
    pub outcome: String,
    /// As in `for_order`.
    pub reason: Option<String>,
    /// The order that was decided on.
    pub seen: Option<Seen>,
    /// The event that it caused.
    pub caused: Option<Caused>,
}

/// An order as a decision found it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub version: i32,
    /// As in `paid`.
    pub state: String,
    pub amount_minor: i64,
    pub currency: String,
}

/// The event that a ledger row says it caused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caused {
    pub id: String,
    /// As in `order.paid`.
    pub kind: String,
    /// The order's version after the change.
    pub version: i32,
    /// Of a refused payment, as in `paid_twice`: what the decision said that caused the event.
    pub reason: Option<String>,
}

/// A row of `quarantine`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundQuarantine {
    /// The ledger's row.
    pub notification_id: Uuid,
    pub notification_part: i16,
    /// The order that it names.
    pub out_trade_no: Option<String>,
    /// As in `amount_mismatch`.
    pub reason: String,
    /// As in `open`.
    pub state: String,
    /// Who resolved it: an operator, or `sweeper`.
    pub resolved_by: Option<String>,
    pub resolution: Option<String>,
}
