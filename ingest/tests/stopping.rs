//! SIGTERM: whoever was told SUCCESS is stored, whoever waits is answered, and the process ends by itself.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kit::broker::Broker;
use kit::callback::Callback;
use kit::merchants::MerchantsFile;
use kit::post::post;
use kit::program::{Launch, Signal};
use kit::proxy::Proxy;
use kit::servers::Servers;
use kit::{TestResult, until};
use shared::messaging::connection::AmqpUrls;
use shared::messaging::consumer::Consumer;
use shared::messaging::topology::CALLBACKS_QUEUE;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// The bodies of everything in the queue.
async fn drain(broker: &Broker) -> Result<HashSet<Vec<u8>>> {
    let expected = usize::try_from(broker.depth(CALLBACKS_QUEUE).await?)?;
    let urls: AmqpUrls = broker.url().as_str().parse()?;
    let mut consumer = Consumer::open(&urls, 0, "drain", CALLBACKS_QUEUE, 512).await?;
    let mut bodies = Vec::with_capacity(expected);
    while bodies.len() < expected {
        let batch = consumer.next_batch(256).await?;
        consumer.ack_through(batch.last().context("an empty batch")?).await?;
        bodies.extend(batch.into_iter().map(|delivery| delivery.body));
    }
    consumer.close().await;
    Ok(bodies.into_iter().collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_under_load_loses_nothing() -> TestResult {
    let broker = Broker::create(&Servers::from_environment()?).await?;
    let merchants = MerchantsFile::write()?;
    let launch = Launch::ingest(broker.ingest_url().as_str(), merchants.path())?.env("READINESS_GRACE_SECONDS", "2");
    let mut ingest = launch.start().await?;
    let public = ingest.public();

    // Each client posts until ingest takes no more connections.
    let mut clients = JoinSet::new();
    for client in 0..32 {
        clients.spawn(async move {
            let mut stored = Vec::new();
            for number in 0.. {
                let body = Callback::payment(&format!("order-{client}-{number}")).body();
                match post(public, body.clone()).await {
                    Ok(reply) if reply.is_success() => stored.push(body),
                    Ok(reply) => assert_eq!(reply.status, 503, "{reply:?}"),
                    Err(_hung_up) => break,
                }
            }
            stored
        });
    }
    until("there is load", async || {
        let stored = ingest.metric("ingest_callbacks_total", &["outcome=\"stored\""]).await?;
        ensure!(stored > 1000, "{stored} stored");
        Ok(())
    })
    .await?;
    ingest.send(Signal::Stop)?;
    // Not ready at once, and still taking: the load balancer has not noticed yet.
    ingest.until_not_ready().await?;
    let reply = post(public, Callback::payment("in-the-grace").body()).await?;
    assert!(reply.is_success(), "{reply:?}");

    assert_eq!(ingest.exit().await?.code(), Some(0));
    let stored = clients.join_all().await.concat();
    let in_queue = drain(&broker).await?;
    let lost = stored.iter().filter(|body| !in_queue.contains(*body)).count();
    assert_eq!(lost, 0, "{lost} of {} were told SUCCESS and are not stored", stored.len());
    assert!(post(public, Vec::new()).await.is_err());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_callback_that_waits_for_its_confirm_is_answered_before_the_end() -> TestResult {
    let broker = Broker::create(&Servers::from_environment()?).await?;
    let merchants = MerchantsFile::write()?;
    let proxy = Proxy::in_front_of(&broker.ingest_url()).await?;
    let url = proxy.rewrite(&broker.ingest_url())?;
    let launch = Launch::ingest(url.as_str(), merchants.path())?.env("READINESS_GRACE_SECONDS", "0");
    let mut ingest = launch.start().await?;

    proxy.hold_to_client();
    let public = ingest.public();
    let waiting = tokio::spawn(async move { post(public, Callback::payment("o").body()).await });
    proxy.until_held(1).await?;
    ingest.send(Signal::Stop)?;
    until("no more connections are taken", async || {
        ensure!(tokio::net::TcpStream::connect(public).await.is_err(), "they are");
        Ok(())
    })
    .await?;
    proxy.pass();
    let reply = waiting.await??;
    assert!(reply.is_success(), "{reply:?}");
    assert_eq!(ingest.exit().await?.code(), Some(0));
    assert_eq!(broker.depth(CALLBACKS_QUEUE).await?, 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_has_gone_silent_does_not_keep_the_process() -> TestResult {
    let broker = Broker::create(&Servers::from_environment()?).await?;
    let merchants = MerchantsFile::write()?;
    let proxy = Proxy::in_front_of(&broker.ingest_url()).await?;
    let url = proxy.rewrite(&broker.ingest_url())?;
    let mut ingest = Launch::ingest(url.as_str(), merchants.path())?.start().await?;

    proxy.swallow();
    let public = ingest.public();
    let waiting = tokio::spawn(async move { post(public, Callback::payment("o").body()).await });
    until("it is in the works", async || {
        ensure!(ingest.metric("ingest_in_flight", &[]).await? == 1, "it is not");
        Ok(())
    })
    .await?;
    let since = Instant::now();
    assert_eq!(ingest.stop().await?, Some(0));
    assert!(since.elapsed() < Duration::from_secs(10), "took {:?}", since.elapsed());
    assert_eq!(waiting.await??.status, 503);
    Ok(())
}
