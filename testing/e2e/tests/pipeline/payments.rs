//! Payments on record: refused ones, returned ones, and what operators and shops do in the meantime.

use anyhow::{Result, ensure};
use kit::broker::Message;
use kit::callback::{Callback, Refund, refund_id};
use kit::merchants::{INSTITUTION, MERCHANT};
use kit::program::{Finished, Launch, Program};
use kit::test_env::TestEnv;
use kit::{TestResult, until};

const T: &str = "4200000001";
const ROW: &str = "SELECT string_agg(reason || ' ' || state, ', ' ORDER BY id) FROM quarantine";
const PAYMENT: &str =
    "SELECT string_agg(disposition || ' ' || returned_minor, ', ' ORDER BY transaction_id) FROM payments";

async fn quarantine(env: &TestEnv, arguments: &[&str]) -> Result<Finished> {
    let launch = Launch::new("worker").argument("quarantine").arguments(arguments);
    launch.env("DATABASE_URL", env.database.worker_url().as_str()).finish().await
}

/// Does it as ann, to the only order's rows.
async fn as_ann(env: &TestEnv, command: &str) -> Result<Finished> {
    quarantine(env, &[command, "--order", "order-1", "--by", "ann", "--why", "a reason"]).await
}

async fn publish(env: &TestEnv, body: Vec<u8>) -> Result<()> {
    env.broker.publish_callbacks(vec![Message::callback(body)]).await
}

/// Waits until the worker has swept this many more times.
async fn sweeps(worker: &Program, count: u64) -> Result<()> {
    let target = worker.metric("worker_sweeps_total", &[]).await? + count;
    until(&format!("{count} sweeps are over"), async || {
        let over = worker.metric("worker_sweeps_total", &[]).await?;
        ensure!(over >= target, "{over} of {target}");
        Ok(())
    })
    .await
}

/// A closed order that was paid all the same, by [`T`].
async fn paid_after_close() -> Result<(TestEnv, Program)> {
    let env = TestEnv::start().await?;
    env.insert_order("order-1").await?;
    env.database.execute("UPDATE orders SET state = 'closed'", &[]).await?;
    let worker = env.start_worker().await?;
    publish(&env, Callback::payment("order-1").transaction(T).body()).await?;
    env.until_value(ROW, "paid_after_close open").await?;
    assert_eq!(env.value(PAYMENT).await?, "refused 0");
    Ok((env, worker))
}

#[tokio::test]
async fn one_transaction_pays_one_order() -> TestResult {
    let env = TestEnv::start().await?;
    env.insert_orders(&["order-1", "order-2"]).await?;
    let _worker = env.start_worker().await?;
    publish(&env, Callback::payment("order-1").transaction(T).body()).await?;
    env.until_paid("order-1").await?;
    publish(&env, Callback::payment("order-2").transaction(T).body()).await?;
    env.until_value(ROW, "transaction_conflict open").await?;
    // The same order, another amount; and an order that does not exist.
    publish(&env, Callback::payment("order-1").transaction(T).amount(1).body()).await?;
    publish(&env, Callback::payment("order-3").transaction(T).body()).await?;
    env.until_value(ROW, &["transaction_conflict open"; 3].join(", ")).await?;
    assert_eq!(env.order("order-2").await?.state, "pending");
    assert_eq!(env.value(PAYMENT).await?, "accepted 0");
    Ok(())
}

#[tokio::test]
async fn one_transaction_reported_for_two_orders_at_the_same_instant_pays_one_of_them() -> TestResult {
    let env = TestEnv::start().await?;
    env.insert_orders(&["order-1", "order-2"]).await?;
    let worker = || -> Result<_> { Ok(env.worker()?.env("WORKER_LANES", "1").env("WORKER_BATCH_MAX", "1")) };
    let _workers = [worker()?.start().await?, worker()?.start().await?];
    let mut barrier = env.database.connect().await?;
    let barrier = barrier.transaction().await?;
    barrier.execute("SELECT FROM orders ORDER BY id FOR UPDATE", &[]).await?;
    let bodies = ["order-1", "order-2"].map(|order| Callback::payment(order).transaction(T).body());
    env.broker.publish_callbacks(bodies.map(Message::callback).to_vec()).await?;
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    env.until_value(waits, "2").await?;
    barrier.commit().await?;

    env.until_value("SELECT count(*) FROM orders WHERE state = 'paid'", "1").await?;
    env.until_value(ROW, "transaction_conflict open").await?;
    let outcomes = [("applied".to_owned(), 1), ("quarantined transaction_conflict".to_owned(), 1)];
    assert_eq!(env.outcomes().await?, outcomes.into());
    Ok(())
}

/// The refund's transaction holds the order while an operator's replay of the payment is due.
#[tokio::test]
async fn a_replay_beside_the_refund_never_pays_the_order_with_money_that_has_gone_back() -> TestResult {
    let (env, worker) = paid_after_close().await?;
    env.database.execute("UPDATE orders SET state = 'pending'", &[]).await?;
    let stand_still = "CREATE FUNCTION stand_still() RETURNS trigger LANGUAGE plpgsql AS
                           'BEGIN
                                WHILE NOT pg_try_advisory_xact_lock_shared(1) LOOP PERFORM pg_sleep(0.05); END LOOP;
                                RETURN NEW;
                            END';
                       CREATE TRIGGER stand_still BEFORE INSERT ON refunds FOR EACH ROW EXECUTE FUNCTION stand_still();
                       SELECT pg_advisory_lock(1)";
    let gate = env.database.connect().await?;
    gate.batch_execute(stand_still).await?;
    env.broker.publish_callbacks(vec![Message::posted(&Refund::of("order-1", T, "refund-1"))]).await?;
    let held = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'";
    env.until_value(held, "1").await?;

    assert_eq!(as_ann(&env, "replay").await?.code, Some(0));
    // Sweeps meet the locked order, and must leave the row exactly as it is.
    sweeps(&worker, 3).await?;
    let row = "SELECT reason || ' ' || replay_requested_by || ' ' || (replay_requested_at IS NOT NULL) FROM quarantine
               WHERE reason = 'paid_after_close'";
    assert_eq!(env.value(row).await?, "paid_after_close ann true");

    gate.batch_execute("SELECT pg_advisory_unlock(1)").await?;
    env.until_value(PAYMENT, "returned 1999").await?;
    env.until_value(
        "SELECT state || ' ' || resolution FROM quarantine WHERE reason = 'paid_after_close'",
        "resolved ignored",
    )
    .await?;
    assert_eq!(env.order("order-1").await?.state, "pending");
    assert_eq!(env.value("SELECT state FROM refunds").await?, "succeeded");
    Ok(())
}

/// Refunds take days, so an operator resolves the row when the refund is on its way.
#[tokio::test]
async fn what_goes_back_after_its_row_was_resolved_is_known_all_the_same() -> TestResult {
    let (env, _worker) = paid_after_close().await?;
    assert_eq!(as_ann(&env, "resolve").await?.code, Some(0));
    env.broker.publish_callbacks(vec![Message::posted(&Refund::of("order-1", T, "refund-1"))]).await?;
    env.until_value(PAYMENT, "returned 1999").await?;
    env.database.execute("UPDATE orders SET state = 'pending'", &[]).await?;
    publish(&env, Callback::payment("order-1").transaction(T).body()).await?;
    env.until_ledger_has(3).await?;
    assert_eq!(env.order("order-1").await?.state, "pending");
    assert_eq!(env.outcomes().await?["ignored returned"], 1);
    Ok(())
}

#[tokio::test]
async fn an_operator_cannot_take_the_name_of_a_program() -> TestResult {
    let (env, _worker) = paid_after_close().await?;
    let id = env.value("SELECT id FROM quarantine").await?;
    for name in ["refund", "sweeper", "Sweeper", " WORKER "] {
        for command in ["replay", "resolve", "accept", "abandon"] {
            let refused = quarantine(&env, &[command, &id, "--by", name, "--why", "a reason"]).await?;
            assert_eq!(refused.code, Some(1), "{refused:?}");
            assert!(refused.stderr.contains("the name of a program"), "{refused:?}");
        }
    }
    assert_eq!(env.value(ROW).await?, "paid_after_close open");
    Ok(())
}

#[tokio::test]
async fn a_refused_payment_pays_only_by_replay_and_only_while_nothing_of_it_has_gone_back() -> TestResult {
    let (env, _worker) = paid_after_close().await?;
    env.database.execute("UPDATE orders SET state = 'pending'", &[]).await?;
    // WeChat Pay's repeat changes nothing.
    publish(&env, Callback::payment("order-1").transaction(T).body()).await?;
    env.until_ledger_has(2).await?;
    assert_eq!(env.outcomes().await?["duplicate"], 1);
    assert_eq!(env.order("order-1").await?.state, "pending");

    let part = Refund::of("order-1", T, "refund-1").amount(1);
    env.broker.publish_callbacks(vec![Message::posted(&part)]).await?;
    env.until_value(PAYMENT, "refused 1").await?;
    assert_eq!(as_ann(&env, "replay").await?.code, Some(0));
    env.until_value(ROW, "partly_returned open").await?;
    assert_eq!(env.order("order-1").await?.state, "pending");

    env.broker.publish_callbacks(vec![Message::posted(&Refund::of("order-1", T, "refund-2").amount(1998))]).await?;
    env.until_value(ROW, "partly_returned resolved").await?;
    assert_eq!(env.value(PAYMENT).await?, "returned 1999");
    Ok(())
}

/// By then it is resolved: the operator had thought that it would go back.
#[tokio::test]
async fn a_resolved_row_is_replayed_by_its_id() -> TestResult {
    let (env, _worker) = paid_after_close().await?;
    assert_eq!(as_ann(&env, "resolve").await?.code, Some(0));
    env.database.execute("UPDATE orders SET state = 'pending'", &[]).await?;
    let id = env.value("SELECT id FROM quarantine").await?;
    let replayed = quarantine(&env, &["replay", &id, "--by", "bob", "--why", "sold after all"]).await?;
    assert_eq!(replayed.code, Some(0), "{replayed:?}");
    assert_eq!(env.until_paid("order-1").await?.transaction_id.as_deref(), Some(T));
    env.until_value("SELECT resolved_by || ' ' || (detail #>> '{resolved_before,by}') FROM quarantine", "bob ann")
        .await?;
    // What was decided first, and what was published of it, is still in the ledger.
    let decisions =
        "SELECT concat_ws(' ', earlier #>> '{0,reason}', earlier #>> '{0,event_type}', earlier #>> '{0,event_version}',
                         outcome, event_type, event_version) FROM notifications";
    assert_eq!(env.value(decisions).await?, "paid_after_close payment.refused 1 applied order.paid 2");
    // What paid the order is not decided a third time.
    let again = quarantine(&env, &["replay", &id, "--by", "bob", "--why", "once more"]).await?;
    assert_eq!(again.code, Some(1), "{again:?}");
    assert_eq!(env.value(PAYMENT).await?, "accepted 0");
    Ok(())
}

#[tokio::test]
async fn undecided_work_is_abandoned_and_never_resolved_and_a_later_report_is_decided_anew() -> TestResult {
    let env = TestEnv::start().await?;
    let _worker = env.start_worker().await?;
    let callback = Callback::payment("order-1").transaction(T);
    publish(&env, callback.body()).await?;
    env.until_value(ROW, "for_order waiting").await?;
    let refused = as_ann(&env, "resolve").await?;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("abandon"), "{refused:?}");
    assert_eq!(as_ann(&env, "abandon").await?.code, Some(0));
    let row = "SELECT state || ' by ' || resolved_by || ': ' || resolution FROM quarantine";
    assert_eq!(env.value(row).await?, "resolved by ann: abandoned: a reason");
    assert_eq!(env.outcomes().await?, [("abandoned for_order".to_owned(), 1)].into());

    env.insert_order("order-1").await?;
    publish(&env, callback.body()).await?;
    env.until_paid("order-1").await?;
    let of_people = paid_after_close().await?;
    assert_eq!(as_ann(&of_people.0, "abandon").await?.code, Some(1));
    Ok(())
}

/// The row is held for something else by the time that the operator's command gets its lock.
#[tokio::test]
async fn a_row_that_was_decided_since_is_not_closed_for_evidence_that_the_operator_has_not_seen() -> TestResult {
    let env = TestEnv::start().await?;
    let mut worker = env.start_worker().await?;
    publish(&env, Callback::payment("order-1").body()).await?;
    env.until_value(ROW, "for_order waiting").await?;
    worker.stop().await?;
    let sweeper = env.database.connect().await?;
    sweeper
        .batch_execute("BEGIN; UPDATE quarantine SET reason = 'amount_mismatch', state = 'open', opened_at = now()")
        .await?;
    let abandon = as_ann(&env, "abandon");
    let commit = async {
        let waits =
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
        env.until_value(waits, "1").await?;
        anyhow::Ok(sweeper.batch_execute("COMMIT").await?)
    };
    let (abandoned, committed) = tokio::join!(abandon, commit);
    committed?;
    let abandoned = abandoned?;
    assert!(abandoned.stderr.contains("decided in the meantime"), "{abandoned:?}");
    assert_eq!(env.value(ROW).await?, "amount_mismatch open");
    Ok(())
}

/// Since 2025 WeChat Pay wants a new number for the next try; before, shops repeated a closed refund under its number.
#[tokio::test]
async fn a_refund_that_succeeded_after_it_was_closed_is_held_and_can_be_accepted() -> TestResult {
    let env = TestEnv::start().await?;
    env.insert_order("order-1").await?;
    let _worker = env.start_worker().await?;
    publish(&env, Callback::payment("order-1").transaction(T).body()).await?;
    env.until_paid("order-1").await?;
    let closed = Refund::of("order-1", T, "refund-1").status("REFUNDCLOSE");
    env.broker.publish_callbacks(vec![Message::posted(&closed)]).await?;
    env.until_value("SELECT state FROM refunds", "closed").await?;
    let again = Refund::of("order-1", T, "refund-1").field("refund_id", "50000000000000000000000000002");
    env.broker.publish_callbacks(vec![Message::posted(&again)]).await?;
    env.until_value(ROW, "refund_id_mismatch open").await?;
    assert_ne!(refund_id("refund-1"), "50000000000000000000000000002");

    assert_eq!(as_ann(&env, "accept").await?.code, Some(0));
    let refund = "SELECT state || ' ' || refund_id || ' ' || accepted_by FROM refunds";
    env.until_value(refund, "succeeded 50000000000000000000000000002 ann").await?;
    env.until_value("SELECT state || ' ' || refunded_minor FROM orders", "refunded 1999").await?;
    env.until_value("SELECT state || ' ' || resolved_by FROM quarantine", "resolved ann").await?;
    let mut kinds: Vec<_> = env.until_events(3).await?.into_iter().filter_map(|event| event.kind).collect();
    kinds.sort();
    assert_eq!(kinds, ["order.paid", "order.refunded", "refund.closed"]);
    Ok(())
}

/// The same number of WeChat Pay's this time.
#[tokio::test]
async fn a_refund_at_another_end_under_one_number_is_held_and_can_be_accepted() -> TestResult {
    let env = TestEnv::start().await?;
    env.insert_order("order-1").await?;
    let _worker = env.start_worker().await?;
    publish(&env, Callback::payment("order-1").transaction(T).body()).await?;
    env.until_paid("order-1").await?;
    let refund = || Refund::of("order-1", T, "refund-1");
    env.broker.publish_callbacks(vec![Message::posted(&refund().status("REFUNDCLOSE"))]).await?;
    env.until_value("SELECT state FROM refunds", "closed").await?;
    env.broker.publish_callbacks(vec![Message::posted(&refund())]).await?;
    env.until_value(ROW, "refund_state_conflict open").await?;
    assert_eq!(as_ann(&env, "accept").await?.code, Some(0));
    env.until_value("SELECT state || ' ' || accepted_by FROM refunds", "succeeded ann").await?;
    env.until_value("SELECT state || ' ' || refunded_minor FROM orders", "refunded 1999").await?;
    Ok(())
}

#[tokio::test]
async fn only_contradictions_can_be_accepted() -> TestResult {
    let (env, _worker) = paid_after_close().await?;
    let refused = as_ann(&env, "accept").await?;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("cannot be accepted"), "{refused:?}");
    assert_eq!(env.value(ROW).await?, "paid_after_close open");
    Ok(())
}

/// The shop asked WeChat Pay before the callback came.
#[tokio::test]
async fn a_payment_that_the_shop_had_booked_itself_is_adopted_and_can_be_refunded() -> TestResult {
    let env = TestEnv::start().await?;
    env.insert_order("order-1").await?;
    let book = format!("UPDATE orders SET state = 'paid', transaction_id = '{T}', paid_at = now()");
    env.database.execute(&book, &[]).await?;
    let _worker = env.start_worker().await?;
    env.broker.publish_callbacks(vec![Message::posted(&Refund::of("order-1", T, "refund-1"))]).await?;
    env.until_value(ROW, "for_payment waiting").await?;
    publish(&env, Callback::payment("order-1").transaction(T).body()).await?;
    env.until_value("SELECT state FROM orders", "refunded").await?;
    assert_eq!(env.outcomes().await?, [("applied".to_owned(), 1), ("duplicate".to_owned(), 1)].into());
    assert_eq!(env.value(PAYMENT).await?, "accepted 1999");
    Ok(())
}

#[tokio::test]
async fn two_shops_of_an_institution_may_use_one_number() -> TestResult {
    let env = TestEnv::start().await?;
    let insert = "INSERT INTO orders (mch_id, sub_mch_id, out_trade_no, amount_minor, currency)
                  VALUES ($1, $2, 'order-1', 1999, 'USD')";
    for shop in ["1900000300", "1900000301"] {
        env.database.execute(insert, &[&INSTITUTION, &shop]).await?;
    }
    let _worker = env.worker()?.env("WAIT_LIMIT_SECONDS", "1").start().await?;
    let of_shop = |shop: &str| Callback::payment_of_shop(shop, "order-1").body();
    publish(&env, of_shop("1900000301")).await?;
    let states = "SELECT string_agg(sub_mch_id || ' ' || state, ', ' ORDER BY sub_mch_id) FROM orders";
    env.until_value(states, "1900000300 pending, 1900000301 paid").await?;
    // A third one, whose order only the others seem to have.
    publish(&env, of_shop("1900000302")).await?;
    env.until_value(ROW, "sub_mch_id_mismatch open").await?;
    assert_eq!(env.outcomes().await?["quarantined sub_mch_id_mismatch"], 1);
    env.database.execute(insert, &[&INSTITUTION, &"1900000302"]).await?;
    env.until_value(states, "1900000300 pending, 1900000301 paid, 1900000302 paid").await?;
    assert_eq!(env.value(ROW).await?, "sub_mch_id_mismatch resolved");
    Ok(())
}

#[tokio::test]
async fn the_ledger_names_the_key_the_order_and_the_event_of_each_callback() -> TestResult {
    let env = TestEnv::start().await?;
    env.insert_order("order-1").await?;
    let _worker = env.start_worker().await?;
    publish(&env, Callback::payment("order-1").body()).await?;
    env.until_paid("order-1").await?;
    let events = env.until_events(1).await?;
    let row =
        "SELECT concat_ws(' ', source, part, length(key_fingerprint), seen_version, seen_state, seen_amount_minor,
                   seen_currency, event_type, event_version) FROM notifications";
    assert_eq!(env.value(row).await?, "callback 0 8 0 pending 1999 CNY order.paid 1");
    assert_eq!(env.value("SELECT event_id FROM notifications").await?, events[0].id.clone().unwrap_or_default());
    let payment = "SELECT concat_ws(' ', o.mch_id, p.notification_id = n.id, p.notification_part) FROM payments p
                   JOIN orders o ON o.id = p.order_id CROSS JOIN notifications n";
    assert_eq!(env.value(payment).await?, format!("{MERCHANT} t 0"));
    Ok(())
}

#[tokio::test]
async fn one_number_says_how_much_money_is_held() -> TestResult {
    let (env, worker) = paid_after_close().await?;
    publish(&env, Callback::payment("order-2").amount(100).body()).await?;
    env.broker.publish_callbacks(vec![Message::posted(&Refund::of("order-1", T, "refund-1").amount(999))]).await?;
    env.until_value(PAYMENT, "refused 999").await?;
    env.until_ledger_has(3).await?;
    until("the gauge says what is held", async || {
        let held = worker.metric("worker_money_held_minor", &["currency=\"CNY\""]).await?;
        ensure!(held == 1999 - 999 + 100, "it says {held}");
        Ok(())
    })
    .await
    .map_err(Into::into)
}
