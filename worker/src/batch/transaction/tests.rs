//! Which error of a transaction's statements is reported: a pure function of their results.

use super::*;

/// All statements succeeded, for one refund and one held row.
fn written() -> Written {
    Written {
        orders: Ok(()),
        payments: Ok(()),
        refunds: Ok(1),
        ledger_new: Ok(()),
        ledger_held: Ok(1),
        held_new: Ok(()),
        held: Ok(()),
        events: Ok(()),
    }
}

fn database<T>(kind: DatabaseErrorKind, text: &str) -> Result<T, DieselError> {
    Err(DieselError::DatabaseError(kind, Box::new(text.to_owned())))
}

fn aborted<T>() -> Result<T, DieselError> {
    database(DatabaseErrorKind::Unknown, "current transaction is aborted")
}

fn unique<T>() -> Result<T, DieselError> {
    database(DatabaseErrorKind::UniqueViolation, "duplicate key")
}

/// The error's own text, or that of the database.
fn reported(written: Written) -> String {
    match written.into_result(1, 1) {
        Ok(()) => "written".to_owned(),
        Err(TransactionError::Database(error)) => error.to_string(),
        Err(race) => format!("{race:?}"),
    }
}

#[test]
fn a_race_is_reported_before_any_other_error() {
    let all_aborted = || Written {
        orders: aborted(),
        payments: aborted(),
        refunds: aborted(),
        ledger_new: aborted(),
        ledger_held: aborted(),
        held_new: aborted(),
        held: aborted(),
        events: aborted(),
    };
    for (results, expected) in [
        (written(), "written"),
        (all_aborted(), "current transaction is aborted"),
        (Written { payments: unique(), ..all_aborted() }, "PaymentRecorded"),
        (Written { payments: unique(), ledger_new: unique(), refunds: Ok(0), ..written() }, "PaymentRecorded"),
        (Written { ledger_new: unique(), ..all_aborted() }, "LedgerDiffers"),
        (Written { ledger_held: Ok(0), ..written() }, "LedgerDiffers"),
        (Written { ledger_held: Ok(0), refunds: Ok(0), ..written() }, "LedgerDiffers"),
        (Written { refunds: Ok(0), ..written() }, "RefundMoved"),
        (Written { refunds: Ok(0), events: aborted(), ..written() }, "RefundMoved"),
        (Written { held_new: unique(), ..written() }, "duplicate key"),
    ] {
        assert_eq!(reported(results), expected);
    }
}

#[test]
fn of_several_errors_the_first_statement_sent_is_reported() {
    let check = |text| database(DatabaseErrorKind::CheckViolation, text);
    for (results, expected) in [
        (Written { orders: check("orders"), payments: check("payments"), ..written() }, "orders"),
        (Written { payments: check("payments"), ledger_new: check("ledger"), ..written() }, "payments"),
        (Written { ledger_new: check("ledger"), held: check("held"), ..written() }, "ledger"),
        (Written { held_new: check("new held"), held: check("held"), ..written() }, "new held"),
        (Written { held: check("held"), events: check("events"), ..written() }, "held"),
        (Written { events: check("events"), ..written() }, "events"),
    ] {
        assert_eq!(reported(results), expected);
    }
}
