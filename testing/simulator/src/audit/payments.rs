//! [`Violation::WrongPaymentRecord`]: compares every payment that was reported with its row in `payments`.

use std::collections::{BTreeMap, HashMap};

use uuid::Uuid;

use super::index::{Case, Index, is_refusal};
use super::{Findings, Violation};
use crate::model::{Stored, disposition, recorded, stored};
use crate::plan::PaymentClaim;
use crate::snapshot::FoundPayment;

/// Checks the payments of every order, and that no payment is on record twice or pays two orders.
pub fn check_payments(index: &Index<'_>, findings: &mut Findings) {
    for case in &index.cases {
        check_case(case, findings);
    }
    for payment in &index.unplanned_payments {
        findings.add(Violation::WrongPaymentRecord, "", "no such order", format!("{payment:?}"));
    }
    check_once(index, findings);
}

fn check_case(case: &Case<'_>, findings: &mut Findings) {
    let number = &case.order.out_trade_no;
    let mut expected: BTreeMap<&str, (&PaymentClaim, Stored)> = BTreeMap::new();
    for (claim, sent) in case.payments_sent() {
        let stored = recorded(case.order, claim, stored(sent.record));
        let known = expected.entry(&claim.transaction_id).or_insert((claim, stored));
        // What is certain wins over what is in doubt.
        known.1 = known.1.max(stored);
    }
    for (transaction_id, (claim, stored)) in &expected {
        let found: Vec<_> = case.payments.iter().filter(|payment| payment.transaction_id == *transaction_id).collect();
        match (stored, found.as_slice()) {
            (Stored::No | Stored::Perhaps, []) => {}
            (Stored::Yes | Stored::Perhaps, [one]) => check_record(case, claim, one, findings),
            (_, some) => {
                let times = if *stored == Stored::Yes { "once" } else { "at most once, if its order is certain" };
                let found = format!("{} times", some.len());
                findings.add(
                    Violation::WrongPaymentRecord,
                    number,
                    format!("{transaction_id} on record {times}"),
                    found,
                );
            }
        }
    }
    for payment in case.payments.iter().filter(|payment| !expected.contains_key(payment.transaction_id.as_str())) {
        findings.add(Violation::WrongPaymentRecord, number, "a payment that was reported", format!("{payment:?}"));
    }
    if let Some(paid_by) = case.paid_by()
        && case.record_of(paid_by).is_none()
    {
        findings.add(Violation::WrongPaymentRecord, number, format!("{paid_by} on record, accepted"), "no record");
    }
}

fn check_record(case: &Case<'_>, claim: &PaymentClaim, found: &FoundPayment, findings: &mut Findings) {
    let of_payment = |transaction_id: Option<&str>| transaction_id == Some(claim.transaction_id.as_str());
    let returned_minor: i64 = case
        .refunds
        .iter()
        .filter(|refund| refund.state == "succeeded" && of_payment(refund.transaction_id.as_deref()))
        .map(|refund| refund.amount_minor)
        .sum();
    let expected = FoundPayment {
        order_id: case.found.map_or(found.order_id, |order| order.id),
        mch_id: case.order.mch_id.clone(),
        transaction_id: claim.transaction_id.clone(),
        amount_minor: claim.amount_minor,
        currency: claim.currency.to_owned(),
        paid_at: claim.paid_at,
        disposition: disposition(claim, case.paid_by(), returned_minor).to_owned(),
        returned_minor,
        brought_by: brought_by(case, found),
    };
    if *found != expected {
        findings.add(
            Violation::WrongPaymentRecord,
            &case.order.out_trade_no,
            format!("{expected:?}"),
            format!("{found:?}"),
        );
    }
}

/// The ledger row that decided what is on record.
fn brought_by(case: &Case<'_>, found: &FoundPayment) -> Option<(Uuid, i16)> {
    let is_accepted = found.disposition == "accepted";
    let of_payment = case.payments_sent().filter(|(claim, _)| claim.transaction_id == found.transaction_id);
    let mut rows = of_payment.flat_map(|(_, sent)| sent.rows.iter().map(move |row| (sent, row)));
    let decided =
        rows.find(|(sent, row)| if is_accepted { row.outcome == "applied" } else { is_refusal(sent, row) })?;
    Some((decided.1.id, decided.1.part))
}

/// One transaction, one story.
fn check_once(index: &Index<'_>, findings: &mut Findings) {
    let mut recorded: HashMap<(&str, &str), &str> = HashMap::new();
    let mut paying: HashMap<(&str, &str), &str> = HashMap::new();
    for case in &index.cases {
        let number = case.order.out_trade_no.as_str();
        let other = |known: Option<&str>| format!("{} too", known.unwrap_or_default());
        for payment in &case.payments {
            let before = recorded.insert((&payment.mch_id, &payment.transaction_id), number);
            if before.is_some() {
                let expected = format!("{} on record once", payment.transaction_id);
                findings.add(Violation::WrongPaymentRecord, number, expected, other(before));
            }
        }
        if let Some((found, paid_by)) = case.found.zip(case.paid_by()) {
            let before = paying.insert((&found.mch_id, paid_by), number);
            if before.is_some() {
                findings.add(Violation::WrongPaymentRecord, number, format!("{paid_by} pays one order"), other(before));
            }
        }
    }
}
