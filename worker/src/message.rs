//! One message of a batch, and what its bytes turn out to be.
//!
//! The worker authenticates the stored bytes again: whoever can write to the broker can delay a payment, never forge
//! one. [`Message::examine`] is the only place where bytes become a notification.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use shared::domain::ids::MchId;
use shared::domain::notification::Notification;
use shared::merchants_file::Keys;
use shared::messaging::consumer::Delivery;
use shared::messaging::envelope::{CallbackKind, MCH_ID};
use shared::protocol::v2::signature::VerifyError;
use shared::protocol::v2::{payment, refund};
use shared::protocol::v3::notification;
use shared::protocol::v3::resource::{self, OpenError};
use shared::protocol::{AuthenticateError, DecodeError, Part};
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

    /// The merchant that ingest took it for; of v3 nothing else says whose keys may open it.
    fn mch_id(&self) -> Option<MchId> {
        self.headers.get(MCH_ID).and_then(|text| MchId::parse(text))
    }

    /// The message without anything that a database could refuse: its bytes, and what it takes to replay it.
    #[must_use]
    pub fn bare(&self) -> Self {
        let kind = self.kind().map(|kind| ("type".to_owned(), kind.name().to_owned()));
        let mch_id = self.mch_id().map(|mch_id| (MCH_ID.to_owned(), mch_id.to_string()));
        Self { headers: kind.into_iter().chain(mch_id).collect(), ..self.clone() }
    }

    /// Authenticates and decodes the body.
    #[must_use]
    pub fn examine(&self, keys: &Keys) -> Finding {
        if self.suspect {
            return Finding::Undecided(Undecided::DecideAlone);
        }
        let read = match self.kind() {
            Some(CallbackKind::V2Payment) => read_v2_payment(&self.body, keys),
            Some(CallbackKind::V2Refund) => read_v2_refund(&self.body, keys),
            Some(CallbackKind::V3) => read_v3(&self.body, self.mch_id(), keys),
            None => Err(Undecided::Undecodable("a type of message that this version does not know".into())),
        };
        match read {
            Ok(notification) => Finding::Notified(notification),
            Err(undecided) => Finding::Undecided(undecided),
        }
    }
}

fn read_v2_payment(body: &[u8], keys: &Keys) -> Result<Notification, Undecided> {
    let payment = payment::authenticate(body, keys).map_err(|error| not_v2(&error))?;
    keys.count_use(payment.key);
    let fields = payment.content.unambiguous().map_err(|error| Undecided::Undecodable(error.to_string()))?;
    the_one(payment::decode(&fields, payment.merchant))
}

fn read_v2_refund(body: &[u8], keys: &Keys) -> Result<Notification, Undecided> {
    let refund = refund::authenticate(body, keys).map_err(|error| not_v2(&error))?;
    keys.count_use(refund.key);
    refund::decode(&refund.content).map_err(undecodable)
}

fn read_v3(body: &[u8], mch_id: Option<MchId>, keys: &Keys) -> Result<Notification, Undecided> {
    let mch_id = mch_id.ok_or_else(|| Undecided::NotAuthentic("the header mch-id is missing".to_owned()))?;
    let event = resource::open(body, mch_id.as_str(), keys).map_err(|error| match error {
        // Ingest knew WeChat Pay's signature. If this worker cannot open it, its merchants file may be the older one.
        OpenError::UnknownMerchant | OpenError::NoKeyOpens => Undecided::ForKey(error.to_string()),
        OpenError::TooLarge
        | OpenError::NotAnEnvelope
        | OpenError::Algorithm
        | OpenError::Nonce
        | OpenError::Ciphertext => Undecided::Malformed(error.to_string()),
    })?;
    keys.count_use(event.key);
    the_one(notification::decode(&event.content, event.merchant))
}

fn the_one(parts: Result<Vec<Part>, DecodeError>) -> Result<Notification, Undecided> {
    match <[Part; 1]>::try_from(parts.map_err(undecodable)?) {
        Ok([part]) => part.map_err(undecodable),
        Err(parts) => Err(Undecided::Undecodable(format!("a combined order with {} sub-orders", parts.len()))),
    }
}

fn undecodable(error: DecodeError) -> Undecided {
    Undecided::Undecodable(error.to_string())
}

fn not_v2(error: &AuthenticateError) -> Undecided {
    match error {
        // Ingest knew a key for it. If this worker does not, its merchants file may be the older one.
        AuthenticateError::UnknownMerchant(_)
        | AuthenticateError::NotSigned(VerifyError::SignatureDiffers)
        | AuthenticateError::NotOpened(refund::OpenError::NoKeyOpens) => Undecided::ForKey(error.to_string()),
        AuthenticateError::Malformed(error) => Undecided::Malformed(error.to_string()),
        AuthenticateError::NoMerchant | AuthenticateError::NotSigned(_) | AuthenticateError::NotOpened(_) => {
            Undecided::NotAuthentic(error.to_string())
        }
    }
}
