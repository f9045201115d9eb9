//! A database that answers and has no space for a row: simulated by a trigger, and real, on a small file system.

use anyhow::{Context, Result, ensure};

use super::tables::this_month;
use super::{Scene, lanes};
use crate::clock::seconds;
use crate::fault::{DISK_FULL_SECONDS, SMALL_DISK_FULL_SECONDS};
use crate::record::FaultRecord;
use crate::servers::Servers;

/// The key of an advisory lock that nothing else uses.
const FULL: i64 = 0x0D21_1101;
/// How soon a callback pays its order when there is room again.
const BACK_WITHIN_SECONDS: u64 = 10;
/// The tablespace on the small file system.
const TABLESPACE: &str = "drill_small_disk";

/// Creates the trigger that rejects rows, before the load begins.
pub(super) async fn prepare_refusal(servers: &Servers) -> Result<()> {
    let trigger = format!(
        "CREATE OR REPLACE FUNCTION drill_full() RETURNS trigger LANGUAGE plpgsql AS
             $$BEGIN
                 IF NOT pg_try_advisory_xact_lock_shared({FULL}) THEN
                     RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100';
                 END IF;
                 RETURN NEW;
             END$$;
         DROP TRIGGER IF EXISTS drill_full ON notifications;
         CREATE TRIGGER drill_full BEFORE INSERT ON notifications
             FOR EACH ROW EXECUTE FUNCTION drill_full()"
    );
    Ok(servers.database().await?.batch_execute(&trigger).await?)
}

/// Every row of the ledger is rejected while everything else works: a self-check that writes no row would not notice.
pub(super) async fn refuse(scene: &Scene, record: &FaultRecord) -> Result<()> {
    let administrator = scene.servers.database().await?;
    let returned_before = lanes::interruptions(&scene.fleet).await?;
    let refused = async || {
        administrator.execute("SELECT pg_advisory_lock($1)", &[&FULL]).await?;
        record.injected();
        seconds(DISK_FULL_SECONDS).await;
        administrator.execute("SELECT pg_advisory_unlock($1)", &[&FULL]).await
    };
    refused().await?;
    record.lifted();
    let returned = lanes::interruptions(&scene.fleet).await?.saturating_sub(returned_before);
    let none_returned = || -> Result<()> {
        ensure!(
            returned == 0,
            "{returned} lanes returned theirs, which brings each message one delivery closer to the dead letters"
        );
        Ok(())
    };
    record.observed("no batch is returned to the broker because the disk is full", 0, none_returned());
    scene.promise_payment(record, BACK_WITHIN_SECONDS).await;
    Ok(())
}

/// Moves this month of the ledger to a small file system of its own; false where the machine has none to give.
pub(super) async fn prepare_small_disk(servers: &Servers) -> Result<bool> {
    let Some(place) = servers.make_small_disk().await else { return Ok(false) };
    let place = place.to_str().context("a path that is not UTF-8")?.replace('\'', "''");
    let administrator = servers.database().await?;
    let month = this_month(&administrator).await?;
    administrator.execute(&format!("CREATE TABLESPACE {TABLESPACE} LOCATION '{place}'"), &[]).await?;
    administrator.execute(&format!("ALTER TABLE {month} SET TABLESPACE {TABLESPACE}"), &[]).await?;
    Ok(true)
}

/// No room for one more page of the ledger.
pub(super) async fn fill(scene: &Scene, record: &FaultRecord) -> Result<()> {
    record.injected();
    if !scene.has_small_disk {
        record.note("left out: this machine mounts no file system");
        record.lifted();
        return Ok(());
    }
    scene.servers.fill_small_disk().await?;
    record.injected();
    seconds(SMALL_DISK_FULL_SECONDS).await;
    scene.servers.empty_small_disk().await?;
    record.lifted();
    scene.promise_payment(record, BACK_WITHIN_SECONDS).await;
    Ok(())
}
