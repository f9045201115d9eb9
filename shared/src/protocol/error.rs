//! Why an authentic callback could not be decoded.

use super::limits::SUB_ORDERS_MAX;
use crate::domain::notification::Notification;

/// One order's share of a callback: a combined callback has one for each sub-order, in the order of its list, and any other
/// callback has one. A sub-order that cannot be decoded does not affect the others.
pub type Part = Result<Notification, DecodeError>;

/// Why an authentic callback is not a notification that this version understands. `0` is the field's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A required field is absent or empty.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// A field's value does not have the documented form.
    #[error("{0} is malformed")]
    Malformed(&'static str),
    /// It is sealed with one merchant's key and names a different merchant.
    #[error("it names a different merchant from the one whose key authenticated it")]
    OtherMerchant,
    /// It is WeChat Pay's, of a kind that this version does not know: money may have moved.
    #[error("a kind of callback that this version does not know")]
    UnknownKind,
    /// It says both that the payer paid and that the payment failed.
    #[error("{0} contradicts the rest")]
    Contradiction(&'static str),
    /// It has the fields of a combined order and those of a single one.
    #[error("it has the numbers of a combined order and of a single one")]
    CombinedAndSingle,
    /// More sub-orders than WeChat Pay combines.
    #[error("over {SUB_ORDERS_MAX} sub-orders")]
    TooManySubOrders,
    /// Two sub-orders of one combined order are the same order or the same payment.
    #[error("two sub-orders have the same {0}")]
    RepeatedSubOrder(&'static str),
    /// The merchants file does not let the merchant that authenticated a combined order combine this sub-order's.
    #[error("the sub-order's merchant is not in `combines` of the merchant whose key authenticated the callback")]
    MerchantNotCombined,
}
