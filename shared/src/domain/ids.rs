//! The numbers that the merchant and WeChat Pay give to things. Each has a type of its own, so that none is mistaken for
//! another.
//!
//! A value is 1 to [`ID_BYTES_MAX`] bytes without control characters; anything else is not an id.

use std::fmt;
use std::sync::Arc;

/// The longest id accepted, in bytes. WeChat Pay documents 32 for most and 64 for `out_refund_no`.
pub const ID_BYTES_MAX: usize = 64;

// Shared text: an id is copied from the notification to the order, the change and the event.
macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// `None` when `text` is empty, longer than [`ID_BYTES_MAX`] or holds a control character.
            #[must_use]
            pub fn parse(text: &str) -> Option<Self> {
                let fits = !text.is_empty() && text.len() <= ID_BYTES_MAX;
                (fits && !text.chars().any(char::is_control)).then(|| Self(text.into()))
            }

            /// The id as WeChat Pay and the merchant write it.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }
    };
}

id! {
    /// A merchant, or the institution (service provider) that acts for many.
    MchId
}
id! {
    /// The shop behind an institution; absent when the merchant deals with WeChat Pay directly.
    SubMchId
}
id! {
    /// The app through which the payer paid.
    AppId
}
id! {
    /// The merchant's number for the order, unique per [`MchId`].
    OutTradeNo
}
id! {
    /// WeChat Pay's number for the payment of an order.
    TransactionId
}
id! {
    /// The merchant's number for a refund, unique per order.
    OutRefundNo
}
id! {
    /// WeChat Pay's number for a refund: 29 digits in practice, whatever the documents say.
    RefundId
}
