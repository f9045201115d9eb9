//! One callback of a batch, and what its bytes decode to.
//!
//! The worker authenticates the stored bytes again: write access to the broker delays a payment, and never forges one.
//! [`Message::authenticate_and_decode`] is the only place where bytes become notifications.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use chrono::{DateTime, Utc};
use shared::domain::decide::Asked;
use shared::domain::ids::{MchId, OutRefundNo, OutTradeNo, SubMchId, TransactionId};
use shared::domain::money::Money;
use shared::domain::notification::{Notification, Payment, PaymentResult};
use shared::merchants_file::MeteredKeyRing;
use shared::messaging::consumer::Delivery;
use shared::messaging::envelope::{ENVELOPE_VERSION, MCH_ID, VERSION};
use shared::protocol::v2::signature::VerifyError;
use shared::protocol::v2::{payment, refund};
use shared::protocol::v3::notification;
use shared::protocol::v3::resource::{self, OpenError};
use shared::protocol::{self, AuthenticateError, CallbackKind, DecodeError, glance, reveal};
use uuid::Uuid;

use super::outcome::NotDecided;

/// After this many deliveries a message is no longer decided together with others.
pub const DELIVERIES_BEFORE_ALONE: u64 = 5;

/// A callback with its data from the broker or the ledger.
#[derive(Debug, Clone)]
pub struct Message {
    /// The AMQP `message_id`, the key of the ledger.
    pub id: Uuid,
    /// The time inside `id`.
    pub received_at: DateTime<Utc>,
    /// The message's type and headers.
    pub headers: BTreeMap<String, String>,
    /// The exact bytes that WeChat Pay sent.
    pub body: Vec<u8>,
    /// Whether it may have been processed before.
    pub redelivered: bool,
    /// Whether it must be decided apart from others, because it may be crashing workers.
    pub suspect: bool,
}

/// What the bytes of one callback, or of one sub-order of a combined one, turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// An authentic notification: the order's state decides.
    Notified(Notification),
    /// Something that no order can decide.
    NotDecided(NotDecided),
}

/// One callback, or one sub-order of a combined one, after decoding.
#[derive(Debug, Clone)]
pub struct Examined<'keys> {
    /// What it says, or why it could not be read.
    pub finding: Finding,
    /// What it names, as far as it could be read.
    pub names: Names,
    /// The fingerprint of the key that proved it.
    pub key: Option<&'keys str>,
}

/// What a callback names, for the columns that operators search by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    /// `payment`, `refund` or `other`.
    pub kind: Option<&'static str>,
    /// The merchant.
    pub mch_id: Option<MchId>,
    /// The sub-merchant.
    pub sub_mch_id: Option<SubMchId>,
    /// The order.
    pub out_trade_no: Option<OutTradeNo>,
    /// The payment.
    pub transaction_id: Option<TransactionId>,
    /// The refund.
    pub out_refund_no: Option<OutRefundNo>,
    /// What the payer paid; a refund has none.
    pub paid: Option<Money>,
}

impl Names {
    /// What a notification names.
    #[must_use]
    pub fn from_notification(notification: &Notification) -> Self {
        let (sub_mch_id, paid) = match notification {
            Notification::Payment(Payment { sub_mch_id, result, .. }) => match result {
                PaymentResult::Success(success) => (sub_mch_id.clone(), Some(success.total)),
                PaymentResult::NotSuccessful => (sub_mch_id.clone(), None),
            },
            Notification::Refund(refund) => (refund.sub_mch_id.clone(), None),
            Notification::Other(_) => (None, None),
        };
        Self {
            kind: Some(notification.kind()),
            mch_id: Some(notification.mch_id().clone()),
            sub_mch_id,
            out_trade_no: notification.out_trade_no().cloned(),
            transaction_id: notification.transaction_id().cloned(),
            out_refund_no: notification.out_refund_no().cloned(),
            paid,
        }
    }
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

    /// Whether another message is this one again, and not another one under its id.
    #[must_use]
    pub fn says_the_same_as(&self, other: &Self) -> bool {
        let what = |message: &Self| ["type", MCH_ID].map(|name| message.headers.get(name).cloned());
        self.body == other.body && what(self) == what(other)
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

    /// The message without any header that a database could refuse: its bytes, and the headers that a replay needs.
    #[must_use]
    pub fn with_essential_headers(&self) -> Self {
        let kind = self.kind().map(|kind| ("type".to_owned(), kind.name().to_owned()));
        let mch_id = self.mch_id().map(|mch_id| (MCH_ID.to_owned(), mch_id.to_string()));
        Self { headers: kind.into_iter().chain(mch_id).collect(), ..self.clone() }
    }

    /// The body for an operator to read: opened as far as the keys permit, with the payer's own data masked.
    ///
    /// # Errors
    /// The reason why it cannot be shown.
    pub fn reveal(&self, keys: &MeteredKeyRing) -> Result<String, String> {
        let revealed = match (self.kind(), self.mch_id()) {
            (Some(CallbackKind::V2Payment), _) => reveal::v2_payment(&self.body, keys.ring()),
            (Some(CallbackKind::V2Refund), _) => reveal::v2_refund(&self.body, keys.ring()),
            (Some(CallbackKind::V3), Some(mch_id)) => reveal::v3(&self.body, mch_id.as_str(), keys.ring()),
            (Some(CallbackKind::V3), None) => return Err("the message has no mch-id header".to_owned()),
            (None, _) => return Err("this version of the worker does not know its type".to_owned()),
        };
        revealed.map_err(|error| error.to_string())
    }

    /// Authenticates and decodes the body: one finding, or one per sub-order of a combined order. A signed text that can be
    /// read in more than one way is read only when an operator has accepted it.
    #[must_use]
    pub fn authenticate_and_decode<'keys>(&self, keys: &'keys MeteredKeyRing, asked: Asked) -> Vec<Examined<'keys>> {
        if self.suspect {
            return vec![Examined::not_decided(NotDecided::DecideAlone)];
        }
        if let Some(other) = self.headers.get(VERSION).filter(|version| *version != ENVELOPE_VERSION) {
            let problem = format!("message layout version {other} is unknown to this worker");
            return vec![Examined::not_decided(NotDecided::ForVersion(problem))];
        }
        let read = match self.kind() {
            Some(CallbackKind::V2Payment) => read_v2_payment(&self.body, keys, asked),
            Some(CallbackKind::V2Refund) => read_v2_refund(&self.body, keys),
            Some(CallbackKind::V3) => read_v3(&self.body, self.mch_id(), keys),
            None => Err(NotDecided::ForVersion("unknown message type".into())),
        };
        match read {
            Ok((_, parts)) if parts.is_empty() => {
                vec![Examined::not_decided(NotDecided::Undecodable("it contains no notification".to_owned()))]
            }
            Ok((key, parts)) => self.examined(key, parts, keys),
            Err(undecided) => {
                let names = self.names(self.glance(keys).into_iter().next());
                vec![Examined { names, ..Examined::not_decided(undecided) }]
            }
        }
    }

    /// The same for a message that may make this worker panic: nothing if it does.
    #[must_use]
    pub fn authenticate_and_decode_catching_panics<'keys>(&self, keys: &'keys MeteredKeyRing) -> Vec<Examined<'keys>> {
        let examined = AssertUnwindSafe(|| self.authenticate_and_decode(keys, Asked::ByReport));
        catch_unwind(examined).unwrap_or_default()
    }

    fn examined<'keys>(
        &self,
        key: &'keys str,
        parts: Vec<protocol::Part>,
        keys: &MeteredKeyRing,
    ) -> Vec<Examined<'keys>> {
        let mut glances = Vec::new();
        if parts.iter().any(Result::is_err) {
            glances = self.glance(keys);
        }
        let mut glances = glances.into_iter();
        let decoded = |part: protocol::Part| {
            let glance = glances.next();
            match part {
                Ok(notification) => {
                    let names = Names::from_notification(&notification);
                    Examined { finding: Finding::Notified(notification), names, key: Some(key) }
                }
                Err(error) => {
                    let finding = Finding::NotDecided(undecodable(error));
                    Examined { finding, names: self.names(glance), key: Some(key) }
                }
            }
        };
        parts.into_iter().map(decoded).collect()
    }

    /// The names in a part that could not be decoded; at least the merchant that ingest identified.
    fn names(&self, glance: Option<glance::Glance>) -> Names {
        let Some(glance) = glance else { return Names { mch_id: self.mch_id(), ..Names::default() } };
        let paid = if self.kind() == Some(CallbackKind::V2Refund) { None } else { glance.amount_minor };
        Names {
            kind: None,
            mch_id: glance.mch_id.or_else(|| self.mch_id()),
            sub_mch_id: glance.sub_mch_id,
            out_trade_no: glance.out_trade_no,
            transaction_id: glance.transaction_id,
            out_refund_no: None,
            paid: paid.zip(glance.currency).map(|(amount_minor, currency)| Money { amount_minor, currency }),
        }
    }

    /// Whatever can be read in a callback that could not be decoded, by part.
    fn glance(&self, keys: &MeteredKeyRing) -> Vec<glance::Glance> {
        match (self.kind(), self.mch_id()) {
            (Some(CallbackKind::V2Payment), _) => glance::v2_payment(&self.body, keys.ring()),
            (Some(CallbackKind::V2Refund), _) => glance::v2_refund(&self.body, keys.ring()),
            (Some(CallbackKind::V3), Some(mch_id)) => glance::v3(&self.body, mch_id.as_str(), keys.ring()),
            (Some(CallbackKind::V3), None) | (None, _) => Vec::new(),
        }
    }
}

impl Examined<'_> {
    /// A callback of which nothing can be read.
    #[must_use]
    pub fn not_decided(why: NotDecided) -> Self {
        Self { finding: Finding::NotDecided(why), names: Names::default(), key: None }
    }
}

/// The key that proved a body, and what it says.
type Read<'keys> = Result<(&'keys str, Vec<protocol::Part>), NotDecided>;

fn read_v2_payment<'keys>(body: &[u8], keys: &'keys MeteredKeyRing, asked: Asked) -> Read<'keys> {
    let payment = payment::authenticate(body, keys.ring()).map_err(|error| not_v2(&error))?;
    keys.count_use(payment.key);
    let fields = match asked {
        Asked::ByAcceptance => payment.content.accepted_by_operator(),
        Asked::ByReport | Asked::ByReplay => {
            payment.content.unambiguous().map_err(|error| NotDecided::AmbiguousSignature(error.to_string()))?
        }
    };
    Ok((&payment.key.name, payment::decode(&fields, payment.merchant).map_err(undecodable)?))
}

fn read_v2_refund<'keys>(body: &[u8], keys: &'keys MeteredKeyRing) -> Read<'keys> {
    let refund = refund::authenticate(body, keys.ring()).map_err(|error| not_v2(&error))?;
    keys.count_use(refund.key);
    Ok((&refund.key.name, vec![refund::decode(&refund.content)]))
}

fn read_v3<'keys>(body: &[u8], mch_id: Option<MchId>, keys: &'keys MeteredKeyRing) -> Read<'keys> {
    let mch_id = mch_id.ok_or_else(|| NotDecided::NotAuthentic("the header mch-id is missing".to_owned()))?;
    let event = resource::open(body, mch_id.as_str(), keys.ring()).map_err(not_v3)?;
    keys.count_use(event.key);
    Ok((&event.key.name, notification::decode(&event.content, event.merchant).map_err(undecodable)?))
}

fn not_v3(error: OpenError) -> NotDecided {
    match error {
        // Ingest verified WeChat Pay's signature. If this worker cannot open it, its merchants file may be the older one.
        OpenError::UnknownMerchant | OpenError::NoKeyOpens => NotDecided::ForKey(error.to_string()),
        OpenError::TooLarge
        | OpenError::NotAnEnvelope
        | OpenError::Algorithm
        | OpenError::Nonce
        | OpenError::Ciphertext => NotDecided::Malformed(error.to_string()),
    }
}

fn undecodable(error: DecodeError) -> NotDecided {
    match error {
        DecodeError::MerchantNotCombined => NotDecided::MchIdMismatch(error.to_string()),
        other => NotDecided::Undecodable(other.to_string()),
    }
}

fn not_v2(error: &AuthenticateError) -> NotDecided {
    match error {
        // Ingest had a key for it. If this worker does not, its merchants file may be the older one.
        AuthenticateError::UnknownMerchant(_)
        | AuthenticateError::NotSigned(VerifyError::SignatureDiffers)
        | AuthenticateError::NotOpened(refund::OpenError::NoKeyOpens) => NotDecided::ForKey(error.to_string()),
        AuthenticateError::Malformed(error) => NotDecided::Malformed(error.to_string()),
        AuthenticateError::NoMerchant | AuthenticateError::NotSigned(_) | AuthenticateError::NotOpened(_) => {
            NotDecided::NotAuthentic(error.to_string())
        }
    }
}

#[cfg(test)]
mod tests;
