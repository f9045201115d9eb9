//! Why a callback was refused, as an operator needs it: the cause, the merchant if it is one of ours, the right address if
//! it came to a wrong one. One log line a minute for each cause and merchant, because the sender controls the volume.
//!
//! What a refused callback says about itself is unproved: it chooses a label and a log line, nothing else. No body, key or
//! payer is logged; text from the sender is cut and escaped.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use shared::domain::ids::MchId;
use shared::protocol::keys::KeyRing;
use shared::protocol::v2::xml::{self, Fields};
use shared::protocol::{CallbackKind, Unverified};

use crate::addresses::address;
use crate::outcome::Outcome;
use crate::request::Request;

/// How often the same cause is logged for the same merchant.
const LOG_EVERY: Duration = Duration::from_mins(1);
/// The longest text from a sender in a log line, in characters.
const DETAIL_CHARS_MAX: usize = 160;

/// How a callback ended that was not stored, and what is known about it.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) outcome: Outcome,
    /// A merchant of the merchants file, as the callback claims.
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

    pub(crate) fn about(self, merchant: Option<MchId>) -> Self {
        Self { merchant, ..self }
    }

    /// Adds what the refused callback itself says: whose it claims to be, and whether it belongs to another address.
    pub(crate) fn look_into(self, request: Request<'_>, body: &[u8], ring: &KeyRing) -> Self {
        let kind = request.kind;
        let fields = xml::read(body).ok();
        let claimed = match (kind, &fields) {
            (CallbackKind::V3, _) => Some(request.path_mch_id),
            (_, Some(fields)) => fields.claimed("mch_id").or_else(|| fields.claimed("combine_mch_id")),
            (_, None) => None,
        };
        let merchant = claimed.and_then(|mch_id| ring.merchant(mch_id)).map(|merchant| merchant.mch_id().clone());
        match made_for(body, fields.as_ref()).filter(|made_for| *made_for != kind && self.may_be_misrouted()) {
            Some(other) => {
                let detail = format!("a {} belongs to {}", name(other), address(other));
                Self { outcome: Outcome::WrongRoute, merchant, detail }
            }
            None => self.about(merchant),
        }
    }

    /// Whether a wrong address could explain it.
    fn may_be_misrouted(&self) -> bool {
        matches!(
            self.outcome,
            Outcome::Malformed | Outcome::NotAuthentic | Outcome::DigestNotAccepted | Outcome::MissingHeader
        )
    }

    /// Logs it, if `log` allows a line now.
    pub(crate) fn log(&self, kind: CallbackKind, log: &RefusalLog) {
        let (Some(advice), cause) = (self.outcome.advice(), self.outcome.name()) else { return };
        let Some(suppressed) = log.take(cause, self.merchant.as_ref()) else { return };
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

/// Logs a request for a path or with a method that ingest does not have, if `log` allows a line now.
pub(crate) fn log_unknown(cause: &'static str, path: &str, log: &RefusalLog) {
    if let Some(suppressed) = log.take(cause, None) {
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

/// The kind of callback that a body looks like.
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

/// Short, on one line, and without characters that a terminal would interpret.
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

/// Which refusals were logged when, by cause and merchant. Bounded, because only merchants of the file are keys.
#[derive(Debug, Default)]
pub(crate) struct RefusalLog(Mutex<HashMap<(&'static str, Option<MchId>), LastLine>>);

#[derive(Debug)]
struct LastLine {
    at: Instant,
    suppressed: u64,
}

impl RefusalLog {
    /// If a line is due now: how many refusals were not logged since the last one.
    fn take(&self, cause: &'static str, merchant: Option<&MchId>) -> Option<u64> {
        self.take_at(cause, merchant, Instant::now())
    }

    fn take_at(&self, cause: &'static str, merchant: Option<&MchId>, now: Instant) -> Option<u64> {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(last) = lines.get_mut(&(cause, merchant.cloned())) else {
            lines.insert((cause, merchant.cloned()), LastLine { at: now, suppressed: 0 });
            return Some(0);
        };
        if now.saturating_duration_since(last.at) < LOG_EVERY {
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
    fn each_cause_and_merchant_is_logged_once_a_minute_and_the_rest_are_counted() {
        let (log, begin) = (RefusalLog::default(), Instant::now());
        let (one, other) = (MchId::parse("1").unwrap(), MchId::parse("2").unwrap());
        let take = |cause, merchant, seconds| log.take_at(cause, merchant, begin + Duration::from_secs(seconds));
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
    fn text_from_a_sender_is_short_and_harmless() {
        assert_eq!(printable("/pay\r\n\u{1b}]0;x\u{202e}"), r"/pay\u{d}\u{a}\u{1b}]0;x\u{202e}");
        assert_eq!(printable(&"x".repeat(1000)).len(), DETAIL_CHARS_MAX);
    }
}
