//! An operator at work while callbacks come: the commands of `worker quarantine` on rows drawn at random. None of it may
//! lose a payment, or pay an order that refused it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kit::post::Post;
use kit::program::Launch;
use kit::until::until_within;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use tokio::time::{Instant, sleep};
use tokio_postgres::Client;

use super::Scene;
use crate::fault::OPERATOR_SECONDS;
use crate::own;
use crate::record::FaultRecord;

/// Between two commands.
const THINKING: Duration = Duration::from_millis(150);
/// The most rows that one command names.
const ROWS_AT_ONCE: i64 = 20;
/// Orders of each kind that the operator's own rows are about.
const OWN_ORDERS: usize = 30;
/// How often the operator tries to abandon what is left.
const ABANDON_TRIES: usize = 5;
/// How soon own callbacks are held.
const HELD_WITHIN: Duration = Duration::from_secs(15);
/// How soon every own order is as it must be.
const SETTLED_WITHIN_SECONDS: u64 = 10;

/// What an operator can do to held rows. A new command belongs here.
const COMMANDS: [Command; 4] = [
    Command { verb: "replay", of: Rows::Anybodys },
    Command { verb: "resolve", of: Rows::Own },
    Command { verb: "accept", of: Rows::Own },
    Command { verb: "abandon", of: Rows::GivenUp },
];

struct Command {
    verb: &'static str,
    of: Rows,
}

/// Which rows a command may name: a command that resolves a row permanently must not name rows that the simulator's audit expects.
#[derive(Clone, Copy)]
enum Rows {
    Anybodys,
    Own,
    /// Of orders that never come.
    GivenUp,
}

/// Runs commands on rows drawn at random. Of the operator's own orders some were never written, so that their payments
/// wait, and some are closed, so that theirs are refused.
pub(super) async fn work(scene: &Scene, pick: usize, record: &FaultRecord) -> Result<()> {
    let database = scene.servers.database().await?;
    let (late, closed, given_up) = (own::numbers(OWN_ORDERS), own::numbers(OWN_ORDERS), own::numbers(OWN_ORDERS));
    own::insert(&database, &closed, "closed").await?;
    let own_orders: Vec<String> = late.iter().chain(&closed).cloned().collect();
    let all: Vec<String> = own_orders.iter().chain(&given_up).cloned().collect();
    let payments: Vec<Post> = own::payments(&all).iter().map(|payment| payment.body().into()).collect();
    own::deliver_all(&scene.fleet, payments).await?;
    until_held(&database, &all).await?;
    record.injected();
    let mut rng = StdRng::seed_from_u64(u64::try_from(pick)?);
    let (mut done, mut refused) = (0_usize, 0_usize);
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(OPERATOR_SECONDS) {
        let command = COMMANDS.choose(&mut rng).context("there is no command")?;
        let only = match command.of {
            Rows::Anybodys => None,
            Rows::Own => Some(own_orders.as_slice()),
            Rows::GivenUp => Some(given_up.as_slice()),
        };
        let ids = draw_rows(&database, only, &mut rng).await?;
        if !ids.is_empty() {
            let is_done = run(scene, command.verb, &ids).await?;
            (done, refused) = (done.saturating_add(is_done.into()), refused.saturating_add((!is_done).into()));
        }
        sleep(THINKING).await;
    }
    record.note(format!("{done} commands, {refused} refused"));
    abandon_the_rest(scene, &database, &given_up).await?;
    own::insert(&database, &late, "pending").await?;
    record.lifted();
    record
        .promise(
            "every payment that waited for its order pays it, whatever the operator did",
            SETTLED_WITHIN_SECONDS,
            async || own::ensure_paid(&database, &late).await,
        )
        .await;
    record
        .promise("every callback that was given up is abandoned in the ledger", SETTLED_WITHIN_SECONDS, async || {
            let count = "SELECT count(*) FROM notifications WHERE out_trade_no = ANY($1) AND outcome <> 'abandoned'";
            let others: i64 = database.query_one(count, &[&given_up]).await?.try_get(0)?;
            ensure!(others == 0, "{others} are not");
            Ok(())
        })
        .await;
    record
        .promise("no closed order is paid by a replay", 0, async || {
            own::ensure_all(&database, &closed, |_, order| order.state == "closed").await
        })
        .await;
    Ok(())
}

/// Gives up what the draw has left of the orders that never come, so that nothing waits for them in the end.
async fn abandon_the_rest(scene: &Scene, database: &Client, numbers: &[String]) -> Result<()> {
    let select = "SELECT id FROM quarantine WHERE out_trade_no = ANY($1) AND state <> 'resolved'";
    for _ in 0..ABANDON_TRIES {
        let rows = database.query(select, &[&numbers]).await?;
        let ids = rows.iter().map(|row| row.try_get(0)).collect::<Result<Vec<i64>, _>>()?;
        if ids.is_empty() {
            return Ok(());
        }
        // Refused while a sweeper holds one of them.
        let _is_done = run(scene, "abandon", &ids).await?;
    }
    Ok(())
}

/// True when it was done; a command may refuse, with a reason.
pub(super) async fn run(scene: &Scene, verb: &str, ids: &[i64]) -> Result<bool> {
    let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
    let launch = Launch::new("worker")
        .arguments(&["quarantine", verb, "--by", "the drill's operator", "--why", "at random"])
        .arguments(&ids.iter().map(String::as_str).collect::<Vec<_>>())
        .env("DATABASE_URL", scene.servers.database_url().as_str());
    let finished = launch.finish().await?;
    // Anything but a refusal with its reason is a program that failed.
    ensure!(finished.code.is_some() && !finished.stderr.contains("panicked"), "{verb}: {}", finished.stderr);
    Ok(finished.code == Some(0))
}

async fn draw_rows(database: &Client, only: Option<&[String]>, rng: &mut StdRng) -> Result<Vec<i64>> {
    let draw = "SELECT id FROM quarantine WHERE state <> 'resolved' AND ($1::text[] IS NULL OR out_trade_no = ANY($1))
                ORDER BY random() LIMIT $2";
    let rows = database.query(draw, &[&only, &rng.random_range(1..=ROWS_AT_ONCE)]).await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

/// Every payment of these orders is a row of the quarantine.
pub(super) async fn until_held(database: &Client, numbers: &[String]) -> Result<()> {
    let count = "SELECT count(DISTINCT out_trade_no) FROM quarantine WHERE out_trade_no = ANY($1)";
    until_within(HELD_WITHIN, "the drill's own payments are held", async || {
        let held: i64 = database.query_one(count, &[&numbers]).await?.try_get(0)?;
        ensure!(usize::try_from(held)? == numbers.len(), "{held} of {} are", numbers.len());
        Ok(())
    })
    .await
}

/// Replays what is held about these orders.
pub(super) async fn replay_held(scene: &Scene, database: &Client, numbers: &[&str]) -> Result<()> {
    let select = "SELECT id FROM quarantine WHERE out_trade_no = ANY($1) AND state <> 'resolved'";
    let rows = database.query(select, &[&numbers]).await?;
    let ids = rows.iter().map(|row| row.try_get(0)).collect::<Result<Vec<i64>, _>>()?;
    if !ids.is_empty() {
        // Refused when they have been decided since.
        let _is_done = run(scene, "replay", &ids).await?;
    }
    Ok(())
}
