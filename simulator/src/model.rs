//! What must come of the callbacks that were sent: a model of the merchant's rules, simple enough to be read at a glance.
//!
//! Written on its own, without the pipeline's `decide`: the two have to agree. It is given facts (what was sent, how it
//! was answered), never the name of a scenario. Where the pipeline may choose, the model says all that is allowed: of
//! two payments either may win, and what was perhaps stored may or may not count.

use crate::book::Record;
use crate::plan::{Callback, Checkout, Order, PayResult, PaymentSays, RefundResult, RefundSays};

/// What a genuine payment callback is to its order, whatever else was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alone {
    /// It says that nobody paid.
    Ignored,
    /// Its order never comes.
    Waits,
    /// It does not fit its order: the reason.
    Refused(&'static str),
    /// It pays its order, if no other payment was first.
    Pays,
}

/// What `says` is to `order`.
#[must_use]
pub fn alone(order: &Order, says: &PaymentSays) -> Alone {
    if says.result != PayResult::Success {
        Alone::Ignored
    } else if order.checkout == Checkout::Never {
        Alone::Waits
    } else if says.sub_mch_id != order.sub_mch_id {
        Alone::Refused("sub_mch_id_mismatch")
    } else if order.app_id.is_some_and(|app_id| app_id != says.app_id) {
        Alone::Refused("app_id_mismatch")
    } else if says.currency != order.currency {
        Alone::Refused("currency_mismatch")
    } else if says.amount_minor != order.amount_minor {
        Alone::Refused("amount_mismatch")
    } else if order.checkout == Checkout::Closed {
        Alone::Refused("paid_after_close")
    } else {
        Alone::Pays
    }
}

/// Whether the ledger must, may or must not know a callback.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stored {
    /// Never told SUCCESS, nor in doubt.
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

/// What a genuine refund callback may come to, once the order has been paid by `paid_by`, or by nobody. `others` is all
/// that was reported about the same refund.
#[must_use]
pub fn refund_outcomes(
    order: &Order,
    says: &RefundSays,
    paid_by: Option<&str>,
    others: &[RefundResult],
) -> Vec<Outcome> {
    if paid_by.is_none() {
        return vec![("waiting", Some("for_payment")), ("quarantined", Some("for_payment"))];
    }
    if paid_by != Some(says.transaction_id.as_str()) {
        // Of a second payment: settled with it, or here before it.
        return vec![("applied", None), ("duplicate", None), ("quarantined", Some("transaction_id_mismatch"))];
    }
    if let Some(reason) = refund_refused(order, says) {
        return vec![("quarantined", Some(reason))];
    }
    let mut outcomes = vec![("applied", None), ("duplicate", None)];
    if others.iter().any(|other| *other > says.result) {
        outcomes.push(("ignored", Some("stale")));
    }
    outcomes
}

/// Why a refund of the payment that counts changes nothing.
fn refund_refused(order: &Order, says: &RefundSays) -> Option<&'static str> {
    let asked = order.requested.iter().find(|asked| asked.out_refund_no == says.out_refund_no);
    if asked.is_some_and(|asked| asked.amount_minor != says.amount_minor) {
        Some("refund_amount_mismatch")
    } else if says.amount_minor > order.amount_minor {
        Some("refund_exceeds_payment")
    } else {
        None
    }
}

/// The states that a refund of `order` may end in, given what was reported about it; `None` is no row at all.
#[must_use]
pub fn refund_ends(
    order: &Order,
    out_refund_no: &str,
    reported: &[(&RefundSays, Stored)],
    paid_by: Option<&str>,
) -> Vec<Option<&'static str>> {
    let counts = |result: RefundResult| {
        reported
            .iter()
            .filter(|(says, _)| says.out_refund_no == out_refund_no && says.result == result)
            .filter(|(says, _)| paid_by == Some(says.transaction_id.as_str()) && refund_refused(order, says).is_none())
            .map(|(_, stored)| *stored)
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

/// The end of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End<'plan> {
    /// There is no such row.
    NoRow,
    /// As the shop left it.
    Untouched,
    /// Paid by one of these.
    Paid(Vec<&'plan PaymentSays>),
    /// Paid by one of these, or untouched.
    PerhapsPaid(Vec<&'plan PaymentSays>),
}

/// How `order` ends, given every callback that claimed to be about it and what was answered.
#[must_use]
pub fn end<'plan>(order: &Order, callbacks: &[(&'plan Callback, &Record)]) -> End<'plan> {
    if order.checkout == Checkout::Never {
        return End::NoRow;
    }
    let payments: Vec<(&PaymentSays, Stored)> = callbacks
        .iter()
        .filter(|(callback, _)| callback.forgery.is_none())
        .filter_map(|(callback, record)| Some((callback.says.payment()?, stored(record))))
        .filter(|(says, stored)| *stored != Stored::No && alone(order, says) == Alone::Pays)
        .collect();
    let certain = payments.iter().any(|(_, stored)| *stored == Stored::Yes);
    let winners: Vec<&PaymentSays> = payments.into_iter().map(|(says, _)| says).collect();
    match (winners.is_empty(), certain) {
        (true, _) => End::Untouched,
        (false, true) => End::Paid(winners),
        (false, false) => End::PerhapsPaid(winners),
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;
    use crate::plan::{Api, Forgery, Requested, Says};
    use crate::scenarios::Scenario;

    fn order() -> Order {
        Order {
            scenario: Scenario::Plain,
            mch_id: "1900000109".to_owned(),
            merchant: 0,
            out_trade_no: "SIM-1".to_owned(),
            sub_mch_id: Some("1900000301"),
            app_id: Some("wx1"),
            amount_minor: 100,
            currency: "CNY",
            checkout: Checkout::Pending,
            api: Api::V2,
            requested: Vec::new(),
        }
    }

    fn says() -> PaymentSays {
        PaymentSays {
            result: PayResult::Success,
            transaction_id: "T1".to_owned(),
            sub_mch_id: Some("1900000301"),
            app_id: "wx1",
            amount_minor: 100,
            currency: "CNY",
            paid_at: DateTime::UNIX_EPOCH,
        }
    }

    fn callback(says: PaymentSays) -> Callback {
        Callback { order: 0, says: Says::Payment(says), forgery: None, copies: 1, repeats: 0, after: None }
    }

    #[test]
    fn the_first_rule_that_is_broken_counts() {
        let good = says();
        let rows: [(Order, PaymentSays, Alone); 10] = [
            (order(), good.clone(), Alone::Pays),
            (order(), PaymentSays { result: PayResult::ResultFail, amount_minor: 1, ..good.clone() }, Alone::Ignored),
            (order(), PaymentSays { result: PayResult::TradeStateFail, ..good.clone() }, Alone::Ignored),
            (
                Order { checkout: Checkout::Never, ..order() },
                PaymentSays { amount_minor: 1, ..good.clone() },
                Alone::Waits,
            ),
            (
                order(),
                PaymentSays { sub_mch_id: None, currency: "USD", ..good.clone() },
                Alone::Refused("sub_mch_id_mismatch"),
            ),
            (
                order(),
                PaymentSays { app_id: "wx2", currency: "USD", ..good.clone() },
                Alone::Refused("app_id_mismatch"),
            ),
            (Order { app_id: None, ..order() }, PaymentSays { app_id: "wx2", ..good.clone() }, Alone::Pays),
            (
                order(),
                PaymentSays { currency: "USD", amount_minor: 1, ..good.clone() },
                Alone::Refused("currency_mismatch"),
            ),
            (
                Order { checkout: Checkout::Closed, ..order() },
                PaymentSays { amount_minor: 1, ..good.clone() },
                Alone::Refused("amount_mismatch"),
            ),
            (Order { checkout: Checkout::Closed, ..order() }, good, Alone::Refused("paid_after_close")),
        ];
        for (order, says, expected) in rows {
            assert_eq!(alone(&order, &says), expected, "{says:?}");
        }
    }

    #[test]
    fn an_order_ends_by_what_was_stored() {
        let (told, unsure, unsent) = (
            Record { accepted: 1, ..Record::default() },
            Record { unsure: 1, ..Record::default() },
            Record { rejected: 1, ..Record::default() },
        );
        let one = callback(says());
        let other = callback(PaymentSays { transaction_id: "T2".to_owned(), ..says() });
        let forged = Callback { forgery: Some(Forgery::WrongKey), ..one.clone() };
        let wrong = callback(PaymentSays { amount_minor: 1, ..says() });

        assert_eq!(end(&order(), &[(&one, &told)]), End::Paid(vec![paid(&one)]));
        assert_eq!(end(&order(), &[(&one, &told), (&other, &unsure)]), End::Paid(vec![paid(&one), paid(&other)]));
        assert_eq!(end(&order(), &[(&one, &unsure)]), End::PerhapsPaid(vec![paid(&one)]));
        assert_eq!(end(&order(), &[(&one, &unsent)]), End::Untouched);
        assert_eq!(end(&order(), &[(&forged, &told), (&wrong, &told)]), End::Untouched);
        assert_eq!(end(&Order { checkout: Checkout::Never, ..order() }, &[(&one, &told)]), End::NoRow);
        assert_eq!(end(&Order { checkout: Checkout::Late, ..order() }, &[(&one, &told)]), End::Paid(vec![paid(&one)]));
        assert_eq!(end(&Order { checkout: Checkout::Closed, ..order() }, &[(&one, &told)]), End::Untouched);
    }

    fn paid(callback: &Callback) -> &PaymentSays {
        callback.says.payment().unwrap()
    }

    fn refund(result: RefundResult, amount_minor: i64) -> RefundSays {
        RefundSays {
            result,
            transaction_id: "T1".to_owned(),
            out_refund_no: "R".to_owned(),
            refund_id: "50".to_owned(),
            amount_minor,
            succeeded_at: DateTime::UNIX_EPOCH,
        }
    }

    #[test]
    fn a_refund_comes_to_what_its_payment_allows() {
        let says = refund(RefundResult::Succeeded, 100);
        let outcomes = |order: &Order, says: &RefundSays, paid_by| refund_outcomes(order, says, paid_by, &[]);
        let reasons =
            |outcomes: Vec<Outcome>| outcomes.into_iter().filter_map(|(_, reason)| reason).collect::<Vec<_>>();
        assert_eq!(reasons(outcomes(&order(), &says, None)), ["for_payment", "for_payment"]);
        assert_eq!(reasons(outcomes(&order(), &says, Some("T2"))), ["transaction_id_mismatch"]);
        assert_eq!(outcomes(&order(), &says, Some("T1")), [("applied", None), ("duplicate", None)]);
        let too_much = refund(RefundResult::Succeeded, 101);
        assert_eq!(reasons(outcomes(&order(), &too_much, Some("T1"))), ["refund_exceeds_payment"]);
        let asked = Requested { out_refund_no: "R".to_owned(), amount_minor: 99 };
        let order = Order { requested: vec![asked], ..order() };
        assert_eq!(reasons(outcomes(&order, &says, Some("T1"))), ["refund_amount_mismatch"]);
        let abnormal = refund(RefundResult::Abnormal, 99);
        let late = refund_outcomes(&order, &abnormal, Some("T1"), &[RefundResult::Abnormal, RefundResult::Closed]);
        assert_eq!(reasons(late), ["stale"]);
    }

    #[test]
    fn a_refund_ends_in_the_last_state_that_was_stored() {
        let (abnormal, succeeded) = (refund(RefundResult::Abnormal, 100), refund(RefundResult::Succeeded, 100));
        let ends = |reported: &[(&RefundSays, Stored)]| refund_ends(&order(), "R", reported, Some("T1"));
        assert_eq!(ends(&[]), [None]);
        assert_eq!(ends(&[(&abnormal, Stored::Yes)]), [Some("abnormal")]);
        assert_eq!(ends(&[(&abnormal, Stored::Yes), (&succeeded, Stored::Yes)]), [Some("succeeded")]);
        assert_eq!(
            ends(&[(&abnormal, Stored::Perhaps), (&succeeded, Stored::Perhaps)]),
            [Some("succeeded"), Some("abnormal"), None]
        );
        assert_eq!(ends(&[(&succeeded, Stored::No)]), [None]);
        assert_eq!(refund_ends(&order(), "R", &[(&succeeded, Stored::Yes)], Some("T2")), [None]);
        let asked = Requested { out_refund_no: "R".to_owned(), amount_minor: 100 };
        let order = Order { requested: vec![asked], ..order() };
        assert_eq!(
            refund_ends(&order, "R", &[(&abnormal, Stored::Perhaps)], Some("T1")),
            [Some("abnormal"), Some("requested")]
        );
    }
}
