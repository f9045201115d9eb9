//! Faults of Countersign's own processes.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kit::program::Signal;
use kit::until::until_within;
use tokio::time::sleep;
use tokio_postgres::Client;

use crate::clock::seconds;
use crate::fault::{CRASHES, WORKER_FROZEN_SECONDS};
use crate::fleet::Member;
use crate::record::FaultRecord;
use crate::servers::Servers;

/// A worker that is ready has its messages in hand after this.
const TIME_TO_TAKE_MESSAGES: Duration = Duration::from_millis(700);
/// How long a program may take to be ready again after it ended.
const RESTART_PATIENCE: Duration = Duration::from_mins(1);
/// The worker's counter of messages by outcome.
const OUTCOMES: &str = "worker_notifications_total";
/// The key of an advisory lock that nothing else uses.
const HANG: i64 = 0x0D21_1100;

pub(super) async fn kill(members: &[Arc<Member>], pick: usize, record: &FaultRecord) -> Result<()> {
    let member = choose(members, pick)?;
    let lives = member.lives();
    member.kill()?;
    record.injected();
    record.note(&member.name);
    until_restarted(member, lives).await
}

pub(super) async fn freeze(members: &[Arc<Member>], pick: usize, record: &FaultRecord) -> Result<()> {
    let member = choose(members, pick)?;
    member.send(Signal::Freeze)?;
    record.injected();
    record.note(&member.name);
    seconds(WORKER_FROZEN_SECONDS).await;
    member.send(Signal::Thaw)
}

/// Every write to the ledger hangs until [`let_writes_go`], or until this session ends.
pub(super) async fn hang_writes(administrator: &Client) -> Result<()> {
    administrator.execute("SELECT pg_advisory_lock($1)", &[&HANG]).await?;
    Ok(())
}

pub(super) async fn let_writes_go(administrator: &Client) -> Result<()> {
    administrator.execute("SELECT pg_advisory_unlock($1)", &[&HANG]).await?;
    Ok(())
}

/// Creates the trigger that makes writes hang, before the load begins: under load, creating it would have to wait for every
/// transaction on every month of the ledger.
pub(super) async fn prepare_hanging_writes(servers: &Servers) -> Result<()> {
    let trigger = format!(
        "CREATE OR REPLACE FUNCTION drill_hang() RETURNS trigger LANGUAGE plpgsql AS
             $$BEGIN PERFORM pg_advisory_xact_lock_shared({HANG}); RETURN NEW; END$$;
         DROP TRIGGER IF EXISTS drill_hang ON notifications;
         CREATE TRIGGER drill_hang BEFORE INSERT ON notifications
             FOR EACH ROW WHEN (NEW.mch_id IS NOT NULL) EXECUTE FUNCTION drill_hang()"
    );
    Ok(servers.database().await?.batch_execute(&trigger).await?)
}

/// Every callback of a merchant hangs its worker, and all workers are killed with the messages that they hold, again and
/// again: this is what a message looks like that kills its worker. Workers start well all the same, because their
/// self-check writes rows of no merchant.
pub(super) async fn crash_loop(servers: &Servers, workers: &[Arc<Member>], record: &FaultRecord) -> Result<()> {
    let administrator = servers.database().await?;
    // From here on writers wait for this lock, and before that behind the session that requests it.
    record.injected();
    hang_writes(&administrator).await?;
    for _ in 0..CRASHES {
        sleep(TIME_TO_TAKE_MESSAGES).await;
        let lives: Vec<usize> = workers.iter().map(|worker| worker.lives()).collect();
        for worker in workers {
            worker.kill()?;
        }
        for (worker, lives) in workers.iter().zip(lives) {
            until_restarted(worker, lives).await?;
        }
    }
    let_writes_go(&administrator).await?;
    let set_aside = until_within(RESTART_PATIENCE, "a message was set aside to be decided alone", async || {
        let mut count = 0_u64;
        for worker in workers {
            count = count.saturating_add(worker.metric(OUTCOMES, &["reason=\"decide_alone\""]).await?);
        }
        ensure!(count > 0, "none was");
        Ok(count)
    })
    .await?;
    record.note(format!("{set_aside} messages decided alone"));
    Ok(())
}

pub(super) async fn rolling_restart(members: &[Arc<Member>], record: &FaultRecord) -> Result<()> {
    record.injected();
    for member in members {
        let lives = member.lives();
        member.stop()?;
        until_restarted(member, lives).await?;
    }
    record.note(format!("{} programs", members.len()));
    Ok(())
}

/// The supervisor has started it, and it is ready.
async fn until_restarted(member: &Member, lives: usize) -> Result<()> {
    until_within(RESTART_PATIENCE, &format!("{} is ready again", member.name), async || {
        ensure!(member.lives() > lives, "it has not been started");
        ensure!(member.is_ready().await, "it is not ready");
        Ok(())
    })
    .await
}

fn choose(members: &[Arc<Member>], pick: usize) -> Result<&Member> {
    Ok(members.get(pick % members.len().max(1)).context("there is no such program")?)
}
