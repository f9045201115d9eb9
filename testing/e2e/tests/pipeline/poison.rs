//! A message that cannot be handled harms no other, and still becomes a row that an operator can read.

use anyhow::{Context, ensure};
use kit::broker::Message;
use kit::callback::Callback;
use kit::merchants::MERCHANT;
use kit::test_env::TestEnv;
use kit::{TestResult, until};
use shared::messaging::topology::CALLBACKS_QUEUE;
use shared::protocol::BODY_BYTES_MAX;
use uuid::{Uuid, Version};

/// What a program with rights at the broker may publish, and what must become of it.
fn poison() -> Vec<(&'static str, Message, &'static str)> {
    let genuine = || Callback::payment("attacked");
    let altered = String::from_utf8(genuine().body()).unwrap().replace("<total_fee>1999<", "<total_fee>1<");
    let unsigned = String::from_utf8(genuine().body()).unwrap().replace("sign>", "sing>");
    vec![
        ("no body", Message::callback(""), "quarantined malformed"),
        ("bytes that are not text", Message::callback([0xff, 0x00, 0xfe]), "quarantined malformed"),
        ("a DOCTYPE", Message::callback("<!DOCTYPE x><xml></xml>"), "quarantined malformed"),
        ("a body over the limit", Message::callback(vec![b'x'; 70_000]), "quarantined malformed"),
        ("no merchant", Message::callback("<xml><a>1</a></xml>"), "quarantined not_authentic"),
        ("no signature", Message::callback(unsigned), "quarantined not_authentic"),
        ("an amount that was altered", Message::callback(altered), "waiting for_key"),
        ("a forgery", Message::callback(genuine().key("a guess").body()), "waiting for_key"),
        (
            "another's merchant number",
            Message::callback(genuine().field("mch_id", "1900009999").body()),
            "waiting for_key",
        ),
        (
            "a payment without an amount",
            Message::callback(genuine().without("total_fee").body()),
            "quarantined undecodable",
        ),
        ("an unknown type", Message::new("wechatpay.v9", genuine().body()), "waiting for_version"),
        (
            "an unknown layout",
            Message::callback(genuine().body()).header("envelope-version", "9"),
            "waiting for_version",
        ),
        ("no type", Message { kind: None, ..Message::callback(genuine().body()) }, "waiting for_version"),
        (
            "headers that no row can hold",
            Message::callback("<xml>").header("a\0b", "c\0d").header("long", &"x".repeat(100_000)),
            "quarantined malformed",
        ),
        ("an order that refuses to be paid", Message::callback(Callback::payment("refuses").body()), REJECTED),
        ("an order that cannot be counted further", Message::callback(Callback::payment("countless").body()), REJECTED),
        ("an order with an impossible app", Message::callback(Callback::payment("impossible").body()), REJECTED),
    ]
}

const REJECTED: &str = "quarantined rejected_by_database";

/// Orders that the database will not have paid: by a trigger of the shop's, by their version, by their app.
const STUBBORN_ORDERS: &str = "
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
        $$BEGIN RAISE EXCEPTION 'not this one' USING ERRCODE = 'check_violation'; END$$;
    CREATE TRIGGER refuse BEFORE UPDATE ON orders FOR EACH ROW WHEN (OLD.out_trade_no = 'refuses')
        EXECUTE FUNCTION refuse();
    INSERT INTO orders (mch_id, out_trade_no, amount_minor, currency, version, app_id)
    VALUES ('1900000109', 'attacked', 1999, 'CNY', 0, NULL),
           ('1900000109', 'refuses', 1999, 'CNY', 0, NULL),
           ('1900000109', 'countless', 1999, 'CNY', 2147483647, NULL),
           ('1900000109', 'impossible', 1999, 'CNY', 0, repeat('x', 65))";

#[tokio::test]
async fn poison_in_a_batch_harms_no_other_message() -> TestResult {
    let env = TestEnv::start().await?;
    env.database.batch_execute(STUBBORN_ORDERS).await?;
    let good: Vec<String> = (0..100).map(|number| format!("good-{number}")).collect();
    env.insert_orders(&good.iter().map(String::as_str).collect::<Vec<_>>()).await?;
    let (proxy, worker) = env.worker_behind_broker_proxy().await?;
    let mut worker = worker.start().await?;

    // Held until all are there, so that the worker meets them in large batches, the poison among the rest.
    proxy.hold_to_client();
    let poison = poison();
    let mut messages: Vec<Message> =
        good.iter().map(|order| Message::callback(Callback::payment(order).body())).collect();
    for (place, (_, message, _)) in poison.iter().enumerate() {
        messages.insert(5 * place, message.clone());
    }
    env.broker.publish_callbacks(messages).await?;
    until("all have been handed out", async || {
        let depth = env.broker.depth(CALLBACKS_QUEUE).await?;
        ensure!(depth == 0, "{depth} have not");
        Ok(())
    })
    .await?;
    proxy.pass();

    env.until_value("SELECT count(*) FROM orders WHERE state = 'paid'", "100").await?;
    let ledger = env.until_ledger_has(100 + poison.len()).await?;
    for (name, message, verdict) in &poison {
        let id = Uuid::parse_str(message.id.as_deref().unwrap())?;
        let row = ledger.iter().find(|row| row.id == id).context(*name)?;
        assert_eq!(row.verdict(), *verdict, "{name}");
        // Of a body that ingest cannot have published, the beginning is kept, and its hash.
        let kept = message.body.get(..BODY_BYTES_MAX).unwrap_or(&message.body);
        assert!(row.body == kept, "{name}: the body of {} bytes is not what came", row.body.len());
        let held = "SELECT count(*) FROM quarantine WHERE notification_id = $1 AND state <> 'resolved'";
        assert_eq!(env.database.query_one(held, &[&id]).await?.get::<_, i64>(0), 1, "{name}");
    }
    let untouched = "SELECT count(*) FROM orders WHERE state = 'pending' AND out_trade_no NOT LIKE 'good-%'";
    assert_eq!(env.value(untouched).await?, "4");
    assert_eq!(env.until_events(100).await?.len(), 100);
    assert_eq!(worker.stop().await?, Some(0));
    assert_eq!(env.broker.depth(CALLBACKS_QUEUE).await?, 0, "poison was not acknowledged");
    assert_eq!(env.broker.depth("wechatpay.callbacks.dead").await?, 0);
    Ok(())
}

#[tokio::test]
async fn a_message_that_fails_under_the_id_of_another_blocks_no_other() -> TestResult {
    let env = TestEnv::start().await?;
    env.database.batch_execute(STUBBORN_ORDERS).await?;
    env.insert_orders(&["good-1", "good-2"]).await?;
    let _worker = env.start_worker().await?;
    let first = Message::callback(Callback::payment("good-1").body());
    env.broker.publish_callbacks(vec![first.clone()]).await?;
    env.until_paid("good-1").await?;

    let fails = Message { body: Callback::payment("refuses").body(), ..first };
    env.broker.publish_callbacks(vec![fails]).await?;
    env.until_value("SELECT count(*) FROM quarantine WHERE reason = 'rejected_by_database'", "1").await?;
    env.broker.publish_callbacks(vec![Message::callback(Callback::payment("good-2").body())]).await?;
    env.until_paid("good-2").await?;
    Ok(())
}

#[tokio::test]
async fn a_hand_made_publish_without_an_id_of_ours_is_paid_once() -> TestResult {
    let env = TestEnv::start().await?;
    env.insert_order("order-1").await?;
    let _worker = env.start_worker().await?;
    let callback = Message::callback(Callback::payment("order-1").body());
    let ids = [None, Some(String::new()), Some("order-1".to_owned()), Some(Uuid::nil().to_string())];
    let messages = ids.map(|id| Message { id, ..callback.clone() }).to_vec();
    env.broker.publish_callbacks(messages).await?;
    env.until_paid("order-1").await?;

    // The same bytes have the same derived id: to the ledger they are one message.
    let other = Message { id: None, ..Message::callback(Callback::payment("order-1").body()) };
    env.broker.publish_callbacks(vec![other]).await?;
    let ledger = env.until_ledger_has(2).await?;
    assert!(ledger.iter().all(|row| row.id.get_version() == Some(Version::Custom)), "{ledger:?}");
    // The second payment is another one, which is owed back.
    assert_eq!(env.until_events(2).await?.len(), 2);
    Ok(())
}

#[tokio::test]
async fn an_id_from_the_end_of_time_finds_a_place_in_the_ledger() -> TestResult {
    let env = TestEnv::start().await?;
    env.insert_order("order-1").await?;
    let _worker = env.start_worker().await?;
    let id = Some("ffffffff-ffff-7fff-bfff-ffffffffffff".to_owned());
    let message = Message { id, ..Message::callback(Callback::payment("order-1").body()) };
    env.broker.publish_callbacks(vec![message]).await?;
    env.until_paid("order-1").await?;
    assert_eq!(env.outcomes().await?, [("applied".to_owned(), 1)].into());
    Ok(())
}

#[tokio::test]
async fn the_same_message_twice_in_the_queue_is_one_message() -> TestResult {
    let env = TestEnv::start().await?;
    env.insert_order("order-1").await?;
    let message = Message::callback(Callback::payment("order-1").body());
    env.broker.publish_callbacks(vec![message.clone(); 3]).await?;
    let mut worker = env.start_worker().await?;
    env.until_paid("order-1").await?;
    env.broker.publish_callbacks(vec![message]).await?;
    until("all are taken", async || {
        let depth = env.broker.depth(CALLBACKS_QUEUE).await?;
        ensure!(depth == 0, "{depth} are not");
        Ok(())
    })
    .await?;
    assert_eq!(worker.stop().await?, Some(0));
    assert_eq!(env.broker.depth(CALLBACKS_QUEUE).await?, 0);
    assert_eq!(env.outcomes().await?, [("applied".to_owned(), 1)].into());
    Ok(())
}

#[tokio::test]
async fn a_message_that_was_handed_out_too_often_is_decided_alone() -> TestResult {
    let env = TestEnv::start().await?;
    env.insert_order("order-1").await?;
    env.broker.publish_callbacks(vec![Message::callback(Callback::payment("order-1").body())]).await?;
    env.broker.redeliver_without_ack(CALLBACKS_QUEUE, 5).await?;
    let mut worker = env.start_worker().await?;

    env.until_paid("order-1").await?;
    assert_eq!(env.until_events(1).await?.len(), 1);
    assert_eq!(env.outcomes().await?, [("applied".to_owned(), 1)].into());
    let row = "SELECT reason || ' ' || state || ' by ' || resolved_by FROM quarantine";
    assert_eq!(env.value(row).await?, "decide_alone resolved by sweeper");
    assert_eq!(worker.stop().await?, Some(0));
    Ok(())
}

/// A message that kills every program that decides it: after three attempts of the sweeper its row is open.
#[tokio::test]
async fn a_message_that_cannot_even_be_decided_alone_is_opened() -> TestResult {
    let env = TestEnv::start().await?;
    env.insert_order("order-1").await?;
    // As if three workers had died of it: each attempt was counted and never came to an end.
    env.broker.publish_callbacks(vec![Message::callback(Callback::payment("order-1").body())]).await?;
    env.broker.redeliver_without_ack(CALLBACKS_QUEUE, 5).await?;
    let exhausted = "CREATE FUNCTION exhausted() RETURNS trigger LANGUAGE plpgsql AS
                         'BEGIN NEW.attempts = 3; RETURN NEW; END';
                     CREATE TRIGGER exhausted BEFORE INSERT ON quarantine FOR EACH ROW EXECUTE FUNCTION exhausted()";
    env.database.batch_execute(exhausted).await?;
    let _worker = env.start_worker().await?;

    env.until_value("SELECT state FROM quarantine", "open").await?;
    assert_eq!(env.outcomes().await?, [("quarantined decide_alone".to_owned(), 1)].into());
    assert_eq!(env.order("order-1").await?.state, "pending");
    Ok(())
}

#[tokio::test]
async fn an_order_that_the_shop_keeps_locked_delays_no_other() -> TestResult {
    let env = TestEnv::start().await?;
    let orders: Vec<String> = (0..50).map(|number| format!("order-{number}")).collect();
    env.insert_orders(&orders.iter().map(String::as_str).collect::<Vec<_>>()).await?;
    let mut shop = env.database.connect().await?;
    let lock = shop.transaction().await?;
    lock.execute("SELECT FROM orders WHERE mch_id = $1 AND out_trade_no = 'order-7' FOR UPDATE", &[&MERCHANT]).await?;

    let messages = orders.iter().map(|order| Message::callback(Callback::payment(order).body())).collect();
    env.broker.publish_callbacks(messages).await?;
    let _worker = env.start_worker().await?;
    env.until_value("SELECT count(*) FROM orders WHERE state = 'paid'", "49").await?;
    let waiting = "SELECT count(*) FROM notifications WHERE outcome = 'waiting' AND reason = 'for_lock'";
    env.until_value(waiting, "1").await?;

    lock.commit().await?;
    env.until_paid("order-7").await?;
    assert_eq!(env.until_events(50).await?.len(), 50);
    assert_eq!(env.outcomes().await?, [("applied".to_owned(), 50)].into());
    Ok(())
}
