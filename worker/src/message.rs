//! One message of a batch, and what its bytes turn out to be.
//!
//! The worker authenticates the stored bytes again: whoever can write to the broker can delay a payment, never forge
//! one. [`Message::examine`] is the only place where bytes become a notification.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use shared::messaging::consumer::Delivery;
use shared::messaging::envelope::CallbackKind;
use shared::protocol::AuthenticateError;
use shared::protocol::merchants::KeyRing;
use shared::protocol::v2::payment;
use shared::protocol::v2::signature::VerifyError;
use uuid::Uuid;

use crate::plan::{Finding, Undecided};

/// From this many earlier deliveries on a message is not decided among others.
pub const DELIVERIES_BEFORE_ALONE: u64 = 5;

/// A callback with what the broker or the ledger knows of it.
#[derive(Debug, Clone)]
pub struct Message {
    /// The AMQP `message_id`, the key of the ledger.
    pub id: Uuid,
    /// The time inside `id`.
    pub received_at: DateTime<Utc>,
    /// What rode beside the body.
    pub headers: BTreeMap<String, String>,
    /// The exact bytes that WeChat Pay sent.
    pub body: Vec<u8>,
    /// Whether it may have been handled before.
    pub redelivered: bool,
    /// Whether it must not be decided among others.
    pub suspect: bool,
}

impl Message {
    /// The message inside a delivery, which keeps only what acknowledging it needs.
    #[must_use]
    pub fn take_from(delivery: &mut Delivery) -> Self {
        Self {
            id: delivery.envelope.id,
            received_at: delivery.envelope.received_at,
            headers: std::mem::take(&mut delivery.envelope.headers),
            body: std::mem::take(&mut delivery.body),
            redelivered: delivery.redelivered,
            suspect: delivery.delivery_count >= DELIVERIES_BEFORE_ALONE,
        }
    }

    /// The kind of callback that ingest took it for; `None` for one that this version does not know.
    #[must_use]
    pub fn kind(&self) -> Option<CallbackKind> {
        self.headers.get("type").and_then(|name| CallbackKind::parse(name))
    }

    /// The message without anything that a database could refuse: its bytes, and the kind, so that it can be replayed.
    #[must_use]
    pub fn bare(&self) -> Self {
        let headers = self.kind().map(|kind| ("type".to_owned(), kind.name().to_owned())).into_iter().collect();
        Self { headers, ..self.clone() }
    }

    /// Authenticates and decodes the body.
    #[must_use]
    pub fn examine(&self, ring: &KeyRing) -> Finding {
        if self.suspect {
            return Finding::Undecided(Undecided::DecideAlone);
        }
        match self.kind() {
            Some(CallbackKind::V2Payment) => examine_v2_payment(&self.body, ring),
            None => {
                Finding::Undecided(Undecided::Undecodable("a type of message that this version does not know".into()))
            }
        }
    }
}

fn examine_v2_payment(body: &[u8], ring: &KeyRing) -> Finding {
    let undecided = match payment::authenticate(body, ring) {
        Ok(fields) => match payment::decode(&fields) {
            Ok(notification) => return Finding::Notified(notification),
            Err(error) => Undecided::Undecodable(error.to_string()),
        },
        // Ingest knew a key for it. If this worker does not, its merchants file may be the older one.
        Err(
            error @ (AuthenticateError::UnknownMerchant(_)
            | AuthenticateError::NotAuthentic(VerifyError::SignatureDiffers)),
        ) => Undecided::ForKey(error.to_string()),
        Err(AuthenticateError::Malformed(error)) => Undecided::Malformed(error.to_string()),
        Err(error @ (AuthenticateError::NoMerchant | AuthenticateError::NotAuthentic(_))) => {
            Undecided::NotAuthentic(error.to_string())
        }
    };
    Finding::Undecided(undecided)
}
