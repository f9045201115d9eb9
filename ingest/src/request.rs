//! What a callback's request says besides its body. All of it is unverified.

use actix_web::HttpRequest;
use actix_web::http::header::HeaderMap;
use shared::protocol::CallbackKind;

/// The parts of a request that authentication and refusals look at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Request<'request> {
    /// The kind of callback that the path is for.
    pub(crate) kind: CallbackKind,
    /// v3: the merchant that the path names. Empty in v2, where the body names it.
    pub(crate) path_mch_id: &'request str,
    pub(crate) headers: &'request HeaderMap,
}

impl<'request> Request<'request> {
    pub(crate) fn new(kind: CallbackKind, request: &'request HttpRequest) -> Self {
        let path_mch_id = request.match_info().get("mch_id").unwrap_or_default();
        Self { kind, path_mch_id, headers: request.headers() }
    }

    /// The value of a header that occurs exactly once.
    pub(crate) fn header(&self, name: &str) -> Option<&'request str> {
        let mut values = self.headers.get_all(name);
        match (values.next(), values.next()) {
            (Some(value), None) => value.to_str().ok(),
            _ => None,
        }
    }
}
