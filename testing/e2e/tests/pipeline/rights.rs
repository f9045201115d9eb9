//! What the programs and the shop cannot do: the broker, the database's roles and its constraints prevent it.

use std::path::Path;
use std::process::Command;
use std::{env, fs};

use anyhow::{Context, Result, ensure};
use hyper::Method;
use kit::broker::Message;
use kit::callback::Callback;
use kit::database::in_schema;
use kit::management::call;
use kit::servers::Servers;
use kit::test_env::TestEnv;
use kit::{TestResult, broker};
use lapin::options::{
    BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions, QueuePurgeOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use serde_json::Value;
use shared::messaging::topology::{CALLBACKS_EXCHANGE, CALLBACKS_QUEUE, EVENTS_EXCHANGE, EVENTS_QUEUE};
use tokio_postgres::NoTls;
use tokio_postgres::error::SqlState;
use url::Url;

#[tokio::test]
async fn ingest_can_publish_callbacks_and_nothing_else() -> TestResult {
    let env = TestEnv::start().await?;
    let url = env.broker.ingest_url();
    assert!(publish(&url, CALLBACKS_EXCHANGE, CALLBACKS_QUEUE).await.is_ok());
    assert!(publish(&url, EVENTS_EXCHANGE, "order.paid").await.is_err(), "it can publish order events");
    assert!(publish(&url, "", EVENTS_QUEUE).await.is_err(), "it can write past the exchanges");
    assert!(consume(&url, CALLBACKS_QUEUE).await.is_err(), "it can consume callbacks");
    assert!(declare(&url, "a.queue").await.is_err(), "it can change the topology");
    Ok(())
}

#[tokio::test]
async fn a_worker_can_consume_callbacks_and_publish_events_and_nothing_else() -> TestResult {
    let env = TestEnv::start().await?;
    let url = env.broker.worker_url();
    assert!(consume(&url, CALLBACKS_QUEUE).await.is_ok());
    assert!(publish(&url, EVENTS_EXCHANGE, "order.paid").await.is_ok());
    assert!(publish(&url, CALLBACKS_EXCHANGE, CALLBACKS_QUEUE).await.is_err(), "it can make up callbacks");
    assert!(publish(&url, "", CALLBACKS_QUEUE).await.is_err(), "it can write past the exchanges");
    assert!(consume(&url, EVENTS_QUEUE).await.is_err(), "it can consume the merchant's events");
    assert!(channel(&url).await?.queue_purge(EVENTS_QUEUE.into(), QueuePurgeOptions::default()).await.is_err());
    assert!(declare(&url, "a.queue").await.is_err(), "it can change the topology");
    Ok(())
}

/// Each upgrade imports them: a user in them would get the password that is published in the repository.
#[tokio::test]
async fn importing_the_definitions_again_leaves_users_and_passwords_alone() -> TestResult {
    let servers = Servers::from_environment()?;
    let users = async || -> Result<Vec<Value>> {
        let mut found = Vec::new();
        for path in ["users", "permissions"] {
            let answer = call(&servers.management, Method::GET, path, Value::Null).await?;
            let all: Vec<Value> = serde_json::from_slice(&answer.body)?;
            // Other tests grant rights in virtual hosts of their own.
            found.extend(all.into_iter().filter(|entry| entry.get("vhost").is_none_or(|vhost| vhost == "/")));
        }
        Ok(found)
    };
    let before = users().await?;
    assert!(before.iter().any(|user| user["name"] == servers.ingest_amqp.username()), "{before:?}");
    call(&servers.management, Method::POST, "definitions", broker::definitions()?).await?;
    assert_eq!(users().await?, before);
    for url in [&servers.ingest_amqp, &servers.worker_amqp] {
        channel(url).await?;
    }
    Ok(())
}

/// As docs/operations.md says it: word for word, but for the users' names and the virtual host.
#[tokio::test]
async fn users_that_are_made_as_documented_can_do_what_they_must_and_no_more() -> TestResult {
    let env = TestEnv::start().await?;
    let made = DocumentedUsers::make(env.broker.url().path().trim_start_matches('/'))?;
    let as_user = |name: &str| -> Result<Url> {
        let mut url = env.broker.url();
        url.set_username(&made.name_of(name))
            .and_then(|()| url.set_password(Some("its-password")))
            .ok()
            .context("a URL")?;
        Ok(url)
    };
    let (ingest, worker) = (as_user("ingest")?, as_user("worker")?);
    assert!(publish(&ingest, CALLBACKS_EXCHANGE, CALLBACKS_QUEUE).await.is_ok());
    assert!(publish(&ingest, EVENTS_EXCHANGE, "order.paid").await.is_err());
    assert!(consume(&ingest, CALLBACKS_QUEUE).await.is_err());
    assert!(declare(&ingest, "a.queue").await.is_err());
    assert!(consume(&worker, CALLBACKS_QUEUE).await.is_ok());
    assert!(publish(&worker, EVENTS_EXCHANGE, "order.paid").await.is_ok());
    assert!(publish(&worker, CALLBACKS_EXCHANGE, CALLBACKS_QUEUE).await.is_err());
    assert!(declare(&worker, "a.queue").await.is_err());
    Ok(())
}

/// Users of the broker made by the lines of docs/operations.md; they are deleted with the value.
struct DocumentedUsers {
    rabbitmqctl: String,
    suffix: String,
}

impl DocumentedUsers {
    fn make(vhost: &str) -> Result<Self> {
        let rabbitmqctl =
            env::var("RABBITMQCTL").context("RABBITMQCTL is not set: run the tests through ./dev test")?;
        let made = Self { rabbitmqctl, suffix: format!("-{vhost}") };
        let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/operations.md"))?;
        let lines: Vec<_> = page.lines().filter(|line| line.starts_with("rabbitmqctl ")).collect();
        assert_eq!(lines.len(), 5, "{lines:?}");
        for line in lines.into_iter().filter(|line| !line.contains("import_definitions")) {
            for user in ["ingest", "worker"] {
                if line.split(' ').nth(2) == Some(user) {
                    let line = line.replacen(&format!(" {user}"), &format!(" {}", made.name_of(user)), 1);
                    made.run(&line.replace("set_permissions", &format!("set_permissions -p {vhost}")))?;
                }
            }
        }
        Ok(made)
    }

    fn name_of(&self, user: &str) -> String {
        format!("{user}{}", self.suffix)
    }

    /// Its password is what the command reads when none is given.
    fn run(&self, line: &str) -> Result<()> {
        let line =
            line.replacen("rabbitmqctl", &format!("printf 'its-password\\n' | '{}' --quiet", self.rabbitmqctl), 1);
        let output = Command::new("/bin/sh").args(["-c", &line]).output()?;
        ensure!(output.status.success(), "{line}: {output:?}");
        Ok(())
    }
}

impl Drop for DocumentedUsers {
    fn drop(&mut self) {
        for user in ["ingest", "worker"] {
            if let Err(error) = self.run(&format!("rabbitmqctl delete_user {}", self.name_of(user))) {
                eprintln!("a test's user could not be deleted: {error:#}");
            }
        }
    }
}

/// Every test has tables of the shop's own in its database that are called like ours, and refuse every write.
#[tokio::test]
async fn a_checkout_writes_its_own_order_and_ours_in_one_transaction() -> TestResult {
    let env = TestEnv::start().await?;
    let _worker = env.start_worker().await?;
    let checkout = env.database.connect().await?;
    checkout
        .batch_execute("DROP TRIGGER refuse ON public.orders; RESET search_path; SET ROLE countersign_shop")
        .await?;
    let write = "BEGIN;
        INSERT INTO public.orders (id, state) VALUES (7, 'new');
        INSERT INTO countersign.orders (mch_id, out_trade_no, amount_minor, currency)
            VALUES ('1900000109', 'order-1', 1999, 'CNY');
        COMMIT";
    checkout.batch_execute(write).await?;
    env.broker.publish_callbacks(vec![Message::callback(Callback::payment("order-1").body())]).await?;
    env.until_value("SELECT state FROM countersign.orders", "paid").await?;
    assert_eq!(env.value("SELECT state FROM public.orders").await?, "new");
    let refused = checkout.batch_execute("SELECT FROM countersign.payments").await.unwrap_err();
    assert_eq!(refused.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE));
    Ok(())
}

#[tokio::test]
async fn a_worker_cannot_change_what_an_order_is_about_nor_rewrite_evidence_nor_any_table() -> TestResult {
    let env = TestEnv::start().await?;
    env.insert_order("order-1").await?;
    let (worker, connection) = tokio_postgres::connect(in_schema(&env.database.worker_url()).as_str(), NoTls).await?;
    tokio::spawn(connection);
    for statement in [
        "UPDATE orders SET amount_minor = 1",
        "UPDATE orders SET currency = 'USD'",
        "UPDATE orders SET out_trade_no = 'another'",
        "UPDATE orders SET mch_id = 'another'",
        "INSERT INTO orders (mch_id, out_trade_no, amount_minor, currency) VALUES ('m', 'o', 1, 'CNY')",
        "DELETE FROM orders",
        "DELETE FROM refunds",
        "DELETE FROM notifications",
        "DELETE FROM quarantine",
        "TRUNCATE order_events",
        "UPDATE notifications SET body = ''",
        "UPDATE notifications SET headers = '{}'",
        "UPDATE notifications SET id = id",
        "UPDATE notifications SET received_at = received_at",
        "UPDATE notifications_default SET outcome = 'applied'",
        "UPDATE refunds SET amount_minor = 1",
        "UPDATE refunds SET order_id = order_id",
        "UPDATE refunds SET out_refund_no = 'another'",
        "UPDATE quarantine SET notification_id = notification_id",
        "UPDATE quarantine SET created_at = now()",
        "UPDATE order_events SET payload = '{}'",
        "SELECT nextval('orders_id_seq')",
        "ALTER TABLE orders DROP CONSTRAINT orders_amount_positive",
        "DROP TABLE order_events",
        "CREATE ROLE another",
    ] {
        let refused = worker.batch_execute(statement).await.expect_err(statement);
        assert_eq!(refused.code(), Some(&tokio_postgres::error::SqlState::INSUFFICIENT_PRIVILEGE), "{statement}");
    }
    Ok(())
}

/// Even the shop itself, with a stale object in its ORM: each statement, and the constraint that refuses it.
#[tokio::test]
async fn the_schema_refuses_what_can_never_be() -> TestResult {
    let env = TestEnv::start().await?;
    env
        .database
        .batch_execute(
            "INSERT INTO orders (mch_id, out_trade_no, amount_minor, currency, state, transaction_id, paid_at, refunded_minor)
             VALUES ('m', 'pending', 100, 'CNY', 'pending', NULL, NULL, 0),
                    ('m', 'paid', 100, 'CNY', 'paid', 't', now(), 50),
                    ('m', 'closed', 100, 'CNY', 'closed', NULL, NULL, 0),
                    ('m', 'refunded', 100, 'CNY', 'refunded', 't', now(), 100),
                    ('m', 'reported', 100, 'CNY', 'pending', NULL, NULL, 0);
             UPDATE orders SET version = 1 WHERE out_trade_no = 'reported';
             INSERT INTO payments
                 (order_id, mch_id, transaction_id, amount_minor, currency, paid_at, disposition, returned_minor)
             SELECT id, mch_id, 'late', 100, 'CNY', now(), 'refused', 10 FROM orders WHERE out_trade_no = 'reported';
             INSERT INTO refunds
                 (order_id, out_refund_no, refund_id, transaction_id, amount_minor, state, reported_at, succeeded_at)
             SELECT id, state, CASE WHEN state <> 'requested' THEN state END, CASE WHEN state <> 'requested' THEN 't' END, 10, state,
                    CASE WHEN state <> 'requested' THEN now() END, CASE WHEN state = 'succeeded' THEN now() END
             FROM (SELECT id FROM orders WHERE out_trade_no = 'paid') AS paid,
                  unnest(array['requested', 'abnormal', 'closed', 'succeeded']) AS state",
        )
        .await?;
    for (statement, constraint) in REFUSED {
        let refused = env.database.batch_execute(statement).await.expect_err(statement);
        let by = refused.as_db_error().and_then(|error| error.constraint()).unwrap_or_default();
        assert!(by.starts_with(constraint), "{statement}: refused by {by:?}: {refused:?}");
    }
    for statement in ALLOWED {
        assert_eq!(env.database.execute(*statement, &[]).await?, 1, "{statement}");
    }
    Ok(())
}

/// Statements, and the constraint or trigger that refuses each.
const REFUSED: &[(&str, &str)] = &[
    (
        "UPDATE orders SET state = 'paid', transaction_id = 'late', paid_at = now() WHERE out_trade_no = 'reported'",
        "orders_payment_not_refused",
    ),
    ("UPDATE orders SET state = 'pending', transaction_id = NULL, paid_at = NULL WHERE state = 'paid'", LEGAL),
    ("UPDATE orders SET state = 'closed', transaction_id = NULL, paid_at = NULL WHERE state = 'paid'", LEGAL),
    ("UPDATE orders SET state = 'paid' WHERE state = 'refunded'", LEGAL),
    ("UPDATE orders SET state = 'paid', transaction_id = 't', paid_at = now() WHERE state = 'closed'", LEGAL),
    (
        "UPDATE orders SET state = 'refunded', transaction_id = 't', paid_at = now() WHERE state = 'pending'",
        "orders_refunded_is_all",
    ),
    ("UPDATE orders SET refunded_minor = 100 WHERE state = 'paid'", "orders_refunded_is_all"),
    ("UPDATE refunds SET state = 'requested' WHERE state = 'abnormal'", REFUND_LEGAL),
    ("UPDATE refunds SET state = 'closed', succeeded_at = NULL WHERE state = 'succeeded'", REFUND_LEGAL),
    ("UPDATE refunds SET state = 'succeeded', succeeded_at = now() WHERE state = 'closed'", REFUND_LEGAL),
    ("UPDATE refunds SET amount_minor = 11 WHERE state = 'succeeded'", REFUND_LEGAL),
    ("UPDATE refunds SET refund_id = 'another' WHERE state = 'abnormal'", REFUND_LEGAL),
    ("UPDATE refunds SET succeeded_at = '2020-01-01' WHERE state = 'succeeded'", REFUND_LEGAL),
    ("UPDATE refunds SET state = 'abnormal' WHERE state = 'requested'", "refunds_reported_has_ids"),
    ("UPDATE refunds SET refund_id = 'closed' WHERE state = 'requested'", "refunds_refund_id_unique"),
    ("UPDATE orders SET transaction_id = 'another' WHERE state = 'paid'", LEGAL),
    ("UPDATE orders SET paid_at = '2020-01-01' WHERE state = 'paid'", LEGAL),
    ("UPDATE orders SET amount_minor = 101 WHERE state = 'paid'", LEGAL),
    ("UPDATE orders SET currency = 'USD' WHERE state = 'paid'", LEGAL),
    ("UPDATE orders SET out_trade_no = 'another' WHERE state = 'paid'", LEGAL),
    ("UPDATE orders SET mch_id = 'another' WHERE state = 'refunded'", LEGAL),
    ("UPDATE orders SET refunded_minor = 49 WHERE state = 'paid'", LEGAL),
    ("UPDATE orders SET refunded_minor = 101 WHERE state = 'paid'", "orders_refunded_within_amount"),
    ("UPDATE orders SET refunded_minor = 1 WHERE out_trade_no = 'pending'", "orders_refunded_needs_payment"),
    ("UPDATE orders SET state = 'paid' WHERE out_trade_no = 'pending'", "orders_paid_has_transaction"),
    ("UPDATE orders SET state = 'paid', transaction_id = 't' WHERE out_trade_no = 'pending'", "orders_paid_has_time"),
    ("UPDATE orders SET amount_minor = 0 WHERE out_trade_no = 'pending'", "orders_amount_positive"),
    ("UPDATE orders SET currency = 'cny' WHERE out_trade_no = 'pending'", "orders_currency_code"),
    ("UPDATE orders SET state = 'lost' WHERE out_trade_no = 'pending'", "orders_"),
    ("UPDATE orders SET sub_mch_id = '' WHERE out_trade_no = 'pending'", "orders_ids_not_empty"),
    ("UPDATE orders SET out_trade_no = 'closed' WHERE out_trade_no = 'pending'", "orders_out_trade_no_unique"),
    ("UPDATE orders SET out_trade_no = 'a b' WHERE out_trade_no = 'pending'", "orders_out_trade_no_alphabet"),
    ("UPDATE orders SET version = version - 1 WHERE out_trade_no = 'reported'", LEGAL),
    ("UPDATE orders SET out_trade_no = 'renamed' WHERE out_trade_no = 'reported'", LEGAL),
    ("DELETE FROM orders WHERE state = 'paid'", "orders_keep_payments"),
    ("DELETE FROM orders WHERE out_trade_no = 'reported'", "orders_keep_payments"),
    ("DELETE FROM refunds WHERE state = 'succeeded'", "refunds_stay"),
    ("DELETE FROM payments", "payments_stay"),
    ("UPDATE payments SET disposition = 'accepted' WHERE disposition = 'refused'", "payments_legal_change"),
    ("UPDATE payments SET amount_minor = 1", "payments_legal_change"),
    ("UPDATE payments SET returned_minor = 0", "payments_legal_change"),
    ("UPDATE payments SET disposition = 'returned'", "payments_returned_is_all"),
    ("UPDATE payments SET returned_minor = 101", "payments_returned_within_amount"),
];

/// What the shop and an operator may do, one row each, in this order.
const ALLOWED: &[&str] = &[
    "UPDATE orders SET state = 'closed' WHERE out_trade_no = 'pending'",
    "UPDATE orders SET state = 'pending' WHERE out_trade_no = 'pending'",
    "UPDATE orders SET state = 'paid', transaction_id = 't', paid_at = now() WHERE out_trade_no = 'pending'",
    "UPDATE orders SET refunded_minor = 100, state = 'refunded' WHERE out_trade_no = 'pending'",
    "UPDATE refunds SET amount_minor = 20 WHERE state = 'requested'",
    "UPDATE refunds SET state = 'abnormal', refund_id = 'r', transaction_id = 't', reported_at = now() WHERE state = 'requested'",
    "UPDATE refunds SET state = 'succeeded', succeeded_at = now() WHERE refund_id = 'r'",
    // Only with an operator's name, and once for each.
    "UPDATE refunds SET state = 'succeeded', succeeded_at = now(), accepted_by = 'ann', accepted_at = now()
             WHERE state = 'closed'",
    "UPDATE payments SET disposition = 'returned', returned_minor = 100",
    "DELETE FROM orders WHERE out_trade_no = 'closed'",
];

const LEGAL: &str = "orders_legal_transition";
const REFUND_LEGAL: &str = "refunds_legal_transition";

async fn channel(url: &Url) -> Result<Channel> {
    let connection = Connection::connect(url.as_str(), ConnectionProperties::default()).await?;
    Ok(connection.create_channel().await?)
}

/// A refusal comes as a closed channel, which fails the confirm.
async fn publish(url: &Url, exchange: &str, routing_key: &str) -> Result<()> {
    let channel = channel(url).await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
    channel.basic_publish(exchange.into(), routing_key.into(), options, b"x", properties).await?.await?;
    Ok(())
}

async fn consume(url: &Url, queue: &str) -> Result<()> {
    let (options, none) = (BasicConsumeOptions::default(), FieldTable::default());
    channel(url).await?.basic_consume(queue.into(), "test".into(), options, none).await?;
    Ok(())
}

async fn declare(url: &Url, queue: &str) -> Result<()> {
    channel(url).await?.queue_declare(queue.into(), QueueDeclareOptions::durable(), FieldTable::default()).await?;
    Ok(())
}
