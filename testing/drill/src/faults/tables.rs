//! What other sessions do to whole tables: each fault takes one table after the other, so that a lock on any single one
//! shows.
//!
//! While a table is locked the database cannot do the work, whatever the callback: workers keep what they have, and nothing
//! is set aside message by message.

use anyhow::{Result, ensure};
use tokio_postgres::Client;

use super::Scene;
use crate::clock::seconds;
use crate::fault::{Fault, TABLE_LOCKED_SECONDS};
use crate::record::FaultRecord;

/// Every table that workers write. A new one belongs here.
pub const TABLES: [&str; 6] = ["orders", "payments", "refunds", "notifications", "quarantine", "order_events"];
/// How soon nothing may wait for a lock any more.
const HEALED_WITHIN_SECONDS: u64 = 10;

/// Rows that were set aside for a lock, those that were decided since then included.
const PARKED: &str = "SELECT count(*) FROM quarantine WHERE reason = 'for_lock'";
/// Those that still are.
const UNHEALED: &str = "SELECT count(*) FROM quarantine WHERE reason = 'for_lock' AND state <> 'resolved'";

/// Locks each table as `fault` says.
pub(super) async fn lock_each(scene: &Scene, fault: Fault, record: &FaultRecord) -> Result<()> {
    let administrator = scene.servers.database().await?;
    let parked_before = count(&administrator, PARKED).await?;
    for table in TABLES {
        match fault {
            Fault::CreateIndex => hold(&administrator, &format!("CREATE INDEX ON {table} ((1))"), record).await?,
            Fault::AlterTable => hold(&administrator, &format!("ALTER TABLE {table} ADD drill text"), record).await?,
            _ => vacuum_behind_a_reader(scene, &administrator, table, record).await?,
        }
    }
    record.lifted();
    let parked = count(&administrator, PARKED).await?.saturating_sub(parked_before);
    record.note(format!("{} tables, {parked} callbacks set aside", TABLES.len()));
    let none_parked = || -> Result<()> {
        ensure!(parked == 0, "{parked} were");
        Ok(())
    };
    record.observed("no callback is set aside because a table is locked", 0, none_parked());
    record
        .promise("no callback waits for a lock after the tables are free", HEALED_WITHIN_SECONDS, async || {
            let waiting = count(&administrator, UNHEALED).await?;
            ensure!(waiting == 0, "{waiting} callbacks wait");
            Ok(())
        })
        .await;
    scene.promise_payment(record, HEALED_WITHIN_SECONDS).await;
    Ok(())
}

/// `statement` in a transaction that stays open, and is rolled back.
async fn hold(administrator: &Client, statement: &str, record: &FaultRecord) -> Result<()> {
    administrator.batch_execute(&format!("BEGIN; {statement}")).await?;
    if record.injected_ms() == 0 {
        record.injected();
    }
    seconds(TABLE_LOCKED_SECONDS).await;
    Ok(administrator.batch_execute("ROLLBACK").await?)
}

/// The reader's lock blocks only VACUUM FULL, which blocks every session that comes after it.
async fn vacuum_behind_a_reader(
    scene: &Scene,
    administrator: &Client,
    table: &str,
    record: &FaultRecord,
) -> Result<()> {
    let table = match table {
        // Of a partitioned table VACUUM FULL takes one partition after the other.
        "notifications" => this_month(administrator).await?,
        whole => whole.to_owned(),
    };
    let reader = scene.servers.database().await?;
    reader.batch_execute(&format!("BEGIN; SELECT FROM {table} LIMIT 1")).await?;
    if record.injected_ms() == 0 {
        record.injected();
    }
    let vacuum = format!("VACUUM FULL {table}");
    let (vacuumed, released) = tokio::join!(administrator.batch_execute(&vacuum), async {
        seconds(TABLE_LOCKED_SECONDS).await;
        reader.batch_execute("COMMIT").await
    });
    released?;
    Ok(vacuumed?)
}

/// The partition of the ledger that is written now.
pub(super) async fn this_month(database: &Client) -> Result<String> {
    let name = "SELECT 'notifications_' || to_char(now() AT TIME ZONE 'UTC', 'YYYY_MM')";
    Ok(database.query_one(name, &[]).await?.try_get(0)?)
}

/// The value of a query that counts.
pub(super) async fn count(database: &Client, query: &str) -> Result<i64> {
    Ok(database.query_one(query, &[]).await?.try_get(0)?)
}
