//! One state of the whole system: everything that decides what can happen next, and nothing else.
//!
//! There is one order, `order-1`. A message is named by its place in [`State::messages`], which stands for its id.

use crate::few::Few;

/// The most callbacks of a scenario.
pub const CALLBACKS: usize = 3;
/// The most messages: one per request that WeChat Pay makes.
pub const MESSAGES: usize = 4;
/// How many messages a lane may hold unacknowledged: two in one batch, or one in a batch and one behind it.
pub const PREFETCH: usize = 2;
/// Two workers, one lane each: more of either add nothing but time.
pub const LANES: usize = 2;

/// A message's id.
pub type MessageId = u8;

/// Everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct State {
    /// By callback: whether WeChat Pay was told SUCCESS.
    pub told: [bool; CALLBACKS],
    /// The requests that WeChat Pay has made, each with the message that ingest makes of it.
    pub messages: Few<Message, MESSAGES>,
    /// By message: its copies in the queue that no lane holds.
    pub queue: [Queued; MESSAGES],
    /// The lanes of the workers.
    pub lanes: [Lane; LANES],
    /// The sweeper.
    pub sweeper: Sweeper,
    /// The relay.
    pub relay: Relay,
    /// What is committed.
    pub database: Database,
    /// How many requests WeChat Pay still makes again.
    pub retries_left: u8,
    /// How many faults are still to come at most.
    pub faults_left: u8,
    /// How many messages are still copied in the broker at most.
    pub copies_left: u8,
}

/// A request and its message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Message {
    /// Which callback it says.
    pub callback: u8,
    /// How far ingest is with it.
    pub request: Request,
    /// Whether the broker ever stored it. Nothing depends on it: it is for the checks at the end.
    pub was_stored: bool,
}

/// How far ingest is with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Request {
    /// Verified.
    Received,
    /// Handed to the connection.
    OnTheWire,
    /// The broker has it, the confirm is on its way.
    Stored,
    /// The confirm is here.
    Confirmed,
    /// On the wire still, and nobody waits for its confirm any more.
    Abandoned,
    /// Answered, or never to be answered.
    Over,
}

impl Request {
    /// Whether WeChat Pay waits for the answer.
    #[must_use]
    pub fn is_open(self) -> bool {
        matches!(self, Self::Received | Self::OnTheWire | Self::Stored | Self::Confirmed)
    }
}

/// The copies of one message in the queue. The broker may hand them out in any order, so a count is all there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Queued {
    /// Never handed out.
    pub fresh: u8,
    /// Handed out before and come back.
    pub returned: u8,
}

/// One hand-over by the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Delivery {
    /// What is handed over.
    pub message: MessageId,
    /// Whether it was before.
    pub redelivered: bool,
}

/// One worker's lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lane {
    /// Delivered, not yet in a batch.
    pub inbox: Few<Delivery, PREFETCH>,
    /// The batch in the works, or to be acknowledged.
    pub batch: Few<Delivery, PREFETCH>,
    /// The broker has taken the batch back: the connection broke, and the lane does not know yet.
    pub is_cut_off: bool,
    /// How far it is.
    pub phase: Phase,
}

/// How far a lane is with its batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// No batch.
    Idle,
    /// A batch, and nothing asked yet; `ask_for_all` when the ledger is known to have some of it.
    Taken {
        /// Not only for those that were delivered before.
        ask_for_all: bool,
    },
    /// What the ledger does not have.
    Fresh(Few<MessageId, MESSAGES>),
    /// In a transaction that has read what decides.
    Locked(Few<MessageId, MESSAGES>, Read),
    /// In a transaction that has written everything.
    Written(Write, Read),
    /// Swapped on purpose: committed, and the events not written yet.
    EventsOwed(Few<Event, 2>),
    /// Committed, not acknowledged.
    Committed,
}

/// The sweeper's transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Sweeper {
    /// None open.
    Idle,
    /// It has locked the rows that waited for this, and read what decides.
    Locked(Awaited, Few<MessageId, MESSAGES>, Read),
    /// It has written everything.
    Written(Write, Read),
}

/// What a transaction read: with the order it holds the order's lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Read {
    /// The order; none when there is none, or when it was passed by because of its lock.
    pub order: Option<Order>,
    /// Whether the refund has its row.
    pub is_refunded: bool,
    /// By transaction: a payment that the order did not want, and whether that is settled.
    pub surplus: [Option<bool>; 2],
}

/// What a transaction writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Write {
    /// What each message came to.
    pub entries: Few<(MessageId, Entry), MESSAGES>,
    /// The order when it changes.
    pub order: Option<Order>,
    /// Whether the refund gets its row.
    pub refund: bool,
    /// The payment that went back because the order did not want it.
    pub returned: Option<u8>,
    /// What the merchant is to hear.
    pub events: Few<Event, 2>,
}

/// The relay's transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Relay {
    /// None open.
    Idle,
    /// It has read these rows of the outbox, by place.
    Publishing {
        /// To be published.
        left: Few<u8, EVENTS>,
        /// Confirmed by the broker.
        confirmed: Few<u8, EVENTS>,
    },
}

/// The most events that a scenario can write, those that are wrong included.
pub const EVENTS: usize = 5;

/// What is committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Database {
    /// The order.
    pub order: Option<Order>,
    /// Whether the refund has its row.
    pub is_refunded: bool,
    /// By message: its rows in the ledger, with what the quarantine says of it. More than one is a violation.
    pub ledger: [Few<Entry, 2>; MESSAGES],
    /// Every event ever written.
    pub events: Few<EventRow, EVENTS>,
}

/// The order as the database holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Order {
    /// Where it stands.
    pub state: OrderState,
    /// Counts the changes.
    pub version: u8,
}

/// Where the order stands, with the transaction that paid it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OrderState {
    /// Waiting for the payer.
    Pending,
    /// Given up by the shop.
    Closed,
    /// Paid.
    Paid(u8),
    /// Paid and given back in full.
    Refunded(u8),
}

/// What a message came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Entry {
    /// The order was changed.
    Applied,
    /// A payment that the order did not want went back.
    Returned,
    /// The order showed it already.
    Duplicate,
    /// Held until this is there.
    Waiting(Awaited),
    /// The same, and a person was told.
    Overdue(Awaited),
    /// Held for a person: a payment that the order did not want, by its transaction, and whether that is settled.
    Surplus(u8, bool),
    /// Held for a person for any other reason.
    Refused,
}

/// What a message waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Awaited {
    /// The order.
    Order,
    /// Its payment.
    Payment,
}

/// What the merchant hears of one change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Event {
    /// The order's version after the change.
    pub version: u8,
    /// Whether it says that the order is paid; else, that it is refunded.
    pub is_paid: bool,
}

/// An event, from its insert on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EventRow {
    /// What it says.
    pub event: Event,
    /// Whether the row is still there.
    pub is_in_outbox: bool,
    /// Whether the merchant's queue has it, once or more often: consumers drop repeats by the event's id.
    pub is_heard: bool,
}
