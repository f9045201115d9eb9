//! What the callbacks that were sent must lead to: a model of the merchant's rules, simple enough to read at a glance.
//!
//! Written independently of the pipeline's `decide`; the two must agree. It is given facts (what was sent, how it
//! was answered, which payments are on record), never the name of a scenario. Where the pipeline may choose, the model says
//! all that is allowed: of two payments either may win, and what was perhaps stored may or may not count.

use crate::plan::{Callback, Checkout, Order, PayResult, PaymentClaim, RefundClaim, RefundResult};
use crate::request_log::Record;

/// What a genuine payment callback is to its order, whatever else was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expectation {
    /// It reports that the payment failed.
    Ignored,
    /// Its order never comes.
    Waits,
    /// It does not fit its order: the reason.
    Refused(&'static str),
    /// It pays its order, if no other payment was first.
    Pays,
}

/// The order does not want a payment: the reasons under which that is recorded.
pub const REFUSALS: [&str; 5] =
    ["app_id_mismatch", "currency_mismatch", "amount_mismatch", PAID_TWICE, "paid_after_close"];
/// The only one of them that depends on other payments.
pub const PAID_TWICE: &str = "paid_twice";

/// What `claim` is to `order`.
#[must_use]
pub fn expectation(order: &Order, claim: &PaymentClaim) -> Expectation {
    if claim.result != PayResult::Success {
        Expectation::Ignored
    } else if order.checkout == Checkout::Never || claim.sub_mch_id != order.sub_mch_id {
        // An order belongs to one shop: to another shop's payment it does not exist.
        Expectation::Waits
    } else if order.app_id.is_some_and(|app_id| app_id != claim.app_id) {
        Expectation::Refused("app_id_mismatch")
    } else if claim.currency != order.currency {
        Expectation::Refused("currency_mismatch")
    } else if claim.amount_minor != order.amount_minor {
        Expectation::Refused("amount_mismatch")
    } else if order.checkout == Checkout::Closed {
        Expectation::Refused("paid_after_close")
    } else {
        Expectation::Pays
    }
}

/// Whether the ledger must, may or must not know a callback.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stored {
    /// Never answered SUCCESS, and not in doubt.
    No,
    /// In doubt.
    Perhaps,
    /// Told SUCCESS.
    Yes,
}

/// What the answers say about the ledger.
#[must_use]
pub fn stored(record: &Record) -> Stored {
    match record {
        Record { accepted: 1.., .. } => Stored::Yes,
        Record { unsure: 1.., .. } => Stored::Perhaps,
        _ => Stored::No,
    }
}

/// Outcome and reason, as the ledger has them.
pub type Outcome = (&'static str, Option<&'static str>);

/// A refused payment that an operator had decided again after some of it had gone back.
pub const PARTLY_RETURNED: Outcome = ("quarantined", Some("partly_returned"));
/// A report of a refused payment after all of it had gone back.
pub const RETURNED: Outcome = ("ignored", Some("returned"));

/// What one payment callback may come to, once the order has been paid by `paid_by`, or by nobody. `is_returned`: all of a
/// refused payment has gone back.
#[must_use]
pub fn payment_outcomes(order: &Order, claim: &PaymentClaim, paid_by: Option<&str>, is_returned: bool) -> Vec<Outcome> {
    let refused = |reason| {
        // The first report is refused, and its repeats are nothing new.
        let mut outcomes = vec![("quarantined", Some(reason)), ("duplicate", None)];
        // A repeat that came after all of it had gone back.
        outcomes.extend(is_returned.then_some(RETURNED));
        outcomes
    };
    match (expectation(order, claim), paid_by) {
        (Expectation::Ignored, _) => vec![("ignored", Some("not_successful"))],
        // Quarantined once the pipeline has waited long enough; it then says whether other shops have the number.
        (Expectation::Waits, _) => {
            let opened = if order.checkout == Checkout::Never { "for_order" } else { "sub_mch_id_mismatch" };
            vec![("waiting", Some("for_order")), ("quarantined", Some(opened))]
        }
        (Expectation::Refused(reason), _) => refused(reason),
        (Expectation::Pays, Some(winner)) if winner == claim.transaction_id => {
            vec![("applied", None), ("duplicate", None)]
        }
        (Expectation::Pays, Some(_)) => refused(PAID_TWICE),
        // The order's own rule says whether it should have been paid.
        (Expectation::Pays, None) => Vec::new(),
    }
}

/// What a genuine refund callback may come to, given the payment that it refunds, when that is on record. `others` is all
/// that was reported about the same refund.
#[must_use]
pub fn refund_outcomes(
    order: &Order,
    claim: &RefundClaim,
    payment: Option<&PaymentClaim>,
    others: &[RefundResult],
) -> Vec<Outcome> {
    let Some(payment) = payment else {
        return vec![("waiting", Some("for_payment")), ("quarantined", Some("for_payment"))];
    };
    if let Some(reason) = refund_refused(order, payment, claim) {
        return vec![("quarantined", Some(reason))];
    }
    let mut outcomes = vec![("applied", None), ("duplicate", None)];
    if others.iter().any(|other| *other > claim.result) {
        outcomes.push(("ignored", Some("stale")));
    }
    outcomes
}

/// Why a refund of a payment that is on record changes nothing.
fn refund_refused(order: &Order, payment: &PaymentClaim, claim: &RefundClaim) -> Option<&'static str> {
    let asked = order.requested.iter().find(|asked| asked.out_refund_no == claim.out_refund_no);
    if claim.total_minor != payment.amount_minor {
        Some("transaction_conflict")
    } else if asked.is_some_and(|asked| asked.amount_minor != claim.amount_minor) {
        Some("refund_amount_mismatch")
    } else if claim.amount_minor > payment.amount_minor {
        Some("refund_exceeds_payment")
    } else {
        None
    }
}

/// A refund that was reported.
#[derive(Debug, Clone, Copy)]
pub struct Reported<'plan> {
    /// What was reported.
    pub claim: &'plan RefundClaim,
    /// The payment that it names, when that is on record.
    pub payment: Option<&'plan PaymentClaim>,
    /// Whether the ledger knows the report.
    pub stored: Stored,
}

/// The states that a refund of `order` may end in, given what was reported about it; `None` is no row at all.
#[must_use]
pub fn refund_ends(order: &Order, out_refund_no: &str, reported: &[Reported<'_>]) -> Vec<Option<&'static str>> {
    let changes = |report: &&Reported<'_>| {
        report.payment.is_some_and(|payment| refund_refused(order, payment, report.claim).is_none())
    };
    let counts = |result: RefundResult| {
        reported
            .iter()
            .filter(|report| report.claim.out_refund_no == out_refund_no && report.claim.result == result)
            .filter(changes)
            .map(|report| report.stored)
            .max()
            .unwrap_or(Stored::No)
    };
    let is_requested = order.requested.iter().any(|asked| asked.out_refund_no == out_refund_no);
    let mut ends = Vec::new();
    // From the last state back: what is certain hides what came before it.
    for (result, name) in
        [(RefundResult::Succeeded, "succeeded"), (RefundResult::Closed, "closed"), (RefundResult::Abnormal, "abnormal")]
    {
        match counts(result) {
            Stored::No => {}
            Stored::Perhaps => ends.push(Some(name)),
            Stored::Yes => {
                ends.push(Some(name));
                return ends;
            }
        }
    }
    ends.push(is_requested.then_some("requested"));
    ends
}

/// Whether a payment must, may or must not be on record for `order`, given what is known of its callbacks.
#[must_use]
pub fn recorded(order: &Order, claim: &PaymentClaim, stored: Stored) -> Stored {
    match expectation(order, claim) {
        Expectation::Ignored | Expectation::Waits => Stored::No,
        Expectation::Refused(_) | Expectation::Pays => stored,
    }
}

/// What an order that was paid by `paid_by`, or by nobody, has made of a payment of which `returned_minor` has gone back.
#[must_use]
pub fn disposition(claim: &PaymentClaim, paid_by: Option<&str>, returned_minor: i64) -> &'static str {
    if paid_by == Some(claim.transaction_id.as_str()) {
        "accepted"
    } else if returned_minor == claim.amount_minor {
        "returned"
    } else {
        "refused"
    }
}

/// The end of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End<'plan> {
    /// There is no such row.
    NoRow,
    /// As the shop left it, but for its version.
    Untouched,
    /// Paid by one of these.
    Paid(Vec<&'plan PaymentClaim>),
    /// Paid by one of these, or untouched.
    PerhapsPaid(Vec<&'plan PaymentClaim>),
}

/// How `order` ends, given every callback that claimed to be about it and what was answered.
#[must_use]
pub fn end<'plan>(order: &Order, callbacks: &[(&'plan Callback, &Record)]) -> End<'plan> {
    if order.checkout == Checkout::Never {
        return End::NoRow;
    }
    let payments: Vec<(&PaymentClaim, Stored)> = callbacks
        .iter()
        .filter(|(callback, _)| callback.forgery.is_none())
        .filter_map(|(callback, record)| Some((callback.claim.payment()?, stored(record))))
        .filter(|(claim, stored)| *stored != Stored::No && expectation(order, claim) == Expectation::Pays)
        .collect();
    let certain = payments.iter().any(|(_, stored)| *stored == Stored::Yes);
    let winners: Vec<&PaymentClaim> = payments.into_iter().map(|(claim, _)| claim).collect();
    match (winners.is_empty(), certain) {
        (true, _) => End::Untouched,
        (false, true) => End::Paid(winners),
        (false, false) => End::PerhapsPaid(winners),
    }
}

#[cfg(test)]
mod tests;
