//! The keys that authenticate callbacks, and whose they are. Nothing here reads a file: see [`crate::merchants_file`].
//!
//! Reading order: `id` (how one key is told from another without showing it), `secret` (a merchant's own keys), `platform`
//! (WeChat Pay's public keys), `sign_type` (the digests of v2), `ring` (all of it, by merchant).

pub use self::id::{KeyId, Purpose};
pub use self::platform::{PlatformKey, PlatformKeyError, SERIAL_BYTES_MAX};
pub use self::ring::{KeyRing, Merchant};
pub use self::secret::{Key, KeyError};
pub use self::sign_type::SignType;

mod id;
mod platform;
mod ring;
mod secret;
mod sign_type;
