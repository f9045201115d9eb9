//! Whether the database can do its work now. When a message fails, this check decides whether the message or the database is at
//! fault.
//!
//! It writes rows like a message's, without any data from outside, to the same partition and tables, and rolls them back. A missing
//! right, a lock on a table or a full disk makes it fail; a bad message does not.

use std::time::Instant;

use chrono::{DateTime, Utc};
use diesel::result::{DatabaseErrorKind, Error};
use diesel_async::{AnsiTransactionManager, AsyncPgConnection, TransactionManager};
use sha2::{Digest, Sha256};
use shared::domain::ids::{MchId, OutTradeNo, TransactionId};
use shared::domain::money::{Currency, Money};
use shared::domain::order::{Order, OrderState};
use shared::domain::payment::{Disposition, PaymentRecord};
use uuid::Uuid;

use super::message::{Examined, Finding, Message};
use super::outcome::NotDecided;
use super::plan::{self, Decided, Handled, Happened, OrderEvent, OrderKey, Part};
use super::transaction::Policy;
use crate::store::orders::OnLocked;
use crate::store::payments::{Brought, Changed};
use crate::store::session::{DatabaseUnavailable, Session, TransactionError, may_be_a_lock};
use crate::store::{held, ledger, orders, outbox, payments, refunds};

/// The size of the body in a check for no particular callback: large enough to need a new page, which a full disk refuses.
const BODY_BYTES_USUAL: usize = 8 * 1024;

/// Checks that the database can do its work now, before a message is at stake.
///
/// # Errors
/// When the database cannot be reached, was never migrated, grants too little, or refuses rows.
pub async fn self_check(session: &mut Session, policy: Policy<'_>) -> Result<(), DatabaseUnavailable> {
    session.require(async |conn| write_and_roll_back(conn, policy, wall_clock(), BODY_BYTES_USUAL).await).await
}

/// Checks that only this message can be at fault: the database accepts rows in the message's partition, and writes to its
/// orders, or to others if not to these.
///
/// # Errors
/// The database is unavailable.
pub async fn self_check_for(
    session: &mut Session,
    message: &Message,
    policy: Policy<'_>,
) -> Result<(), DatabaseUnavailable> {
    session
        .require(async |conn| write_and_roll_back(conn, policy, message.received_at, message.body.len()).await)
        .await?;
    session.require(async |conn| try_its_orders(conn, message, policy).await).await
}

#[expect(clippy::disallowed_methods, reason = "the shell reads the clock for the partition of the checked rows")]
fn wall_clock() -> DateTime<Utc> {
    Utc::now()
}

/// Runs every statement of a batch on rows of no order, received at `received_at` and with a body as long as that of the
/// callback in question, and rolls back.
///
/// # Errors
/// The database is at fault.
async fn write_and_roll_back(
    conn: &mut AsyncPgConnection,
    policy: Policy<'_>,
    received_at: DateTime<Utc>,
    body_bytes: usize,
) -> Result<(), TransactionError> {
    let rows = Rows::new(received_at, body_bytes);
    AnsiTransactionManager::begin_transaction(conn).await?;
    let tried = write(conn, policy, &rows).await;
    Ok(undo(conn, tried).await?)
}

/// How many other orders are tried before the database counts as refusing every order.
const OTHERS_MAX: i64 = 8;

/// Writes the orders that `message` names as they are, without those that another session has locked, and rolls back.
///
/// # Errors
/// The database refuses these orders, and every other one that was tried: they are not at fault.
async fn try_its_orders(
    conn: &mut AsyncPgConnection,
    message: &Message,
    policy: Policy<'_>,
) -> Result<(), TransactionError> {
    let keys = order_keys(message, policy);
    AnsiTransactionManager::begin_transaction(conn).await?;
    let tried = orders::touch(conn, &keys).await;
    let Err(problem) = undo(conn, tried).await else { return Ok(()) };
    if is_about_the_row(&problem) {
        return Ok(());
    }
    for skipped in 0..OTHERS_MAX {
        let started = Instant::now();
        AnsiTransactionManager::begin_transaction(conn).await?;
        let tried = orders::touch_another(conn, &keys, skipped).await;
        match undo(conn, tried).await {
            // This includes having found no other free order: the check of the partition has passed, and no table lock shows.
            Ok(_) => return Ok(()),
            // A lock on the table: the next order would only wait as long again.
            Err(_) if may_be_a_lock(started) => break,
            Err(_) => {}
        }
    }
    Err(problem.into())
}

/// A constraint, or a trigger in the name of one, that refuses what the row says.
fn is_about_the_row(problem: &Error) -> bool {
    use DatabaseErrorKind::{CheckViolation, ForeignKeyViolation, NotNullViolation, UniqueViolation};
    matches!(
        problem,
        Error::DatabaseError(CheckViolation | NotNullViolation | UniqueViolation | ForeignKeyViolation, _)
    )
}

/// Rolls back a trial transaction.
async fn undo<T>(conn: &mut AsyncPgConnection, tried: Result<T, Error>) -> Result<T, Error> {
    AnsiTransactionManager::rollback_transaction(conn).await?;
    tried
}

fn order_keys(message: &Message, policy: Policy<'_>) -> Vec<OrderKey> {
    let examined = message.authenticate_and_decode_catching_panics(policy.keys);
    let key = |finding: &Finding| match finding {
        Finding::Notified(notification) => plan::named_order_key(notification),
        Finding::NotDecided(_) => None,
    };
    examined.iter().filter_map(|examined| key(&examined.finding)).collect()
}

/// Bytes that the database cannot compress: hashes of hashes.
fn incompressible(id: Uuid, bytes: usize) -> Vec<u8> {
    let hashes = std::iter::successors(Some(Sha256::digest(id.as_bytes())), |hash| Some(Sha256::digest(hash)));
    hashes.flatten().take(bytes).collect()
}

/// Rows that are written and rolled back.
struct Rows {
    message: Message,
    payment: PaymentRecord,
    event: OrderEvent,
}

impl Rows {
    #[expect(clippy::unwrap_used, reason = "the ids are literals and a UUID, which are ids")]
    fn new(received_at: DateTime<Utc>, body_bytes: usize) -> Self {
        let id = Uuid::now_v7();
        let message = Message {
            id,
            received_at,
            headers: std::collections::BTreeMap::new(),
            body: incompressible(id, body_bytes),
            redelivered: false,
            suspect: true,
        };
        let amount = Money { amount_minor: 1, currency: Currency::CNY };
        let mch_id = MchId::parse("self_check").unwrap();
        let payment = PaymentRecord {
            order_id: 0,
            mch_id: mch_id.clone(),
            transaction_id: TransactionId::parse(&id.to_string()).unwrap(),
            amount,
            paid_at: received_at,
            disposition: Disposition::Refused,
            returned_minor: 0,
        };
        let order = Order {
            id: 0,
            mch_id,
            sub_mch_id: None,
            app_id: None,
            out_trade_no: OutTradeNo::parse("self_check").unwrap(),
            amount,
            state: OrderState::Pending,
            refunded_minor: 0,
            version: 0,
        };
        let happened = Happened::Refused { payment: payment.clone(), reason: "self_check" };
        Self { message, payment, event: OrderEvent { order, happened } }
    }
}

async fn write(conn: &mut AsyncPgConnection, policy: Policy<'_>, rows: &Rows) -> Result<(), Error> {
    orders::lock(conn, &[], OnLocked::Skip).await?;
    orders::existing(conn, &[]).await?;
    orders::touch(conn, &[]).await?;
    payments::order_keys(conn, &[]).await?;
    payments::read(conn, std::iter::empty()).await?;
    refunds::read(conn, &[]).await?;
    let why = NotDecided::DecideAlone;
    let decided = Decided { outcome: why.outcome(), seen: None, event: None };
    let handled = Handled { part: Part::held_whole(&rows.message, Examined::not_decided(why)), decided, event: None };
    let brought = Brought { id: rows.message.id, received_at: rows.message.received_at, part: 0 };
    let conn = &*conn;
    orders::update(conn, &[]).await?;
    refunds::write(conn, &[]).await?;
    payments::write(conn, &Changed::default()).await?;
    payments::insert(conn, &[(&rows.payment, brought)]).await?;
    payments::update(conn, &[]).await?;
    ledger::insert(conn, &[&handled]).await?;
    held::insert(conn, &[&handled], policy.wait_limit).await?;
    outbox::insert(conn, &[rows.message.id], std::slice::from_ref(&rows.event)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checked_rows_can_be_made_for_any_time_and_length() {
        let rows = Rows::new(DateTime::UNIX_EPOCH, BODY_BYTES_USUAL);
        assert_eq!((rows.message.received_at, rows.message.body.len()), (DateTime::UNIX_EPOCH, BODY_BYTES_USUAL));
        assert_eq!(rows.event.name(), "payment.refused");
        assert!(Rows::new(DateTime::UNIX_EPOCH, 0).message.body.is_empty());
    }

    #[test]
    fn only_a_constraint_is_about_the_row() {
        use DatabaseErrorKind::{
            CheckViolation, ForeignKeyViolation, NotNullViolation, SerializationFailure, UniqueViolation, Unknown,
        };
        let error = |kind| Error::DatabaseError(kind, Box::new(String::new()));
        for kind in [CheckViolation, ForeignKeyViolation, NotNullViolation, UniqueViolation] {
            assert!(is_about_the_row(&error(kind)));
        }
        for kind in [SerializationFailure, Unknown] {
            assert!(!is_about_the_row(&error(kind)));
        }
        assert!(!is_about_the_row(&Error::NotFound));
    }
}
