//! The outcome of one callback, with the names that the ledger and the quarantine use for it.

use shared::domain::verdict::{Awaited, Ignored, Refusal};

/// The names in `quarantine.reason` that code other than the domain's compares with.
pub mod reason {
    /// `decide` waits for the order.
    pub const FOR_ORDER: &str = "for_order";
    /// `decide` waits for the payment.
    pub const FOR_PAYMENT: &str = "for_payment";
    /// See [`super::NotDecided::ForKey`].
    pub const FOR_KEY: &str = "for_key";
    /// See [`super::NotDecided::ForLock`].
    pub const FOR_LOCK: &str = "for_lock";
    /// See [`super::NotDecided::ForVersion`].
    pub const FOR_VERSION: &str = "for_version";
    /// See [`super::NotDecided::DecideAlone`].
    pub const DECIDE_ALONE: &str = "decide_alone";
    /// See [`super::NotDecided::Malformed`].
    pub const MALFORMED: &str = "malformed";
    /// See [`super::NotDecided::NotAuthentic`].
    pub const NOT_AUTHENTIC: &str = "not_authentic";
    /// See [`super::NotDecided::AmbiguousSignature`].
    pub const AMBIGUOUS_SIGNATURE: &str = "ambiguous_signature";
    /// See [`super::NotDecided::Undecodable`].
    pub const UNDECODABLE: &str = "undecodable";
    /// See [`super::NotDecided::MchIdMismatch`].
    pub const MCH_ID_MISMATCH: &str = "mch_id_mismatch";
    /// See [`super::NotDecided::RejectedByDatabase`].
    pub const REJECTED_BY_DATABASE: &str = "rejected_by_database";
    /// `decide` refused it for its sub-merchant.
    pub const SUB_MCH_ID_MISMATCH: &str = "sub_mch_id_mismatch";
    /// `decide` refused it for WeChat Pay's number of the refund.
    pub const REFUND_ID_MISMATCH: &str = "refund_id_mismatch";
    /// `decide` refused it for the end that the refund had come to.
    pub const REFUND_STATE_CONFLICT: &str = "refund_state_conflict";
}

/// Why a callback was not decided against an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotDecided {
    /// No key of this worker made its signature; the key may not have been deployed here yet.
    ForKey(String),
    /// Another session holds a lock that deciding it needs.
    ForLock(String),
    /// A version or kind that this worker does not know; a newer worker will.
    ForVersion(String),
    /// Delivered so often that it may be crashing workers: decided later, apart from the others.
    DecideAlone,
    /// Not a well-formed callback.
    Malformed(String),
    /// Not signed as WeChat Pay signs.
    NotAuthentic(String),
    /// Signed, but the signed text can be read in more than one way.
    AmbiguousSignature(String),
    /// Authentic, but not a notification this version understands.
    Undecodable(String),
    /// A sub-order of a merchant that the combining merchant may not combine.
    MchIdMismatch(String),
    /// The database refuses it in every form.
    RejectedByDatabase(String),
}

/// The outcome of one callback in the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The order was changed.
    Applied,
    /// The order already reflected it.
    Duplicate,
    /// It has no effect on the order.
    Ignored(Ignored),
    /// Held until what it waits for has arrived.
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
    /// It never reached `decide`.
    NotDecided(NotDecided),
}

impl NotDecided {
    /// The outcome of such a callback.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        let held = Held::NotDecided(self.clone());
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
            Self::ForKey(_) => reason::FOR_KEY,
            Self::ForLock(_) => reason::FOR_LOCK,
            Self::ForVersion(_) => reason::FOR_VERSION,
            Self::DecideAlone => reason::DECIDE_ALONE,
            Self::Malformed(_) => reason::MALFORMED,
            Self::NotAuthentic(_) => reason::NOT_AUTHENTIC,
            Self::AmbiguousSignature(_) => reason::AMBIGUOUS_SIGNATURE,
            Self::Undecodable(_) => reason::UNDECODABLE,
            Self::MchIdMismatch(_) => reason::MCH_ID_MISMATCH,
            Self::RejectedByDatabase(_) => reason::REJECTED_BY_DATABASE,
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
            Self::NotDecided(undecided) => undecided.reason(),
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
            Self::NotDecided(undecided) => match undecided.problem() {
                Some(problem) => serde_json::json!({ "problem": problem }),
                None => serde_json::json!({}),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use shared::domain::ids::RefundId;
    use shared::domain::refund::RefundState;

    use super::*;

    #[test]
    fn the_constants_are_the_names_that_the_domain_writes() {
        let id = RefundId::parse("50000001").unwrap();
        let conflict = RefundState::Closed;
        assert_eq!(Awaited::Order.name(), reason::FOR_ORDER);
        assert_eq!(Awaited::Payment.name(), reason::FOR_PAYMENT);
        for (refusal, name) in [
            (Refusal::SubMchIdMismatch { expected: None, got: None }, reason::SUB_MCH_ID_MISMATCH),
            (Refusal::RefundIdMismatch { expected: id.clone(), got: id }, reason::REFUND_ID_MISMATCH),
            (Refusal::RefundStateConflict { expected: conflict, got: conflict }, reason::REFUND_STATE_CONFLICT),
        ] {
            assert_eq!(refusal.name(), name);
        }
    }

    #[test]
    fn only_a_callback_that_may_be_decided_later_waits() {
        let text = String::new;
        for (why, waits) in [
            (NotDecided::ForKey(text()), true),
            (NotDecided::ForLock(text()), true),
            (NotDecided::ForVersion(text()), true),
            (NotDecided::DecideAlone, true),
            (NotDecided::Malformed(text()), false),
            (NotDecided::NotAuthentic(text()), false),
            (NotDecided::AmbiguousSignature(text()), false),
            (NotDecided::Undecodable(text()), false),
            (NotDecided::MchIdMismatch(text()), false),
            (NotDecided::RejectedByDatabase(text()), false),
        ] {
            let outcome = why.outcome();
            assert_eq!(matches!(outcome, Outcome::Waiting(_)), waits, "{why:?}");
            assert_eq!((outcome.reason(), outcome.is_decided()), (Some(why.reason()), false), "{why:?}");
        }
    }
}
