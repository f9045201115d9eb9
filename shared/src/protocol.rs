//! Bytes from WeChat Pay to authentic notifications. Pure functions; one path for both binaries.
//!
//! Reading order: [`merchants`] (whose keys), [`v2`] (XML callbacks), [`reply`] (what WeChat Pay gets back).
//! What has not been verified is [`Unverified`]; only verification opens it, and nothing but verified fields becomes a
//! [`crate::domain::notification::Notification`].

pub mod merchants;
pub mod reply;
pub mod v2;

/// The largest callback accepted, in bytes. WeChat Pay's own stay far below (1 to 3 KiB, 8 KiB with promotions).
pub const BODY_BYTES_MAX: usize = 64 * 1024;

/// Something that anybody may have sent.
#[derive(Debug)]
pub struct Unverified<T>(T);

/// Why a callback was not taken for WeChat Pay's. Each asks something else of the caller.
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
    /// It is for a known merchant, but not authentic.
    #[error("not authentic: {0}")]
    NotAuthentic(#[from] v2::signature::VerifyError),
}
