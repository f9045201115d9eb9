//! What must hold in every state, and what must hold where nothing more can happen.

use std::fmt;

use crate::protocol::Protocol;
use crate::scenario::Content;
use crate::state::{Awaited, Entry, Lane, MessageId, OrderState, Queued, Relay, State, Sweeper};

/// What is violated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the sentences below say what each of them is")]
pub enum Broken {
    SuccessLost,
    AppliedTwice,
    ChangeWithoutEvent,
    EventWithoutChange,
    EventLost,
    ChangeWithoutRow,
    TwoRows,
    NoRowInTheEnd,
    SuccessWithoutRowInTheEnd,
    StillWaiting,
    WrongOrder,
    WrongOutcomes,
    WrongEventsHeard,
    NotEmpty,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SuccessLost => "WeChat Pay was told SUCCESS for what neither the broker nor the ledger has",
            Self::AppliedTwice => "one payment or refund was applied twice",
            Self::ChangeWithoutEvent => "the order was changed without an event",
            Self::EventWithoutChange => "there is an event without a change of the order",
            Self::EventLost => "an event was deleted that nobody has heard",
            Self::ChangeWithoutRow => "the order has not as many changes as the ledger has applied messages",
            Self::TwoRows => "the ledger has one message twice",
            Self::NoRowInTheEnd => "in the end the ledger does not have a message that the broker had, once",
            Self::SuccessWithoutRowInTheEnd => "in the end the ledger has nothing of a callback that was told SUCCESS",
            Self::StillWaiting => "in the end a message waits for what is there",
            Self::WrongOrder => "in the end the order is not as the stored callbacks make it",
            Self::WrongOutcomes => "in the end a message has not the outcome that the stored callbacks make",
            Self::WrongEventsHeard => "in the end the merchant has not heard each change of the order",
            Self::NotEmpty => "in the end something is left over in the queue, a lane or the outbox",
        })
    }
}

/// A message that the broker ever stored: its number, and what it says.
struct Stored {
    message: MessageId,
    content: Content,
}

impl Protocol {
    /// What must never be.
    #[must_use]
    pub fn broken_now(&self, state: &State) -> Vec<Broken> {
        let database = &state.database;
        let entries = || database.ledger.iter().flat_map(crate::few::Few::iter);
        let version = database.order.map_or(0, |order| order.version);
        let events_of = |version| database.events.iter().filter(|row| row.event.version == version).count();
        let applied_of = |content| {
            let own = self.stored(state).filter(|stored| stored.content == content);
            own.flat_map(|stored| database.ledger[usize::from(stored.message)].iter())
                .filter(|entry| is_applied(*entry))
                .count()
        };
        let payments = self.scenario.callbacks.iter().filter(|content| matches!(content, Content::Payment(_)));
        let refunds = self.scenario.callbacks.iter().filter(|content| matches!(content, Content::Refund(_)));
        let success_lost = (0..).zip(state.told).any(|(callback, told)| told && !is_kept(state, callback));
        let checks = [
            (Broken::SuccessLost, success_lost),
            (Broken::AppliedTwice, payments.map(|payment| applied_of(*payment)).sum::<usize>() > 1),
            (Broken::AppliedTwice, refunds.map(|refund| applied_of(*refund)).any(|times| times > 1)),
            (Broken::ChangeWithoutEvent, (1..=version).any(|version| events_of(version) == 0)),
            (Broken::EventWithoutChange, (1..=version).any(|version| events_of(version) > 1)),
            (Broken::EventWithoutChange, database.events.iter().any(|row| row.event.version > version)),
            (Broken::EventLost, database.events.iter().any(|row| !row.is_in_outbox && !row.is_heard)),
            (
                Broken::ChangeWithoutRow,
                usize::from(version) != entries().filter(|entry| *entry == Entry::Applied).count(),
            ),
            (Broken::TwoRows, database.ledger.iter().any(|rows| rows.len() > 1)),
        ];
        checks.into_iter().filter(|(_, is_broken)| *is_broken).map(|(broken, _)| broken).collect()
    }

    /// What must not be where nothing more can happen.
    #[must_use]
    pub fn broken_in_the_end(&self, state: &State) -> Vec<Broken> {
        let database = &state.database;
        let rows = |stored: &Stored| database.ledger[usize::from(stored.message)];
        let has_row = |callback| own_messages(state, callback).any(|message| database.knows(message));
        let waits = |entry| matches!(entry, Entry::Waiting(Awaited::Order) | Entry::Overdue(Awaited::Order));
        let waits_for_payment = |entry| matches!(entry, Entry::Waiting(_) | Entry::Overdue(_));
        let is_paid = database.order.is_some_and(|order| order.state != OrderState::Pending);
        let is_stuck = |entry| waits(entry) || (is_paid && waits_for_payment(entry));
        let in_the_ledger = |stored: Stored| rows(&stored).iter().any(is_stuck);
        let is_left_over = state.queue.iter().any(|queued| *queued != Queued::default())
            || state.lanes.iter().any(|lane| *lane != Lane::IDLE)
            || state.sweeper != Sweeper::Idle
            || state.relay != Relay::Idle
            || database.events.iter().any(|row| row.is_in_outbox);
        let is_right = |content: &Content| self.are_outcomes_right(state, *content);
        let checks = [
            (Broken::NoRowInTheEnd, self.stored(state).any(|stored| rows(&stored).len() != 1)),
            (
                Broken::SuccessWithoutRowInTheEnd,
                (0..).zip(state.told).any(|(callback, told)| told && !has_row(callback)),
            ),
            (Broken::StillWaiting, self.stored(state).any(in_the_ledger)),
            (Broken::WrongOrder, !self.is_order_right(state)),
            (Broken::WrongOutcomes, !self.scenario.callbacks.iter().all(is_right)),
            (Broken::WrongEventsHeard, !heard_each_change(state)),
            (Broken::NotEmpty, is_left_over),
        ];
        checks.into_iter().filter(|(_, is_broken)| *is_broken).map(|(broken, _)| broken).collect()
    }

    fn stored(&self, state: &State) -> impl Iterator<Item = Stored> {
        let said = |callback| self.scenario.callbacks[usize::from(callback)];
        let messages: Vec<Stored> = (0..)
            .zip(state.messages.iter())
            .filter(|(_, message)| message.was_stored)
            .map(|(message, sent)| Stored { message, content: said(sent.callback) })
            .collect();
        messages.into_iter()
    }

    /// Whether the order is as the stored callbacks alone make it, whatever happened on the way.
    fn is_order_right(&self, state: &State) -> bool {
        let is_stored = |content| self.stored(state).any(|stored| stored.content == content);
        let any_payment = self.stored(state).any(|stored| matches!(stored.content, Content::Payment(_)));
        match state.database.order.map(|order| order.state) {
            None => false,
            Some(OrderState::Pending) => !any_payment,
            Some(OrderState::Closed) => self.scenario.shop_may_close,
            Some(OrderState::Paid(number)) => {
                is_stored(Content::Payment(number))
                    && !is_stored(Content::Refund(number))
                    && !state.database.is_refunded
            }
            Some(OrderState::Refunded(number)) => {
                is_stored(Content::Payment(number)) && is_stored(Content::Refund(number)) && state.database.is_refunded
            }
        }
    }

    /// Whether what the messages of one callback came to fits the order: what moved it was applied once and is a
    /// duplicate else; a payment that it did not want is held; so is the refund of one, or it settles it.
    fn are_outcomes_right(&self, state: &State, content: Content) -> bool {
        let outcomes_of = |content| -> Vec<Entry> {
            let own = self.stored(state).filter(|stored| stored.content == content);
            own.flat_map(|stored| state.database.ledger[usize::from(stored.message)].iter()).collect()
        };
        let outcomes = outcomes_of(content);
        let count = |entry| outcomes.iter().filter(|outcome| **outcome == entry).count();
        let all = |entry| count(entry) == outcomes.len();
        let once = |entry| outcomes.is_empty() || (count(entry), count(Entry::Duplicate)) == (1, outcomes.len() - 1);
        let order = state.database.order.map(|order| order.state);
        let paid_by = match order {
            Some(OrderState::Paid(number) | OrderState::Refunded(number)) => Some(number),
            Some(OrderState::Pending | OrderState::Closed) | None => None,
        };
        match content {
            Content::Payment(number) | Content::Refund(number) if Some(number) == paid_by => once(Entry::Applied),
            Content::Payment(number) => {
                all(Entry::Surplus(number, outcomes_of(Content::Refund(number)).contains(&Entry::Returned)))
            }
            Content::Refund(_) if order == Some(OrderState::Pending) => {
                count(Entry::Waiting(Awaited::Payment)) + count(Entry::Overdue(Awaited::Payment)) == outcomes.len()
            }
            // One that overtakes the payment that it refunds is left to a person: docs/decisions/0007-refunds.md.
            Content::Refund(_) => once(Entry::Returned) || all(Entry::Refused),
        }
    }
}

/// Whether anything that was made of this callback is safe: in the broker, delivered or not, or in the ledger.
fn is_kept(state: &State, callback: u8) -> bool {
    let unacked = || state.lanes.iter().filter(|lane| !lane.is_cut_off).flat_map(|lane| lane.batch.iter());
    let delivered = || state.lanes.iter().flat_map(|lane| lane.inbox.iter()).chain(unacked());
    own_messages(state, callback).any(|message| {
        state.queue[usize::from(message)] != Queued::default()
            || delivered().any(|delivery| delivery.message == message)
            || state.database.knows(message)
    })
}

/// The messages that were made of one callback.
fn own_messages(state: &State, callback: u8) -> impl Iterator<Item = MessageId> {
    (0..).zip(state.messages.iter()).filter(move |(_, sent)| sent.callback == callback).map(|(message, _)| message)
}

fn is_applied(entry: Entry) -> bool {
    matches!(entry, Entry::Applied | Entry::Returned)
}

/// Whether the merchant has heard that the order was paid, once and only if it was, and so that it was refunded.
fn heard_each_change(state: &State) -> bool {
    let heard = |is_paid| {
        let rows = state.database.events.iter().filter(|row| row.is_heard && row.event.is_paid == is_paid);
        rows.count()
    };
    let (paid, refunded) = match state.database.order.map(|order| order.state) {
        None | Some(OrderState::Pending | OrderState::Closed) => (0, 0),
        Some(OrderState::Paid(_)) => (1, 0),
        Some(OrderState::Refunded(_)) => (1, 1),
    };
    heard(true) == paid && heard(false) == refunded
}
