//! The edge: WeChat Pay's requests, ingest, and the broker's taking in of messages.

use crate::mutation::Mutation;
use crate::protocol::{Next, Protocol};
use crate::state::{Message, MessageId, Request, State};
use crate::step::Step;

impl Protocol {
    /// What can happen at the edge.
    pub fn edge_steps(&self, state: &State, next: &mut Next) {
        for (callback, _) in (0..).zip(self.scenario.callbacks) {
            send(state, callback, next);
        }
        for (message, sent) in (0..).zip(state.messages.iter()) {
            self.request_steps(state, message, sent, next);
        }
        if state.messages.iter().any(|message| message.request.is_open()) {
            next.fault(state, Step::IngestBreaks, break_ingest);
        }
        for (message, queued) in (0..).zip(state.queue) {
            if state.copies_left > 0 && queued.fresh > 0 {
                next.step(state, Step::Copy(message), |state| {
                    state.copies_left -= 1;
                    state.queue[usize::from(message)].fresh += 1;
                });
            }
        }
    }

    fn request_steps(&self, state: &State, message: MessageId, sent: Message, next: &mut Next) {
        let at = usize::from(message);
        let callback = usize::from(sent.callback);
        match sent.request {
            Request::Received => {
                next.step(state, Step::Publish(message), |state| set_request(state, at, Request::OnTheWire));
            }
            Request::OnTheWire => {
                next.step(state, Step::Store(message), |state| store(state, at, Request::Stored));
            }
            Request::Stored => {
                next.step(state, Step::Confirm(message), |state| set_request(state, at, Request::Confirmed));
            }
            Request::Confirmed => {
                next.step(state, Step::ReplySuccess(message), |state| {
                    set_request(state, at, Request::Over);
                    state.told[callback] = true;
                });
                next.fault(state, Step::ReplyLost(message), |state| set_request(state, at, Request::Over));
            }
            Request::Abandoned => {
                next.step(state, Step::StoreLate(message), |state| store(state, at, Request::Over));
                next.step(state, Step::LoseOnTheWire(message), |state| set_request(state, at, Request::Over));
            }
            Request::Over => {}
        }
        let is_early = matches!(sent.request, Request::OnTheWire | Request::Stored) && !state.told[callback];
        if self.mutation == Mutation::ReplyBeforeConfirm && is_early {
            next.step(state, Step::ReplyEarly(message), |state| state.told[callback] = true);
        }
    }
}

/// WeChat Pay sends a callback until it is answered SUCCESS or tired of it, one request at a time.
fn send(state: &State, callback: u8, next: &mut Next) {
    let own = || state.messages.iter().filter(|message| message.callback == callback);
    let is_again = own().count() > 0;
    let is_silent = state.told[usize::from(callback)] || own().any(|message| message.request.is_open());
    if is_silent || (is_again && state.retries_left == 0) {
        return;
    }
    let message = u8::try_from(state.messages.len()).unwrap_or(u8::MAX);
    next.step(state, Step::Send { callback, message }, |state| {
        state.retries_left -= u8::from(is_again);
        state.messages.push(Message { callback, request: Request::Received, was_stored: false });
    });
}

fn set_request(state: &mut State, message: usize, request: Request) {
    if let Some(message) = state.messages.get_mut(message) {
        message.request = request;
    }
}

fn store(state: &mut State, message: usize, request: Request) {
    state.queue[message].fresh += 1;
    if let Some(message) = state.messages.get_mut(message) {
        message.was_stored = true;
    }
    set_request(state, message, request);
}

/// Whatever is open fails: by a reply that says so, or by none. What is on the wire may still arrive.
fn break_ingest(state: &mut State) {
    for message in state.messages.iter_mut() {
        message.request = match message.request {
            Request::OnTheWire | Request::Abandoned => Request::Abandoned,
            Request::Received | Request::Stored | Request::Confirmed | Request::Over => Request::Over,
        };
    }
}
