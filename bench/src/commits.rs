//! When each order became visible as paid to somebody else: told by PostgreSQL right after the commit.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use e2e::database::Database;
use e2e::until::until_within;
use futures_util::future::poll_fn;
use tokio_postgres::{AsyncMessage, Client, NoTls};

/// How long commits may take.
const PATIENCE: Duration = Duration::from_mins(2);
/// A notification for each paid order. It costs the worker's transactions a little, never the other way round.
const NOTIFY: &str = "
    CREATE OR REPLACE FUNCTION bench_notify() RETURNS trigger LANGUAGE plpgsql AS
        $$BEGIN PERFORM pg_notify('paid', NEW.payload ->> 'out_trade_no'); RETURN NULL; END$$;
    CREATE OR REPLACE TRIGGER bench_notify AFTER INSERT ON order_events FOR EACH ROW EXECUTE FUNCTION bench_notify()";

/// Watches until [`Commits::until`].
pub struct Commits {
    seen: Seen,
    client: Client,
}

type Seen = Arc<Mutex<HashMap<String, Instant>>>;

impl Commits {
    /// Begins to watch.
    ///
    /// # Errors
    /// The database is away.
    pub async fn watch(database: &Database) -> Result<Self> {
        let (client, mut connection) = tokio_postgres::connect(database.url().as_str(), NoTls).await?;
        let seen = Seen::default();
        let inside = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
                if let AsyncMessage::Notification(notification) = message {
                    lock(&inside).entry(notification.payload().to_owned()).or_insert_with(Instant::now);
                }
            }
        });
        client.batch_execute(NOTIFY).await?;
        client.batch_execute("LISTEN paid").await?;
        Ok(Self { seen, client })
    }

    /// When each order was paid, once `count` are.
    ///
    /// # Errors
    /// They never are.
    pub async fn until(self, count: usize) -> Result<HashMap<String, Instant>> {
        until_within(PATIENCE, &format!("{count} orders are paid"), async || {
            let paid = lock(&self.seen).len();
            ensure!(paid >= count, "{paid} are");
            Ok(())
        })
        .await?;
        self.client.batch_execute("DROP TRIGGER bench_notify ON order_events").await?;
        Ok(std::mem::take(&mut *lock(&self.seen)))
    }
}

fn lock(seen: &Seen) -> MutexGuard<'_, HashMap<String, Instant>> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}
