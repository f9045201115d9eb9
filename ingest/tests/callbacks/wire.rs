//! A client that says what it likes, at the pace it likes.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

/// An HTTP answer as it came over the wire.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
    pub took: Duration,
}

/// A connection on which anything can be said.
pub struct Wire {
    pub stream: TcpStream,
    pub since: Instant,
}

impl Wire {
    pub async fn open(ingest: SocketAddr) -> Result<Self> {
        Ok(Self { stream: TcpStream::connect(ingest).await?, since: Instant::now() })
    }

    pub async fn say(&mut self, bytes: impl AsRef<[u8]>) -> Result<()> {
        self.since = Instant::now();
        Ok(self.stream.write_all(bytes.as_ref()).await?)
    }

    pub async fn say_head(&mut self, headers: &str) -> Result<()> {
        self.say(format!("POST /wechatpay/v2/payment HTTP/1.1\r\nHost: ingest\r\n{headers}\r\n")).await
    }

    pub async fn answer(&mut self) -> Result<Answer> {
        timeout(Duration::from_secs(10), self.read()).await.context("no answer")?
    }

    async fn read(&mut self) -> Result<Answer> {
        let mut read = Vec::new();
        let head_end = loop {
            ensure!(self.stream.read_buf(&mut read).await? > 0, "hung up after {:?}", String::from_utf8_lossy(&read));
            if let Some(end) = read.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
        };
        let head = String::from_utf8(read.drain(..head_end).collect())?.to_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.unwrap_or("0").trim().parse()?;
        while read.len() < length {
            ensure!(self.stream.read_buf(&mut read).await? > 0, "hung up in the body");
        }
        let status = head.split(' ').nth(1).context("no status")?.parse()?;
        Ok(Answer { status, head, body: String::from_utf8(read)?, took: self.since.elapsed() })
    }

    pub async fn is_hung_up(&mut self) -> Result<bool> {
        let end = timeout(Duration::from_secs(5), self.stream.read(&mut [0; 1])).await;
        // A reset counts: the other side has closed with our bytes unread.
        Ok(matches!(end.context("still open")?, Ok(0) | Err(_)))
    }
}
