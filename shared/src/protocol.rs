//! Bytes from WeChat Pay to authentic notifications. Pure functions; one path for both binaries.
//!
//! Reading order: [`merchants`] (whose keys), [`v2`] (XML callbacks), [`v3`] (JSON callbacks), [`reply`] (what WeChat Pay
//! gets back). What has not been verified is [`Unverified`]; only a key of the merchant's makes it [`Authentic`], and nothing
//! else becomes a [`crate::domain::notification::Notification`].

use self::merchants::key::KeyId;

pub mod merchants;
pub mod reply;
pub mod v2;
pub mod v3;

/// The largest callback accepted, in bytes. WeChat Pay's own stay far below (1 to 3 KiB, 8 KiB with promotions).
pub const BODY_BYTES_MAX: usize = 64 * 1024;

/// Something that anybody may have sent.
#[derive(Debug)]
pub struct Unverified<T>(T);

/// Something that a key has proved to be WeChat Pay's.
#[derive(Debug)]
#[non_exhaustive]
pub struct Authentic<'ring, T> {
    /// What was proved.
    pub content: T,
    /// By which key.
    pub key: &'ring KeyId,
}

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
    /// Several orders paid at once, which this version does not take apart.
    #[error("a combined payment (sub_orders) has to be booked by hand")]
    CombinedOrder,
}
