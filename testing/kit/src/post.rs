//! A callback as a request to ingest, and what comes back.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Result;
use http_body_util::Full;
use hyper::Request;
use hyper::body::Bytes;
use shared::protocol::{CallbackKind, reply};
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use crate::http::Connection;
use crate::until::in_time;

/// A request that carries a callback.
#[derive(Debug, Clone)]
pub struct Post {
    /// What ingest should take it for.
    pub kind: CallbackKind,
    /// Where it goes.
    pub path: String,
    /// As WeChat Pay names it.
    pub content_type: &'static str,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Post {
    /// A request without further headers.
    #[must_use]
    pub fn new(kind: CallbackKind, path: &str, content_type: &'static str, body: Vec<u8>) -> Self {
        Self { kind, path: path.to_owned(), content_type, headers: Vec::new(), body }
    }
}

impl From<Vec<u8>> for Post {
    fn from(body: Vec<u8>) -> Self {
        Self::new(CallbackKind::V2Payment, "/wechatpay/v2/payment", "text/xml", body)
    }
}

/// What ingest answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    pub status: u16,
    /// XML or JSON.
    pub body: String,
}

impl Reply {
    /// Whether WeChat Pay would take it for SUCCESS and never send the callback again.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.status == 200 && [reply::V2_SUCCESS, reply::V3_SUCCESS].contains(&self.body.as_str())
    }
}

/// Posts one callback to ingest; bare bytes are a v2 payment.
pub async fn post(ingest: SocketAddr, callback: impl Into<Post>) -> Result<Reply> {
    send(Connection::open(ingest).await?, ingest, callback.into()).await
}

/// Posts all callbacks at the same instant, each over its own connection; one result for each, in their order.
pub async fn post_at_once(ingest: SocketAddr, callbacks: Vec<impl Into<Post>>) -> Vec<Result<Reply>> {
    let all_connected = Arc::new(Barrier::new(callbacks.len()));
    let mut posts = JoinSet::new();
    for (place, callback) in callbacks.into_iter().enumerate() {
        let callback = callback.into();
        let all_connected = Arc::clone(&all_connected);
        posts.spawn(async move {
            let connection = Connection::open(ingest).await;
            all_connected.wait().await;
            let reply = async { send(connection?, ingest, callback).await };
            (place, reply.await)
        });
    }
    let mut replies = posts.join_all().await;
    replies.sort_by_key(|(place, _)| *place);
    replies.into_iter().map(|(_, reply)| reply).collect()
}

async fn send(mut connection: Connection, ingest: SocketAddr, callback: Post) -> Result<Reply> {
    let mut request = Request::post(callback.path)
        .header("host", ingest.to_string())
        .header("content-type", callback.content_type)
        .header("user-agent", "Mozilla/4.0");
    for (name, value) in callback.headers {
        request = request.header(name, value);
    }
    let request = request.body(Full::new(Bytes::from(callback.body)))?;
    let response = in_time("ingest has answered", async { Ok(connection.send(request).await?) }).await?;
    Ok(Reply { status: response.status.as_u16(), body: String::from_utf8(response.body.to_vec())? })
}
