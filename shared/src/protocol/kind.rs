//! The kinds of callbacks, each of which has an address of its own.

/// What a callback is, and so how it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CallbackKind {
    /// API v2, XML: an order was paid, or an attempt failed.
    V2Payment,
    /// API v2, XML with a sealed part: the result of a refund.
    V2Refund,
    /// API v3, JSON: payments, refunds and everything else; only the opened resource says which.
    V3,
}

impl CallbackKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::V2Payment, Self::V2Refund, Self::V3];

    /// The AMQP `type`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::V2Payment => "wechatpay.v2.payment",
            Self::V2Refund => "wechatpay.v2.refund",
            Self::V3 => "wechatpay.v3",
        }
    }

    /// `None` for a type that this version does not know.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}
