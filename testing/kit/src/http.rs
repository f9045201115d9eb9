//! An HTTP client over one keep-alive connection, which can also be held open before its first request is sent.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, ToSocketAddrs};

#[derive(Debug, Clone)]
pub struct Response {
    pub status: StatusCode,
    pub body: Bytes,
}

/// Why there is no whole response.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The connection had ended before the request was written, so it can be sent again without being sent twice.
    #[error("the connection had ended before the request was sent")]
    Unsent(Box<Request<Full<Bytes>>>),
    /// The server may have received the request.
    #[error("the connection ended before the whole response had arrived")]
    Lost(#[source] hyper::Error),
}

/// A connection that is ready for a request.
#[derive(Debug)]
pub struct Connection(SendRequest<Full<Bytes>>);

impl Connection {
    pub async fn open(address: impl ToSocketAddrs + std::fmt::Debug) -> Result<Self> {
        let stream = TcpStream::connect(&address).await.with_context(|| format!("connecting to {address:?}"))?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        // Ends by itself when the sender is dropped or the server closes the connection; the sender reports either.
        tokio::spawn(connection);
        Ok(Self(sender))
    }

    /// Sends the request and reads the whole response. After an error, and after this future was dropped, the connection
    /// must not be used again.
    ///
    /// # Errors
    /// [`SendError`].
    pub async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Response, SendError> {
        if self.0.ready().await.is_err() {
            return Err(SendError::Unsent(Box::new(request)));
        }
        let response = self.0.try_send_request(request).await.map_err(|mut error| match error.take_message() {
            Some(unsent) => SendError::Unsent(Box::new(unsent)),
            None => SendError::Lost(error.into_error()),
        })?;
        let status = response.status();
        let body = response.into_body().collect().await.map_err(SendError::Lost)?.to_bytes();
        Ok(Response { status, body })
    }
}

/// A GET over a connection of its own.
pub async fn get(address: SocketAddr, path: &str) -> Result<Response> {
    let request = Request::get(path).header("host", address.to_string()).body(Full::default())?;
    Ok(Connection::open(address).await?.send(request).await?)
}
