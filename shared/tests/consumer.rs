//! Batches and acks on a real broker.

use std::time::Duration;

use anyhow::{Result, ensure};
use kit::broker::{Broker, Message};
use kit::proxy::Proxy;
use kit::servers::Servers;
use kit::{TestResult, until};
use lapin::options::QueueDeleteOptions;
use shared::messaging::connection::AmqpUrls;
use shared::messaging::consumer::{ConsumeError, Consumer, Delivery};
use shared::messaging::envelope::{BODY_BYTES, BODY_SHA256};
use shared::messaging::topology::{CALLBACKS_EXCHANGE, CALLBACKS_QUEUE, CALLBACKS_ROUTING_KEY};
use shared::protocol::{BODY_BYTES_MAX, CallbackKind};
use url::Url;

async fn broker_with(messages: usize) -> Result<Broker> {
    let broker = Broker::create(&Servers::from_environment()?).await?;
    let messages = (0..messages)
        .map(|number| Message::new("wechatpay.v2.payment", number.to_string()).header("mch-id", "1900000109"))
        .collect();
    broker.publish_all(CALLBACKS_EXCHANGE, CALLBACKS_ROUTING_KEY, messages).await?;
    Ok(broker)
}

async fn open(url: &Url, prefetch: u16) -> Result<Consumer> {
    let urls: AmqpUrls = url.as_str().parse()?;
    Ok(Consumer::open(&urls, 0, "consumer-test", CALLBACKS_QUEUE, prefetch).await?)
}

/// Batches until there are `count` deliveries.
async fn take(consumer: &mut Consumer, count: usize) -> Result<Vec<Delivery>> {
    let mut taken = Vec::new();
    while taken.len() < count {
        let batch = consumer.next_batch(count - taken.len()).await?;
        ensure!(!batch.is_empty(), "an empty batch");
        taken.extend(batch);
    }
    Ok(taken)
}

async fn until_depth(broker: &Broker, depth: u32) -> Result<()> {
    until(&format!("{depth} messages are ready"), async || {
        let ready = broker.depth(CALLBACKS_QUEUE).await?;
        ensure!(ready == depth, "{ready} are");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ack_covers_everything_up_to_it_and_the_rest_comes_again() -> TestResult {
    let broker = broker_with(10).await?;
    let mut consumer = open(&broker.worker_url(), 100).await?;
    let taken = take(&mut consumer, 10).await?;
    let bodies: Vec<_> = taken.iter().map(|delivery| String::from_utf8_lossy(&delivery.body).into_owned()).collect();
    assert_eq!(bodies, ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]);
    assert!(taken.iter().all(|delivery| !delivery.redelivered && delivery.delivery_count == 0));
    assert_eq!(taken[0].envelope.kind(), Some(CallbackKind::V2Payment));
    assert_eq!(taken[0].envelope.headers["mch-id"], "1900000109");

    consumer.ack_through(&taken[6]).await?;
    // Acked already: must not reach the broker, which would close the channel.
    consumer.ack_through(&taken[6]).await?;
    consumer.ack_through(&taken[2]).await?;
    consumer.close().await;
    until_depth(&broker, 3).await?;

    let mut second = open(&broker.worker_url(), 100).await?;
    let again = take(&mut second, 3).await?;
    assert!(again.iter().all(|delivery| delivery.redelivered && delivery.delivery_count == 1), "{again:?}");
    assert_eq!(again[0].envelope.id, taken[7].envelope.id);
    // A delivery of the first connection says nothing about the second's.
    let stale = second.ack_through(&taken[9]).await;
    assert!(matches!(stale, Err(ConsumeError::Stale)), "{stale:?}");
    second.ack_through(&again[2]).await?;
    second.close().await;
    until_depth(&broker, 0).await?;
    Ok(())
}

/// A publisher can write the broker's header; what counts is what the broker counted.
#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_count_is_the_brokers_and_not_the_publishers() -> TestResult {
    let broker = broker_with(0).await?;
    let message = Message::new("wechatpay.v2.payment", "body").header("x-delivery-count", "9");
    broker.publish_callbacks(vec![message]).await?;
    for expected in [0, 1, 2] {
        let mut consumer = open(&broker.worker_url(), 10).await?;
        let taken = take(&mut consumer, 1).await?;
        assert_eq!((taken[0].delivery_count, taken[0].redelivered), (expected, expected > 0));
        consumer.close().await;
    }
    Ok(())
}

/// A publisher can write megabytes; they are kept neither in the worker nor in the ledger.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_longer_than_any_callback_is_cut_as_it_is_delivered() -> TestResult {
    let broker = broker_with(0).await?;
    let (longest, longer) = (vec![b'x'; BODY_BYTES_MAX], vec![b'y'; BODY_BYTES_MAX + 1]);
    let messages = [&longest, &longer].map(|body| Message::new("wechatpay.v2.payment", body.clone()));
    broker.publish_callbacks(messages.into()).await?;
    let mut consumer = open(&broker.worker_url(), 10).await?;
    let taken = take(&mut consumer, 2).await?;
    assert!(taken[0].body == longest && !taken[0].envelope.headers.contains_key(BODY_SHA256));
    assert!(taken[1].body == longer[..BODY_BYTES_MAX]);
    assert_eq!(taken[1].envelope.headers[BODY_BYTES], (BODY_BYTES_MAX + 1).to_string());
    assert_eq!(taken[1].envelope.headers[BODY_SHA256].len(), 64);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_returns_deliveries_in_transit() -> TestResult {
    let broker = broker_with(100).await?;
    let mut consumer = open(&broker.worker_url(), 60).await?;
    let first = take(&mut consumer, 1).await?;
    until_depth(&broker, 40).await?;
    consumer.stop().await?;
    let mut rest = Vec::new();
    loop {
        let batch = consumer.next_batch(16).await?;
        if batch.is_empty() {
            break;
        }
        rest.extend(batch);
    }
    assert_eq!(first.len() + rest.len(), 60);
    assert!(consumer.next_batch(16).await?.is_empty());
    consumer.ack_through(&rest[rest.len() - 1]).await?;
    consumer.close().await;
    until_depth(&broker, 40).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_wait_loses_nothing() -> TestResult {
    let broker = broker_with(0).await?;
    let mut consumer = open(&broker.worker_url(), 10).await?;
    let waited = tokio::time::timeout(Duration::from_millis(50), consumer.next_batch(10)).await;
    assert!(waited.is_err());
    let message = Message::new("wechatpay.v2.payment", "late");
    broker.publish(CALLBACKS_EXCHANGE, CALLBACKS_ROUTING_KEY, message).await?;
    let taken = take(&mut consumer, 1).await?;
    assert_eq!(taken[0].body, b"late");
    assert!(!taken[0].redelivered);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_end_of_the_stream_is_an_error() -> TestResult {
    let broker = broker_with(3).await?;
    let proxy = Proxy::in_front_of(&broker.worker_url()).await?;
    let mut cut = open(&proxy.rewrite(&broker.worker_url())?, 10).await?;
    let taken = take(&mut cut, 3).await?;
    proxy.cut();
    let lost = cut.next_batch(10).await;
    assert!(matches!(lost, Err(ConsumeError::Lost { .. })), "{lost:?}");
    let stale = cut.ack_through(&taken[2]).await;
    assert!(matches!(stale, Err(ConsumeError::Stale)), "{stale:?}");
    cut.close().await;

    let mut deleted = open(&broker.worker_url(), 10).await?;
    take(&mut deleted, 3).await?;
    broker.channel().await?.queue_delete(CALLBACKS_QUEUE.into(), QueueDeleteOptions::default()).await?;
    let cancelled = deleted.next_batch(10).await;
    assert!(matches!(cancelled, Err(ConsumeError::Cancelled { .. })), "{cancelled:?}");

    let urls: AmqpUrls = broker.worker_url().as_str().parse()?;
    let missing = Consumer::open(&urls, 0, "consumer-test", CALLBACKS_QUEUE, 10).await.err();
    let said = missing.map(|error| error.to_string()).unwrap_or_default();
    assert!(said.contains(CALLBACKS_QUEUE) && said.contains("definitions.json"), "{said}");
    Ok(())
}
