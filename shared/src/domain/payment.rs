//! Payments as facts: one record per payment that WeChat Pay reported for one of our orders, whether or not it paid the order.

use chrono::{DateTime, Utc};

use super::ids::{MchId, TransactionId};
use super::money::Money;

/// A payment as the database holds it, read under the lock of its order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaymentRecord {
    /// The order that it was reported for.
    pub order_id: i64,
    /// The merchant whose payment it is.
    pub mch_id: MchId,
    /// WeChat Pay's number, unique per merchant.
    pub transaction_id: TransactionId,
    /// What the payer paid: `total_fee`, never `cash_fee`.
    pub amount: Money,
    /// When the payer paid.
    pub paid_at: DateTime<Utc>,
    /// Whether it paid the order.
    pub disposition: Disposition,
    /// The total of its refunds that succeeded.
    pub returned_minor: i64,
}

/// Whether a payment paid its order. Accepted and returned are final; only an operator can have a refused payment decided
/// again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    /// It paid the order.
    Accepted,
    /// The order refused it: it is owed back.
    Refused,
    /// It was refused, and all of it has been returned.
    Returned,
}

impl Disposition {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Accepted, Self::Refused, Self::Returned];

    /// The name under which it is stored.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Refused => "refused",
            Self::Returned => "returned",
        }
    }

    /// `None` for a name that no payment has.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|disposition| disposition.name() == name)
    }
}

impl PaymentRecord {
    /// The payment after another `amount_minor` of it was returned.
    #[must_use]
    pub fn after_return_of(&self, amount_minor: i64) -> Self {
        let returned_minor = self.returned_minor.saturating_add(amount_minor);
        let is_all = returned_minor == self.amount.amount_minor;
        let disposition = match self.disposition {
            Disposition::Refused if is_all => Disposition::Returned,
            other => other,
        };
        Self { disposition, returned_minor, ..self.clone() }
    }
}
