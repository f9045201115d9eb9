//! The bugs that can be put into the protocol on purpose.

/// A bug in the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutation {
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
    /// Orders are read without their lock, and written whatever their version is by then; payments likewise.
    LockAndVersionIgnored,
    /// Nobody looks up in the ledger what is delivered again: its primary key has to do.
    LookUpLeftOut,
    /// Orders are read without their lock: their version has to do.
    LockLeftOut,
    /// `payments` has no unique constraint on merchant and transaction.
    TransactionNotUnique,
    /// An order that another session has locked counts as absent.
    LockedIsAbsent,
    /// The same, and what is known of refused payments is inferred from held rows by their reasons.
    SettledByReason,
    /// What is known of refused payments is inferred from held rows: nothing once an operator has resolved them.
    ReturnedInferred,
    /// A row that an operator resolves makes its payment a returned one.
    ReturnedByResolve,
    /// A replay does not look at how much of the payment has gone back.
    ReplayIgnoresReturned,
    /// `resolve` takes rows that nothing else knows of.
    ResolveClosesWork,
    /// The statement that locks the orders reads the payments too: as they were before it waited.
    PaymentsJoined,
    /// The same, and payments are written whatever they are by then.
    PaymentsJoinedAndOverwritten,
    /// The sweeper takes a held row whose order is locked for one that waits for the lock, and forgets the request.
    BusyReplayCleared,
    /// What waits for a lock is not tried any more once an operator was told of it.
    LocksGivenUp,
    /// The database has no trigger that keeps the shop's late saves out.
    TriggersLeftOut,
    /// `replay` takes rows that have been applied.
    AppliedReplayed,
    /// Rows of refused payments are never resolved by the sweeper.
    RefusedNeverResolved,
}
