//! `worker quarantine` and the metrics: what an operator sees of held payments, and does about them.

use anyhow::Result;
use kit::TestResult;
use kit::broker::Message;
use kit::callback::Callback;
use kit::program::{Finished, Launch, Program};
use kit::test_env::TestEnv;
use serde_json::Value;

#[tokio::test]
async fn a_refused_payment_is_one_line_however_often_it_was_reported() -> TestResult {
    let (env, _worker) = held().await?;
    let listed = quarantine(&env, &["list"]).await?;
    assert_eq!(listed.code, Some(0), "{listed:?}");
    let lines: Vec<&str> = listed.stdout.lines().filter(|line| line.contains("amount_mismatch")).collect();
    assert_eq!(lines.len(), 1, "{}", listed.stdout);
    for part in ["order-1", "1999 CNY", "1998 CNY", "4200000001", " 1 "] {
        assert!(lines[0].contains(part), "no {part:?} in {}", lines[0]);
    }
    Ok(())
}

#[tokio::test]
async fn a_list_can_be_narrowed_and_read_by_programs() -> TestResult {
    let (env, _worker) = held().await?;
    let count = async |arguments: &[&str]| -> Result<usize> {
        let arguments = [&["list", "--json"], arguments].concat();
        let listed = quarantine(&env, &arguments).await?;
        Ok(serde_json::from_str::<Value>(&listed.stdout)?.as_array().map_or(0, Vec::len))
    };
    assert_eq!(count(&[]).await?, 2);
    assert_eq!(count(&["--reason", "amount_mismatch"]).await?, 1);
    assert_eq!(count(&["--reason", "paid_twice"]).await?, 0);
    assert_eq!(count(&["--order", "order-2"]).await?, 1);
    assert_eq!(count(&["--limit", "1"]).await?, 1);
    Ok(())
}

#[tokio::test]
async fn a_row_is_shown_with_its_evidence_and_its_body_only_on_request() -> TestResult {
    let (env, _worker) = held().await?;
    let id = id_of(&env, "order-1").await?;
    let shown = quarantine(&env, &["show", &id, "--json"]).await?;
    let row: Value = serde_json::from_str(&shown.stdout)?;
    assert_eq!(row["reason"], "amount_mismatch");
    assert_eq!(row["detail"], serde_json::json!({"expected": "1999 CNY", "got": "1998 CNY"}));
    assert_eq!((&row["order_state"], &row["order_amount"]), (&"pending".into(), &"1999 CNY".into()));
    assert!(!shown.stdout.contains("openid"), "the body names the payer: {}", shown.stdout);

    let with_body = quarantine(&env, &["show", &id, "--body"]).await?;
    assert!(with_body.stdout.contains("<openid>"), "{}", with_body.stdout);
    let nothing = quarantine(&env, &["show", "999999"]).await?;
    assert_eq!(nothing.code, Some(1), "{nothing:?}");
    Ok(())
}

#[tokio::test]
async fn a_replay_pays_the_order_once_it_was_put_right() -> TestResult {
    let (env, _worker) = held().await?;
    env.database.execute("UPDATE orders SET amount_minor = 1998", &[]).await?;
    let id = id_of(&env, "order-1").await?;
    let replayed = quarantine(&env, &["replay", &id, "--by", "ann", "--why", "price corrected"]).await?;
    assert_eq!(replayed.code, Some(0), "{replayed:?}");

    env.until_paid("order-1").await?;
    env.until_value("SELECT count(*) FROM quarantine WHERE out_trade_no = 'order-1' AND state = 'resolved'", "1")
        .await?;
    let kinds: Vec<_> = env.until_events(2).await?.into_iter().filter_map(|event| event.kind).collect();
    assert_eq!(kinds, ["payment.refused", "order.paid"]);
    let told =
        "SELECT DISTINCT replay_requested_by || ': ' || replay_why FROM quarantine WHERE out_trade_no = 'order-1'";
    assert_eq!(env.value(told).await?, "ann: price corrected");
    let outcomes = env.outcomes().await?;
    assert_eq!((outcomes["applied"], outcomes["duplicate"]), (1, 2), "{outcomes:?}");
    Ok(())
}

#[tokio::test]
async fn what_the_database_refused_is_shown_in_its_words_and_paid_once_that_is_mended() -> TestResult {
    let env = TestEnv::start().await?;
    // Another order shows that the database itself can be written.
    env.insert_orders(&["order-1", "order-2"]).await?;
    let refuse = "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
                      $$BEGIN RAISE EXCEPTION 'not this one' USING ERRCODE = 'check_violation'; END$$;
                  CREATE TRIGGER refuse BEFORE UPDATE ON orders FOR EACH ROW WHEN (OLD.out_trade_no = 'order-1')
                      EXECUTE FUNCTION refuse()";
    env.database.batch_execute(refuse).await?;
    let body = Callback::payment("order-1").body();
    env.broker.publish_callbacks(vec![Message::callback(body)]).await?;
    let _worker = env.start_worker().await?;

    env.until_value("SELECT reason FROM quarantine WHERE state = 'open'", "rejected_by_database").await?;
    let problem = env.value("SELECT detail ->> 'problem' FROM quarantine").await?;
    assert!(problem.contains("not this one"), "{problem}");
    let named = "SELECT concat_ws(' ', out_trade_no, amount_minor, currency) FROM quarantine";
    assert_eq!(env.value(named).await?, "order-1 1999 CNY");

    env.database.batch_execute("DROP TRIGGER refuse ON orders").await?;
    env.until_paid("order-1").await?;
    env.until_value("SELECT state || ' ' || resolved_by FROM quarantine", "resolved sweeper").await?;
    assert_eq!(env.outcomes().await?, [("applied".to_owned(), 1)].into());
    Ok(())
}

#[tokio::test]
async fn a_replay_that_fails_is_open_again_with_the_current_reason() -> TestResult {
    let (env, _worker) = held().await?;
    env.database.execute("UPDATE orders SET currency = 'USD' WHERE out_trade_no = 'order-1'", &[]).await?;
    let replayed = quarantine(&env, &["replay", "--order", "order-1", "--by", "ann", "--why", "a try"]).await?;
    assert_eq!(replayed.code, Some(0), "{replayed:?}");
    let rows = "SELECT string_agg(DISTINCT reason || ' ' || state, ',') FROM quarantine WHERE out_trade_no = 'order-1'";
    env.until_value(rows, "currency_mismatch open").await?;
    assert_eq!(env.order("order-1").await?.state, "pending");
    Ok(())
}

#[tokio::test]
async fn a_resolved_row_says_who_closed_it_and_why_and_cannot_be_closed_again() -> TestResult {
    let (env, _worker) = held().await?;
    let id = id_of(&env, "order-1").await?;
    let resolve = ["resolve", &id, "--by", "ann", "--why", "paid back by hand"];
    let resolved = quarantine(&env, &resolve).await?;
    assert_eq!(resolved.code, Some(0), "{resolved:?}");
    let told = "SELECT count(*) FROM quarantine WHERE out_trade_no = 'order-1' AND state = 'resolved'
                AND resolved_by = 'ann' AND resolution = 'paid back by hand'";
    assert_eq!(env.value(told).await?, "1");
    assert_eq!(quarantine(&env, &resolve).await?.code, Some(1));
    Ok(())
}

#[tokio::test]
async fn a_dry_run_shows_what_would_change_and_changes_nothing() -> TestResult {
    let (env, _worker) = held().await?;
    let rows = "SELECT string_agg(q::text, ';' ORDER BY id) FROM quarantine q";
    let before = env.value(rows).await?;
    for command in ["replay", "resolve"] {
        let tried =
            quarantine(&env, &[command, "--order", "order-1", "--by", "ann", "--why", "a try", "--dry-run"]).await?;
        assert_eq!(tried.code, Some(0), "{tried:?}");
        assert!(tried.stdout.contains("order-1"), "{tried:?}");
    }
    assert_eq!(env.value(rows).await?, before);
    Ok(())
}

#[tokio::test]
async fn every_change_by_an_operator_needs_a_name_and_a_reason() -> TestResult {
    let (env, _worker) = held().await?;
    let id = id_of(&env, "order-1").await?;
    for command in ["replay", "resolve"] {
        for (arguments, missing) in [(["--by", "ann"], "--why"), (["--why", "reasons"], "--by")] {
            let refused = quarantine(&env, &[&[command, &id], &arguments[..]].concat()).await?;
            assert_eq!(refused.code, Some(64), "{refused:?}");
            assert!(refused.stderr.contains(missing), "{refused:?}");
        }
        let nothing_named = quarantine(&env, &[command, "--by", "ann", "--why", "all of them"]).await?;
        assert_eq!(nothing_named.code, Some(64), "{nothing_named:?}");
    }
    assert_eq!(env.value("SELECT count(*) FROM quarantine WHERE state = 'resolved'").await?, "0");
    Ok(())
}

#[tokio::test]
async fn metrics_count_what_became_of_callbacks() -> TestResult {
    let (_stage, worker) = held().await?;
    let name = "worker_notifications_total";
    assert_eq!(worker.metric(name, &["outcome=\"quarantined\"", "reason=\"amount_mismatch\""]).await?, 1);
    assert_eq!(worker.metric(name, &["outcome=\"duplicate\""]).await?, 2);
    assert_eq!(worker.metric(name, &["outcome=\"waiting\"", "reason=\"for_order\""]).await?, 1);
    Ok(())
}

/// One payment of a wrong amount that came three times, and one of an order that does not exist.
async fn held() -> Result<(TestEnv, Program)> {
    let env = TestEnv::start().await?;
    env.insert_order("order-1").await?;
    let worker = env.start_worker().await?;
    let wrong = Callback::payment("order-1").amount(1998).transaction("4200000001");
    let unknown = Callback::payment("order-2");
    let messages = [&wrong, &wrong, &wrong, &unknown].map(|callback| Message::callback(callback.body()));
    env.broker.publish_callbacks(messages.to_vec()).await?;
    env.until_ledger_has(4).await?;
    Ok((env, worker))
}

async fn id_of(env: &TestEnv, order: &str) -> Result<String> {
    env.value(&format!("SELECT min(id) FROM quarantine WHERE out_trade_no = '{order}'")).await
}

async fn quarantine(env: &TestEnv, arguments: &[&str]) -> Result<Finished> {
    let launch = Launch::new("worker").argument("quarantine").arguments(arguments);
    launch.env("DATABASE_URL", env.database.worker_url().as_str()).finish().await
}
