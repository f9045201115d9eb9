//! The meaning of `trade_state`, the same in both APIs: whether money moved. A payment that was refunded later stays paid.

/// Whether the payer paid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TradeState {
    /// Money moved.
    Paid,
    /// It did not, or not yet.
    NotPaid,
}

impl TradeState {
    /// `None` for a state that WeChat Pay does not document: then it is unknown whether money moved.
    pub(super) fn parse(text: &str) -> Option<Self> {
        match text {
            "SUCCESS" | "REFUND" => Some(Self::Paid),
            // The last two belong to deductions under a contract.
            "NOTPAY" | "CLOSED" | "REVOKED" | "USERPAYING" | "PAYERROR" | "ACCEPT" | "PAY_FAIL" => Some(Self::NotPaid),
            _ => None,
        }
    }
}
