//! The supervisor: one task that owns the connection, starts its lanes, and replaces it when anything on it breaks.
//!
//! A connection is never repaired: everything in flight is told that its outcome is unknown, the connection is thrown
//! away, and the next of the URLs is tried after a growing, jittered pause. While there is none, callers are refused at
//! once. There is one attempt at a time, because lapin keeps a thread for each that was given up.

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
/// A connection that held this long was a good one: the next attempt comes soon.
const STABLE_AFTER: Duration = Duration::from_secs(10);

/// Why a connection is no more.
#[derive(Debug, thiserror::Error)]
enum SessionError {
    #[error("the connection failed")]
    Connection(#[source] lapin::Error),
    #[error("the connection is gone")]
    Gone,
    #[error("a publishing lane gave up")]
    Lane(#[from] LaneError),
    #[error("a publishing lane died")]
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
    while supervisor.wanted() {
        supervisor.session(attempt).await;
        attempt = attempt.wrapping_add(1);
    }
    supervisor.enter(State::Closed);
    supervisor.refuse_for_good().await;
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
        self.enter(State::Connecting);
        let Some(opened) = self.while_refusing(open(&self.options, attempt)).await else { return };
        match opened {
            Ok((connection, channels)) => {
                let since = Instant::now();
                self.publish_on(&connection, channels).await;
                if since.elapsed() > STABLE_AFTER {
                    self.backoff.reset();
                }
                self.refuse_what_waits_now();
                connection::close(&connection).await;
            }
            Err(error) => {
                tracing::warn!(error = chain(&error), "no connection to the broker, trying again");
            }
        }
        let pause = self.backoff.pause();
        self.while_refusing(tokio::time::sleep(pause)).await;
    }

    /// Publishes until the connection can no longer be trusted. On return every caller has been answered.
    async fn publish_on(&self, connection: &Connection, channels: Vec<Channel>) {
        let events = connection.events_listener();
        if !connection.status().connected() {
            // It broke before there was anybody to hear of it.
            return;
        }
        let mut lanes = JoinSet::new();
        for channel in channels {
            lanes.spawn(self.lane(channel).run(self.waiting.clone()));
        }
        self.enter(State::Ready);
        tracing::info!(exchange = self.options.exchange, "publishing");
        if let Err(error) = self.watch(events, &mut lanes).await {
            self.report(&error);
        }
        // A lane that is stopped drops its callers, and they read that as "unknown".
        self.enter(State::Connecting);
        lanes.shutdown().await;
    }

    /// Follows the broker's word on the connection until a lane fails, or all have ended because they are not needed.
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
                        tracing::warn!(reason, "the broker blocks publishers");
                        self.enter(State::Blocked);
                        self.refuse_what_waits_now();
                    }
                    Some(Event::ConnectionUnblocked) => {
                        tracing::info!("the broker takes messages again");
                        self.enter(State::Ready);
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

    /// One line for the operator; a missing exchange or permission is named together with the file that has it.
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
                "exchange {exchange} is missing or may not be written: import {DEFINITIONS_FILE} into the broker"
            );
        } else {
            tracing::warn!(error, "the connection to the broker is lost; what was in flight was not confirmed");
        }
    }

    fn enter(&self, state: State) {
        self.state.send_replace(state);
        metrics::gauge!("publisher_ready").set(if state == State::Ready { 1.0 } else { 0.0 });
    }

    /// Whether anybody can still publish.
    fn wanted(&self) -> bool {
        !*self.closing.borrow() && self.closing.has_changed().is_ok()
    }

    /// Drives `work` and refuses every caller meanwhile; `None` when the publisher is closed first.
    async fn while_refusing<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut closing = self.closing.clone();
        let refuse = async {
            let mut waiting = self.waiting.lock().await;
            while let Some(job) = waiting.recv().await {
                job.answer(Err(PublishError::Down));
            }
        };
        tokio::select! {
            done = work => Some(done),
            _closed_or_last_handle_gone = closing.wait_for(|closing| *closing) => None,
            // Nobody can publish any more: the line above is ready, too.
            () = refuse => None,
        }
    }

    /// Refuses whoever waits, unless an idle lane holds the queue: then the lane refuses them itself.
    fn refuse_what_waits_now(&self) {
        if let Ok(mut waiting) = self.waiting.try_lock() {
            while let Ok(job) = waiting.try_recv() {
                job.answer(Err(PublishError::Down));
            }
        }
    }

    /// The end: whoever waits is refused, and nobody can wait any more.
    async fn refuse_for_good(&self) {
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
