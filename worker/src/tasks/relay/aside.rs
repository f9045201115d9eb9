//! Event types that the broker refuses, set aside so that they do not hold up other types.
//!
//! The routing key of an event is its type, so the broker's answer to one event holds for all of its type: no queue is
//! bound for it, or a queue that is bound is full. Such a type is left in the outbox, and one event of it is tried again
//! every second. Nothing is given up.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use metrics::gauge;
use shared::messaging::publisher::PublishError;
use shared::messaging::topology::EVENTS_EXCHANGE;

/// How often one event of each type is tried again.
const TRY_EVERY: Duration = Duration::from_secs(1);
/// A type that is still refused is logged again after this long.
const LOG_EVERY: Duration = Duration::from_mins(1);

/// Why the broker refuses events of one type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// No queue is bound for it.
    Unroutable,
    /// A queue that is bound for it is full.
    Refused,
}

impl Refusal {
    /// The refusal in the publisher's answer; `None` for one that says nothing about the event.
    #[must_use]
    pub fn from_answer(error: PublishError) -> Option<Self> {
        match error {
            PublishError::Unroutable => Some(Self::Unroutable),
            PublishError::Refused => Some(Self::Refused),
            PublishError::Unknown | PublishError::Busy | PublishError::Down => None,
        }
    }
}

/// One type that is set aside.
struct Since {
    refusal: Refusal,
    at: Instant,
}

/// The types that are set aside.
#[derive(Default)]
pub struct Aside {
    types: BTreeMap<String, Since>,
    tried: Option<Instant>,
    logged: BTreeMap<String, Instant>,
}

impl Aside {
    /// The types that are not to be read.
    #[must_use]
    pub fn types(&self) -> Vec<String> {
        self.types.keys().cloned().collect()
    }

    /// Whether nothing is set aside.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.types.is_empty()
    }

    /// The types of which one event is to be tried now.
    #[must_use]
    pub fn due(&self, now: Instant) -> Vec<String> {
        let tried_lately = self.tried.is_some_and(|tried| now.duration_since(tried) < TRY_EVERY);
        if tried_lately { Vec::new() } else { self.types() }
    }

    /// Sets a type aside, or leaves it there.
    pub fn refuse(&mut self, kind: &str, refusal: Refusal, now: Instant) {
        let since = self.types.get(kind).filter(|known| known.refusal == refusal).map_or(now, |known| known.at);
        self.types.insert(kind.to_owned(), Since { refusal, at: since });
        self.tried = Some(now);
        show(kind, Some(refusal));
        if self.logged.get(kind).is_none_or(|logged| now.duration_since(*logged) >= LOG_EVERY) {
            self.logged.insert(kind.to_owned(), now);
            log(kind, refusal);
        }
    }

    /// Takes types back: one event of each was accepted, or there is none left.
    pub fn accept(&mut self, kinds: &[String], now: Instant) {
        for kind in kinds {
            // A full queue that is being read accepts a few events every second: that is not worth a log line.
            if let Some(since) = self.types.remove(kind)
                && now.duration_since(since.at) > TRY_EVERY.saturating_mul(2)
            {
                self.logged.remove(kind);
                tracing::info!(r#type = kind, "events of this type are being published again");
            }
            show(kind, None);
        }
    }
}

fn show(kind: &str, refusal: Option<Refusal>) {
    let one_if = |wanted| if refusal == Some(wanted) { 1.0 } else { 0.0 };
    gauge!("worker_events_unroutable", "type" => kind.to_owned()).set(one_if(Refusal::Unroutable));
    gauge!("worker_events_refused", "type" => kind.to_owned()).set(one_if(Refusal::Refused));
}

fn log(kind: &str, refusal: Refusal) {
    match refusal {
        Refusal::Unroutable => tracing::warn!(
            r#type = kind,
            "events of this type stay in the outbox because no queue is bound for them: \
             bind one to the exchange {EVENTS_EXCHANGE} with the routing key {kind} or #"
        ),
        Refusal::Refused => tracing::warn!(
            r#type = kind,
            "events of this type stay in the outbox because the broker refuses them: \
             a queue that is bound to the exchange {EVENTS_EXCHANGE} for them is full"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_type_is_retried_once_a_second_until_it_is_accepted() {
        let (mut aside, start) = (Aside::default(), Instant::now());
        let at = |millis| start + Duration::from_millis(millis);
        assert!(aside.due(start).is_empty());
        aside.refuse("refund.closed", Refusal::Unroutable, start);
        aside.refuse("order.paid", Refusal::Refused, at(10));
        assert_eq!(aside.types(), ["order.paid", "refund.closed"]);
        assert!(aside.due(at(1000)).is_empty());
        assert_eq!(aside.due(at(1010)), ["order.paid", "refund.closed"]);

        aside.accept(&["order.paid".to_owned()], at(1010));
        aside.refuse("refund.closed", Refusal::Unroutable, at(1010));
        assert_eq!(aside.types(), ["refund.closed"]);
        assert!(aside.due(at(2000)).is_empty());
        aside.accept(&["refund.closed".to_owned()], at(2010));
        assert!(aside.is_empty() && aside.due(at(9000)).is_empty());
    }

    #[test]
    fn only_an_answer_about_the_event_is_a_refusal() {
        assert_eq!(Refusal::from_answer(PublishError::Unroutable), Some(Refusal::Unroutable));
        assert_eq!(Refusal::from_answer(PublishError::Refused), Some(Refusal::Refused));
        for broken in [PublishError::Unknown, PublishError::Busy, PublishError::Down] {
            assert_eq!(Refusal::from_answer(broken), None);
        }
    }
}
