//! The supervisor: one task that owns the connection, starts its lanes, and replaces it when anything on it breaks.
//!
//! A connection is never repaired: every message in flight gets the outcome "unknown", the connection is dropped, and the
//! next URL is tried after a growing, jittered pause. Without a connection, callers are rejected at once. Only one attempt
//! runs at a time, because lapin keeps a thread for each abandoned one.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use lapin::options::ConfirmSelectOptions;
use lapin::types::ShortString;
use lapin::{Channel, Connection, Event};
use tokio::sync::{Mutex, mpsc, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;

use super::lane::{Lane, LaneError, Waiting};
use super::{Job, PublishError, PublisherOptions, State};
use crate::messaging::connection::{self, ConnectError};
use crate::messaging::topology::DEFINITIONS_FILE;
use crate::process::backoff::Backoff;
use crate::process::telemetry::chain;

/// The first pause before a new attempt, and the longest.
const BACKOFF_FIRST: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// A connection that lasted this long was a good one: the backoff starts over.
const STABLE_AFTER: Duration = Duration::from_secs(10);

/// Why a connection is given up.
#[derive(Debug, thiserror::Error)]
enum SessionError {
    #[error("the connection failed")]
    Connection(#[source] lapin::Error),
    #[error("the connection is closed")]
    Gone,
    #[error("a publishing lane gave up")]
    Lane(#[from] LaneError),
    #[error("a publishing lane panicked")]
    Died(#[from] JoinError),
}

/// Runs until the publisher is closed or its last handle is dropped.
pub(super) async fn supervise(
    options: PublisherOptions,
    waiting: mpsc::Receiver<Job>,
    state: watch::Sender<State>,
    closing: watch::Receiver<bool>,
) {
    let waiting: Waiting = Arc::new(Mutex::new(waiting));
    let backoff = Backoff::new(BACKOFF_FIRST, BACKOFF_MAX);
    let mut supervisor = Supervisor { options, waiting, state, closing, backoff };
    let mut attempt: usize = 0;
    while supervisor.should_run() {
        supervisor.session(attempt).await;
        attempt = attempt.wrapping_add(1);
    }
    supervisor.set_state(State::Closed);
    supervisor.reject_until_closed().await;
}

struct Supervisor {
    options: PublisherOptions,
    waiting: Waiting,
    state: watch::Sender<State>,
    closing: watch::Receiver<bool>,
    backoff: Backoff,
}

impl Supervisor {
    /// One connection, from the attempt to the pause after its end.
    async fn session(&mut self, attempt: usize) {
        self.set_state(State::Connecting);
        let Some(opened) = self.reject_while(open(&self.options, attempt)).await else { return };
        match opened {
            Ok((connection, channels)) => {
                let since = Instant::now();
                self.publish_on(&connection, channels).await;
                if since.elapsed() > STABLE_AFTER {
                    self.backoff.reset();
                }
                self.reject_waiting();
                connection::close(&connection).await;
            }
            Err(error) => {
                tracing::warn!(error = chain(&error), "cannot connect to the broker; trying again");
            }
        }
        let pause = self.backoff.pause();
        self.reject_while(tokio::time::sleep(pause)).await;
    }

    /// Publishes until the connection can no longer be trusted. On return every caller has been answered.
    async fn publish_on(&self, connection: &Connection, channels: Vec<Channel>) {
        let events = connection.events_listener();
        if !connection.status().connected() {
            // It broke before anyone was listening for its events.
            return;
        }
        let mut lanes = JoinSet::new();
        for channel in channels {
            lanes.spawn(self.lane(channel).run(self.waiting.clone()));
        }
        self.set_state(State::Ready);
        tracing::info!(exchange = self.options.exchange, "publishing");
        if let Err(error) = self.watch(events, &mut lanes).await {
            self.report(&error);
        }
        // A stopped lane drops its callers, which take that as "unknown".
        self.set_state(State::Connecting);
        lanes.shutdown().await;
    }

    /// Follows the connection's events until it or a lane fails, or until all lanes have ended because the publisher closes.
    async fn watch(
        &self,
        events: impl Stream<Item = Event>,
        lanes: &mut JoinSet<Result<(), LaneError>>,
    ) -> Result<(), SessionError> {
        let mut events = pin!(events);
        loop {
            tokio::select! {
                event = events.next() => match event {
                    Some(Event::ConnectionBlocked(reason)) => {
                        tracing::warn!(reason, "the broker is blocking publishers");
                        self.set_state(State::Blocked);
                        self.reject_waiting();
                    }
                    Some(Event::ConnectionUnblocked) => {
                        tracing::info!("the broker accepts messages again");
                        self.set_state(State::Ready);
                    }
                    Some(Event::Error(error)) => return Err(SessionError::Connection(error)),
                    Some(_) => {}
                    None => return Err(SessionError::Gone),
                },
                ended = lanes.join_next() => match ended {
                    Some(ended) => ended??,
                    None => return Ok(()),
                },
            }
        }
    }

    fn lane(&self, channel: Channel) -> Lane {
        Lane {
            channel,
            exchange: ShortString::from(self.options.exchange),
            state: self.state.subscribe(),
            closing: self.closing.clone(),
            confirm_seconds: metrics::histogram!("publish_confirm_seconds"),
            batch_size: metrics::histogram!("publish_batch_size"),
        }
    }

    /// One line for the operator; for a missing exchange or permission it names the file that defines them.
    fn report(&self, error: &SessionError) {
        let source = match error {
            SessionError::Lane(LaneError::Channel(source)) => Some(source.as_ref()),
            SessionError::Connection(source) => Some(source),
            SessionError::Gone | SessionError::Lane(_) | SessionError::Died(_) => None,
        };
        let error = chain(error);
        if source.is_some_and(connection::is_missing_or_forbidden) {
            let exchange = self.options.exchange;
            tracing::error!(
                error,
                "exchange {exchange} is missing or this user may not write to it: import {DEFINITIONS_FILE} into the broker"
            );
        } else {
            tracing::warn!(error, "lost the connection to the broker; messages in flight were not confirmed");
        }
    }

    fn set_state(&self, state: State) {
        self.state.send_replace(state);
        metrics::gauge!("publisher_ready").set(if state == State::Ready { 1.0 } else { 0.0 });
    }

    /// Whether a caller can still publish.
    fn should_run(&self) -> bool {
        !*self.closing.borrow() && self.closing.has_changed().is_ok()
    }

    /// Runs `work` and rejects every caller in the meantime; `None` if the publisher is closed first.
    async fn reject_while<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut closing = self.closing.clone();
        let reject = async {
            let mut waiting = self.waiting.lock().await;
            while let Some(job) = waiting.recv().await {
                job.answer(Err(PublishError::Down));
            }
        };
        tokio::select! {
            done = work => Some(done),
            _closed_or_last_handle_gone = closing.wait_for(|closing| *closing) => None,
            // The last handle is gone: the branch above is ready, too.
            () = reject => None,
        }
    }

    /// Rejects the callers that wait, unless an idle lane holds the queue: then the lane rejects them itself.
    fn reject_waiting(&self) {
        if let Ok(mut waiting) = self.waiting.try_lock() {
            while let Ok(job) = waiting.try_recv() {
                job.answer(Err(PublishError::Down));
            }
        }
    }

    /// Rejects the callers that still wait, and accepts no more.
    async fn reject_until_closed(&self) {
        let mut waiting = self.waiting.lock().await;
        waiting.close();
        while let Some(job) = waiting.recv().await {
            job.answer(Err(PublishError::Down));
        }
    }
}

/// A connection with a channel in confirm mode for every lane.
async fn open(options: &PublisherOptions, attempt: usize) -> Result<(Connection, Vec<Channel>), ConnectError> {
    let lanes = options.lanes.max(1);
    let prepare = async |connection: &Connection| {
        let mut channels = Vec::with_capacity(lanes);
        for _ in 0..lanes {
            let channel = connection.create_channel().await?;
            channel.confirm_select(ConfirmSelectOptions::default()).await?;
            channels.push(channel);
        }
        Ok(channels)
    };
    let (connection, channels) = connection::open(&options.urls, attempt, options.connection_name, prepare).await?;
    if channels.iter().all(|channel| channel.status().confirm()) {
        return Ok((connection, channels));
    }
    connection::close(&connection).await;
    Err(ConnectError::NoConfirms { host: options.urls.hosts() })
}
