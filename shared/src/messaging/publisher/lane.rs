//! A publishing lane: one task that alone owns one channel.
//!
//! Take the waiting messages → publish all → await all confirms → collect the returned ids → only then answer. Two facts
//! make the answers exact. First, tags and frames are made in one poll of this task, so tags are in the order of the wire.
//! Second, a returned message arrives before its own confirm: once every confirm of a batch is here, so is every return,
//! whichever confirm lapin has attached it to. Ids are unique within a batch, so each return identifies its message.

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

/// The most messages published together: under load they share the broker's disk flushes, at the cost of a few milliseconds
/// that the first caller waits for the last.
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

/// Why a lane can no longer know what happens on its channel. The connection is dropped.
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

/// What the broker said about one message. An ack alone does not mean that it was routed.
#[derive(Debug, Clone, Copy)]
enum Confirm {
    Ack,
    Nack,
}

/// What the broker said about a batch, message by message.
type Outcomes = Vec<lapin::Result<Confirmation>>;
type Caller = oneshot::Sender<Result<(), PublishError>>;

impl Lane {
    /// Works until the publisher closes, its last handle is dropped, or the channel cannot be trusted.
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
                let batch = split_off_distinct(&mut jobs, |job| &job.message.message_id);
                self.publish(batch).await?;
            }
        }
    }

    /// One batch, start to end. On `Err` its callers are answered, but the channel can no longer be used.
    async fn publish(&mut self, mut batch: Vec<Job>) -> Result<(), LaneError> {
        batch.retain(|job| !job.caller.is_closed());
        let batch = self.reject_hopeless(batch);
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
        match confirms_and_returns(outcomes).and_then(|(confirms, returned)| attribute(&ids, &confirms, returned)) {
            Ok(outcomes) => {
                for (caller, outcome) in callers.into_iter().zip(outcomes) {
                    let _gone = caller.send(outcome);
                }
                Ok(())
            }
            Err(error) => {
                answer_all(callers, PublishError::Unknown);
                Err(error)
            }
        }
    }

    /// The jobs worth publishing; the others are answered. Nothing is sent on a connection that is known to be blocked.
    fn reject_hopeless(&self, batch: Vec<Job>) -> Vec<Job> {
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

    /// Publishes and waits for the confirm. lapin takes the tag and queues the frames in the first poll.
    async fn confirm(&self, channel: &Channel, message: Encoded) -> lapin::Result<Confirmation> {
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let exchange = self.exchange.clone();
        channel.basic_publish(exchange, message.routing_key, options, &message.body, message.properties).await?.await
    }
}

/// Waits for one job and takes all others that are waiting. Leaves `jobs` empty when the queue is closed. Cancel-safe.
async fn take(waiting: &Waiting, jobs: &mut Vec<Job>) {
    waiting.lock().await.recv_many(jobs, PUBLISH_BATCH_MAX).await;
}

/// Takes the longest prefix of `jobs` without a duplicate id: a duplicate would make a return ambiguous.
fn split_off_distinct<T>(jobs: &mut Vec<T>, id: impl Fn(&T) -> &ShortString) -> Vec<T> {
    let mut ids = HashSet::with_capacity(jobs.len());
    let end = jobs.iter().position(|job| !ids.insert(id(job).clone())).unwrap_or(jobs.len());
    let rest = jobs.split_off(end);
    std::mem::replace(jobs, rest)
}

/// Splits a batch's outcomes into its confirms and the ids that were returned, whichever confirm lapin attached them to. One
/// error spoils the batch: a return may have been lost with it, and the confirm of that message would look like success.
fn confirms_and_returns(outcomes: Outcomes) -> Result<(Vec<Confirm>, HashSet<ShortString>), LaneError> {
    let mut returned = HashSet::new();
    let mut confirms = Vec::with_capacity(outcomes.len());
    for outcome in outcomes {
        let (confirm, message) = match outcome {
            Ok(Confirmation::Ack(message)) => (Confirm::Ack, message),
            Ok(Confirmation::Nack(message)) => (Confirm::Nack, message),
            Ok(Confirmation::NotRequested) => return Err(LaneError::NoConfirms),
            Err(source) => return Err(LaneError::Channel(Box::new(source))),
        };
        confirms.push(confirm);
        if let Some(message) = message {
            // Every message of ours has an id.
            let id = message.delivery.properties.message_id().clone().ok_or(LaneError::ForeignReturn)?;
            returned.insert(id);
        }
    }
    Ok((confirms, returned))
}

/// Each message's own outcome, in the order of `ids`, from the confirms of its batch and the ids that were returned.
fn attribute(
    ids: &[ShortString],
    confirms: &[Confirm],
    mut returned: HashSet<ShortString>,
) -> Result<Vec<Result<(), PublishError>>, LaneError> {
    let outcome = |(id, confirm): (&ShortString, &Confirm)| match confirm {
        _ if returned.remove(id) => Err(PublishError::Unroutable),
        Confirm::Ack => Ok(()),
        Confirm::Nack => Err(PublishError::Refused),
    };
    let outcomes = ids.iter().zip(confirms).map(outcome).collect();
    if returned.is_empty() { Ok(outcomes) } else { Err(LaneError::ForeignReturn) }
}

fn answer_all(callers: Vec<Caller>, error: PublishError) {
    for caller in callers {
        let _gone = caller.send(Err(error));
    }
}

/// Decides what becomes of the channel after a batch has timed out; its callers are already answered.
///
/// - While the broker blocks publishers, the channel is not at fault. The confirms are awaited, because lapin would keep
///   dropped ones for ever.
/// - Once the broker is unblocked, the confirms have as long to come as those of any batch.
/// - After that, or if the broker was never blocked, the channel is given up.
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

#[cfg(test)]
mod tests {
    use super::*;

    type Outcome = Result<(), PublishError>;

    const STORED: Outcome = Ok(());
    const REFUSED: Outcome = Err(PublishError::Refused);
    const UNROUTABLE: Outcome = Err(PublishError::Unroutable);

    fn ids(names: &[&str]) -> Vec<ShortString> {
        names.iter().map(|name| ShortString::from(*name)).collect()
    }

    #[test]
    fn each_message_gets_its_own_outcome_whichever_confirm_a_return_came_with() {
        use Confirm::{Ack, Nack};
        let ids_of_batch = ids(&["a", "b", "c"]);
        let table: [([Confirm; 3], &[&str], [Outcome; 3]); 6] = [
            ([Ack, Ack, Ack], &[], [STORED, STORED, STORED]),
            ([Ack, Nack, Ack], &[], [STORED, REFUSED, STORED]),
            ([Ack, Ack, Ack], &["b"], [STORED, UNROUTABLE, STORED]),
            ([Ack, Ack, Ack], &["c", "a"], [UNROUTABLE, STORED, UNROUTABLE]),
            ([Nack, Ack, Ack], &["a"], [UNROUTABLE, STORED, STORED]),
            ([Nack, Nack, Nack], &["a", "b", "c"], [UNROUTABLE, UNROUTABLE, UNROUTABLE]),
        ];
        for (confirms, returned, expected) in table {
            let outcomes = attribute(&ids_of_batch, &confirms, ids(returned).into_iter().collect()).unwrap();
            assert_eq!(outcomes, expected, "{confirms:?}, returned: {returned:?}");
        }
    }

    #[test]
    fn a_return_that_no_message_of_the_batch_has_spoils_the_batch() {
        let returned = ids(&["a", "of another batch"]).into_iter().collect();
        let outcome = attribute(&ids(&["a", "b"]), &[Confirm::Ack, Confirm::Ack], returned);
        assert!(matches!(outcome, Err(LaneError::ForeignReturn)), "{outcome:?}");
    }

    #[test]
    fn one_error_among_many_confirms_spoils_the_batch() {
        let broken = || lapin::Error::from(std::io::Error::from(std::io::ErrorKind::BrokenPipe));
        let outcome =
            confirms_and_returns(vec![Ok(Confirmation::Ack(None)), Err(broken()), Ok(Confirmation::Ack(None))]);
        assert!(matches!(outcome, Err(LaneError::Channel(_))), "{outcome:?}");
        let outcome = confirms_and_returns(vec![Ok(Confirmation::Ack(None)), Ok(Confirmation::NotRequested)]);
        assert!(matches!(outcome, Err(LaneError::NoConfirms)), "{outcome:?}");
        let (confirms, returned) =
            confirms_and_returns(vec![Ok(Confirmation::Ack(None)), Ok(Confirmation::Nack(None))]).unwrap();
        assert!(matches!(confirms.as_slice(), [Confirm::Ack, Confirm::Nack]) && returned.is_empty());
    }

    #[test]
    fn a_batch_ends_before_the_first_duplicate_id() {
        let table: [(&[&str], &[&str], &[&str]); 5] = [
            (&[], &[], &[]),
            (&["a"], &["a"], &[]),
            (&["a", "b", "c"], &["a", "b", "c"], &[]),
            (&["a", "b", "a", "c"], &["a", "b"], &["a", "c"]),
            (&["a", "a"], &["a"], &["a"]),
        ];
        for (jobs, batch, rest) in table {
            let mut left = ids(jobs);
            assert_eq!(split_off_distinct(&mut left, |id| id), ids(batch), "{jobs:?}");
            assert_eq!(left, ids(rest), "{jobs:?}");
        }
    }
}
