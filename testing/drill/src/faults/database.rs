//! What happens to PostgreSQL.

use anyhow::Result;

use crate::clock::seconds;
use crate::fault::{DATABASE_DOWN_SECONDS, DATABASE_FROZEN_SECONDS, ORDERS_LOCKED, ORDERS_LOCKED_SECONDS};
use crate::record::FaultRecord;
use crate::servers::{POSTGRES, Servers};

pub(super) async fn freeze(servers: &Servers, record: &FaultRecord) -> Result<()> {
    servers.freeze(POSTGRES).await?;
    record.injected();
    seconds(DATABASE_FROZEN_SECONDS).await;
    servers.thaw(POSTGRES).await
}

pub(super) async fn kill(servers: &Servers, record: &FaultRecord) -> Result<()> {
    servers.kill(&[POSTGRES]).await?;
    record.injected();
    seconds(DATABASE_DOWN_SECONDS).await;
    servers.start(&[POSTGRES]).await
}

/// All sessions: the workers', the simulated shop's and the sampler's.
pub(super) async fn terminate(servers: &Servers, record: &FaultRecord) -> Result<()> {
    let others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                  WHERE datname = current_database() AND pid <> pg_backend_pid()";
    let ended = servers.database().await?.query(others, &[]).await?;
    record.injected();
    record.note(format!("{} sessions", ended.len()));
    Ok(())
}

/// Locks the orders that are paid next. The shop wrote nearly all orders before the first was paid, in the order of their
/// callbacks.
pub(super) async fn lock_orders(servers: &Servers, record: &FaultRecord) -> Result<()> {
    let client = servers.database().await?;
    client.batch_execute("BEGIN").await?;
    let next = "WITH began AS (SELECT min(updated_at) AS at FROM orders WHERE state = 'paid'),
                     reached AS (SELECT max(id) AS id FROM orders, began WHERE state = 'paid' AND created_at < began.at)
                SELECT orders.id FROM orders, reached WHERE orders.id > reached.id ORDER BY orders.id LIMIT $1
                FOR UPDATE OF orders";
    let locked = client.query(next, &[&i64::try_from(ORDERS_LOCKED)?]).await?;
    record.injected();
    record.note(format!("{} orders", locked.len()));
    seconds(ORDERS_LOCKED_SECONDS).await;
    // Another fault may have ended the session, and with it the locks.
    let _ended = client.batch_execute("ROLLBACK").await;
    Ok(())
}
