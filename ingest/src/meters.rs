//! The metrics of ingest. Only a merchant of the merchants file becomes a label: outsiders cannot add series.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use metrics::{Counter, Gauge, Histogram, counter, describe_counter, describe_gauge, describe_histogram};
use shared::domain::ids::MchId;
use shared::protocol::CallbackKind;
use tokio::time::Instant;

use crate::outcome::Outcome;

/// The description of `ingest_callbacks_total`.
const CALLBACKS_HELP: &str = "Callbacks by how they ended; only `stored` got SUCCESS. `merchant` is empty unless it is one in \
                              the merchants file; of a refused callback it is only what the callback says. `wrong_route`: v2 \
                              payments belong to /wechatpay/v2/payment, v2 refunds to /wechatpay/v2/refund, v3 callbacks to \
                              /wechatpay/v3/ and the mch_id";

/// Handles that are looked up once: a registry look-up per request would cost more than all other bookkeeping.
#[derive(Debug)]
pub(crate) struct Meters {
    /// Callbacks for no merchant of the file.
    strangers: Outcomes,
    /// Callbacks by merchant, added with the first one.
    merchants: RwLock<HashMap<MchId, Outcomes>>,
    seconds: Histogram,
    pub(crate) in_flight: Gauge,
    pub(crate) reading: Gauge,
    pub(crate) unknown_path: Counter,
    pub(crate) wrong_method: Counter,
}

type Outcomes = HashMap<(CallbackKind, Outcome), Counter>;

impl Meters {
    /// Registers every outcome of every kind, so that each shows a 0 before it first happens.
    pub(crate) fn register() -> Self {
        describe_counter!("ingest_callbacks_total", CALLBACKS_HELP);
        describe_histogram!("ingest_callback_seconds", "From a callback's head to its reply");
        describe_gauge!("ingest_in_flight", "Authentic callbacks being published");
        describe_gauge!("ingest_reading", "Callbacks whose body is being read");
        describe_counter!("ingest_unknown_path_total", "Requests for a path that ingest does not have, answered 404");
        describe_counter!("ingest_wrong_method_total", "Requests for a callback's path other than POST, answered 405");
        let of_kind = |kind| Outcome::ALL.iter().map(move |&outcome| ((kind, outcome), counter(kind, outcome, "")));
        Self {
            strangers: CallbackKind::ALL.into_iter().flat_map(of_kind).collect(),
            merchants: RwLock::default(),
            seconds: metrics::histogram!("ingest_callback_seconds"),
            in_flight: metrics::gauge!("ingest_in_flight"),
            reading: metrics::gauge!("ingest_reading"),
            unknown_path: counter!("ingest_unknown_path_total"),
            wrong_method: counter!("ingest_wrong_method_total"),
        }
    }

    /// `merchant` is one of the merchants file.
    pub(crate) fn count(&self, kind: CallbackKind, outcome: Outcome, merchant: Option<&MchId>, since: Instant) {
        self.seconds.record(since.elapsed());
        let Some(merchant) = merchant else {
            if let Some(counter) = self.strangers.get(&(kind, outcome)) {
                counter.increment(1);
            }
            return;
        };
        let known = self.merchants.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(counter) = known.get(merchant).and_then(|outcomes| outcomes.get(&(kind, outcome))) {
            return counter.increment(1);
        }
        drop(known);
        let mut known = self.merchants.write().unwrap_or_else(PoisonError::into_inner);
        let outcomes = known.entry(merchant.clone()).or_default();
        outcomes.entry((kind, outcome)).or_insert_with(|| counter(kind, outcome, merchant.as_str())).increment(1);
    }
}

fn counter(kind: CallbackKind, outcome: Outcome, merchant: &str) -> Counter {
    let labels = [("kind", kind.name()), ("outcome", outcome.name())].map(|(name, value)| (name, value.to_owned()));
    let [kind, outcome] = labels;
    counter!("ingest_callbacks_total", &[kind, outcome, ("merchant", merchant.to_owned())])
}
