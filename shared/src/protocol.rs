//! Bytes from WeChat Pay to authentic notifications. Pure functions, the same for all programs; no I/O.
//!
//! Reading order: [`keys`] (who proves a callback), [`v2`] (XML callbacks), [`v3`] (JSON callbacks), `combined` (several
//! orders in one callback), [`glance`] and [`reveal`] (what an operator sees of a callback that could not be decided),
//! [`reply`] (what WeChat Pay gets back). Unproved content is [`Unverified`]; only a key of the merchant makes it
//! [`Authentic`], and only authentic content becomes a [`Notification`](crate::domain::notification::Notification).

pub use self::error::{DecodeError, Part};
pub use self::kind::CallbackKind;
pub use self::limits::{BODY_BYTES_MAX, SINGLE_BODY_BYTES_MAX, SUB_ORDERS_MAX};
pub use self::trust::{Authentic, Unverified};
pub use self::v2::AuthenticateError;

mod combined;
mod error;
pub mod glance;
mod json;
pub mod keys;
mod kind;
mod limits;
pub mod reply;
pub mod reveal;
mod trade_state;
mod trust;
pub mod v2;
pub mod v3;
