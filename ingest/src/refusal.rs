//! Why a callback was refused, as an operator needs it: the cause, the merchant if it is one of ours, the right address if
//! it came to a wrong one. One log line a minute for each cause and merchant, because the sender decides how many there are.
//!
//! What the callback says about itself is not proven here, and only chooses a label and a line. No body, key or payer is
//! logged; a text of the sender's is cut and escaped.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use actix_web::HttpRequest;
use shared::domain::ids::MchId;
use shared::protocol::keys::KeyRing;
use shared::protocol::v2::xml::{self, Fields};
use shared::protocol::{CallbackKind, Unverified};

use crate::app::{V2_PAYMENT, V2_REFUND, V3};
use crate::outcome::Outcome;

/// How often the same cause has a line for the same merchant.
const SAY_EVERY: Duration = Duration::from_mins(1);
/// The longest text of a sender's in a log line, in characters.
const DETAIL_CHARS_MAX: usize = 160;

/// How a callback ended that was not stored.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) outcome: Outcome,
    /// One of the merchants file.
    pub(crate) merchant: Option<MchId>,
    detail: String,
}

impl From<Outcome> for Refusal {
    fn from(outcome: Outcome) -> Self {
        Self::new(outcome, String::new())
    }
}

impl Refusal {
    pub(crate) fn new(outcome: Outcome, detail: String) -> Self {
        Self { outcome, merchant: None, detail }
    }

    pub(crate) fn of(self, merchant: Option<MchId>) -> Self {
        Self { merchant, ..self }
    }

    /// Finds out from a body that was refused whose it is, and whether it belongs to another address.
    pub(crate) fn look_into(self, kind: CallbackKind, request: &HttpRequest, body: &[u8], ring: &KeyRing) -> Self {
        let fields = xml::read(body).ok();
        let claimed = match (kind, &fields) {
            (CallbackKind::V3, _) => request.match_info().get("mch_id"),
            (_, Some(fields)) => fields.claimed("mch_id").or_else(|| fields.claimed("combine_mch_id")),
            (_, None) => None,
        };
        let merchant = claimed.and_then(|mch_id| ring.merchant(mch_id)).map(|merchant| merchant.mch_id().clone());
        match made_for(body, fields.as_ref()).filter(|made_for| *made_for != kind && self.may_be_misrouted()) {
            Some(other) => {
                let detail = format!("a {} belongs to {}", name(other), address(other));
                Self { outcome: Outcome::WrongRoute, merchant, detail }
            }
            None => self.of(merchant),
        }
    }

    /// Whether a wrong address explains it.
    fn may_be_misrouted(&self) -> bool {
        matches!(
            self.outcome,
            Outcome::Malformed | Outcome::NotAuthentic | Outcome::DigestNotAccepted | Outcome::MissingHeader
        )
    }

    /// Logs it, within the allowance.
    pub(crate) fn log(&self, kind: CallbackKind, allowance: &Allowances) {
        let (Some(advice), cause) = (self.outcome.advice(), self.outcome.name()) else { return };
        let Some(suppressed) = allowance.take(cause, self.merchant.as_ref()) else { return };
        let merchant = self.merchant.as_ref().map_or("", MchId::as_str);
        let detail = printable(&self.detail);
        tracing::warn!(
            outcome = cause,
            kind = kind.name(),
            merchant,
            detail,
            suppressed,
            "refused a callback: {advice}"
        );
    }
}

/// Logs a request for what ingest does not have, within the allowance.
pub(crate) fn log_unknown(cause: &'static str, path: &str, allowance: &Allowances) {
    if let Some(suppressed) = allowance.take(cause, None) {
        let path = printable(path);
        tracing::warn!(
            cause,
            path,
            suppressed,
            "refused a request that is not for a callback's address, or not a POST; if WeChat Pay sent it, correct the \
             notify_url or the proxy"
        );
    }
}

/// The kind that a body has by its shape alone.
fn made_for(body: &[u8], fields: Option<&Unverified<Fields<'_>>>) -> Option<CallbackKind> {
    match fields {
        Some(fields) if fields.claimed("req_info").is_some() => Some(CallbackKind::V2Refund),
        Some(fields) if fields.claimed("sign").is_some() => Some(CallbackKind::V2Payment),
        Some(_) => None,
        None => body.trim_ascii_start().starts_with(b"{").then_some(CallbackKind::V3),
    }
}

fn name(kind: CallbackKind) -> &'static str {
    match kind {
        CallbackKind::V2Payment => "v2 payment",
        CallbackKind::V2Refund => "v2 refund",
        CallbackKind::V3 => "v3 callback",
    }
}

fn address(kind: CallbackKind) -> &'static str {
    match kind {
        CallbackKind::V2Payment => V2_PAYMENT,
        CallbackKind::V2Refund => V2_REFUND,
        CallbackKind::V3 => V3,
    }
}

/// Short, on one line, without a character that a terminal would obey.
fn printable(text: &str) -> String {
    let mut shown = String::new();
    for character in text.chars().take(DETAIL_CHARS_MAX) {
        match character {
            ' '..='~' => shown.push(character),
            _ => shown.extend(character.escape_unicode()),
        }
    }
    shown
}

/// Who has had a line, and when. As many as there are causes and merchants in the file.
#[derive(Debug, Default)]
pub(crate) struct Allowances(Mutex<HashMap<(&'static str, Option<MchId>), Said>>);

#[derive(Debug)]
struct Said {
    at: Instant,
    suppressed: u64,
}

impl Allowances {
    /// How many had no line since the last one, if there may be a line now.
    fn take(&self, cause: &'static str, merchant: Option<&MchId>) -> Option<u64> {
        self.take_at(cause, merchant, Instant::now())
    }

    fn take_at(&self, cause: &'static str, merchant: Option<&MchId>, now: Instant) -> Option<u64> {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(last) = said.get_mut(&(cause, merchant.cloned())) else {
            said.insert((cause, merchant.cloned()), Said { at: now, suppressed: 0 });
            return Some(0);
        };
        if now.saturating_duration_since(last.at) < SAY_EVERY {
            last.suppressed = last.suppressed.saturating_add(1);
            return None;
        }
        last.at = now;
        Some(std::mem::take(&mut last.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_and_merchant_has_a_line_a_minute_and_the_rest_are_counted() {
        let (allowances, begin) = (Allowances::default(), Instant::now());
        let (one, other) = (MchId::parse("1").unwrap(), MchId::parse("2").unwrap());
        let take = |cause, merchant, seconds| allowances.take_at(cause, merchant, begin + Duration::from_secs(seconds));
        assert_eq!(take("forged", Some(&one), 0), Some(0));
        assert_eq!(take("forged", Some(&one), 1), None);
        assert_eq!(take("forged", Some(&one), 59), None);
        assert_eq!(take("forged", Some(&other), 59), Some(0));
        assert_eq!(take("forged", None, 59), Some(0));
        assert_eq!(take("altered", Some(&one), 59), Some(0));
        assert_eq!(take("forged", Some(&one), 60), Some(2));
        assert_eq!(take("forged", Some(&one), 61), None);
        assert_eq!(take("forged", Some(&one), 120), Some(1));
    }

    #[test]
    fn a_text_of_the_senders_is_short_and_harmless() {
        assert_eq!(printable("/pay\r\n\u{1b}]0;x\u{202e}"), r"/pay\u{d}\u{a}\u{1b}]0;x\u{202e}");
        assert_eq!(printable(&"x".repeat(1000)).len(), DETAIL_CHARS_MAX);
    }
}
