//! Bytes from WeChat Pay to authentic notifications. Pure functions; one path for both binaries.
//!
//! Reading order: [`merchants`] (whose keys), [`v2`] (XML callbacks), [`v3`] (JSON callbacks), [`combined`] (several orders in
//! one callback), [`glance`] and [`reveal`] (what an operator sees of what could not be decided), [`reply`] (what WeChat Pay
//! gets back). What has not been verified is [`Unverified`]; only a key of the merchant's makes it [`Authentic`], and nothing
//! else becomes a [`crate::domain::notification::Notification`].

use self::combined::SUB_ORDERS_MAX;
use self::merchants::Merchant;
use self::merchants::key::KeyId;
use crate::domain::notification::Notification;

pub mod combined;
pub mod glance;
mod json;
pub mod merchants;
pub mod reply;
pub mod reveal;
mod trade_state;
pub mod v2;
pub mod v3;

/// The largest callback accepted, in bytes: one of a combined order, which may have 50 sub-orders.
pub const BODY_BYTES_MAX: usize = 64 * 1024;
/// The largest callback about one payment or refund, in bytes. WeChat Pay's own stay far below (1 to 3 KiB, 8 KiB with
/// promotions).
pub const SINGLE_BODY_BYTES_MAX: usize = 16 * 1024;

/// Something that anybody may have sent.
#[derive(Debug)]
pub struct Unverified<T>(T);

/// Something that a key has proved to be WeChat Pay's.
#[derive(Debug)]
#[non_exhaustive]
pub struct Authentic<'ring, T> {
    /// What was proved.
    pub content: T,
    /// Whose key did: the merchant, the institution, or the one that combined the orders.
    pub merchant: &'ring Merchant,
    /// By which key.
    pub key: &'ring KeyId,
}

/// One order's share of a callback: a combined callback has one for each sub-order, in the order of its list, and any
/// other has one. A sub-order that cannot be understood costs itself.
pub type Part = Result<Notification, DecodeError>;

/// Why a v2 callback was not taken for WeChat Pay's. Each asks something else of the caller.
#[derive(Debug, thiserror::Error)]
pub enum AuthenticateError {
    /// It does not have the shape of a callback.
    #[error("malformed: {0}")]
    Malformed(#[from] v2::xml::XmlError),
    /// It names no merchant, so that no key can be chosen.
    #[error("names no mch_id")]
    NoMerchant,
    /// It names a merchant that the ring does not have.
    #[error("merchant {0} is not in the merchants file")]
    UnknownMerchant(String),
    /// A payment for a known merchant, not signed by it.
    #[error("not authentic: {0}")]
    NotSigned(#[from] v2::signature::VerifyError),
    /// A refund for a known merchant, not encrypted by it.
    #[error("not authentic: {0}")]
    NotOpened(#[from] v2::refund::OpenError),
}

/// Why an authentic callback is not a notification that this version understands. `0` is the field's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A field that such a notification has is absent or empty.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// A field's value has not the documented form.
    #[error("{0} is malformed")]
    Malformed(&'static str),
    /// It is sealed with one merchant's key and speaks of another merchant.
    #[error("it is about another merchant than the one whose key opened it")]
    OtherMerchant,
    /// It is WeChat Pay's, and of no kind that this version knows: money may have moved.
    #[error("a kind of callback that this version does not know")]
    UnknownKind,
    /// It says both that the payer paid and that the payment failed.
    #[error("{0} contradicts the rest")]
    Contradiction(&'static str),
    /// It is of a combined order and of a single one at once.
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
