//! What one callback came to, under the names in which the ledger and the quarantine have it.

use shared::domain::verdict::{Awaited, Ignored, Refusal};

/// Why a callback was not decided against an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Undecided {
    /// No key in this worker's ring made its signature; the key may be on its way.
    ForKey(String),
    /// Another session holds a lock that deciding it needs.
    ForLock(String),
    /// A version or kind that this worker does not know; a newer worker will.
    ForVersion(String),
    /// Delivered so often that it may be what ends workers: decided later, apart from the others.
    DecideAlone,
    /// Not the XML of a callback.
    Malformed(String),
    /// Not signed as WeChat Pay signs.
    NotAuthentic(String),
    /// Signed, but the signed text can be read in more than one way.
    AmbiguousSignature(String),
    /// Authentic, but not a notification this version understands.
    Undecodable(String),
    /// A sub-order of a merchant that the combining merchant may not combine.
    MchIdMismatch(String),
    /// The database refuses it however it is written.
    RejectedByDatabase(String),
}

/// What one callback came to: the outcome in the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The order was changed.
    Applied,
    /// The order showed it already.
    Duplicate,
    /// Nothing that concerns the order.
    Ignored(Ignored),
    /// Held until what it waits for has come.
    Waiting(Held),
    /// Held for an operator.
    Quarantined(Held),
}

/// Why a callback is held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Held {
    /// `decide` waits for something.
    Awaiting(Awaited),
    /// `decide` refused it.
    Refused(Refusal),
    /// It never came to `decide`.
    Undecided(Undecided),
}

impl Undecided {
    /// What the ledger says of such a callback.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        let held = Held::Undecided(self.clone());
        match self {
            Self::ForKey(_) | Self::ForLock(_) | Self::ForVersion(_) | Self::DecideAlone => Outcome::Waiting(held),
            Self::Malformed(_)
            | Self::NotAuthentic(_)
            | Self::AmbiguousSignature(_)
            | Self::Undecodable(_)
            | Self::MchIdMismatch(_)
            | Self::RejectedByDatabase(_) => Outcome::Quarantined(held),
        }
    }

    /// The name in `quarantine.reason`.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::ForKey(_) => "for_key",
            Self::ForLock(_) => "for_lock",
            Self::ForVersion(_) => "for_version",
            Self::DecideAlone => "decide_alone",
            Self::Malformed(_) => "malformed",
            Self::NotAuthentic(_) => "not_authentic",
            Self::AmbiguousSignature(_) => "ambiguous_signature",
            Self::Undecodable(_) => "undecodable",
            Self::MchIdMismatch(_) => "mch_id_mismatch",
            Self::RejectedByDatabase(_) => "rejected_by_database",
        }
    }

    fn problem(&self) -> Option<&str> {
        match self {
            Self::DecideAlone => None,
            Self::ForKey(problem)
            | Self::ForLock(problem)
            | Self::ForVersion(problem)
            | Self::Malformed(problem)
            | Self::NotAuthentic(problem)
            | Self::AmbiguousSignature(problem)
            | Self::Undecodable(problem)
            | Self::MchIdMismatch(problem)
            | Self::RejectedByDatabase(problem) => Some(problem),
        }
    }
}

impl Outcome {
    /// The name in `notifications.outcome`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Duplicate => "duplicate",
            Self::Ignored(_) => "ignored",
            Self::Waiting(_) => "waiting",
            Self::Quarantined(_) => "quarantined",
        }
    }

    /// The name in `notifications.reason`.
    #[must_use]
    pub fn reason(&self) -> Option<&'static str> {
        match self {
            Self::Applied | Self::Duplicate => None,
            Self::Ignored(ignored) => Some(ignored.name()),
            Self::Waiting(held) | Self::Quarantined(held) => Some(held.reason()),
        }
    }

    /// Whether an order's state has decided it, so that an operator's request has been answered.
    #[must_use]
    pub fn is_decided(&self) -> bool {
        match self {
            Self::Applied | Self::Duplicate | Self::Ignored(_) => true,
            Self::Waiting(held) | Self::Quarantined(held) => matches!(held, Held::Refused(_)),
        }
    }

    /// Whether an event may have been written for it, so that the relay has something to do.
    #[must_use]
    pub fn may_be_published(&self) -> bool {
        matches!(self, Self::Applied | Self::Quarantined(Held::Refused(_)))
    }

    /// Why the callback is held, when it is.
    #[must_use]
    pub fn held(&self) -> Option<&Held> {
        match self {
            Self::Applied | Self::Duplicate | Self::Ignored(_) => None,
            Self::Waiting(held) | Self::Quarantined(held) => Some(held),
        }
    }
}

impl Held {
    /// The name in `quarantine.reason`.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Awaiting(awaited) => awaited.name(),
            Self::Refused(refusal) => refusal.name(),
            Self::Undecided(undecided) => undecided.reason(),
        }
    }

    /// The evidence in `quarantine.detail`.
    #[must_use]
    pub fn detail(&self) -> serde_json::Value {
        match self {
            Self::Awaiting(_) => serde_json::json!({}),
            Self::Refused(refusal) => {
                let (expected, got) = refusal.evidence();
                serde_json::json!({ "expected": expected, "got": got })
            }
            Self::Undecided(undecided) => match undecided.problem() {
                Some(problem) => serde_json::json!({ "problem": problem }),
                None => serde_json::json!({}),
            },
        }
    }
}
