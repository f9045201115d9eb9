//! What `trade_state` says, the same in both APIs: whether money moved. A refund that follows leaves a payment paid.

/// Whether the payer paid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TradeState {
    /// Money moved.
    Paid,
    /// It did not, or not yet.
    NotPaid,
}

impl TradeState {
    /// `None` for a state that no document of WeChat Pay's has: then nobody knows whether money moved.
    pub(super) fn parse(text: &str) -> Option<Self> {
        match text {
            "SUCCESS" | "REFUND" => Some(Self::Paid),
            // The last two are those of a deduction under a contract.
            "NOTPAY" | "CLOSED" | "REVOKED" | "USERPAYING" | "PAYERROR" | "ACCEPT" | "PAY_FAIL" => Some(Self::NotPaid),
            _ => None,
        }
    }
}
