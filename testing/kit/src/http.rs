//! A small HTTP client: one connection per request, and time to hold it open before the request is sent.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// What came back.
#[derive(Debug, Clone)]
pub struct Response {
    /// The status.
    pub status: StatusCode,
    /// All of the body.
    pub body: Bytes,
}

/// A connection that waits for its request.
pub struct Connection(SendRequest<Full<Bytes>>);

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// Nobody is there.
    pub async fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await.with_context(|| format!("connecting to {address}"))?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self(sender))
    }

    /// Sends the request and reads the whole reply.
    ///
    /// # Errors
    /// There is none, or only a part of one.
    pub async fn send(mut self, request: Request<Full<Bytes>>) -> Result<Response> {
        let response = self.0.send_request(request).await.context("no reply")?;
        let status = response.status();
        let body = response.into_body().collect().await.context("the reply broke off")?.to_bytes();
        Ok(Response { status, body })
    }
}

/// A GET over a connection of its own.
///
/// # Errors
/// There is no whole reply.
pub async fn get(address: SocketAddr, path: &str) -> Result<Response> {
    let request = Request::get(path).header("host", address.to_string()).body(Full::default())?;
    Connection::open(address).await?.send(request).await
}
