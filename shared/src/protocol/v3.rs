//! API v3: a JSON envelope, signed in the HTTP headers with WeChat Pay's RSA key, its resource sealed under the
//! merchant's APIv3 key.
//!
//! Reading order: [`platform_key`] (WeChat Pay's public keys), [`headers`] (what ingest verifies), [`resource`] (what the
//! worker opens), [`notification`] (an opened resource → notification).

mod combined;
pub mod headers;
pub mod notification;
pub mod platform_key;
pub mod resource;
