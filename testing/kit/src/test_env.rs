//! The usual set: a database, a broker and the two merchants, with the pipeline's programs to be started on them.

use std::collections::{BTreeMap, HashSet};

use anyhow::{Result, ensure};
use chrono::{DateTime, Utc};
use shared::messaging::topology::EVENTS_QUEUE;
use uuid::Uuid;

use crate::broker::{Broker, Message};
use crate::database::Database;
use crate::merchants::{MERCHANT, MerchantsFile};
use crate::program::{Launch, Program};
use crate::proxy::Proxy;
use crate::servers::Servers;
use crate::until;

/// What one test needs. Start programs after it, so that they are dropped before the data of their servers is.
pub struct TestEnv {
    /// Its migrated database.
    pub database: Database,
    /// Its virtual host.
    pub broker: Broker,
    pub merchants: MerchantsFile,
}

/// A row of `orders`, as far as tests look at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderRow {
    /// `pending`, `paid`, `closed` or `refunded`.
    pub state: String,
    /// WeChat Pay's number, once paid.
    pub transaction_id: Option<String>,
    pub paid_at: Option<DateTime<Utc>>,
    /// How often Countersign has changed the row.
    pub version: i32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerRow {
    /// The AMQP `message_id`.
    pub id: Uuid,
    /// `applied`, `duplicate`, …
    pub outcome: String,
    /// Why, when not applied.
    pub reason: Option<String>,
    /// The exact bytes of the callback; empty for the later parts of a combined one.
    pub body: Vec<u8>,
}

impl LedgerRow {
    /// Outcome and reason in one text, as in `applied`, `waiting for_order`.
    #[must_use]
    pub fn verdict(&self) -> String {
        match &self.reason {
            Some(reason) => format!("{} {reason}", self.outcome),
            None => self.outcome.clone(),
        }
    }
}

impl TestEnv {
    /// Makes the set.
    pub async fn start() -> Result<Self> {
        let servers = Servers::from_environment()?;
        Ok(Self {
            database: Database::create(&servers).await?,
            broker: Broker::create(&servers).await?,
            merchants: MerchantsFile::write()?,
        })
    }

    /// An ingest, ready.
    pub async fn start_ingest(&self) -> Result<Program> {
        self.ingest()?.start().await
    }

    /// A worker, ready.
    pub async fn start_worker(&self) -> Result<Program> {
        self.worker()?.start().await
    }

    /// An ingest to be changed before it is started.
    pub fn ingest(&self) -> Result<Launch> {
        Launch::ingest(self.broker.ingest_url().as_str(), self.merchants.path())
    }

    /// A worker to be changed before it is started.
    pub fn worker(&self) -> Result<Launch> {
        Launch::worker(self.broker.worker_url().as_str(), self.database.worker_url().as_str(), self.merchants.path())
    }

    /// An ingest whose connections to the broker go through a proxy.
    pub async fn ingest_behind_proxy(&self) -> Result<(Proxy, Launch)> {
        let proxy = Proxy::in_front_of(&self.broker.ingest_url()).await?;
        let launch = Launch::ingest(proxy.rewrite(&self.broker.ingest_url())?.as_str(), self.merchants.path())?;
        Ok((proxy, launch))
    }

    /// A worker whose connections to the broker go through a proxy.
    pub async fn worker_behind_broker_proxy(&self) -> Result<(Proxy, Launch)> {
        let proxy = Proxy::in_front_of(&self.broker.worker_url()).await?;
        let (broker, database) = (proxy.rewrite(&self.broker.worker_url())?, self.database.worker_url());
        Ok((proxy, Launch::worker(broker.as_str(), database.as_str(), self.merchants.path())?))
    }

    /// A worker whose connections to the database go through a proxy.
    pub async fn worker_behind_database_proxy(&self) -> Result<(Proxy, Launch)> {
        let proxy = Proxy::in_front_of(&self.database.worker_url()).await?;
        let (broker, database) = (self.broker.worker_url(), proxy.rewrite(&self.database.worker_url())?);
        Ok((proxy, Launch::worker(broker.as_str(), database.as_str(), self.merchants.path())?))
    }

    /// The checkout's side: a pending order of [`MERCHANT`] over 1999 fen, what [`crate::callback::Callback::payment`]
    /// pays.
    pub async fn insert_order(&self, out_trade_no: &str) -> Result<()> {
        self.insert_orders(&[out_trade_no]).await
    }

    /// Many of those.
    pub async fn insert_orders(&self, out_trade_nos: &[&str]) -> Result<()> {
        let insert = "INSERT INTO orders (mch_id, out_trade_no, amount_minor, currency)
                      SELECT $1, unnest($2::text[]), 1999, 'CNY'";
        self.database.execute(insert, &[&MERCHANT, &out_trade_nos]).await?;
        Ok(())
    }

    /// Records the payments of orders that were paid before Countersign was installed, by the statement of `docs/operations.md`.
    pub async fn bring_in_payments(&self) -> Result<()> {
        let insert = "INSERT INTO payments
                          (order_id, mch_id, transaction_id, amount_minor, currency, paid_at, disposition, returned_minor)
                      SELECT id, mch_id, transaction_id, amount_minor, currency, paid_at, 'accepted', refunded_minor
                      FROM orders WHERE transaction_id IS NOT NULL ON CONFLICT (mch_id, transaction_id) DO NOTHING";
        self.database.execute(insert, &[]).await?;
        Ok(())
    }

    /// An order of [`MERCHANT`].
    pub async fn order(&self, out_trade_no: &str) -> Result<OrderRow> {
        let select = "SELECT state, transaction_id, paid_at, version FROM orders
                      WHERE mch_id = $1 AND out_trade_no = $2";
        let row = self.database.query_one(select, &[&MERCHANT, &out_trade_no]).await?;
        Ok(OrderRow {
            state: row.try_get(0)?,
            transaction_id: row.try_get(1)?,
            paid_at: row.try_get(2)?,
            version: row.try_get(3)?,
        })
    }

    /// Waits until the outbox is empty and at least `count` order events have reached the merchant's queue, and takes
    /// them as a consumer should: a repeat under a known id is dropped.
    pub async fn until_events(&self, count: u32) -> Result<Vec<Message>> {
        until(&format!("{count} events have arrived"), async || {
            let waiting = self.value("SELECT count(*) FROM order_events").await?;
            let arrived = self.broker.depth(EVENTS_QUEUE).await?;
            ensure!(arrived >= count && waiting == "0", "{arrived} have arrived, and {waiting} are in the outbox");
            Ok(())
        })
        .await?;
        let mut events = self.broker.take_all(EVENTS_QUEUE).await?;
        let mut seen = HashSet::new();
        events.retain(|event| seen.insert(event.id.clone()));
        Ok(events)
    }

    /// How many rows the ledger has for each outcome and reason, as in `applied`, `waiting for_order`.
    pub async fn outcomes(&self) -> Result<BTreeMap<String, usize>> {
        let mut outcomes = BTreeMap::new();
        for row in self.ledger().await? {
            *outcomes.entry(row.verdict()).or_default() += 1;
        }
        Ok(outcomes)
    }

    /// The whole ledger, oldest message first.
    pub async fn ledger(&self) -> Result<Vec<LedgerRow>> {
        let select = "SELECT id, outcome, reason, coalesce(body, '') FROM notifications ORDER BY id, part";
        let rows = self.database.query(select, &[]).await?;
        rows.iter()
            .map(|row| {
                Ok(LedgerRow {
                    id: row.try_get(0)?,
                    outcome: row.try_get(1)?,
                    reason: row.try_get(2)?,
                    body: row.try_get(3)?,
                })
            })
            .collect()
    }

    /// The single value of a query without parameters, as text: counts and the like.
    pub async fn value(&self, query: &str) -> Result<String> {
        let row = self.database.query_one(&format!("SELECT ({query})::text"), &[]).await?;
        Ok(row.try_get::<_, Option<String>>(0)?.unwrap_or_default())
    }

    /// Waits until an order of [`MERCHANT`] is paid, and gives it.
    pub async fn until_paid(&self, out_trade_no: &str) -> Result<OrderRow> {
        until(&format!("{out_trade_no} is paid"), async || {
            let order = self.order(out_trade_no).await?;
            ensure!(order.state == "paid", "it is {}", order.state);
            Ok(order)
        })
        .await
    }

    /// Waits until a query has this value (as text).
    pub async fn until_value(&self, query: &str, expected: &str) -> Result<()> {
        until(&format!("({query}) is {expected}"), async || {
            let value = self.value(query).await?;
            ensure!(value == expected, "it is {value}");
            Ok(())
        })
        .await
    }

    /// Waits until the ledger has `count` rows, and gives them.
    pub async fn until_ledger_has(&self, count: usize) -> Result<Vec<LedgerRow>> {
        self.until_value("SELECT count(*) FROM notifications", &count.to_string()).await?;
        self.ledger().await
    }
}
