//! Where a part is measured: a database and a virtual host of its own on the real servers, emptied between rounds.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use chrono::{DateTime, Utc};
use kit::broker::Message;
use kit::merchants::MERCHANT;
use kit::program::{Launch, Program};
use kit::test_env::TestEnv;
use kit::until::until_within;
use shared::messaging::envelope::MCH_ID;
use shared::messaging::topology::{CALLBACKS_QUEUE, EVENTS_QUEUE};
use tokio::time::{Instant, sleep};

use crate::process::ProcessorTime;
use crate::requests::{Requests, TRACEPARENT};

/// What is published in one go.
const CHUNK: usize = 10_000;
/// How often it is looked whether a backlog is drained: each look costs the worker a page of metrics.
const LOOK_EVERY: Duration = Duration::from_millis(25);
/// How long emptying the tables may take.
const CLEAR_PATIENCE: Duration = Duration::from_secs(20);
/// How long a backlog may take.
const DRAIN_PATIENCE: Duration = Duration::from_mins(10);

/// The servers of a part.
pub struct Scene {
    /// Its database and virtual host.
    pub env: TestEnv,
}

/// What draining a backlog came to.
pub struct Drained {
    pub per_second: f64,
    /// Microseconds of processor time for each callback, by who used them.
    pub processor_time: BTreeMap<&'static str, f64>,
}

impl Scene {
    pub async fn start() -> Result<Self> {
        Ok(Self { env: TestEnv::start().await? })
    }

    /// Nothing is left of the last round, in the database's files neither.
    pub async fn clear(&self) -> Result<()> {
        let truncate = "TRUNCATE orders, payments, refunds, notifications, quarantine, order_events";
        // A worker that lives on looks at them as well: PostgreSQL may end either of the two, and both try again.
        until_within(CLEAR_PATIENCE, "the tables are empty", async || self.run(&[truncate]).await).await?;
        self.run(&["CHECKPOINT"]).await?;
        self.purge().await
    }

    /// Statements of which each is a transaction of its own.
    pub async fn run(&self, statements: &[&str]) -> Result<()> {
        for statement in statements {
            self.env.database.batch_execute(statement).await.with_context(|| (*statement).to_owned())?;
        }
        Ok(())
    }

    /// The queues are empty.
    pub async fn purge(&self) -> Result<()> {
        self.env.broker.purge(CALLBACKS_QUEUE).await?;
        self.env.broker.purge(EVENTS_QUEUE).await
    }

    /// The shop writes the orders that `requests` pay.
    pub async fn open_orders(&self, requests: &Requests) -> Result<()> {
        let insert = "INSERT INTO orders (mch_id, out_trade_no, amount_minor, currency)
                      SELECT $1, unnest($2::text[]), 1999, 'CNY'";
        self.env.database.execute(insert, &[&MERCHANT, &requests.orders()]).await?;
        self.run(&["ANALYZE orders"]).await
    }

    /// `count` callbacks wait in the queue, past ingest; they come round again when there are fewer.
    pub async fn enqueue(&self, requests: &Requests, count: usize) -> Result<()> {
        let mut bodies = requests.bodies().iter().cycle().take(count).peekable();
        while bodies.peek().is_some() {
            let chunk = bodies.by_ref().take(CHUNK).map(|body| as_ingest_publishes(body)).collect();
            self.env.broker.publish_callbacks(chunk).await?;
        }
        Ok(())
    }

    /// Has `workers` drain the `count` callbacks that wait in the queue: callbacks a second over all but the first and the last
    /// twentieth. The start of the programs is left out, for it is the same for one callback and for a million.
    pub async fn drain(&self, workers: usize, launch: impl Fn(Launch) -> Launch, count: usize) -> Result<Drained> {
        let now = "SELECT clock_timestamp()";
        let begun: DateTime<Utc> = self.env.database.query_one(now, &[]).await?.try_get(0)?;
        let before = ProcessorTime::now()?;
        let mut programs = Vec::new();
        for _ in 0..workers {
            programs.push(launch(self.env.worker()?).spawn()?);
        }
        until_handled(&mut programs, count).await?;
        let processor_time = ProcessorTime::now()?.since(&before, count);
        for program in &mut programs {
            program.stop().await?;
        }
        // The moment at which a row was written: it says when its batch had come so far.
        let span = "SELECT count(*), extract(epoch FROM percentile_disc(0.95) WITHIN GROUP (ORDER BY handled_at)
                        - percentile_disc(0.05) WITHIN GROUP (ORDER BY handled_at))::float8
                    FROM notifications WHERE handled_at > $1";
        let row = self.env.database.query_one(span, &[&begun]).await?;
        let (handled, seconds): (i64, Option<f64>) = (row.try_get(0)?, row.try_get(1)?);
        ensure!(handled == i64::try_from(count)?, "the ledger has {handled} of {count} callbacks");
        Ok(Drained { per_second: 0.9 * handled as f64 / seconds.context("nothing was handled")?, processor_time })
    }

    /// Waits until every event has been published.
    pub async fn until_told(&self) -> Result<()> {
        let deadline = Instant::now() + DRAIN_PATIENCE;
        loop {
            let events: i64 =
                self.env.database.query_one("SELECT count(*) FROM order_events", &[]).await?.try_get(0)?;
            if events == 0 {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "{events} events are still in the outbox");
            sleep(LOOK_EVERY).await;
        }
    }

    /// Bytes of all tables, with their indexes.
    pub async fn bytes_on_disk(&self) -> Result<f64> {
        let sum = "SELECT sum(pg_total_relation_size(oid))::float8 FROM pg_class
                   WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'";
        Ok(self.env.database.query_one(sum, &[]).await?.try_get(0)?)
    }
}

fn as_ingest_publishes(body: &[u8]) -> Message {
    let message = Message::callback(body).header(MCH_ID, MERCHANT).header(TRACEPARENT.0, TRACEPARENT.1);
    Message { content_type: Some("text/xml".to_owned()), ..message }
}

/// Waits until `programs` have handled `count` callbacks since they started.
pub async fn until_handled(programs: &mut [Program], count: usize) -> Result<()> {
    let deadline = Instant::now() + DRAIN_PATIENCE;
    loop {
        let mut handled = 0;
        for program in &mut *programs {
            ensure!(program.is_running()?, "a worker has ended: {}", program.log()?);
            // It does not listen from its first moment on.
            handled += program.metric("worker_notifications_total", &[]).await.unwrap_or_default();
        }
        if handled >= u64::try_from(count)? {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "{handled} of {count} callbacks were handled");
        sleep(LOOK_EVERY).await;
    }
}

/// Stops programs in good order.
pub async fn stop(programs: impl IntoIterator<Item = Program>) -> Result<()> {
    for mut program in programs {
        program.stop().await?;
    }
    Ok(())
}
