//! Everything that can happen, with the sentence that tells it in a trace.

use std::fmt;

use crate::state::MessageId;

/// One step. Numbers are of callbacks, messages, lanes and events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the sentences below say what each of them is")]
pub enum Step {
    Send { callback: u8, message: MessageId },
    Publish(MessageId),
    Store(MessageId),
    Confirm(MessageId),
    ReplySuccess(MessageId),
    ReplyEarly(MessageId),
    ReplyLost(MessageId),
    IngestBreaks,
    StoreLate(MessageId),
    LoseOnTheWire(MessageId),
    Copy(MessageId),
    CommitOrder,
    CloseOrder,
    Deliver { lane: usize, message: MessageId },
    Take(usize),
    LookUp(usize),
    Lock(usize),
    LockTimesOut(usize),
    Write(usize),
    LedgerDiffers(usize),
    VersionDiffers(usize),
    Commit(usize),
    WriteEvents(usize),
    Ack(usize),
    AckStale(usize),
    WorkerCrashes(usize),
    WorkerIsCutOff(usize),
    BatchFails(usize),
    GoOn(usize),
    TransactionBreaks(usize),
    CommitUnanswered(usize),
    SweepLock,
    SweepWrite,
    SweepCommit,
    SweepBreaks,
    Expire,
    RelayRead,
    RelayPublish(u8),
    RelayUnconfirmed(u8),
    RelayLost(u8),
    RelayDelete,
    RelayBreaks,
}

impl Step {
    /// Whether it is a fault: it may happen, and nobody may count on it.
    #[must_use]
    pub fn is_fault(self) -> bool {
        matches!(
            self,
            Self::ReplyLost(_)
                | Self::IngestBreaks
                | Self::Copy(_)
                | Self::LockTimesOut(_)
                | Self::WorkerCrashes(_)
                | Self::WorkerIsCutOff(_)
                | Self::BatchFails(_)
                | Self::TransactionBreaks(_)
                | Self::CommitUnanswered(_)
                | Self::SweepBreaks
                | Self::RelayUnconfirmed(_)
                | Self::RelayLost(_)
                | Self::RelayBreaks
        )
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Send { callback, message } => {
                write!(f, "WeChat Pay sends callback {callback}; ingest makes message {message} of it")
            }
            Self::Publish(message) => write!(f, "ingest publishes message {message}"),
            Self::Store(message) => write!(f, "the broker stores message {message}"),
            Self::Confirm(message) => write!(f, "ingest gets the confirm of message {message}"),
            Self::ReplySuccess(message) => write!(f, "ingest says SUCCESS for message {message}"),
            Self::ReplyEarly(message) => write!(f, "ingest says SUCCESS for message {message}, unconfirmed"),
            Self::ReplyLost(message) => write!(f, "ingest says SUCCESS for message {message}, and nobody hears it"),
            Self::IngestBreaks => write!(f, "ingest crashes, or is cut off from the broker"),
            Self::StoreLate(message) => write!(f, "the broker stores message {message}, and nobody waits for it"),
            Self::LoseOnTheWire(message) => write!(f, "message {message} is lost on the wire"),
            Self::Copy(message) => write!(f, "somebody copies message {message} in the broker"),
            Self::CloseOrder => write!(f, "the shop gives the order up"),
            Self::CommitOrder => write!(f, "the shop commits the order"),
            Self::Deliver { lane, message } => write!(f, "the broker delivers message {message} to worker {lane}"),
            Self::Take(lane) => write!(f, "worker {lane} takes what it was delivered as a batch"),
            Self::LookUp(lane) => write!(f, "worker {lane} looks up in the ledger what may have been handled"),
            Self::Lock(lane) => write!(f, "worker {lane} begins, locks the order if there is one, and reads"),
            Self::LockTimesOut(lane) => write!(f, "worker {lane} has waited for the lock too long, goes on without"),
            Self::Write(lane) => write!(f, "worker {lane} decides and writes"),
            Self::LedgerDiffers(lane) => write!(f, "worker {lane} meets its message in the ledger, rolls back"),
            Self::VersionDiffers(lane) => write!(f, "worker {lane} meets a newer version of the order, rolls back"),
            Self::Commit(lane) => write!(f, "worker {lane} commits"),
            Self::WriteEvents(lane) => write!(f, "worker {lane} writes the events"),
            Self::Ack(lane) => write!(f, "worker {lane} acknowledges its batch"),
            Self::AckStale(lane) => write!(f, "worker {lane} finds that its batch is no longer its own to acknowledge"),
            Self::WorkerCrashes(lane) => write!(f, "worker {lane} crashes; the broker takes its messages back"),
            Self::WorkerIsCutOff(lane) => write!(f, "worker {lane} is cut off; the broker takes its messages back"),
            Self::BatchFails(lane) => write!(f, "worker {lane} cannot write its batch, goes one message at a time"),
            Self::GoOn(lane) => write!(f, "worker {lane} goes on with what is left of its batch"),
            Self::TransactionBreaks(lane) => write!(f, "worker {lane} loses its database, uncommitted"),
            Self::CommitUnanswered(lane) => write!(f, "worker {lane} commits, and never hears of it"),
            Self::SweepLock => write!(f, "the sweeper locks what waits and may be decided, and reads"),
            Self::SweepWrite => write!(f, "the sweeper decides and writes"),
            Self::SweepCommit => write!(f, "the sweeper commits"),
            Self::SweepBreaks => write!(f, "the sweeper crashes, uncommitted"),
            Self::Expire => write!(f, "what waits has waited too long: a person is told"),
            Self::RelayRead => write!(f, "the relay reads the outbox"),
            Self::RelayPublish(event) => write!(f, "the relay publishes event {event} and gets the confirm"),
            Self::RelayUnconfirmed(event) => write!(f, "the relay publishes event {event}, and the confirm is lost"),
            Self::RelayLost(event) => write!(f, "the relay publishes event {event}, which is lost on the wire"),
            Self::RelayDelete => write!(f, "the relay deletes what it has read and commits"),
            Self::RelayBreaks => write!(f, "the relay crashes, uncommitted"),
        }
    }
}
