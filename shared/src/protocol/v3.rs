//! API v3: a JSON envelope, signed in the HTTP headers with WeChat Pay's RSA key, its resource sealed under the
//! merchant's APIv3 key.
//!
//! Reading order: [`headers`] (what ingest verifies), [`resource`] (what the worker opens), [`notification`] and `combined`
//! (an opened resource → notifications).

mod combined;
pub mod headers;
pub mod notification;
pub mod resource;
