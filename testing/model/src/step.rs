//! Everything that can happen, with the sentence that tells it in a trace.

use std::fmt;

use crate::rows::OrderState;
use crate::scenario::Deed;
use crate::state::{Item, MessageId};
use crate::sweep::Cause;

/// One step. Numbers are of callbacks, messages, orders, lanes and events.
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
    CommitOrder(u8),
    ShopReads(u8),
    ShopLocks(u8),
    ShopSaves { order: u8, to: OrderState },
    ShopRollsBack(u8),
    Command { deed: Deed, item: Item },
    Deliver { lane: usize, message: MessageId },
    Take(usize),
    LookUp(usize),
    FindOrders(usize),
    LockBegins(usize),
    Lock(usize),
    LockTimesOut(usize),
    Write(usize),
    LedgerDiffers(usize),
    PaymentRecorded(usize),
    RowDiffers(usize),
    Commit(usize),
    WriteEvents(usize),
    Ack(usize),
    AckStale(usize),
    WorkerCrashes(usize),
    WorkerIsCutOff(usize),
    BatchFails(usize),
    HoldsWhole(usize),
    GoOn(usize),
    TransactionBreaks(usize),
    CommitUnanswered(usize),
    SweepLock(Cause),
    SweepCommit,
    SweepDiffers,
    SweepBreaks,
    SweepResolves,
    Expire,
    RelayRead,
    RelayPublish(u8),
    RelayUnconfirmed(u8),
    RelayLost(u8),
    RelayDelete,
    RelayBreaks,
}

impl Step {
    /// Whether it is a fault, or something that shop, operator and clock do at any time: it may never happen.
    #[must_use]
    pub fn is_chance(self) -> bool {
        matches!(
            self,
            Self::ReplyLost(_)
                | Self::IngestBreaks
                | Self::Copy(_)
                | Self::ShopReads(_)
                | Self::ShopLocks(_)
                | Self::Command { .. }
                | Self::Expire
                | Self::LockTimesOut(_)
                | Self::WorkerCrashes(_)
                | Self::WorkerIsCutOff(_)
                | Self::BatchFails(_)
                | Self::HoldsWhole(_)
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
            Self::ReplyLost(message) => {
                write!(f, "ingest answers SUCCESS for message {message}, and the answer is lost")
            }
            Self::IngestBreaks => write!(f, "ingest crashes, or is cut off from the broker"),
            Self::StoreLate(message) => write!(f, "the broker stores message {message} after ingest gave up"),
            Self::LoseOnTheWire(message) => write!(f, "message {message} is lost on the wire"),
            Self::Copy(message) => write!(f, "message {message} is copied in the broker"),
            Self::CommitOrder(order) => write!(f, "the shop commits order {order}"),
            Self::ShopReads(order) => write!(f, "the shop reads order {order}"),
            Self::ShopLocks(order) => write!(f, "the shop locks and reads order {order}"),
            Self::ShopSaves { order, to } => write!(f, "the shop saves order {order} as it read it, {to}"),
            Self::ShopRollsBack(order) => write!(f, "the shop leaves order {order} as it is"),
            Self::Command { deed, item: Item { message, part } } => {
                write!(f, "the operator gives the command {deed:?} for message {message}, part {part}")
            }
            Self::Deliver { lane, message } => write!(f, "the broker delivers message {message} to worker {lane}"),
            Self::Take(lane) => write!(f, "worker {lane} takes what it was delivered as a batch"),
            Self::LookUp(lane) => write!(f, "worker {lane} looks up in the ledger what may have been handled"),
            Self::FindOrders(lane) => write!(f, "worker {lane} finds the orders of the payments that are refunded"),
            Self::LockBegins(lane) => write!(f, "worker {lane} reads the payments and waits for the orders' locks"),
            Self::Lock(lane) => write!(f, "worker {lane} begins, locks the orders that are there, and reads"),
            Self::LockTimesOut(lane) => write!(f, "worker {lane} has waited for the lock too long, goes on without"),
            Self::Write(lane) => write!(f, "worker {lane} decides and writes"),
            Self::LedgerDiffers(lane) => write!(f, "worker {lane} meets its message in the ledger, rolls back"),
            Self::PaymentRecorded(lane) => write!(f, "worker {lane} meets its transaction on record, rolls back"),
            Self::RowDiffers(lane) => write!(f, "worker {lane} meets a row that is not as it was read, rolls back"),
            Self::Commit(lane) => write!(f, "worker {lane} commits"),
            Self::WriteEvents(lane) => write!(f, "worker {lane} writes the events"),
            Self::Ack(lane) => write!(f, "worker {lane} acknowledges its batch"),
            Self::AckStale(lane) => write!(f, "worker {lane} finds that its batch is no longer its own to acknowledge"),
            Self::WorkerCrashes(lane) => write!(f, "worker {lane} crashes; the broker takes its messages back"),
            Self::WorkerIsCutOff(lane) => write!(f, "worker {lane} is cut off; the broker takes its messages back"),
            Self::BatchFails(lane) => write!(f, "worker {lane} cannot write its batch, goes one message at a time"),
            Self::HoldsWhole(lane) => write!(f, "worker {lane} cannot write a message and holds it as a whole"),
            Self::GoOn(lane) => write!(f, "worker {lane} goes on with what is left of its batch"),
            Self::TransactionBreaks(lane) => write!(f, "worker {lane} loses its database, uncommitted"),
            Self::CommitUnanswered(lane) => write!(f, "worker {lane} commits, and never gets the answer"),
            Self::SweepLock(cause) => write!(f, "the sweeper locks the rows that are due ({cause:?}), and reads"),
            Self::SweepCommit => write!(f, "the sweeper decides, writes and commits"),
            Self::SweepDiffers => write!(f, "the sweeper meets what another session wrote, rolls back"),
            Self::SweepResolves => write!(f, "the sweeper resolves rows of payments that are accepted or returned"),
            Self::SweepBreaks => write!(f, "the sweeper crashes, uncommitted"),
            Self::Expire => write!(f, "the wait limit is reached: the operator is notified"),
            Self::RelayRead => write!(f, "the relay reads the outbox"),
            Self::RelayPublish(event) => write!(f, "the relay publishes event {event} and gets the confirm"),
            Self::RelayUnconfirmed(event) => write!(f, "the relay publishes event {event}, and the confirm is lost"),
            Self::RelayLost(event) => write!(f, "the relay publishes event {event}, which is lost on the wire"),
            Self::RelayDelete => write!(f, "the relay deletes what it has read and commits"),
            Self::RelayBreaks => write!(f, "the relay crashes, uncommitted"),
        }
    }
}
