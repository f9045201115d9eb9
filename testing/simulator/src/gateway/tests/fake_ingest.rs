//! A listener that answers each request, numbered in the order of arrival, as a test tells it to.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::gateway::Target;
use shared::protocol::reply;

/// What a request gets.
#[derive(Debug)]
pub(super) enum Reply {
    /// An answer; the connection is kept.
    Answer {
        status: u16,
        body: String,
    },
    /// SUCCESS, and then an unannounced end of the connection.
    OkThenHangup,
    Hangup,
}

impl Reply {
    pub(super) fn ok(body: &str) -> Self {
        Self::Answer { status: 200, body: body.to_owned() }
    }

    pub(super) fn status(status: u16) -> Self {
        Self::Answer { status, body: reply::v2_failure("told to") }
    }
}

pub(super) struct FakeIngest {
    address: String,
    bodies: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl FakeIngest {
    pub(super) async fn start<F, R>(answer: F) -> Self
    where
        F: Fn(usize, Vec<u8>) -> R + Send + Sync + 'static,
        R: Future<Output = Reply> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let bodies = Arc::new(Mutex::new(Vec::new()));
        let (answer, arrived) = (Arc::new(answer), bodies.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, arrived.clone(), answer.clone()));
            }
        });
        Self { address, bodies }
    }

    pub(super) fn target(&self) -> Target {
        Target::parse(&format!("http://{}", self.address)).unwrap()
    }

    /// An address that nobody listens on.
    pub(super) async fn target_of_nobody(&self) -> Target {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Target::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap()
    }

    /// Everything that arrived, in order.
    pub(super) fn bodies(&self) -> Vec<Vec<u8>> {
        self.bodies.lock().unwrap().clone()
    }
}

async fn serve<F, R>(stream: TcpStream, bodies: Arc<Mutex<Vec<Vec<u8>>>>, answer: Arc<F>)
where
    F: Fn(usize, Vec<u8>) -> R,
    R: Future<Output = Reply>,
{
    let mut stream = BufReader::new(stream);
    while let Some(body) = read_request(&mut stream).await {
        let number = {
            let mut bodies = bodies.lock().unwrap();
            bodies.push(body.clone());
            bodies.len() - 1
        };
        let (status, text, hangs_up) = match answer(number, body).await {
            Reply::Answer { status, body } => (status, body, false),
            Reply::OkThenHangup => (200, reply::V2_SUCCESS.to_owned(), true),
            Reply::Hangup => return,
        };
        let head = format!("HTTP/1.1 {status} Told\r\ncontent-length: {}\r\n\r\n", text.len());
        if stream.write_all([head, text].concat().as_bytes()).await.is_err() || hangs_up {
            return;
        }
    }
}

/// The body of the next request; `None` when the other side has hung up.
async fn read_request(stream: &mut BufReader<TcpStream>) -> Option<Vec<u8>> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line == "\r\n" {
            let mut body = vec![0; length];
            stream.read_exact(&mut body).await.ok()?;
            return Some(body);
        }
    }
}
