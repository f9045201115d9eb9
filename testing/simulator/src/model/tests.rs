//! The model's rules, row by row.

use chrono::DateTime;

use super::*;
use crate::plan::{Api, Claim, Forgery, Requested};
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

fn claim() -> PaymentClaim {
    PaymentClaim {
        result: PayResult::Success,
        transaction_id: "T1".to_owned(),
        sub_mch_id: Some("1900000301"),
        app_id: "wx1",
        amount_minor: 100,
        currency: "CNY",
        paid_at: DateTime::UNIX_EPOCH,
    }
}

fn callback(claim: PaymentClaim) -> Callback {
    Callback { order: 0, claim: Claim::Payment(claim), forgery: None, copies: 1, repeats: 0, after: None }
}

#[test]
fn the_first_rule_that_is_broken_counts() {
    let good = claim();
    let rows: [(Order, PaymentClaim, Expectation); 10] = [
        (order(), good.clone(), Expectation::Pays),
        (
            order(),
            PaymentClaim { result: PayResult::ResultFail, amount_minor: 1, ..good.clone() },
            Expectation::Ignored,
        ),
        (order(), PaymentClaim { result: PayResult::TradeStateFail, ..good.clone() }, Expectation::Ignored),
        (
            Order { checkout: Checkout::Never, ..order() },
            PaymentClaim { amount_minor: 1, ..good.clone() },
            Expectation::Waits,
        ),
        (order(), PaymentClaim { sub_mch_id: None, currency: "USD", ..good.clone() }, Expectation::Waits),
        (
            order(),
            PaymentClaim { app_id: "wx2", currency: "USD", ..good.clone() },
            Expectation::Refused("app_id_mismatch"),
        ),
        (Order { app_id: None, ..order() }, PaymentClaim { app_id: "wx2", ..good.clone() }, Expectation::Pays),
        (
            order(),
            PaymentClaim { currency: "USD", amount_minor: 1, ..good.clone() },
            Expectation::Refused("currency_mismatch"),
        ),
        (
            Order { checkout: Checkout::Closed, ..order() },
            PaymentClaim { amount_minor: 1, ..good.clone() },
            Expectation::Refused("amount_mismatch"),
        ),
        (Order { checkout: Checkout::Closed, ..order() }, good, Expectation::Refused("paid_after_close")),
    ];
    for (order, claim, expected) in rows {
        assert_eq!(expectation(&order, &claim), expected, "{claim:?}");
    }
}

#[test]
fn an_order_ends_by_what_was_stored() {
    let (told, unsure, unsent) = (
        Record { accepted: 1, ..Record::default() },
        Record { unsure: 1, ..Record::default() },
        Record { rejected: 1, ..Record::default() },
    );
    let one = callback(claim());
    let other = callback(PaymentClaim { transaction_id: "T2".to_owned(), ..claim() });
    let forged = Callback { forgery: Some(Forgery::WrongKey), ..one.clone() };
    let wrong = callback(PaymentClaim { amount_minor: 1, ..claim() });

    assert_eq!(end(&order(), &[(&one, &told)]), End::Paid(vec![paid(&one)]));
    assert_eq!(end(&order(), &[(&one, &told), (&other, &unsure)]), End::Paid(vec![paid(&one), paid(&other)]));
    assert_eq!(end(&order(), &[(&one, &unsure)]), End::PerhapsPaid(vec![paid(&one)]));
    assert_eq!(end(&order(), &[(&one, &unsent)]), End::Untouched);
    assert_eq!(end(&order(), &[(&forged, &told), (&wrong, &told)]), End::Untouched);
    assert_eq!(end(&Order { checkout: Checkout::Never, ..order() }, &[(&one, &told)]), End::NoRow);
    assert_eq!(end(&Order { checkout: Checkout::Late, ..order() }, &[(&one, &told)]), End::Paid(vec![paid(&one)]));
    assert_eq!(end(&Order { checkout: Checkout::Closed, ..order() }, &[(&one, &told)]), End::Untouched);
}

fn paid(callback: &Callback) -> &PaymentClaim {
    callback.claim.payment().unwrap()
}

fn refund(result: RefundResult, amount_minor: i64) -> RefundClaim {
    RefundClaim {
        result,
        transaction_id: "T1".to_owned(),
        total_minor: 100,
        out_refund_no: "R".to_owned(),
        refund_id: "50".to_owned(),
        amount_minor,
        succeeded_at: DateTime::UNIX_EPOCH,
    }
}

#[test]
fn a_payment_comes_to_what_its_order_and_the_others_allow() {
    let (duplicate, returned) = (("duplicate", None), ("ignored", Some("returned")));
    let right = claim();
    let outcomes = |order: &Order, claim: &PaymentClaim, paid_by| payment_outcomes(order, claim, paid_by, false);
    assert_eq!(outcomes(&order(), &right, Some("T1")), [("applied", None), duplicate]);
    assert_eq!(outcomes(&order(), &right, Some("T2")), [("quarantined", Some("paid_twice")), duplicate]);
    assert_eq!(outcomes(&order(), &right, None), []);
    let wrong = PaymentClaim { amount_minor: 1, ..claim() };
    for paid_by in [None, Some("T2")] {
        assert_eq!(outcomes(&order(), &wrong, paid_by), [("quarantined", Some("amount_mismatch")), duplicate]);
    }
    let after = payment_outcomes(&order(), &wrong, None, true);
    assert_eq!(after, [("quarantined", Some("amount_mismatch")), duplicate, returned]);
    let of_another = PaymentClaim { sub_mch_id: None, ..claim() };
    let waits = ("waiting", Some("for_order"));
    assert_eq!(outcomes(&order(), &of_another, None), [waits, ("quarantined", Some("sub_mch_id_mismatch"))]);
    let never = Order { checkout: Checkout::Never, ..order() };
    assert_eq!(outcomes(&never, &right, None), [waits, ("quarantined", Some("for_order"))]);
}

#[test]
fn a_payment_is_on_record_if_it_was_stored_and_its_order_is_certain() {
    let closed = Order { checkout: Checkout::Closed, ..order() };
    let never = Order { checkout: Checkout::Never, ..order() };
    let wrong = PaymentClaim { currency: "USD", ..claim() };
    for (order, claim) in [(order(), claim()), (order(), wrong), (closed, claim())] {
        for stored in [Stored::No, Stored::Perhaps, Stored::Yes] {
            assert_eq!(recorded(&order, &claim, stored), stored);
        }
    }
    let failed = PaymentClaim { result: PayResult::ResultFail, ..claim() };
    let of_another = PaymentClaim { sub_mch_id: None, ..claim() };
    for (order, claim) in [(never, claim()), (order(), failed), (order(), of_another)] {
        assert_eq!(recorded(&order, &claim, Stored::Yes), Stored::No);
    }
}

#[test]
fn a_payment_is_accepted_or_owed_back_until_all_of_it_has_gone_back() {
    assert_eq!(disposition(&claim(), Some("T1"), 0), "accepted");
    assert_eq!(disposition(&claim(), Some("T1"), 100), "accepted");
    assert_eq!(disposition(&claim(), Some("T2"), 99), "refused");
    assert_eq!(disposition(&claim(), None, 100), "returned");
}

#[test]
fn a_refund_comes_to_what_its_payment_allows() {
    let says_100 = refund(RefundResult::Succeeded, 100);
    let paid = claim();
    let outcomes = |order: &Order, claim: &RefundClaim, payment| refund_outcomes(order, claim, payment, &[]);
    let reasons = |outcomes: Vec<Outcome>| outcomes.into_iter().filter_map(|(_, reason)| reason).collect::<Vec<_>>();
    assert_eq!(reasons(outcomes(&order(), &says_100, None)), ["for_payment", "for_payment"]);
    assert_eq!(outcomes(&order(), &says_100, Some(&paid)), [("applied", None), ("duplicate", None)]);
    let of_another_sum = PaymentClaim { amount_minor: 101, ..claim() };
    assert_eq!(reasons(outcomes(&order(), &says_100, Some(&of_another_sum))), ["transaction_conflict"]);
    let too_much = refund(RefundResult::Succeeded, 101);
    assert_eq!(reasons(outcomes(&order(), &too_much, Some(&paid))), ["refund_exceeds_payment"]);
    let asked = Requested { out_refund_no: "R".to_owned(), amount_minor: 99 };
    let order = Order { requested: vec![asked], ..order() };
    assert_eq!(reasons(outcomes(&order, &says_100, Some(&paid))), ["refund_amount_mismatch"]);
    let abnormal = refund(RefundResult::Abnormal, 99);
    let late = refund_outcomes(&order, &abnormal, Some(&paid), &[RefundResult::Abnormal, RefundResult::Closed]);
    assert_eq!(reasons(late), ["stale"]);
}

#[test]
fn a_refund_ends_in_the_last_state_that_was_stored() {
    let (abnormal, succeeded) = (refund(RefundResult::Abnormal, 100), refund(RefundResult::Succeeded, 100));
    let paid = claim();
    let ends_of = |order: &Order, payment: Option<&PaymentClaim>, reported: &[(&RefundClaim, Stored)]| {
        let reported: Vec<_> = reported.iter().map(|&(claim, stored)| Reported { claim, payment, stored }).collect();
        refund_ends(order, "R", &reported)
    };
    let ends = |reported: &[(&RefundClaim, Stored)]| ends_of(&order(), Some(&paid), reported);
    assert_eq!(ends(&[]), [None]);
    assert_eq!(ends(&[(&abnormal, Stored::Yes)]), [Some("abnormal")]);
    assert_eq!(ends(&[(&abnormal, Stored::Yes), (&succeeded, Stored::Yes)]), [Some("succeeded")]);
    assert_eq!(
        ends(&[(&abnormal, Stored::Perhaps), (&succeeded, Stored::Perhaps)]),
        [Some("succeeded"), Some("abnormal"), None]
    );
    assert_eq!(ends(&[(&succeeded, Stored::No)]), [None]);
    assert_eq!(ends_of(&order(), None, &[(&succeeded, Stored::Yes)]), [None]);
    let asked = Requested { out_refund_no: "R".to_owned(), amount_minor: 100 };
    let order = Order { requested: vec![asked], ..order() };
    let perhaps = ends_of(&order, Some(&paid), &[(&abnormal, Stored::Perhaps)]);
    assert_eq!(perhaps, [Some("abnormal"), Some("requested")]);
}
