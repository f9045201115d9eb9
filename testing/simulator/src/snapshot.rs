//! What the database holds after a run, read in one snapshot: the other side of the books.
//!
//! Every query is bounded by an index: orders by their first id, ledger and quarantine by the time inside their UUID v7. So
//! an audit costs the same in a database with a year of history.

use chrono::{DateTime, TimeDelta, Utc};
use tokio_postgres::{Client, IsolationLevel, Row, Statement, Transaction};
use uuid::Uuid;

pub use self::found::{Caused, FoundNotification, FoundOrder, FoundPayment, FoundQuarantine, FoundRefund, Seen};
use crate::plan::Run;

mod found;

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

/// Everything that a run left in the database, including what other programs wrote at the same time.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// Of this run only.
    pub orders: Vec<FoundOrder>,
    /// Of this run's orders.
    pub payments: Vec<FoundPayment>,
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
    /// Ledger rows that caused an event.
    pub caused: u64,
    /// Waiting although what they wait for is there, or open although the payment has gone back: the sweeper's work.
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
pub async fn prepare_standing(client: &Client) -> anyhow::Result<Statement> {
    client
        .batch_execute(
            "SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off; SET enable_bitmapscan = off;
             SET max_parallel_workers_per_gather = 0; SET jit = off",
        )
        .await?;
    let statement = client
        .prepare(
            "SELECT ledger.handled, ledger.applied, ledger.caused,
                    (SELECT count(*) FROM quarantine q
                     JOIN orders o ON o.mch_id = q.mch_id AND o.out_trade_no = q.out_trade_no
                         AND coalesce(o.sub_mch_id, '') = coalesce(q.sub_mch_id, '')
                     WHERE q.notification_id >= $1 AND q.state = 'waiting' AND starts_with(q.out_trade_no, $3)
                     AND q.reason <> 'for_payment')
                    + (SELECT count(*) FROM quarantine q JOIN payments p USING (mch_id, transaction_id)
                       WHERE q.notification_id >= $1 AND starts_with(q.out_trade_no, $3)
                       AND ((q.state = 'waiting' AND q.reason = 'for_payment')
                           OR (q.state = 'open' AND q.out_refund_no IS NULL AND p.disposition = 'returned')))
             FROM (SELECT count(*) AS handled, count(*) FILTER (WHERE outcome = 'applied') AS applied,
                          count(*) FILTER (WHERE event_id IS NOT NULL
                              OR earlier @? '$[*].event_id ? (@ != null)') AS caused
                   FROM notifications
                   WHERE id >= $1 AND received_at >= $2
                   AND (starts_with(out_trade_no, $3) OR kind = 'other')) AS ledger",
        )
        .await?;
    Ok(statement)
}

/// How far the pipeline has come.
pub async fn standing(client: &Client, statement: &Statement, bounds: &Bounds) -> anyhow::Result<Standing> {
    let row =
        client.query_one(statement, &[&bounds.first_notification_id, &bounds.received_at, &bounds.prefix]).await?;
    Ok(Standing {
        handled: count(&row, 0)?,
        applied: count(&row, 1)?,
        caused: count(&row, 2)?,
        healable: count(&row, 3)?,
    })
}

/// Everything, as of one moment.
pub async fn collect(client: &mut Client, bounds: &Bounds) -> anyhow::Result<Found> {
    let snapshot =
        client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true).start().await?;
    let found = Found {
        orders: orders(&snapshot, bounds).await?,
        payments: payments(&snapshot, bounds).await?,
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

async fn payments(snapshot: &Transaction<'_>, bounds: &Bounds) -> anyhow::Result<Vec<FoundPayment>> {
    let rows = snapshot
        .query(
            "SELECT order_id, payments.mch_id, payments.transaction_id, payments.amount_minor, payments.currency,
                    payments.paid_at, disposition, returned_minor, notification_id, notification_part
             FROM payments JOIN orders ON orders.id = order_id
             WHERE order_id >= $1 AND starts_with(out_trade_no, $2)",
            &[&bounds.first_order_id, &bounds.prefix],
        )
        .await?;
    rows.iter()
        .map(|row| {
            let (id, part): (Option<Uuid>, Option<i16>) = (row.try_get(8)?, row.try_get(9)?);
            Ok(FoundPayment {
                order_id: row.try_get(0)?,
                mch_id: row.try_get(1)?,
                transaction_id: row.try_get(2)?,
                amount_minor: row.try_get(3)?,
                currency: row.try_get(4)?,
                paid_at: row.try_get(5)?,
                disposition: row.try_get(6)?,
                returned_minor: row.try_get(7)?,
                brought_by: id.zip(part),
            })
        })
        .collect()
}

async fn refunds(snapshot: &Transaction<'_>, bounds: &Bounds) -> anyhow::Result<Vec<FoundRefund>> {
    let rows = snapshot
        .query(
            "SELECT order_id, out_refund_no, refund_id, refunds.transaction_id, refunds.amount_minor, refunds.state,
                    succeeded_at
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
                transaction_id: row.try_get(3)?,
                amount_minor: row.try_get(4)?,
                state: row.try_get(5)?,
                succeeded_at: row.try_get(6)?,
            })
        })
        .collect()
}

/// Each row with the decision that caused its event; with its last decision, when none did.
async fn notifications(snapshot: &Transaction<'_>, bounds: &Bounds) -> anyhow::Result<Vec<FoundNotification>> {
    let rows = snapshot
        .query(
            "SELECT id, part, sha256(body), kind, mch_id, sub_mch_id, out_trade_no, transaction_id, out_refund_no,
                    key_fingerprint, outcome, reason, decision.*
             FROM notifications AS n CROSS JOIN LATERAL (
                 SELECT n.seen_version, n.seen_state, n.seen_amount_minor, n.seen_currency,
                        n.event_id::text AS event_id, n.event_type, n.event_version, n.reason AS decided
                 UNION ALL
                 SELECT * FROM jsonb_to_recordset(n.earlier) AS earlier (
                     seen_version integer, seen_state text, seen_amount_minor bigint, seen_currency text,
                     event_id text, event_type text, event_version integer, reason text)
                 WHERE n.event_id IS NULL
                 ORDER BY event_version DESC NULLS LAST, seen_version DESC NULLS LAST LIMIT 1
             ) AS decision
             WHERE id >= $1 AND received_at >= $2",
            &[&bounds.first_notification_id, &bounds.received_at],
        )
        .await?;
    rows.iter().map(notification).collect()
}

fn notification(row: &Row) -> anyhow::Result<FoundNotification> {
    let digest: Option<&[u8]> = row.try_get(2)?;
    let seen = match row.try_get(12)? {
        None => None,
        Some(version) => {
            Some(Seen { version, state: row.try_get(13)?, amount_minor: row.try_get(14)?, currency: row.try_get(15)? })
        }
    };
    let caused = match row.try_get(16)? {
        None => None,
        Some(id) => Some(Caused { id, kind: row.try_get(17)?, version: row.try_get(18)?, reason: row.try_get(19)? }),
    };
    Ok(FoundNotification {
        id: row.try_get(0)?,
        part: row.try_get(1)?,
        body_sha256: digest.map(TryInto::try_into).transpose()?,
        kind: row.try_get(3)?,
        mch_id: row.try_get(4)?,
        sub_mch_id: row.try_get(5)?,
        out_trade_no: row.try_get(6)?,
        transaction_id: row.try_get(7)?,
        out_refund_no: row.try_get(8)?,
        key_fingerprint: row.try_get(9)?,
        outcome: row.try_get(10)?,
        reason: row.try_get(11)?,
        seen,
        caused,
    })
}

async fn quarantine(snapshot: &Transaction<'_>, bounds: &Bounds) -> anyhow::Result<Vec<FoundQuarantine>> {
    let rows = snapshot
        .query(
            "SELECT notification_id, notification_part, out_trade_no, reason, state, resolved_by, resolution
             FROM quarantine WHERE notification_id >= $1",
            &[&bounds.first_notification_id],
        )
        .await?;
    rows.iter()
        .map(|row| {
            Ok(FoundQuarantine {
                notification_id: row.try_get(0)?,
                notification_part: row.try_get(1)?,
                out_trade_no: row.try_get(2)?,
                reason: row.try_get(3)?,
                state: row.try_get(4)?,
                resolved_by: row.try_get(5)?,
                resolution: row.try_get(6)?,
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
