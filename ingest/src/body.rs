//! The bytes of a callback coming in, and the text of a failure going out, which has to close the connection.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use actix_web::body::{BodySize, MessageBody};
use actix_web::http::header::CONTENT_LENGTH;
use actix_web::web::{self, Bytes};
use futures_util::StreamExt;
use shared::protocol::BODY_BYTES_MAX;

use crate::outcome::Outcome;
use crate::reading::Room;
use crate::request::Request;

/// The room reserved for a body before its first byte. A callback has 1 to 3 KiB.
pub(crate) const BODY_BYTES_USUAL: usize = 4 * 1024;

/// The body, as long as it stays within [`BODY_BYTES_MAX`], however it is framed, and as long as there is room.
pub(crate) async fn read_body(
    request: Request<'_>,
    payload: &mut web::Payload,
    room: &mut Room<'_>,
) -> Result<Vec<u8>, Outcome> {
    let announced = request.header(CONTENT_LENGTH.as_str()).and_then(|length| length.parse::<usize>().ok());
    if announced.is_some_and(|length| length > BODY_BYTES_MAX) {
        return Err(Outcome::TooLarge);
    }
    let mut body = Vec::with_capacity(announced.unwrap_or(BODY_BYTES_USUAL).min(BODY_BYTES_USUAL));
    while let Some(chunk) = payload.next().await {
        // The client hung up before the end, so this reply is never read.
        let chunk = chunk.map_err(|_| Outcome::Malformed)?;
        let length = body.len().saturating_add(chunk.len());
        if length > BODY_BYTES_MAX {
            return Err(Outcome::TooLarge);
        }
        if !room.grow_to(length) {
            return Err(Outcome::Overloaded);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// A failure's text, together with the unread rest of the request. As long as the rest is alive, actix closes the connection
/// after the reply. If it were dropped, actix would read on to the end of a chunked body, which may never come.
pub(crate) struct FailureBody {
    text: Bytes,
    _unread: web::Payload,
}

impl FailureBody {
    pub(crate) fn new(text: String, unread: web::Payload) -> Self {
        Self { text: text.into(), _unread: unread }
    }
}

impl MessageBody for FailureBody {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        self.text.size()
    }

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, Infallible>>> {
        let text = std::mem::take(&mut self.text);
        Poll::Ready((!text.is_empty()).then_some(Ok(text)))
    }
}
