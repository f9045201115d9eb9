//! A publishing lane: one task that alone owns one channel.
//!
//! Take what waits → publish all → await all confirms → gather the returned ids → only then answer. Two facts make the
//! answers exact. Tags and frames are made in one poll of this task, so tags have the order of the wire. A returned
//! message arrives before its own confirm, so once every confirm of a batch is here every return of it is, too, whichever
//! confirm lapin has pinned it on; and ids are unique within a batch, so each return names its message.

use std::collections::HashSet;
use std::sync::Arc;

use futures_util::future::join_all;
use lapin::options::BasicPublishOptions;
use lapin::types::ShortString;
use lapin::{Channel, Confirmation};
use metrics::Histogram;
use tokio::sync::{Mutex, mpsc, oneshot, watch};
use tokio::time::{Instant, timeout};

use super::{CONFIRM_TIMEOUT, Encoded, Job, LANE_WAIT_MAX, PublishError, State};

/// The most messages published together: under load they share the flushes of the broker's disk, and the first caller waits
/// a few milliseconds for the last.
pub(super) const PUBLISH_BATCH_MAX: usize = 256;

/// The queue of callers, shared by the lanes: an idle lane holds the lock while it waits.
pub(super) type Waiting = Arc<Mutex<mpsc::Receiver<Job>>>;

/// What a lane owns.
pub(super) struct Lane {
    pub(super) channel: Channel,
    pub(super) exchange: ShortString,
    pub(super) state: watch::Receiver<State>,
    pub(super) closing: watch::Receiver<bool>,
    pub(super) confirm_seconds: Histogram,
    pub(super) batch_size: Histogram,
}

/// Why a lane can no longer tell what happens on its channel. The connection is thrown away.
#[derive(Debug, thiserror::Error)]
pub(super) enum LaneError {
    #[error("the channel failed")]
    Channel(#[source] Box<lapin::Error>),
    #[error("no confirm within {CONFIRM_TIMEOUT:?}")]
    ConfirmTimeout,
    #[error("the channel is not in confirm mode")]
    NoConfirms,
    #[error("the broker returned a message that this batch does not have")]
    ForeignReturn,
}

/// What the broker said about a batch, message by message.
type Outcomes = Vec<lapin::Result<Confirmation>>;
type Caller = oneshot::Sender<Result<(), PublishError>>;

impl Lane {
    /// Works until the publisher closes, nobody can publish any more, or the channel cannot be trusted.
    pub(super) async fn run(mut self, waiting: Waiting) -> Result<(), LaneError> {
        loop {
            let mut jobs = Vec::with_capacity(PUBLISH_BATCH_MAX);
            tokio::select! {
                biased;
                _ = self.closing.wait_for(|closing| *closing) => return Ok(()),
                () = take(&waiting, &mut jobs) => {}
            }
            if jobs.is_empty() {
                return Ok(());
            }
            while !jobs.is_empty() {
                let batch = split_off_distinct(&mut jobs);
                self.publish(batch).await?;
            }
        }
    }

    /// One batch, start to end. `Err` means that its callers are answered and the channel is of no more use.
    async fn publish(&mut self, mut batch: Vec<Job>) -> Result<(), LaneError> {
        batch.retain(|job| !job.caller.is_closed());
        let batch = self.refuse_hopeless(batch);
        if batch.is_empty() {
            return Ok(());
        }
        #[expect(clippy::cast_precision_loss, clippy::as_conversions, reason = "a batch has at most 256 messages")]
        self.batch_size.record(batch.len() as f64);
        let ids: Vec<_> = batch.iter().map(|job| job.message.message_id.clone()).collect();
        let (messages, callers): (Vec<_>, Vec<_>) = batch.into_iter().map(|job| (job.message, job.caller)).unzip();

        let published_at = Instant::now();
        let channel = self.channel.clone();
        let mut confirms =
            std::pin::pin!(join_all(messages.into_iter().map(|message| self.confirm(&channel, message))));
        let Ok(outcomes) = timeout(CONFIRM_TIMEOUT, &mut confirms).await else {
            answer_all(callers, PublishError::Unknown);
            return outlast_blocking(self.state.clone(), confirms).await;
        };
        self.confirm_seconds.record(published_at.elapsed());
        match attribute(outcomes, &ids) {
            Ok(verdicts) => {
                for (caller, verdict) in callers.into_iter().zip(verdicts) {
                    let _gone = caller.send(verdict);
                }
                Ok(())
            }
            Err(error) => {
                answer_all(callers, PublishError::Unknown);
                Err(error)
            }
        }
    }

    /// The jobs worth publishing; the others are answered. Nothing is handed to a connection that is known to be blocked.
    fn refuse_hopeless(&self, batch: Vec<Job>) -> Vec<Job> {
        if *self.state.borrow() != State::Ready {
            for job in batch {
                job.answer(Err(PublishError::Down));
            }
            return Vec::new();
        }
        let (late, in_time): (Vec<_>, Vec<_>) = batch.into_iter().partition(|job| job.since.elapsed() > LANE_WAIT_MAX);
        for job in late {
            job.answer(Err(PublishError::Busy));
        }
        in_time
    }

    /// Publishes and waits for the broker's word. lapin takes the tag and queues the frames in the first poll.
    async fn confirm(&self, channel: &Channel, message: Encoded) -> lapin::Result<Confirmation> {
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let exchange = self.exchange.clone();
        channel.basic_publish(exchange, message.routing_key, options, &message.body, message.properties).await?.await
    }
}

/// Waits for one job and takes what else is there. Leaves `jobs` empty when there will never be one. Cancel-safe.
async fn take(waiting: &Waiting, jobs: &mut Vec<Job>) {
    waiting.lock().await.recv_many(jobs, PUBLISH_BATCH_MAX).await;
}

/// The longest beginning of `jobs` in which no message id stands twice: two would make a return ambiguous.
fn split_off_distinct(jobs: &mut Vec<Job>) -> Vec<Job> {
    let mut ids = HashSet::with_capacity(jobs.len());
    let end = jobs.iter().position(|job| !ids.insert(job.message.message_id.clone())).unwrap_or(jobs.len());
    let rest = jobs.split_off(end);
    std::mem::replace(jobs, rest)
}

/// Each message's own verdict, from all outcomes of its batch. An error leaves no verdict that could be trusted: a
/// return may be among what was lost, and the confirm it belongs to would read like one of a stored message.
fn attribute(outcomes: Outcomes, ids: &[ShortString]) -> Result<Vec<Result<(), PublishError>>, LaneError> {
    let mut returned = HashSet::new();
    let mut confirmed = Vec::with_capacity(ids.len());
    for outcome in outcomes {
        let (verdict, message) = match outcome {
            Ok(Confirmation::Ack(message)) => (Ok(()), message),
            Ok(Confirmation::Nack(message)) => (Err(PublishError::Refused), message),
            Ok(Confirmation::NotRequested) => return Err(LaneError::NoConfirms),
            Err(source) => return Err(LaneError::Channel(Box::new(source))),
        };
        confirmed.push(verdict);
        if let Some(message) = message {
            // Every message of ours has an id.
            let id = message.delivery.properties.message_id().clone().ok_or(LaneError::ForeignReturn)?;
            returned.insert(id);
        }
    }
    let verdicts: Vec<_> = ids
        .iter()
        .zip(confirmed)
        .map(|(id, verdict)| if returned.remove(id) { Err(PublishError::Unroutable) } else { verdict })
        .collect();
    if returned.is_empty() { Ok(verdicts) } else { Err(LaneError::ForeignReturn) }
}

fn answer_all(callers: Vec<Caller>, error: PublishError) {
    for caller in callers {
        let _gone = caller.send(Err(error));
    }
}

/// A batch has run out of time and its callers know. While the broker blocks publishers that is no fault of the channel:
/// its confirms are awaited (lapin would keep dropped ones for ever) until it has been unblocked for as long as a batch
/// may take. Then, or when nothing explains the silence, the channel is given up.
async fn outlast_blocking(
    mut state: watch::Receiver<State>,
    mut confirms: std::pin::Pin<&mut impl Future<Output = Outcomes>>,
) -> Result<(), LaneError> {
    while *state.borrow_and_update() == State::Blocked {
        let unblocked = async {
            drop(state.wait_for(|state| *state != State::Blocked).await);
            tokio::time::sleep(CONFIRM_TIMEOUT).await;
        };
        tokio::select! {
            outcomes = &mut confirms => {
                return match outcomes.into_iter().find_map(Result::err) {
                    Some(source) => Err(LaneError::Channel(Box::new(source))),
                    None => Ok(()),
                };
            }
            () = unblocked => {}
        }
    }
    Err(LaneError::ConfirmTimeout)
}
