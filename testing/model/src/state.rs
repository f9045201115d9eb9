//! One state of the whole system: everything that decides what can happen next, and nothing else.
//!
//! A message is named by its place in [`State::messages`], which stands for its id. What the database holds is in
//! [`crate::rows`].

use crate::inline_vec::InlineVec;
use crate::rows::{Database, Order, Payments, Refunds};

/// The most callbacks of a scenario.
pub const CALLBACKS: usize = 4;
/// The most messages: one per request that WeChat Pay makes.
pub const MESSAGES: usize = 4;
/// The most parts of a message: a combined callback has one per order.
pub const PARTS: usize = 2;
/// The most orders of a scenario.
pub const ORDERS: usize = 2;
/// How many messages a lane may hold unacknowledged: two in one batch, or one in a batch and one behind it.
pub const PREFETCH: usize = 2;
/// The most parts in one transaction.
pub const ITEMS: usize = 4;
/// Two workers, one lane each: more of either add nothing but time.
pub const LANES: usize = 2;

pub type MessageId = u8;

pub type Orders = [bool; ORDERS];

/// What a batch is about to write: each message once.
pub type Fresh = InlineVec<MessageId, PREFETCH>;

/// One part of a message: one row in the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Item {
    pub message: MessageId,
    pub part: u8,
}

/// Parts in one transaction.
pub type Items = InlineVec<Item, ITEMS>;

/// Everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct State {
    /// By callback: whether WeChat Pay was answered SUCCESS.
    pub told: [bool; CALLBACKS],
    /// The requests that WeChat Pay has made, each with the message that ingest makes of it.
    pub messages: InlineVec<Message, MESSAGES>,
    /// By message: its copies in the queue that no lane holds.
    pub queue: [Queued; MESSAGES],
    /// The lanes of the workers.
    pub lanes: [Lane; LANES],
    pub sweeper: Sweeper,
    pub relay: Relay,
    pub shop: Shop,
    /// What is committed.
    pub database: Database,
    /// How many requests WeChat Pay still makes again.
    pub retries_left: u8,
    /// How many faults are still to come at most.
    pub faults_left: u8,
    /// How many messages are still copied in the broker at most.
    pub copies_left: u8,
    /// How often the shop still changes an order at most.
    pub changes_left: u8,
    /// How many commands the operator still gives at most.
    pub deeds_left: u8,
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
    /// Still in transit, after the relay stopped waiting for its confirm.
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
    pub inbox: InlineVec<Delivery, PREFETCH>,
    /// The batch in the works, or to be acknowledged.
    pub batch: InlineVec<Delivery, PREFETCH>,
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
    /// A batch of which the ledger may have some: it is to be looked up.
    Taken {
        /// Not only those that were delivered before.
        ask_for_all: bool,
    },
    /// What the ledger does not have, as far as is known.
    Fresh(Attempt),
    /// Swapped on purpose: it waits for the orders, and has read the payments already.
    Joined(Attempt, Payments),
    /// In a transaction that has locked the orders and read what decides.
    Locked(Attempt, Read),
    /// In a transaction that has written everything.
    Written(Attempt, Read),
    /// Swapped on purpose: committed, and the events not written yet.
    EventsOwed(Attempt, Read),
    /// Committed, not acknowledged.
    Committed,
}

/// One try to write some of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Attempt {
    /// What is written.
    pub fresh: Fresh,
    /// Whether orders that are locked are passed by.
    pub skips: bool,
    /// The orders of the payments that its refunds name; `None` until they have been looked for.
    pub refunded: Option<Orders>,
}

impl Attempt {
    /// A first one.
    #[must_use]
    pub fn of(fresh: Fresh) -> Self {
        Self { fresh, skips: false, refunded: None }
    }

    /// The same, with what is known of the orders of its refunds.
    #[must_use]
    pub fn with_orders(self, refunded: Option<Orders>) -> Self {
        Self { refunded, ..self }
    }

    /// The same from the beginning, passing by orders that are locked.
    #[must_use]
    pub fn passing_by(self) -> Self {
        Self { skips: true, ..Self::of(self.fresh) }
    }
}

/// The sweeper's transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Sweeper {
    /// None open.
    Idle,
    /// It has locked the rows of these parts, and read what decides.
    Locked(Items, Read),
}

/// What a transaction has read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Read {
    /// The orders that it has locked, as they were then.
    pub orders: [Option<Order>; ORDERS],
    /// The orders that are there, and that another transaction has locked.
    pub busy: Orders,
    /// The payments that it names.
    pub payments: Payments,
    /// The refunds of the orders.
    pub refunds: Refunds,
}

/// The relay's transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Relay {
    /// None open.
    Idle,
    /// It has read these rows of the outbox, by place.
    Publishing {
        /// To be published.
        left: InlineVec<u8, EVENTS>,
        /// Confirmed by the broker.
        confirmed: InlineVec<u8, EVENTS>,
    },
}

/// The shop, about to change an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Shop {
    /// It is not.
    Idle,
    /// It has read the order and is going to save it.
    Changing {
        order: u8,
        as_read: Order,
        /// Whether it is locked until then.
        is_locked: bool,
    },
}

/// The most events that a scenario can write, those that are wrong included.
pub const EVENTS: usize = 7;
