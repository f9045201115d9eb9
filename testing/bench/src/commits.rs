//! When each order became visible as paid to other sessions: PostgreSQL sends a notification right after the commit.

use std::collections::HashMap;
use std::time::Instant;

use anyhow::Result;
use futures_util::future::poll_fn;
use kit::database::{Database, in_schema};
use tokio_postgres::{AsyncMessage, Client, NoTls};

use crate::first_seen::FirstSeen;

/// A notification for each paid order. It costs the worker's transactions a little, never the other way round.
const NOTIFY: &str = "
    CREATE OR REPLACE FUNCTION bench_notify() RETURNS trigger LANGUAGE plpgsql AS
        $$BEGIN PERFORM pg_notify('paid', NEW.payload ->> 'out_trade_no'); RETURN NULL; END$$;
    CREATE OR REPLACE TRIGGER bench_notify AFTER INSERT ON order_events FOR EACH ROW EXECUTE FUNCTION bench_notify()";

/// Watches until [`Commits::until`].
pub struct Commits {
    seen: FirstSeen,
    client: Client,
}

impl Commits {
    /// Begins to watch.
    pub async fn watch(database: &Database) -> Result<Self> {
        let (client, mut connection) = tokio_postgres::connect(in_schema(&database.url()).as_str(), NoTls).await?;
        let seen = FirstSeen::default();
        let inside = seen.clone();
        tokio::spawn(async move {
            while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
                if let AsyncMessage::Notification(notification) = message {
                    inside.note(notification.payload().to_owned(), Instant::now());
                }
            }
        });
        client.batch_execute(NOTIFY).await?;
        client.batch_execute("LISTEN paid").await?;
        Ok(Self { seen, client })
    }

    /// When each order was paid, once `count` are.
    pub async fn until(self, count: usize) -> Result<HashMap<String, Instant>> {
        let paid = self.seen.until(count, "paid").await?;
        self.client.batch_execute("DROP TRIGGER bench_notify ON order_events").await?;
        Ok(paid)
    }
}
