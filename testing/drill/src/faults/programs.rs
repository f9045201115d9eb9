//! What happens to our own processes.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kit::program::Signal;
use kit::until::until_within;
use tokio::time::sleep;
use tokio_postgres::Client;

use crate::clock::seconds;
use crate::fleet::Member;
use crate::mark::Mark;
use crate::servers::Servers;

/// RabbitMQ gives a client up after two heartbeats of 10 s without a sign, and looks every 10 s.
const PAST_THE_HEARTBEAT_SECONDS: u64 = 35;
/// One more than the deliveries after which a message is decided alone.
const CRASHES: usize = 6;
/// A worker that is ready has its messages in hand after this.
const TIME_TO_TAKE_MESSAGES: Duration = Duration::from_millis(700);
/// How long a program may take from its end until it is ready again.
const RESTART_PATIENCE: Duration = Duration::from_mins(1);
/// What a worker counts messages in, by what they came to.
const OUTCOMES: &str = "worker_notifications_total";
/// The key of an advisory lock that nothing else uses.
const HANG: i64 = 0x0D21_1100;

pub(super) async fn kill(members: &[Arc<Member>], pick: usize, mark: &Mark) -> Result<()> {
    let member = choose(members, pick)?;
    let lives = member.lives();
    member.kill()?;
    mark.struck();
    mark.note(&member.name);
    until_restarted(member, lives).await
}

pub(super) async fn freeze(members: &[Arc<Member>], pick: usize, mark: &Mark) -> Result<()> {
    let member = choose(members, pick)?;
    member.send(Signal::Freeze)?;
    mark.struck();
    mark.note(&member.name);
    seconds(PAST_THE_HEARTBEAT_SECONDS).await;
    member.send(Signal::Thaw)
}

/// Every write to the ledger hangs until [`let_writes_go`], or until this session ends.
pub(super) async fn hang_writes(administrator: &Client) -> Result<()> {
    administrator.execute("SELECT pg_advisory_lock($1)", &[&HANG]).await?;
    Ok(())
}

/// They go on.
pub(super) async fn let_writes_go(administrator: &Client) -> Result<()> {
    administrator.execute("SELECT pg_advisory_unlock($1)", &[&HANG]).await?;
    Ok(())
}

/// Makes the ledger able to hang, before anybody writes to it: a trigger could be made and dropped under load only by
/// waiting for every transaction that there is, on every month of the ledger.
pub(super) async fn prepare_hanging_writes(servers: &Servers) -> Result<()> {
    let trigger = format!(
        "CREATE OR REPLACE FUNCTION drill_hang() RETURNS trigger LANGUAGE plpgsql AS
             $$BEGIN PERFORM pg_advisory_xact_lock_shared({HANG}); RETURN NEW; END$$;
         DROP TRIGGER IF EXISTS drill_hang ON notifications;
         CREATE TRIGGER drill_hang BEFORE INSERT ON notifications
             FOR EACH ROW EXECUTE FUNCTION drill_hang()"
    );
    Ok(servers.database().await?.batch_execute(&trigger).await?)
}

/// Every write to the ledger hangs, and whoever has messages in hand dies with them, again and again: what a message
/// looks like that kills its worker. Workers still start, because their self-check writes no row.
pub(super) async fn crash_loop(servers: &Servers, workers: &[Arc<Member>], mark: &Mark) -> Result<()> {
    let administrator = servers.database().await?;
    // From here on writers wait: for this lock, and before that behind whoever asks for it.
    mark.struck();
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
    mark.note(format!("{set_aside} messages decided alone"));
    Ok(())
}

pub(super) async fn rolling_restart(members: &[Arc<Member>], mark: &Mark) -> Result<()> {
    mark.struck();
    for member in members {
        let lives = member.lives();
        member.stop()?;
        until_restarted(member, lives).await?;
    }
    mark.note(format!("{} programs", members.len()));
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
