//! What the database can do: pgbench with one transaction for each payment, as one would write it without batches, and
//! with one set-based transaction for 256 of them, which is all of a worker that is the database's.
//!
//! Both write rows of the size that a worker writes, under ids that grow as a worker's do.

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kit::database::IN_SCHEMA;
use tokio::process::Command;
use url::Url;
use uuid::Uuid;

use crate::requests::Requests;
use crate::scene::Scene;

/// Client counts of which the best is taken: more were no faster on two cores.
const ONE_BY_ONE_CLIENTS: [u32; 2] = [16, 32];
/// As many as a worker has lanes, and twice that.
const SET_CLIENTS: [u32; 2] = [2, 4];
/// Payments in one set.
const SET: u32 = 256;

/// A payment: lock, look whether it is on record, change, record, note, tell. The clients take the orders in turn, so that none
/// waits for another; when the orders come round again, each has a payment of another number, as no payment is recorded twice.
const ONE_BY_ONE: &str = r"
\set i :i + 1
\set t :i * :clients + :client_id
\set n 1 + :t % :orders
BEGIN;
SELECT id, amount_minor, state, version FROM orders
    WHERE mch_id = 'pgbench' AND out_trade_no = 'PGBENCH' || :n AND coalesce(sub_mch_id, '') = '' FOR NO KEY UPDATE;
SELECT order_id, amount_minor, disposition, returned_minor FROM payments
    WHERE mch_id = 'pgbench' AND transaction_id = '42' || lpad(:t::text, 26, '0');
UPDATE orders SET state = 'paid', transaction_id = '4200000000000000000000000001', paid_at = '2026-01-01',
    version = version + 1, updated_at = now() WHERE mch_id = 'pgbench' AND out_trade_no = 'PGBENCH' || :n AND coalesce(sub_mch_id, '') = '';
INSERT INTO payments PAYMENT FROM (VALUES (:n::bigint, :t::bigint)) AS numbers (n, t);
INSERT INTO notifications NOTE FROM (VALUES (:n::bigint, :t::bigint)) AS numbers (n, t);
INSERT INTO order_events (id, type, order_id, payload) SELECT EVENT FROM (VALUES (:n)) AS numbers (n);
COMMIT;
";

/// The same for 256 orders.
const IN_SETS: &str = r"
\set i :i + 1
\set t :i * :clients + :client_id
\set first 256 * (:t % (:orders / 256))
BEGIN;
SELECT id, amount_minor, state, version FROM orders WHERE (mch_id, out_trade_no, coalesce(sub_mch_id, '')) IN
    (SELECT 'pgbench', 'PGBENCH' || n, '' FROM generate_series(:first + 1, :first + 256) AS n)
    ORDER BY id FOR NO KEY UPDATE;
SELECT order_id, amount_minor, disposition, returned_minor FROM payments WHERE (mch_id, transaction_id) IN
    (SELECT 'pgbench', '42' || lpad(t::text, 26, '0') FROM generate_series(256 * :t + 1, 256 * :t + 256) AS t);
UPDATE orders SET state = 'paid', transaction_id = '4200000000000000000000000001', paid_at = '2026-01-01',
    version = version + 1, updated_at = now() WHERE (mch_id, out_trade_no, coalesce(sub_mch_id, '')) IN
    (SELECT 'pgbench', 'PGBENCH' || n, '' FROM generate_series(:first + 1, :first + 256) AS n);
INSERT INTO payments PAYMENT FROM
    (SELECT :first + k AS n, 256 * :t + k AS t FROM generate_series(1, 256) AS k) AS numbers;
INSERT INTO notifications NOTE FROM
    (SELECT :first + k AS n, 256 * :t + k AS t FROM generate_series(1, 256) AS k) AS numbers;
INSERT INTO order_events (id, type, order_id, payload)
    SELECT EVENT FROM generate_series(:first + 1, :first + 256) AS n;
COMMIT;
";

/// A payment on record.
const PAYMENT: &str = "
    (order_id, mch_id, transaction_id, amount_minor, currency, paid_at, disposition, returned_minor, notification_id,
     notification_received_at, notification_part)
    SELECT n, 'pgbench', '42' || lpad(t::text, 26, '0'), 100, 'CNY', '2026-01-01', 'accepted', 0,
        '0192f0c0-0000-7000-8000-000000000001', now(), 0
";

/// A row of the ledger, of the size that a worker writes.
const NOTE: &str = r#"
    (id, part, received_at, kind, mch_id, sub_mch_id, out_trade_no, transaction_id, out_refund_no, key_fingerprint,
     outcome, reason, seen_version, seen_state, seen_amount_minor, seen_currency, event_id, event_type, event_version,
     body, headers, handled_at)
    SELECT lpad(to_hex(nextval('pgbench_ids')), 32, '0')::uuid, 0, now(), 'payment', 'pgbench', NULL, 'PGBENCH' || n,
        '42' || lpad(t::text, 26, '0'), NULL, '0192f0c0', 'applied', NULL, 0, 'pending', 100, 'CNY',
        '0192f0c0-0000-7000-8000-000000000001', 'order.paid', 1, convert_to(repeat('x', BODY_BYTES), 'UTF8'),
        '{"type": "wechatpay.v2.payment", "mch-id": "1900000109", "content-type": "text/xml", "envelope-version": "1",
          "traceparent": "00-0192f0c0000070008000000000000001-8000000000000001-00"}'::jsonb, clock_timestamp()
"#;

/// A row of the outbox.
const EVENT: &str = r#"
    lpad(to_hex(nextval('pgbench_ids')), 32, '0')::uuid, 'order.paid', n::bigint,
    '{"type": "order.paid", "mch_id": "1900000109", "paid_at": "2026-11-23T02:15:30Z", "version": 1, "currency": "CNY",
      "event_id": "0192f0c0-0000-7000-8000-000000000001", "order_id": 1, "sub_mch_id": null, "amount_minor": 1999,
      "out_trade_no": "PGBENCH1", "transaction_id": "4200000000000000000000000001"}'::jsonb
"#;

/// Where ids come from.
const SEQUENCE: &str = "CREATE SEQUENCE IF NOT EXISTS pgbench_ids";

#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// One transaction for each, at the best client count.
    pub one_by_one: f64,
    /// One transaction for 256.
    pub in_sets: f64,
}

/// Runs both on as many orders as there are `requests`, with bodies of their size, each time on fresh tables.
pub async fn measure(scene: &Scene, requests: &Requests, window: Duration) -> Result<Limits> {
    scene.env.database.batch_execute(SEQUENCE).await?;
    let (mut one_by_one, mut in_sets) = (0_f64, 0_f64);
    for clients in ONE_BY_ONE_CLIENTS {
        one_by_one = one_by_one.max(run(scene, ONE_BY_ONE, clients, requests, window).await?);
    }
    for clients in SET_CLIENTS {
        in_sets = in_sets.max(f64::from(SET) * run(scene, IN_SETS, clients, requests, window).await?);
    }
    Ok(Limits { one_by_one, in_sets })
}

async fn run(scene: &Scene, script: &str, clients: u32, requests: &Requests, window: Duration) -> Result<f64> {
    let orders = requests.len();
    let body_bytes = requests.bodies().first().map_or(0, Vec::len).to_string();
    scene.clear().await?;
    let insert = "INSERT INTO orders (mch_id, out_trade_no, amount_minor, currency)
                  SELECT 'pgbench', 'PGBENCH' || n, 100, 'CNY' FROM generate_series(1, $1) AS n";
    scene.env.database.execute(insert, &[&i32::try_from(orders)?]).await?;
    scene.run(&["ANALYZE orders"]).await?;
    let file = std::env::temp_dir().join(format!("countersign-bench-{}.sql", Uuid::now_v7()));
    // A line break ends a meta command, not a statement: these are inside statements.
    let script = script
        .replace("PAYMENT", PAYMENT)
        .replace("NOTE", NOTE)
        .replace("EVENT", EVENT)
        .replace("BODY_BYTES", &body_bytes);
    fs::write(&file, script)?;
    let output = pgbench(&scene.env.database.url())
        .args(["--no-vacuum", "--protocol=prepared", "--jobs=2"])
        .arg(format!("--client={clients}"))
        .arg(format!("--time={}", window.as_secs().max(1)))
        .args([format!("--define=orders={orders}"), format!("--define=clients={clients}"), "--define=i=0".to_owned()])
        .arg(format!("--file={}", file.display()))
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .context("pgbench, which comes with PostgreSQL");
    fs::remove_file(&file)?;
    let output = output?;
    ensure!(output.status.success(), "pgbench failed: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout)?;
    let rate = text.lines().find_map(|line| line.strip_prefix("tps = ")).context("pgbench says no rate")?;
    Ok(rate.split_whitespace().next().unwrap_or_default().parse()?)
}

/// Told by its environment where the database is: other users can read a command line.
fn pgbench(database: &Url) -> Command {
    let mut command = Command::new("pgbench");
    command
        .env("PGOPTIONS", IN_SCHEMA)
        .env("PGHOST", database.host_str().unwrap_or_default())
        .env("PGPORT", database.port().unwrap_or(5432).to_string())
        .env("PGUSER", database.username())
        .env("PGPASSWORD", database.password().unwrap_or_default())
        .env("PGDATABASE", database.path().trim_start_matches('/'));
    command
}
