//! Publishing lanes on a real broker: each caller is told about its own message, and nothing else.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kit::broker::Broker;
use kit::proxy::Proxy;
use kit::servers::Servers;
use kit::{TestResult, until};
use lapin::ExchangeKind;
use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use shared::messaging::connection::AmqpUrls;
use shared::messaging::consumer::Consumer;
use shared::messaging::publisher::{Outgoing, PublishError, Publisher, PublisherOptions};
use tokio::task::JoinSet;
use tokio::time::Instant;
use url::Url;
use uuid::Uuid;

const EXCHANGE: &str = "publisher.test";
/// A quorum queue that takes everything.
const TAKES: &str = "takes";
/// A queue in memory: its confirms come so fast that the broker sends them together with those of messages it returns,
/// and lapin then pins returns on the wrong ones.
const TAKES_FAST: &str = "takes.fast";
/// A queue of length 0 that rejects publishes: every confirm is a nack.
const REFUSES: &str = "refuses";
/// A key that no queue is bound with.
const NOWHERE: &str = "nowhere";

/// Longer than any promise in the publisher.
const SOON: Duration = Duration::from_secs(4);

async fn broker() -> Result<Broker> {
    let broker = Broker::create(&Servers::from_environment()?).await?;
    let channel = broker.channel().await?;
    let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    channel.exchange_declare(EXCHANGE.into(), ExchangeKind::Direct, durable, FieldTable::default()).await?;
    let text = |text: &str| AMQPValue::LongString(text.into());
    let in_memory = QueueDeclareOptions::default();
    let on_disk = QueueDeclareOptions::durable();
    let queues = [
        (TAKES, on_disk, vec![("x-queue-type", text("quorum"))]),
        (TAKES_FAST, in_memory, vec![]),
        (REFUSES, in_memory, vec![("x-max-length", AMQPValue::LongInt(0)), ("x-overflow", text("reject-publish"))]),
    ];
    for (queue, options, arguments) in queues {
        let mut table = FieldTable::default();
        for (name, value) in arguments {
            table.insert(name.into(), value);
        }
        channel.queue_declare(queue.into(), options, table).await?;
        let none = FieldTable::default();
        channel.queue_bind(queue.into(), EXCHANGE.into(), queue.into(), QueueBindOptions::default(), none).await?;
    }
    Ok(broker)
}

fn urls(url: &Url) -> Result<AmqpUrls> {
    Ok(url.as_str().parse()?)
}

fn start(url: &Url, lanes: usize) -> Result<Publisher> {
    start_on(EXCHANGE, url, lanes)
}

fn start_on(exchange: &'static str, url: &Url, lanes: usize) -> Result<Publisher> {
    Ok(Publisher::start(PublisherOptions {
        urls: urls(url)?,
        exchange,
        connection_name: "publisher-test",
        lanes,
        waiting_max: 4096,
    }))
}

async fn until_ready(publisher: &Publisher) -> Result<()> {
    until("the publisher is ready", async || publisher.readiness().map_err(anyhow::Error::msg)).await
}

async fn until_not_ready(publisher: &Publisher) -> Result<()> {
    until("the publisher is not ready", async || {
        ensure!(publisher.readiness().is_err(), "it is");
        Ok(())
    })
    .await
}

async fn ready(url: &Url, lanes: usize) -> Result<Publisher> {
    let publisher = start(url, lanes)?;
    until_ready(&publisher).await?;
    Ok(publisher)
}

fn message(routing_key: &str) -> Outgoing {
    Outgoing {
        message_id: Uuid::now_v7().to_string(),
        kind: "test".to_owned(),
        routing_key: routing_key.to_owned(),
        content_type: Some("text/plain".to_owned()),
        timestamp_seconds: 1_790_000_000,
        headers: BTreeMap::from([("mch-id".to_owned(), "1".to_owned())]),
        body: vec![b'x'; 512],
    }
}

/// What the broker does with a message under this key.
fn truth(routing_key: &str) -> Result<(), PublishError> {
    match routing_key {
        TAKES | TAKES_FAST => Ok(()),
        REFUSES => Err(PublishError::Refused),
        _ => Err(PublishError::Unroutable),
    }
}

/// The ids of everything in a queue.
async fn drain(broker: &Broker, queue: &str) -> Result<Vec<String>> {
    let expected = usize::try_from(broker.depth(queue).await?)?;
    let mut consumer = Consumer::open(&urls(&broker.url())?, 0, "drain", queue, 512).await?;
    let mut ids = Vec::with_capacity(expected);
    while ids.len() < expected {
        let batch = consumer.next_batch(256).await?;
        consumer.ack_through(batch.last().context("an empty batch")?).await?;
        ids.extend(batch.iter().map(|delivery| delivery.envelope.id.to_string()));
    }
    consumer.close().await;
    Ok(ids)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn no_caller_gets_the_outcome_of_another_message() -> TestResult {
    const CALLERS: usize = 256;
    const EACH: usize = 200;
    let broker = broker().await?;
    let publisher = ready(&broker.url(), 4).await?;

    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let publisher = publisher.clone();
        callers.spawn(async move {
            let mut told = Vec::with_capacity(EACH);
            for number in 0..EACH {
                // Taken and refused in turn; an eighth goes nowhere.
                let key = match (caller + number) % 16 {
                    7 | 12 => NOWHERE,
                    2 | 6 | 10 | 14 => TAKES_FAST,
                    even if even % 2 == 0 => TAKES,
                    _ => REFUSES,
                };
                let message = message(key);
                let id = message.message_id.clone();
                told.push((id, key, publisher.publish(message).await));
            }
            told
        });
    }
    let told = callers.join_all().await.concat();
    assert_eq!(told.len(), CALLERS * EACH);

    let wrong: Vec<_> = told.iter().filter(|(_, key, outcome)| *outcome != truth(key)).collect();
    assert!(wrong.is_empty(), "{} of {} were told something else: {:?}", wrong.len(), told.len(), wrong.first());

    let stored: HashSet<_> = told.into_iter().filter(|(.., outcome)| outcome.is_ok()).map(|(id, ..)| id).collect();
    let in_queue = [drain(&broker, TAKES).await?, drain(&broker, TAKES_FAST).await?].concat();
    assert_eq!(in_queue.len(), stored.len());
    assert_eq!(in_queue.into_iter().collect::<HashSet<_>>(), stored);
    assert_eq!(broker.depth(REFUSES).await?, 0);
    publisher.close().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_with_the_same_id_get_their_own_outcomes() -> TestResult {
    let broker = broker().await?;
    let publisher = ready(&broker.url(), 1).await?;
    let id = Uuid::now_v7().to_string();
    let mut callers = JoinSet::new();
    for number in 0..60 {
        let (publisher, id) = (publisher.clone(), id.clone());
        let key = [TAKES, REFUSES, NOWHERE][number % 3];
        callers.spawn(async move { (key, publisher.publish(Outgoing { message_id: id, ..message(key) }).await) });
    }
    for (key, outcome) in callers.join_all().await {
        assert_eq!(outcome, truth(key), "{key}");
    }
    assert_eq!(broker.depth(TAKES).await?, 20);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connection_tells_everybody_and_the_next_one_works() -> TestResult {
    let broker = broker().await?;
    let proxy = Proxy::in_front_of(&broker.url()).await?;
    let publisher = ready(&proxy.rewrite(&broker.url())?, 4).await?;

    // The broker has stored some of these, and its word on them never arrives.
    proxy.hold_to_client();
    let mut callers = JoinSet::new();
    for _ in 0..500 {
        let publisher = publisher.clone();
        callers.spawn(async move { publisher.publish(message(TAKES)).await });
    }
    proxy.until_held(1).await?;
    proxy.cut();
    let cut_at = Instant::now();
    for outcome in callers.join_all().await {
        assert!(matches!(outcome, Err(PublishError::Unknown | PublishError::Down)), "{outcome:?}");
    }
    assert!(cut_at.elapsed() < SOON, "took {:?}", cut_at.elapsed());
    until_not_ready(&publisher).await?;

    proxy.pass();
    until_ready(&publisher).await?;
    assert_eq!(publisher.publish(message(TAKES)).await, Ok(()));
    assert_eq!(publisher.publish(message(NOWHERE)).await, Err(PublishError::Unroutable));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_withheld_confirm_is_unknown_in_time() -> TestResult {
    let broker = broker().await?;
    let proxy = Proxy::in_front_of(&broker.url()).await?;
    let publisher = ready(&proxy.rewrite(&broker.url())?, 2).await?;

    proxy.hold_to_client();
    let since = Instant::now();
    assert_eq!(publisher.publish(message(TAKES)).await, Err(PublishError::Unknown));
    assert!(since.elapsed() < SOON, "took {:?}", since.elapsed());
    until_not_ready(&publisher).await?;
    assert_eq!(publisher.publish(message(TAKES)).await, Err(PublishError::Down));

    proxy.pass();
    until_ready(&publisher).await?;
    assert_eq!(publisher.publish(message(TAKES)).await, Ok(()));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_broker_callers_are_refused_at_once() -> TestResult {
    let nobody = Url::parse("amqp://127.0.0.1:1/%2f")?;
    let publisher = start(&nobody, 2)?;
    let since = Instant::now();
    assert_eq!(publisher.publish(message(TAKES)).await, Err(PublishError::Down));
    assert!(since.elapsed() < Duration::from_millis(500));
    publisher.close().await;
    assert!(since.elapsed() < SOON);
    assert_eq!(publisher.publish(message(TAKES)).await, Err(PublishError::Down));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_url_is_tried() -> TestResult {
    let broker = broker().await?;
    let publisher = Publisher::start(PublisherOptions {
        urls: format!("amqp://127.0.0.1:1/%2f,{}", broker.url()).parse::<AmqpUrls>()?,
        exchange: EXCHANGE,
        connection_name: "publisher-test",
        lanes: 1,
        waiting_max: 1,
    });
    until_ready(&publisher).await?;
    assert_eq!(publisher.publish(message(TAKES)).await, Ok(()));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_exchange_is_a_failure_and_heals_when_it_appears() -> TestResult {
    let broker = broker().await?;
    let publisher = start_on("late.exchange", &broker.url(), 2)?;
    until_ready(&publisher).await?;
    assert_eq!(publisher.publish(message(TAKES)).await, Err(PublishError::Unknown));

    let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    let channel = broker.channel().await?;
    channel.exchange_declare("late.exchange".into(), ExchangeKind::Direct, durable, FieldTable::default()).await?;
    broker.bind(TAKES, "late.exchange", TAKES).await?;
    until("a publish is stored", async || Ok(publisher.publish(message(TAKES)).await?)).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_gave_up_is_not_published() -> TestResult {
    let broker = broker().await?;
    let proxy = Proxy::in_front_of(&broker.url()).await?;
    let publisher = ready(&proxy.rewrite(&broker.url())?, 1).await?;

    // The only lane waits for the confirm of the first message, so that the second waits for the lane.
    proxy.hold_to_client();
    let (first, second) = (message(TAKES), message(TAKES));
    let first_id = first.message_id.clone();
    let publishing = tokio::spawn({
        let publisher = publisher.clone();
        async move { publisher.publish(first).await }
    });
    proxy.until_held(1).await?;
    let gave_up = tokio::time::timeout(Duration::from_millis(50), publisher.publish(second)).await;
    assert!(gave_up.is_err());
    proxy.pass();
    assert_eq!(publishing.await?, Ok(()));
    assert_eq!(publisher.publish(message(NOWHERE)).await, Err(PublishError::Unroutable));
    assert_eq!(drain(&broker, TAKES).await?, [first_id]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_of_callers_is_busy_at_once() -> TestResult {
    let broker = broker().await?;
    let proxy = Proxy::in_front_of(&broker.url()).await?;
    let publisher = Publisher::start(PublisherOptions {
        urls: urls(&proxy.rewrite(&broker.url())?)?,
        exchange: EXCHANGE,
        connection_name: "publisher-test",
        lanes: 1,
        waiting_max: 2,
    });
    until_ready(&publisher).await?;
    proxy.hold_to_client();
    let in_flight = tokio::spawn({
        let publisher = publisher.clone();
        async move { publisher.publish(message(TAKES)).await }
    });
    proxy.until_held(1).await?;
    // Two fill the queue behind the lane that waits for its confirm; the third is told at once.
    let third = async {
        let since = Instant::now();
        let outcome = publisher.publish(message(TAKES)).await;
        proxy.pass();
        (outcome, since.elapsed())
    };
    let (first, second, (third, took)) =
        tokio::join!(biased; publisher.publish(message(TAKES)), publisher.publish(message(TAKES)), third);
    assert_eq!((first, second, third), (Ok(()), Ok(()), Err(PublishError::Busy)));
    assert!(took < Duration::from_millis(100), "took {took:?}");
    assert_eq!(in_flight.await?, Ok(()));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_finishes_messages_in_flight() -> TestResult {
    let broker = broker().await?;
    let publisher = ready(&broker.url(), 4).await?;
    let mut callers = JoinSet::new();
    for _ in 0..2000 {
        let publisher = publisher.clone();
        callers.spawn(async move {
            let message = message(TAKES);
            (message.message_id.clone(), publisher.publish(message).await)
        });
    }
    until("something is stored", async || {
        ensure!(broker.depth(TAKES).await? > 0, "nothing yet");
        Ok(())
    })
    .await?;
    publisher.close().await;
    let told: HashMap<_, _> = callers.join_all().await.into_iter().collect();
    let stored: HashSet<_> = told.iter().filter(|(_, outcome)| outcome.is_ok()).map(|(id, _)| id.clone()).collect();
    assert!(told.values().all(|outcome| matches!(outcome, Ok(()) | Err(PublishError::Down))), "{told:?}");
    assert!(!stored.is_empty());
    assert_eq!(drain(&broker, TAKES).await?.into_iter().collect::<HashSet<_>>(), stored);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_amqp_cannot_carry_is_refused() -> TestResult {
    let broker = broker().await?;
    let publisher = ready(&broker.url(), 1).await?;
    let long = "x".repeat(256);
    assert_eq!(
        publisher.publish(Outgoing { content_type: Some(long), ..message(TAKES) }).await,
        Err(PublishError::Refused)
    );
    Ok(())
}
