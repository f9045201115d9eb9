//! What the database holds after a run: the other side of the books, read in one snapshot.
//!
//! Every look is bounded by an index: orders by their first id, ledger and quarantine by the time inside their UUID v7.
//! So a run's audit costs the same beside a year of history.

use chrono::{DateTime, TimeDelta, Utc};
use tokio_postgres::{Client, IsolationLevel, Row, Statement, Transaction};
use uuid::Uuid;

use crate::plan::Run;

/// Ingest's clock may be this far behind the simulator's.
const CLOCK_SKEW_SECONDS: i64 = 60;

/// Where a run's rows begin, and how they are known.
#[derive(Debug, Clone)]
pub struct Bounds {
    prefix: String,
    first_order_id: i64,
    first_notification_id: Uuid,
    received_at: DateTime<Utc>,
}

/// A row of `orders`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundOrder {
    /// The row's key.
    pub id: i64,
    /// Whose.
    pub mch_id: String,
    /// The shop behind an institution.
    pub sub_mch_id: Option<String>,
    /// The app.
    pub app_id: Option<String>,
    /// The merchant's number.
    pub out_trade_no: String,
    /// In the currency's smallest unit.
    pub amount_minor: i64,
    /// ISO 4217.
    pub currency: String,
    /// As in `paid`.
    pub state: String,
    /// The payment.
    pub transaction_id: Option<String>,
    /// When the payer paid.
    pub paid_at: Option<DateTime<Utc>>,
    /// Sum of the refunds.
    pub refunded_minor: i64,
    /// Changes so far.
    pub version: i32,
}

/// A row of `refunds`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundRefund {
    /// The order's key.
    pub order_id: i64,
    /// The merchant's number.
    pub out_refund_no: String,
    /// WeChat Pay's number.
    pub refund_id: Option<String>,
    /// In the order's currency.
    pub amount_minor: i64,
    /// As in `succeeded`.
    pub state: String,
    /// When the money arrived.
    pub succeeded_at: Option<DateTime<Utc>>,
}

/// A row of `notifications`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundNotification {
    /// The row's key.
    pub id: Uuid,
    /// Of the stored bytes, computed by the database.
    pub body_sha256: [u8; 32],
    /// As in `payment`.
    pub kind: String,
    /// As decoded by the worker.
    pub mch_id: Option<String>,
    /// As decoded by the worker.
    pub out_trade_no: Option<String>,
    /// As decoded by the worker.
    pub transaction_id: Option<String>,
    /// As decoded by the worker.
    pub out_refund_no: Option<String>,
    /// As in `applied`.
    pub outcome: String,
    /// As in `for_order`.
    pub reason: Option<String>,
}

/// A row of `quarantine`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundQuarantine {
    /// The ledger's row.
    pub notification_id: Uuid,
    /// The order that it names.
    pub out_trade_no: Option<String>,
    /// As in `amount_mismatch`.
    pub reason: String,
    /// As in `open`.
    pub state: String,
}

/// Everything that a run left in the database, and what others left there meanwhile.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// Of this run only.
    pub orders: Vec<FoundOrder>,
    /// Of this run's orders.
    pub refunds: Vec<FoundRefund>,
    /// Since the run began, other traffic included.
    pub notifications: Vec<FoundNotification>,
    /// Since the run began, other traffic included.
    pub quarantine: Vec<FoundQuarantine>,
    /// Events of this run's orders that the relay has not published yet.
    pub outbox: u64,
}

/// How far the pipeline has come with a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Standing {
    /// Ledger rows, those about no order included.
    pub handled: u64,
    /// Ledger rows that changed an order.
    pub applied: u64,
    /// Waiting although what they wait for is there: the sweeper's work.
    pub healable: u64,
}

impl Bounds {
    /// Of `run`, whose orders have ids from `first_order_id` on.
    #[must_use]
    pub fn new(run: &Run, first_order_id: i64) -> Self {
        let received_at = run.started_at - TimeDelta::seconds(CLOCK_SKEW_SECONDS);
        let millis = u64::try_from(received_at.timestamp_millis()).unwrap_or_default();
        Self {
            prefix: run.prefix.clone(),
            first_order_id,
            first_notification_id: uuid::Builder::from_unix_timestamp_millis(millis, &[0; 10]).into_uuid(),
            received_at,
        }
    }
}

/// Prepares the look at how far the pipeline has come, on a connection that is for nothing else.
///
/// The table has 25 partitions, so planning it afresh costs more than the look; and a scan of the whole month, on all
/// processors, would disturb what is measured: hence one plan, by the index, on one processor.
///
/// # Errors
/// When the database does not answer.
pub async fn prepare_standing(client: &Client) -> anyhow::Result<Statement> {
    client
        .batch_execute(
            "SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off; SET enable_bitmapscan = off;
             SET max_parallel_workers_per_gather = 0; SET jit = off",
        )
        .await?;
    let statement = client
        .prepare(
            "SELECT ledger.handled, ledger.applied,
                    (SELECT count(*) FROM quarantine JOIN orders USING (mch_id, out_trade_no)
                     WHERE notification_id >= $1 AND quarantine.state = 'waiting' AND starts_with(out_trade_no, $3)
                     AND (reason <> 'for_payment' OR orders.state <> 'pending'))
             FROM (SELECT count(*) AS handled, count(*) FILTER (WHERE outcome = 'applied') AS applied
                   FROM notifications
                   WHERE id >= $1 AND received_at >= $2
                   AND (starts_with(out_trade_no, $3) OR kind = 'other')) AS ledger",
        )
        .await?;
    Ok(statement)
}

/// How far the pipeline has come.
///
/// # Errors
/// When the database does not answer.
pub async fn standing(client: &Client, statement: &Statement, bounds: &Bounds) -> anyhow::Result<Standing> {
    let row =
        client.query_one(statement, &[&bounds.first_notification_id, &bounds.received_at, &bounds.prefix]).await?;
    Ok(Standing { handled: count(&row, 0)?, applied: count(&row, 1)?, healable: count(&row, 2)? })
}

/// Everything, as of one moment.
///
/// # Errors
/// When the database does not answer.
pub async fn collect(client: &mut Client, bounds: &Bounds) -> anyhow::Result<Found> {
    let snapshot =
        client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true).start().await?;
    let found = Found {
        orders: orders(&snapshot, bounds).await?,
        refunds: refunds(&snapshot, bounds).await?,
        notifications: notifications(&snapshot, bounds).await?,
        quarantine: quarantine(&snapshot, bounds).await?,
        outbox: outbox(&snapshot, bounds).await?,
    };
    snapshot.commit().await?;
    Ok(found)
}

async fn orders(snapshot: &Transaction<'_>, bounds: &Bounds) -> anyhow::Result<Vec<FoundOrder>> {
    let rows = snapshot
        .query(
            "SELECT id, mch_id, sub_mch_id, app_id, out_trade_no, amount_minor, currency, state, transaction_id,
                    paid_at, refunded_minor, version
             FROM orders WHERE id >= $1 AND starts_with(out_trade_no, $2)",
            &[&bounds.first_order_id, &bounds.prefix],
        )
        .await?;
    rows.iter()
        .map(|row| {
            Ok(FoundOrder {
                id: row.try_get(0)?,
                mch_id: row.try_get(1)?,
                sub_mch_id: row.try_get(2)?,
                app_id: row.try_get(3)?,
                out_trade_no: row.try_get(4)?,
                amount_minor: row.try_get(5)?,
                currency: row.try_get(6)?,
                state: row.try_get(7)?,
                transaction_id: row.try_get(8)?,
                paid_at: row.try_get(9)?,
                refunded_minor: row.try_get(10)?,
                version: row.try_get(11)?,
            })
        })
        .collect()
}

async fn refunds(snapshot: &Transaction<'_>, bounds: &Bounds) -> anyhow::Result<Vec<FoundRefund>> {
    let rows = snapshot
        .query(
            "SELECT order_id, out_refund_no, refund_id, refunds.amount_minor, refunds.state, succeeded_at
             FROM refunds JOIN orders ON orders.id = order_id
             WHERE order_id >= $1 AND starts_with(out_trade_no, $2)",
            &[&bounds.first_order_id, &bounds.prefix],
        )
        .await?;
    rows.iter()
        .map(|row| {
            Ok(FoundRefund {
                order_id: row.try_get(0)?,
                out_refund_no: row.try_get(1)?,
                refund_id: row.try_get(2)?,
                amount_minor: row.try_get(3)?,
                state: row.try_get(4)?,
                succeeded_at: row.try_get(5)?,
            })
        })
        .collect()
}

async fn notifications(snapshot: &Transaction<'_>, bounds: &Bounds) -> anyhow::Result<Vec<FoundNotification>> {
    let rows = snapshot
        .query(
            "SELECT id, sha256(body), kind, mch_id, out_trade_no, transaction_id, out_refund_no, outcome, reason
             FROM notifications WHERE id >= $1 AND received_at >= $2",
            &[&bounds.first_notification_id, &bounds.received_at],
        )
        .await?;
    rows.iter()
        .map(|row| {
            let digest: &[u8] = row.try_get(1)?;
            Ok(FoundNotification {
                id: row.try_get(0)?,
                body_sha256: digest.try_into()?,
                kind: row.try_get(2)?,
                mch_id: row.try_get(3)?,
                out_trade_no: row.try_get(4)?,
                transaction_id: row.try_get(5)?,
                out_refund_no: row.try_get(6)?,
                outcome: row.try_get(7)?,
                reason: row.try_get(8)?,
            })
        })
        .collect()
}

async fn quarantine(snapshot: &Transaction<'_>, bounds: &Bounds) -> anyhow::Result<Vec<FoundQuarantine>> {
    let rows = snapshot
        .query(
            "SELECT notification_id, out_trade_no, reason, state FROM quarantine WHERE notification_id >= $1",
            &[&bounds.first_notification_id],
        )
        .await?;
    rows.iter()
        .map(|row| {
            Ok(FoundQuarantine {
                notification_id: row.try_get(0)?,
                out_trade_no: row.try_get(1)?,
                reason: row.try_get(2)?,
                state: row.try_get(3)?,
            })
        })
        .collect()
}

async fn outbox(snapshot: &Transaction<'_>, bounds: &Bounds) -> anyhow::Result<u64> {
    let row = snapshot
        .query_one(
            "SELECT count(*) FROM order_events JOIN orders ON orders.id = order_id
             WHERE order_id >= $1 AND starts_with(out_trade_no, $2)",
            &[&bounds.first_order_id, &bounds.prefix],
        )
        .await?;
    count(&row, 0)
}

fn count(row: &Row, column: usize) -> anyhow::Result<u64> {
    Ok(u64::try_from(row.try_get::<_, i64>(column)?)?)
}
