//! What must hold of everything that is accepted, whatever made it acceptable.

use chrono::{DateTime, Datelike, Utc};
use shared::domain::ids::ID_BYTES_MAX;
use shared::domain::notification::{Notification, PaymentResult, RefundResult};
use shared::protocol::{Authentic, DecodeError, Part, SUB_ORDERS_MAX};
use shared::protocol::v2::payment;
use shared::protocol::v2::signed::{AmbiguousSignature, Signed};
use shared::protocol::v2::xml::{FIELDS_MAX, Fields};

use crate::keys::MERCHANT;
use crate::wire;

/// Fields are sorted by name, each name once, not too many; and looking one up finds it.
pub fn fields(fields: &Fields<'_>) {
    let names: Vec<&str> = fields.iter().map(|(name, _)| name).collect();
    assert!(names.len() <= FIELDS_MAX);
    assert!(names.is_sorted_by(|one, next| one < next), "{names:?}");
    for (name, value) in fields.iter() {
        assert_eq!(fields.get(name), Some(value).filter(|value| !value.is_empty()));
        assert!(name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_'), "{name:?}");
        assert!(!value.contains('\0'));
    }
}

/// What a v2 payment says: well-formed fields, of which at most one reading is taken. Its fields as they were sent.
pub fn said_by(authentic: Authentic<'_, Signed<'_>>) -> wire::Fields {
    let (merchant, ambiguity) = (authentic.merchant, authentic.content.ambiguity());
    let read = authentic.content.accepted_by_operator();
    fields(&read);
    if let Some(AmbiguousSignature { field, name }) = &ambiguity {
        assert!(field.len() <= 64 && name.len() <= 64);
    }
    parts(payment::decode(&read, merchant));
    read.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// No more parts than WeChat Pay combines, each about a merchant that this one may combine.
pub fn parts(parts: Result<Vec<Part>, DecodeError>) {
    let parts = parts.unwrap_or_default();
    assert!(parts.len() <= SUB_ORDERS_MAX);
    parts.iter().flatten().for_each(notification);
}

/// A notification is about the merchant whose key authenticated it, and a row can hold what it says.
pub fn notification(notification: &Notification) {
    assert_eq!(notification.mch_id().as_str(), MERCHANT);
    let ids = [
        notification.out_trade_no().map(|id| id.as_str()),
        notification.transaction_id().map(|id| id.as_str()),
        notification.out_refund_no().map(|id| id.as_str()),
    ];
    ids.into_iter().flatten().for_each(id);
    match notification {
        Notification::Payment(payment) => {
            if let PaymentResult::Success(success) = &payment.result {
                assert!(success.total.amount_minor >= 0);
                assert!(success.total.currency.as_str().bytes().all(|byte| byte.is_ascii_uppercase()));
                assert!(payment.out_trade_no.is_some());
                time(success.paid_at);
            }
        }
        Notification::Refund(refund) => {
            assert!(refund.amount_minor > 0 && refund.total_minor >= 0);
            id(refund.refund_id.as_str());
            if let RefundResult::Succeeded(at) = refund.result {
                time(at);
            }
        }
        Notification::Other(_) => {}
    }
}

fn id(text: &str) {
    assert!((1..=ID_BYTES_MAX).contains(&text.len()), "{text:?}");
    assert!(!text.chars().any(char::is_control), "{text:?}");
}

/// Four digits of a year, as every format of WeChat Pay's has; an offset may reach into the years beside.
fn time(at: DateTime<Utc>) {
    assert!((-1..=10_000).contains(&at.year()), "{at}");
}
