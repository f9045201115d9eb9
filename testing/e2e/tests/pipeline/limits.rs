//! The broker's limits: those that ship are in force, and what the programs publish fits.

use std::path::Path;
use std::process::Command;
use std::{env, fs};

use anyhow::{Context, Result};
use hyper::Method;
use kit::TestResult;
use kit::broker::{Broker, Message};
use kit::management::call;
use kit::servers::Servers;
use serde_json::Value;
use shared::messaging::topology::CALLBACKS_QUEUE;
use shared::protocol::BODY_BYTES_MAX;

/// AMQP's frame, and the most that properties and headers can have together: they travel in one frame.
const FRAME_BYTES_MAX: usize = 128 * 1024;

#[test]
fn the_largest_callback_fits_with_all_that_rides_on_it() -> TestResult {
    assert!(BODY_BYTES_MAX + FRAME_BYTES_MAX < shipped("max_message_size")?);
    Ok(())
}

#[tokio::test]
async fn the_broker_takes_what_the_shipped_limit_allows_and_nothing_larger() -> TestResult {
    let broker = Broker::create(&Servers::from_environment()?).await?;
    let limit = shipped("max_message_size")?;
    broker.publish_callbacks(vec![Message::callback(vec![b'x'; limit])]).await?;
    assert!(broker.publish_callbacks(vec![Message::callback(vec![b'x'; limit + 1])]).await.is_err());
    assert_eq!(broker.depth(CALLBACKS_QUEUE).await?, 1);
    Ok(())
}

/// A worker keeps its batch while the database is unavailable; the broker's own 30 minutes would take it back.
#[test]
fn a_worker_may_keep_its_batch_for_two_days() -> TestResult {
    assert_eq!(shipped("consumer_timeout")?, 48 * 60 * 60 * 1000);
    let program = env::var("RABBITMQCTL").context("RABBITMQCTL is not set: run the tests through ./dev test")?;
    let ask = ["--quiet", "eval", "application:get_env(rabbit, consumer_timeout)."];
    let answer = Command::new(program).args(ask).output()?;
    assert_eq!(String::from_utf8(answer.stdout)?.trim(), "{ok,172800000}");
    Ok(())
}

/// Messages alone are no limit: of the largest, a million are more than most disks have.
#[tokio::test]
async fn queues_of_callbacks_are_bounded_in_messages_and_in_bytes() -> TestResult {
    let servers = Servers::from_environment()?;
    let broker = Broker::create(&servers).await?;
    let url = broker.url();
    let vhost = url.path().trim_start_matches('/');
    for queue in [CALLBACKS_QUEUE, "wechatpay.callbacks.dead"] {
        let in_force = kit::until("the policy is in force", async || {
            let answer =
                call(&servers.management, Method::GET, &format!("queues/{vhost}/{queue}"), Value::Null).await?;
            let queue: Value = serde_json::from_slice(&answer.body)?;
            Ok(queue.get("effective_policy_definition").context("there is no policy yet")?.clone())
        })
        .await?;
        assert_eq!(in_force["max-length"], 1_000_000, "{queue}");
        assert_eq!(in_force["max-length-bytes"], 8_u64 << 30, "{queue}");
        assert_eq!(in_force["overflow"], "reject-publish", "{queue}");
    }
    Ok(())
}

/// A number of `deploy/rabbitmq/rabbitmq.conf`.
fn shipped(key: &str) -> Result<usize> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/rabbitmq/rabbitmq.conf");
    let text = fs::read_to_string(file)?;
    let lines = text.lines().filter_map(|line| line.split_once('='));
    let value = lines.filter(|(name, _)| name.trim() == key).map(|(_, value)| value.trim()).next();
    Ok(value.with_context(|| format!("rabbitmq.conf does not set {key}"))?.parse()?)
}
