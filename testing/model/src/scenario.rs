//! What is explored: small scenarios, each exhaustively.

use crate::rows::{End, OrderState};

/// What WeChat Pay has to say, what others do, and what can go wrong meanwhile.
#[derive(Debug, Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "each is something that is explored or left out on its own")]
pub struct Scenario {
    pub name: &'static str,
    /// The callbacks, each with its parts: more than one is a combined one.
    pub callbacks: &'static [&'static [Content]],
    /// The orders, as they are before everything else.
    pub orders: &'static [Start],
    /// Whether ingest is explored: callbacks are sent at any time, until WeChat Pay is answered SUCCESS or tired of them. If not,
    /// the broker has them all, each was answered SUCCESS, and it delivers them at any time.
    pub with_ingest: bool,
    /// Whether the relay is explored. If not, an event counts as received when it is written.
    pub with_relay: bool,
    /// How many requests WeChat Pay makes again, of all callbacks together.
    pub retries: u8,
    /// How many crashes, cuts and time-outs there are at most.
    pub faults: u8,
    /// Whether these are only time-outs of locks.
    pub only_lock_time_outs: bool,
    /// How many messages are copied in the broker, with their ids.
    pub copies: u8,
    /// How often the shop changes an order at most.
    pub changes: u8,
    /// Whether the shop may lock an order before it changes it.
    pub shop_locks: bool,
    /// How many commands the operator gives at most.
    pub deeds: u8,
    /// Those that the operator uses.
    pub commands: &'static [Deed],
    /// Whether what waits may have waited too long at any time.
    pub may_expire: bool,
}

/// An order before everything else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    There(OrderState),
    /// The shop commits it at any time.
    Late,
}

/// What a callback, or a part of it, says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Content {
    /// The order was paid in full by this transaction.
    Payment { order: u8, transaction: u8 },
    /// The refund with this number came to an end.
    Refund {
        order: u8,
        /// The transaction that it refunds.
        transaction: u8,
        /// The merchant's number for it.
        number: u8,
        /// How much goes back.
        amount: u8,
        /// What became of it.
        end: End,
    },
}

/// What an operator can do about a held row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of the commands")]
pub enum Deed {
    Replay,
    Accept,
    Resolve,
    Abandon,
}

impl Content {
    /// The order that it is about.
    #[must_use]
    pub fn order(self) -> u8 {
        match self {
            Self::Payment { order, .. } | Self::Refund { order, .. } => order,
        }
    }

    /// The transaction that it names.
    #[must_use]
    pub fn transaction(self) -> u8 {
        match self {
            Self::Payment { transaction, .. } | Self::Refund { transaction, .. } => transaction,
        }
    }

    /// Whether it is a refund.
    #[must_use]
    pub fn is_refund(self) -> bool {
        matches!(self, Self::Refund { .. })
    }
}

const fn paid(order: u8, transaction: u8) -> Content {
    Content::Payment { order, transaction }
}

/// A refund, of order 0.
const fn refunded(transaction: u8, number: u8, amount: u8) -> Content {
    Content::Refund { order: 0, transaction, number, amount, end: End::Succeeded }
}

const PENDING: Start = Start::There(OrderState::Pending);
const CLOSED: Start = Start::There(OrderState::Closed);

/// One payment, told up to three times.
pub const TOLD_AGAIN: Scenario = Scenario {
    name: "one payment, told up to three times",
    callbacks: &[&[paid(0, 0)]],
    orders: &[PENDING],
    with_ingest: true,
    with_relay: true,
    retries: 2,
    faults: 3,
    only_lock_time_outs: false,
    copies: 0,
    changes: 0,
    shop_locks: false,
    deeds: 0,
    commands: &[],
    may_expire: false,
};

/// A message whose copy has the same id.
pub const COPIED: Scenario =
    Scenario { name: "a message copied in the broker", retries: 0, faults: 3, copies: 1, ..TOLD_AGAIN };

/// Two transactions pay one order: one of them is owed back.
pub const PAID_TWICE: Scenario = Scenario {
    name: "an order paid by two transactions",
    callbacks: &[&[paid(0, 0)], &[paid(0, 1)]],
    retries: 1,
    faults: 1,
    ..TOLD_AGAIN
};

/// The callback may overtake the shop's commit.
pub const ORDER_LATE: Scenario = Scenario {
    name: "an order committed late",
    orders: &[Start::Late],
    retries: 1,
    faults: 2,
    may_expire: true,
    ..TOLD_AGAIN
};

/// The shop gives the order up while it is being paid.
pub const GIVEN_UP: Scenario = Scenario { name: "an order given up", retries: 1, faults: 2, changes: 1, ..TOLD_AGAIN };

/// A refund that may come before its payment.
pub const REFUND_EARLY: Scenario = Scenario {
    name: "a refund that may overtake its payment",
    callbacks: &[&[paid(0, 0)], &[refunded(0, 0, 2)]],
    retries: 0,
    faults: 1,
    ..TOLD_AGAIN
};

/// The same, and both may come before their order.
pub const ALL_EARLY: Scenario = Scenario {
    name: "a refund and its payment, the order late",
    orders: &[Start::Late],
    may_expire: true,
    ..REFUND_EARLY
};

/// A closed order is paid, and the money is returned: the merchant receives both events.
pub const REFUSED_AND_RETURNED: Scenario =
    Scenario { name: "a refused payment that goes back", orders: &[CLOSED], ..REFUND_EARLY };

/// The broker has everything, and what ingest and the relay do is left out.
const FROM_THE_BROKER: Scenario =
    Scenario { with_ingest: false, with_relay: false, retries: 0, faults: 1, ..TOLD_AGAIN };

/// The second of two payments is sent back.
pub const SURPLUS_RETURNED: Scenario = Scenario {
    name: "a second payment that goes back",
    callbacks: &[&[paid(0, 0)], &[paid(0, 1)], &[refunded(1, 0, 2)]],
    faults: 2,
    may_expire: true,
    ..FROM_THE_BROKER
};

/// A refused payment is replayed while its refund arrives; the shop reopens the order.
pub const REPLAYED_BESIDE_REFUND: Scenario = Scenario {
    name: "a replay beside a refund",
    callbacks: &[&[paid(0, 0)], &[refunded(0, 0, 2)]],
    orders: &[CLOSED],
    changes: 2,
    shop_locks: true,
    deeds: 2,
    commands: &[Deed::Replay, Deed::Resolve],
    ..FROM_THE_BROKER
};

/// The same, and the payment is reported twice.
pub const REPORTED_TWICE: Scenario = Scenario {
    name: "a refused payment reported twice, returned",
    callbacks: &[&[paid(0, 0)], &[paid(0, 0)], &[refunded(0, 0, 2)]],
    only_lock_time_outs: true,
    changes: 1,
    ..REPLAYED_BESIDE_REFUND
};

/// A refused payment goes back in two parts.
pub const RETURNED_IN_PARTS: Scenario = Scenario {
    name: "a refused payment returned in parts",
    callbacks: &[&[paid(0, 0)], &[refunded(0, 0, 1)], &[refunded(0, 1, 1)]],
    only_lock_time_outs: true,
    changes: 1,
    ..REPLAYED_BESIDE_REFUND
};

/// One transaction is reported for two orders, and refunded.
pub const TWO_ORDERS: Scenario = Scenario {
    name: "one transaction reported for two orders",
    callbacks: &[&[paid(0, 0)], &[paid(1, 0)], &[refunded(0, 0, 2)]],
    orders: &[PENDING, PENDING],
    deeds: 1,
    commands: &[Deed::Replay, Deed::Resolve],
    ..FROM_THE_BROKER
};

/// A combined callback, repeated: one order takes its part at once, the other may be closed, locked or reopened.
pub const COMBINED: Scenario = Scenario {
    name: "a combined callback, repeated",
    callbacks: &[&[paid(0, 0), paid(1, 1)], &[paid(0, 0), paid(1, 1)]],
    orders: &[PENDING, CLOSED],
    faults: 2,
    changes: 1,
    shop_locks: true,
    deeds: 1,
    commands: &[Deed::Replay],
    ..FROM_THE_BROKER
};

/// A combined callback one of whose orders comes late, and a single one of a part.
pub const COMBINED_LATE: Scenario = Scenario {
    name: "a combined callback, one order late",
    callbacks: &[&[paid(0, 0), paid(1, 1)], &[paid(1, 1)]],
    orders: &[PENDING, Start::Late],
    faults: 2,
    deeds: 1,
    commands: &[Deed::Replay, Deed::Abandon],
    may_expire: true,
    ..FROM_THE_BROKER
};

/// The shop locks, closes, reopens, and saves what it read long ago, while the order is paid.
pub const SHOP_IN_THE_WAY: Scenario = Scenario {
    name: "a shop that locks, closes and saves late",
    callbacks: &[&[paid(0, 0)], &[paid(0, 1)]],
    changes: 3,
    shop_locks: true,
    deeds: 1,
    commands: &[Deed::Replay, Deed::Abandon],
    ..FROM_THE_BROKER
};

/// What waits for its order is given up, resolved, replayed; the payment is reported again.
pub const GIVEN_UP_BY_OPERATOR: Scenario = Scenario {
    name: "waiting work that an operator gives up",
    callbacks: &[&[paid(0, 0)], &[paid(0, 0)], &[refunded(0, 0, 2)]],
    orders: &[Start::Late],
    only_lock_time_outs: true,
    deeds: 2,
    commands: &[Deed::Replay, Deed::Resolve, Deed::Abandon],
    may_expire: true,
    ..FROM_THE_BROKER
};

/// A refund is closed and then succeeds under the same number.
pub const REFUND_REPEATED: Scenario = Scenario {
    name: "a closed refund that succeeds, accepted",
    callbacks: &[
        &[paid(0, 0)],
        &[Content::Refund { order: 0, transaction: 0, number: 0, amount: 2, end: End::Closed }],
        &[refunded(0, 0, 2)],
    ],
    deeds: 2,
    commands: &[Deed::Accept, Deed::Replay, Deed::Resolve],
    ..FROM_THE_BROKER
};

/// Everything that is explored.
pub const SCENARIOS: [Scenario; 18] = [
    TOLD_AGAIN,
    COPIED,
    PAID_TWICE,
    ORDER_LATE,
    GIVEN_UP,
    REFUND_EARLY,
    ALL_EARLY,
    REFUSED_AND_RETURNED,
    SURPLUS_RETURNED,
    REPLAYED_BESIDE_REFUND,
    REPORTED_TWICE,
    RETURNED_IN_PARTS,
    TWO_ORDERS,
    COMBINED,
    COMBINED_LATE,
    SHOP_IN_THE_WAY,
    GIVEN_UP_BY_OPERATOR,
    REFUND_REPEATED,
];
