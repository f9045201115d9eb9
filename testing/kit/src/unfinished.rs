//! Clients that never finish what they begin: half a request's head on a connection that was used before, and a body that
//! comes a few bytes at a time.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

/// Between two pieces of a slow body.
const PIECE_EVERY: Duration = Duration::from_millis(500);
/// How long the answer to the first, whole request may take.
const ANSWER_PATIENCE: Duration = Duration::from_secs(10);
/// The end of a response's head.
const HEAD_END: &[u8] = b"\r\n\r\n";

/// One such client.
pub struct Unfinished(TcpStream);

impl Unfinished {
    /// Sends one whole request, reads its answer, and then half of the next one's head.
    pub async fn half_a_head(server: SocketAddr) -> Result<Self> {
        let mut stream = TcpStream::connect(server).await?;
        stream.set_nodelay(true)?;
        let whole = format!("GET / HTTP/1.1\r\nhost: {server}\r\n\r\n");
        stream.write_all(whole.as_bytes()).await?;
        timeout(ANSWER_PATIENCE, read_answer(&mut stream)).await.context("the first request was not answered")??;
        let half = format!("POST /wechatpay/v2/payment HTTP/1.1\r\nhost: {server}\r\nx-padding: {}", "x".repeat(200));
        stream.write_all(half.as_bytes()).await?;
        Ok(Self(stream))
    }

    /// Sends a whole head, and of the body that it announces only the beginning.
    pub async fn slow_body(server: SocketAddr) -> Result<Self> {
        let mut stream = TcpStream::connect(server).await?;
        stream.set_nodelay(true)?;
        let head = "POST /wechatpay/v2/payment HTTP/1.1\r\n";
        let head = format!("{head}host: {server}\r\ncontent-type: text/xml\r\ncontent-length: 2000\r\n\r\n<xml>");
        stream.write_all(head.as_bytes()).await?;
        Ok(Self(stream))
    }

    /// How long until the server answers or closes, while a few more bytes come now and then if `goes_on`; `None` when it
    /// has done neither within `patience`.
    pub async fn until_ended(mut self, patience: Duration, goes_on: bool) -> Option<Duration> {
        let began = Instant::now();
        let mut answer = [0_u8; 64];
        while began.elapsed() < patience {
            // An answer, the end and a reset are all the same to a server that wants its connection back.
            if timeout(PIECE_EVERY, self.0.read(&mut answer)).await.is_ok() {
                return Some(began.elapsed());
            }
            // Refused when the server has closed, which the next look sees.
            let _ = if goes_on { self.0.write_all(b"x").await } else { Ok(()) };
        }
        None
    }
}

/// Reads one response with a `content-length`, or none and no body.
async fn read_answer(stream: &mut TcpStream) -> Result<()> {
    let mut seen = Vec::new();
    let mut buffer = [0_u8; 1024];
    loop {
        let read = stream.read(&mut buffer).await?;
        ensure!(read > 0, "the server closed the connection");
        seen.extend_from_slice(buffer.get(..read).unwrap_or_default());
        let Some(end) = seen.windows(HEAD_END.len()).position(|window| window == HEAD_END) else { continue };
        let head = String::from_utf8_lossy(seen.get(..end).unwrap_or_default()).to_lowercase();
        ensure!(!head.contains("connection: close"), "the server does not keep the connection");
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.trim().parse::<usize>().ok());
        let whole = end.saturating_add(HEAD_END.len()).saturating_add(length.unwrap_or(0));
        if seen.len() >= whole {
            return Ok(());
        }
    }
}
