//! What must come of the callbacks that were sent: a model of the merchant's rules, simple enough to be read at a glance.
//!
//! Written on its own, without the pipeline's `decide`: the two have to agree. It is given facts (what was sent, how it
//! was answered), never the name of a scenario. Where the pipeline may choose, the model says all that is allowed: of
//! two payments either may win, and what was perhaps stored may or may not count.

use crate::book::Record;
use crate::plan::{Callback, Checkout, Order, PayResult, Says};

/// What a genuine callback is to its order, whatever else was sent.
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
pub fn alone(order: &Order, says: &Says) -> Alone {
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

/// The end of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End<'plan> {
    /// There is no such row.
    NoRow,
    /// As the shop left it.
    Untouched,
    /// Paid by one of these.
    Paid(Vec<&'plan Says>),
    /// Paid by one of these, or untouched.
    PerhapsPaid(Vec<&'plan Says>),
}

/// How `order` ends, given every callback that claimed to be about it and what was answered.
#[must_use]
pub fn end<'plan>(order: &Order, callbacks: &[(&'plan Callback, &Record)]) -> End<'plan> {
    if order.checkout == Checkout::Never {
        return End::NoRow;
    }
    let payments: Vec<(&Says, Stored)> = callbacks
        .iter()
        .filter(|(callback, _)| callback.forgery.is_none() && alone(order, &callback.says) == Alone::Pays)
        .map(|(callback, record)| (&callback.says, stored(record)))
        .filter(|(_, stored)| *stored != Stored::No)
        .collect();
    let certain = payments.iter().any(|(_, stored)| *stored == Stored::Yes);
    let winners: Vec<&Says> = payments.into_iter().map(|(says, _)| says).collect();
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
    use crate::plan::Forgery;
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
        }
    }

    fn says() -> Says {
        Says {
            result: PayResult::Success,
            transaction_id: "T1".to_owned(),
            sub_mch_id: Some("1900000301"),
            app_id: "wx1",
            amount_minor: 100,
            currency: "CNY",
            paid_at: DateTime::UNIX_EPOCH,
        }
    }

    fn callback(says: Says) -> Callback {
        Callback { order: 0, says, forgery: None, copies: 1, repeats: 0, after: None }
    }

    #[test]
    fn the_first_rule_that_is_broken_counts() {
        let good = says();
        let rows: [(Order, Says, Alone); 10] = [
            (order(), good.clone(), Alone::Pays),
            (order(), Says { result: PayResult::ResultFail, amount_minor: 1, ..good.clone() }, Alone::Ignored),
            (order(), Says { result: PayResult::TradeStateFail, ..good.clone() }, Alone::Ignored),
            (Order { checkout: Checkout::Never, ..order() }, Says { amount_minor: 1, ..good.clone() }, Alone::Waits),
            (
                order(),
                Says { sub_mch_id: None, currency: "USD", ..good.clone() },
                Alone::Refused("sub_mch_id_mismatch"),
            ),
            (order(), Says { app_id: "wx2", currency: "USD", ..good.clone() }, Alone::Refused("app_id_mismatch")),
            (Order { app_id: None, ..order() }, Says { app_id: "wx2", ..good.clone() }, Alone::Pays),
            (order(), Says { currency: "USD", amount_minor: 1, ..good.clone() }, Alone::Refused("currency_mismatch")),
            (
                Order { checkout: Checkout::Closed, ..order() },
                Says { amount_minor: 1, ..good.clone() },
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
        let other = callback(Says { transaction_id: "T2".to_owned(), ..says() });
        let forged = Callback { forgery: Some(Forgery::WrongKey), ..one.clone() };
        let wrong = callback(Says { amount_minor: 1, ..says() });

        assert_eq!(end(&order(), &[(&one, &told)]), End::Paid(vec![&one.says]));
        assert_eq!(end(&order(), &[(&one, &told), (&other, &unsure)]), End::Paid(vec![&one.says, &other.says]));
        assert_eq!(end(&order(), &[(&one, &unsure)]), End::PerhapsPaid(vec![&one.says]));
        assert_eq!(end(&order(), &[(&one, &unsent)]), End::Untouched);
        assert_eq!(end(&order(), &[(&forged, &told), (&wrong, &told)]), End::Untouched);
        assert_eq!(end(&Order { checkout: Checkout::Never, ..order() }, &[(&one, &told)]), End::NoRow);
        assert_eq!(end(&Order { checkout: Checkout::Late, ..order() }, &[(&one, &told)]), End::Paid(vec![&one.says]));
        assert_eq!(end(&Order { checkout: Checkout::Closed, ..order() }, &[(&one, &told)]), End::Untouched);
    }
}
