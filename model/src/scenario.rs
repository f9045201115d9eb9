//! What is explored: small scenarios, each exhaustively, and the ways in which the protocol is spoilt on purpose.

/// What WeChat Pay has to say, and what can go wrong meanwhile.
#[derive(Debug, Clone, Copy)]
pub struct Scenario {
    /// Its name.
    pub name: &'static str,
    /// The callbacks, each to be sent at any time, until it is told SUCCESS or tired of it.
    pub callbacks: &'static [Content],
    /// How many requests WeChat Pay makes again, of all callbacks together.
    pub retries: u8,
    /// How many crashes, cuts and time-outs there are at most.
    pub faults: u8,
    /// How many messages somebody copies in the broker, id and all.
    pub copies: u8,
    /// Whether the shop has committed the order before everything else; else it does so at any time.
    pub order_is_there: bool,
    /// Whether the shop may give the order up as long as it is pending.
    pub shop_may_close: bool,
    /// Whether what waits may have waited too long at any time.
    pub may_expire: bool,
}

/// What a callback says. Every payment and refund is over the whole amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// The order was paid by this transaction.
    Payment(u8),
    /// This transaction was refunded.
    Refund(u8),
}

use Content::{Payment, Refund};

/// One payment, told up to three times.
pub const TOLD_AGAIN: Scenario = Scenario {
    name: "one payment, told up to three times",
    callbacks: &[Payment(0)],
    retries: 2,
    faults: 3,
    copies: 0,
    order_is_there: true,
    shop_may_close: false,
    may_expire: false,
};

/// A message whose copy has the same id.
pub const COPIED: Scenario =
    Scenario { name: "a message copied in the broker", retries: 0, faults: 3, copies: 1, ..TOLD_AGAIN };

/// Two transactions pay one order: one of them is owed back.
pub const PAID_TWICE: Scenario = Scenario {
    name: "an order paid by two transactions",
    callbacks: &[Payment(0), Payment(1)],
    retries: 1,
    faults: 1,
    ..TOLD_AGAIN
};

/// The callback may overtake the shop's commit.
pub const ORDER_LATE: Scenario = Scenario {
    name: "an order committed late",
    retries: 1,
    faults: 2,
    order_is_there: false,
    may_expire: true,
    ..TOLD_AGAIN
};

/// The shop gives the order up while it is being paid.
pub const GIVEN_UP: Scenario =
    Scenario { name: "an order given up", retries: 1, faults: 2, shop_may_close: true, ..TOLD_AGAIN };

/// A refund that may come before its payment.
pub const REFUND_EARLY: Scenario = Scenario {
    name: "a refund that may overtake its payment",
    callbacks: &[Payment(0), Refund(0)],
    retries: 0,
    faults: 1,
    ..TOLD_AGAIN
};

/// The same, and both may come before their order.
pub const ALL_EARLY: Scenario = Scenario {
    name: "a refund and its payment, the order late",
    faults: 1,
    order_is_there: false,
    may_expire: true,
    ..REFUND_EARLY
};

/// The second of two payments is sent back.
pub const SURPLUS_RETURNED: Scenario = Scenario {
    name: "a second payment that goes back",
    callbacks: &[Payment(0), Payment(1), Refund(1)],
    retries: 0,
    faults: 0,
    ..TOLD_AGAIN
};

/// Everything that is explored.
pub const SCENARIOS: [Scenario; 8] =
    [TOLD_AGAIN, COPIED, PAID_TWICE, ORDER_LATE, GIVEN_UP, REFUND_EARLY, ALL_EARLY, SURPLUS_RETURNED];

/// How the protocol is spoilt on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Swap {
    /// Not at all.
    None,
    /// A lane acknowledges what it has written and not committed.
    AckBeforeCommit,
    /// Ingest says SUCCESS for what it has published and the broker has not confirmed.
    ReplyBeforeConfirm,
    /// The events of a batch are written when its transaction is committed.
    EventAfterTransaction,
    /// The events of a batch are written on a connection of their own before its transaction is committed.
    EventBeforeTransaction,
    /// The relay deletes an event that the broker has not confirmed.
    DeleteBeforeConfirm,
    /// A batch does not mind that the ledger has its messages already: looking up what is delivered again has to do.
    ConflictIgnored,
    /// Nor does anybody look them up.
    LedgerIgnored,
    /// Orders are read without their lock, and written whatever their version is by then.
    LockAndVersionIgnored,
    /// Nobody looks up in the ledger what is delivered again: its primary key has to do.
    LookUpLeftOut,
    /// Orders are read without their lock: their version has to do.
    LockLeftOut,
}
