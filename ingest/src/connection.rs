//! A connection on which every request head has a deadline.
//!
//! actix-http 3.20 arms its head timer for the first request of a connection only, and one byte after that ends its
//! keep-alive timer: half of a second head would hold the connection for ever. Therefore the socket itself counts bytes. It
//! knows where a head ends and, once actix has read it, how long the body is: the bytes after that begin the next head. A
//! connection whose bytes cannot be counted (pipelined requests) has [`HEAD_TIMEOUT`] for each next head, starting with the
//! reply; a connection with a chunked body is closed after its reply.
//!
//! Nor does actix-http limit how much a client sends ahead: 128 KiB of pipelined requests become thousands of requests of
//! several KiB each, which stay in memory until the client reads the replies. Here at most [`AHEAD_BYTES`] are read ahead,
//! and nothing while a reply cannot be written; [`REPLY_TIMEOUT`] ends that state.
//!
//! The bytes pass through unchanged. A mistake in counting costs a connection, never a callback.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use actix_web::dev::RequestHead;
use actix_web::http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};

/// How long a client may take over a request's head, from its first byte.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(4);
/// How long a client may leave replies unread once the socket's buffer is full.
const REPLY_TIMEOUT: Duration = Duration::from_secs(4);

/// How much is read at a time beyond a body of known length: more than the head of any callback.
const AHEAD_BYTES: usize = 8 * 1024;

/// An accepted socket.
pub(crate) struct Connection {
    stream: TcpStream,
    heads: Rc<Heads>,
    /// The time since which a reply cannot be written.
    blocked: Option<Instant>,
    /// Whether a read by actix was held back, so that actix has to be woken.
    owes_a_read: bool,
    /// Bytes read since actix last flushed.
    read_in_turn: usize,
    timer: Option<Pin<Box<Sleep>>>,
}

/// The progress of a connection's requests. The socket reports bytes, the service reports requests.
#[derive(Debug, Default)]
pub(crate) struct Heads {
    place: Cell<Place>,
    scan: Cell<Scan>,
    /// The body length of the request being answered; `None` when it is unknown.
    body_bytes: Cell<Option<usize>>,
    lost_count: Cell<bool>,
}

#[derive(Debug, Clone, Copy, Default)]
enum Place {
    /// No request yet: actix's own timer runs.
    #[default]
    First,
    /// Between requests: actix's keep-alive timer runs.
    Idle,
    /// The next head has begun.
    Head(Instant),
    /// A request is being answered; its body has a deadline of its own.
    Request,
}

/// Finds the end of a head: the first empty line after the empty ones before it.
#[derive(Debug, Clone, Copy, Default)]
struct Scan {
    has_begun: bool,
    is_empty_line: bool,
    has_ended: bool,
    /// Bytes after the head.
    beyond: usize,
}

impl Scan {
    fn feed(&mut self, bytes: &[u8]) {
        let mut bytes = bytes.iter();
        while !self.has_ended {
            match bytes.next() {
                None => return,
                Some(b'\n') => {
                    self.has_ended = self.has_begun && self.is_empty_line;
                    self.is_empty_line = true;
                }
                Some(b'\r') => {}
                Some(_) => (self.has_begun, self.is_empty_line) = (true, false),
            }
        }
        self.beyond = self.beyond.saturating_add(bytes.len());
    }
}

impl Heads {
    fn received(&self, bytes: &[u8]) {
        let mut scan = self.scan.get();
        scan.feed(bytes);
        self.scan.set(scan);
        if matches!(self.place.get(), Place::Idle) && !bytes.is_empty() {
            self.place.set(Place::Head(Instant::now()));
        }
    }

    /// A head is complete.
    pub(crate) fn begin(&self, head: &RequestHead) {
        self.place.set(Place::Request);
        let length = head.headers().get(CONTENT_LENGTH);
        self.body_bytes.set(match length {
            None => Some(0).filter(|_| !is_chunked(head)),
            Some(length) => length.to_str().ok().and_then(|length| length.parse().ok()),
        });
    }

    /// The reply is ready.
    pub(crate) fn end(&self) {
        let scan = self.scan.take();
        let is_counted = scan.has_ended && Some(scan.beyond) == self.body_bytes.get();
        if !is_counted {
            self.lost_count.set(true);
        }
        self.place.set(if self.lost_count.get() { Place::Head(Instant::now()) } else { Place::Idle });
    }

    /// How much may be read while a request of known length is being answered: the rest of it, and a little ahead.
    fn allowance(&self) -> Option<usize> {
        match (self.place.get(), self.body_bytes.get()) {
            (Place::Request, Some(body)) => {
                Some(body.saturating_add(AHEAD_BYTES).saturating_sub(self.scan.get().beyond))
            }
            _ => None,
        }
    }

    fn deadline(&self) -> Option<Instant> {
        match self.place.get() {
            Place::Head(since) => since.checked_add(HEAD_TIMEOUT),
            Place::First | Place::Idle | Place::Request => None,
        }
    }
}

/// Whether only the body itself says where it ends.
pub(crate) fn is_chunked(head: &RequestHead) -> bool {
    head.headers().contains_key(TRANSFER_ENCODING)
}

impl Connection {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self { stream, heads: Rc::default(), blocked: None, owes_a_read: false, read_in_turn: 0, timer: None }
    }

    pub(crate) fn heads(&self) -> Rc<Heads> {
        Rc::clone(&self.heads)
    }

    fn deadline(&self) -> Option<Instant> {
        let unread = self.blocked.and_then(|since| since.checked_add(REPLY_TIMEOUT));
        self.heads.deadline().into_iter().chain(unread).min()
    }

    /// Arranges for the task to be woken at the deadline. Called when actix has read all available bytes: most heads are
    /// complete by then.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let Some(deadline) = self.deadline() else { return Ok(()) };
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if timer.deadline() != deadline {
            timer.as_mut().reset(deadline);
        }
        if timer.as_mut().poll(cx).is_ready() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(()) }
    }
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.deadline().is_some_and(|deadline| deadline <= Instant::now()) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let allowance = this.heads.allowance();
        if this.blocked.is_some() || allowance == Some(0) {
            this.owes_a_read = true;
            return Poll::Pending;
        }
        let bytes = allowance.unwrap_or_else(|| AHEAD_BYTES.saturating_sub(this.read_in_turn)).min(buffer.remaining());
        if bytes == 0 {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let mut part = ReadBuf::new(buffer.initialize_unfilled_to(bytes));
        ready!(Pin::new(&mut this.stream).poll_read(cx, &mut part))?;
        let read = part.filled().len();
        this.heads.received(part.filled());
        this.read_in_turn = this.read_in_turn.saturating_add(read);
        buffer.advance(read);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(cx, bytes);
        if written.is_pending() {
            this.blocked.get_or_insert_with(Instant::now);
            this.poll_deadline(cx)?;
        } else {
            this.blocked = None;
        }
        written
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.poll_deadline(cx)?;
        this.read_in_turn = 0;
        if this.owes_a_read && this.heads.allowance() != Some(0) {
            this.owes_a_read = false;
            cx.waker().wake_by_ref();
        }
        Pin::new(&mut this.stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes after the head, wherever the input is cut in two; `None` while the head is incomplete.
    #[track_caller]
    fn assert_beyond(bytes: &str, expected: Option<usize>) {
        for cut in 0..=bytes.len() {
            let mut scan = Scan::default();
            let (first, second) = bytes.as_bytes().split_at(cut);
            scan.feed(first);
            scan.feed(second);
            assert_eq!(scan.has_ended.then_some(scan.beyond), expected, "{bytes:?} cut at {cut}");
        }
    }

    #[test]
    fn a_head_ends_at_its_first_empty_line() {
        assert_beyond("GET / HTTP/1.1\r\nHost: i\r\n\r\n", Some(0));
        assert_beyond("\r\n\r\n\nGET / HTTP/1.1\r\nHost: i\r\n\r\n", Some(0));
        assert_beyond("POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\n\r\n\r\n", Some(4));
        assert_beyond("GET / HTTP/1.1\nHost: i\n\nGET", Some(3));
        assert_beyond("GET / HTTP/1.1\r\nHost: i\r\n", None);
        assert_beyond("\r\n\r\n\r\n", None);
    }
}
