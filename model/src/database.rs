//! The database as the transactions of lanes and sweeper see it: what is committed, who holds which lock, and what a
//! commit does. READ COMMITTED: a statement sees what is committed when it begins.

use crate::decide::{any_refund, decide};
use crate::few::Few;
use crate::protocol::Protocol;
use crate::scenario::{Content, Swap};
use crate::state::{
    Awaited, Database, Entry, Event, EventRow, LANES, MESSAGES, MessageId, Phase, Read, State, Sweeper, Write,
};

/// Whose transaction it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// This lane's.
    Lane(usize),
    /// The sweeper's.
    Sweeper,
    /// The shop's.
    Shop,
}

impl Database {
    /// Whether the ledger has the message.
    #[must_use]
    pub fn knows(&self, message: MessageId) -> bool {
        !self.ledger[usize::from(message)].is_empty()
    }

    /// The messages whose rows are held, and whose time may have come.
    #[must_use]
    pub fn due(&self, awaited: Awaited) -> Few<MessageId, MESSAGES> {
        use crate::state::OrderState::Pending;
        let may_be_decided = match awaited {
            Awaited::Order => self.order.is_some(),
            Awaited::Payment => self.order.is_some_and(|order| order.state != Pending),
        };
        let waits = |rows: &Few<Entry, 2>| {
            may_be_decided && (rows.contains(Entry::Waiting(awaited)) || rows.contains(Entry::Overdue(awaited)))
        };
        (0..).zip(&self.ledger).filter(|(_, rows)| waits(rows)).map(|(message, _)| message).collect()
    }

    /// Tells a person of everything that waits.
    pub fn expire(&mut self) {
        for entry in self.ledger.iter_mut().flat_map(Few::iter_mut) {
            if let Entry::Waiting(awaited) = *entry {
                *entry = Entry::Overdue(awaited);
            }
        }
    }

    /// Adds the rows of a batch from the broker, and everything that goes with them.
    pub fn insert(&mut self, write: &Write) {
        for (message, entry) in write.entries.iter() {
            let rows = &mut self.ledger[usize::from(message)];
            // More than two are no worse than two.
            if !rows.is_full() {
                rows.push(entry);
            }
        }
        self.change(write);
    }

    /// Moves the rows of held messages along, and everything that goes with them.
    pub fn move_on(&mut self, write: &Write) {
        for (message, entry) in write.entries.iter() {
            self.ledger[usize::from(message)].iter_mut().for_each(|row| *row = entry);
        }
        self.change(write);
    }

    fn change(&mut self, write: &Write) {
        self.order = write.order.or(self.order);
        self.is_refunded |= write.refund;
        let went_back = write.returned.map(|number| Entry::Surplus(number, false));
        for entry in self.ledger.iter_mut().flat_map(Few::iter_mut) {
            if let (Entry::Surplus(number, _), true) = (*entry, Some(*entry) == went_back) {
                *entry = Entry::Surplus(number, true);
            }
        }
        self.add_events(write.events);
    }

    /// Writes events, one by one what a spoilt protocol writes too often.
    pub fn add_events(&mut self, events: Few<Event, 2>) {
        for event in events.iter() {
            // The first one too many is a violation already.
            if !self.events.is_full() {
                self.events.push(EventRow { event, is_in_outbox: true, is_heard: false });
            }
        }
    }

    fn surplus(&self) -> [Option<bool>; 2] {
        let rows = || self.ledger.iter().flat_map(Few::iter);
        [0, 1].map(|transaction| {
            let settled = rows().filter_map(|entry| match entry {
                Entry::Surplus(number, is_settled) if number == transaction => Some(is_settled),
                _ => None,
            });
            settled.reduce(|all, is_settled| all && is_settled)
        })
    }
}

impl Protocol {
    /// What a transaction reads for these messages once it holds the lock, or, without `order`, passes the order by.
    #[must_use]
    pub fn read(&self, state: &State, messages: Few<MessageId, MESSAGES>, order: bool) -> Read {
        let database = &state.database;
        let any_refund = any_refund(&self.contents(state, messages));
        Read {
            order: database.order.filter(|_| order),
            is_refunded: any_refund && database.is_refunded,
            surplus: if order { database.surplus() } else { [None; 2] },
        }
    }

    /// What the worker's own code makes of it.
    #[must_use]
    pub fn decided(&self, state: &State, messages: Few<MessageId, MESSAGES>, read: Read) -> Write {
        decide(&self.contents(state, messages), read)
    }

    fn contents(&self, state: &State, messages: Few<MessageId, MESSAGES>) -> Vec<(MessageId, Content)> {
        let said = |message: MessageId| state.messages.get(usize::from(message));
        let content = |message| Some((message, self.scenario.callbacks[usize::from(said(message)?.callback)]));
        messages.iter().filter_map(content).collect()
    }

    /// Whether a transaction of somebody else's holds the order's lock.
    #[must_use]
    pub fn is_locked(&self, state: &State, owner: Owner) -> bool {
        let holds = |read: Read, order_is_written: bool| {
            // Who does not lock when it reads locks all the same when it writes.
            if self.swap == Swap::LockLeftOut { order_is_written } else { read.order.is_some() }
        };
        self.swap != Swap::LockAndVersionIgnored
            && open(state, owner).any(|(read, write)| holds(read, write.is_some_and(|write| write.order.is_some())))
    }

    /// Whether a transaction of somebody else's has written a row of one of these messages, and not committed it.
    #[must_use]
    pub fn is_being_written(state: &State, owner: Owner, messages: Few<MessageId, MESSAGES>) -> bool {
        let writes = |write: Write| write.entries.iter().any(|(message, _)| messages.contains(message));
        open(state, owner).any(|(_, write)| write.is_some_and(writes))
    }
}

/// The open transactions of everybody but `owner`: what they have read, and what they have written.
fn open(state: &State, owner: Owner) -> impl Iterator<Item = (Read, Option<Write>)> {
    let lanes =
        (0..LANES).filter(move |lane| owner != Owner::Lane(*lane)).filter_map(|lane| match state.lanes[lane].phase {
            Phase::Locked(_, read) => Some((read, None)),
            Phase::Written(write, read) => Some((read, Some(write))),
            Phase::Idle | Phase::Taken { .. } | Phase::Fresh(_) | Phase::EventsOwed(_) | Phase::Committed => None,
        });
    let sweeper = match state.sweeper {
        Sweeper::Idle => None,
        Sweeper::Locked(_, _, read) => Some((read, None)),
        Sweeper::Written(write, read) => Some((read, Some(write))),
    };
    lanes.chain(sweeper.filter(|_| owner != Owner::Sweeper))
}
