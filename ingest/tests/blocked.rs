//! A broker that is short of memory. The alarm is the whole node's, so this test is alone in its binary.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use chrono::DateTime;
use kit::broker::Broker;
use kit::callback::Callback;
use kit::merchants::MerchantsFile;
use kit::post::post;
use kit::program::Launch;
use kit::proxy::Proxy;
use kit::servers::Servers;
use kit::{TestResult, until};
use shared::messaging::connection::AmqpUrls;
use shared::messaging::envelope::Envelope;
use shared::messaging::publisher::{Outgoing, PublishError, Publisher, PublisherOptions};
use shared::messaging::topology::{CALLBACKS_EXCHANGE, CALLBACKS_QUEUE};
use shared::protocol::CallbackKind;
use tokio::time::Instant;

/// A memory alarm on the whole node, for as long as it lives; also when the test panics.
struct MemoryAlarm {
    /// The node's own limit, as `rabbitmqctl` takes it.
    limit_before: Vec<String>,
}

impl MemoryAlarm {
    fn raise() -> Result<Self> {
        let limit = rabbitmqctl(&["eval", "vm_memory_monitor:get_vm_memory_high_watermark()."])?;
        let limit = limit.trim();
        let limit_before = match limit.strip_prefix("{absolute,").and_then(|rest| rest.strip_suffix('}')) {
            Some(absolute) => vec!["absolute".to_owned(), absolute.trim_matches('"').to_owned()],
            None => vec![limit.to_owned()],
        };
        let alarm = Self { limit_before };
        rabbitmqctl(&["set_vm_memory_high_watermark", "0"])?;
        Ok(alarm)
    }
}

impl Drop for MemoryAlarm {
    fn drop(&mut self) {
        let limit = self.limit_before.iter().map(String::as_str);
        let arguments: Vec<_> = ["set_vm_memory_high_watermark"].into_iter().chain(limit).collect();
        if let Err(error) = rabbitmqctl(&arguments) {
            eprintln!("the memory alarm could not be cleared: {error:#}");
        }
    }
}

fn rabbitmqctl(arguments: &[&str]) -> Result<String> {
    let program = std::env::var("RABBITMQCTL").context("RABBITMQCTL is not set: run the tests through ./dev test")?;
    let output = Command::new(program).args(arguments).output()?;
    ensure!(output.status.success(), "rabbitmqctl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

fn message() -> Outgoing {
    Envelope::new(DateTime::UNIX_EPOCH, CallbackKind::V2Payment, "1", None, None).into_outgoing(b"body".to_vec())
}

async fn until_ready(publisher: &Publisher) -> Result<()> {
    until("the publisher is ready", async || publisher.readiness().map_err(anyhow::Error::msg)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blocked_broker_is_a_failure_at_once_and_the_connection_outlives_it() -> TestResult {
    let broker = Broker::create(&Servers::from_environment()?).await?;
    let proxy = Proxy::in_front_of(&broker.ingest_url()).await?;
    let url = proxy.rewrite(&broker.ingest_url())?;
    let publisher = Publisher::start(PublisherOptions {
        urls: url.as_str().parse::<AmqpUrls>()?,
        exchange: CALLBACKS_EXCHANGE,
        connection_name: "blocked-test",
        lanes: 2,
        waiting_max: 100,
    });
    until_ready(&publisher).await?;
    let merchants = MerchantsFile::write()?;
    let mut ingest = Launch::ingest(url.as_str(), merchants.path())?.start().await?;
    assert!(post(ingest.public(), Callback::payment("before").body()).await?.is_success());
    assert_eq!(publisher.publish(message()).await, Ok(()));

    let alarm = MemoryAlarm::raise()?;
    // Whoever is caught by the alarm is told in time that nobody knows, unless the broker has sent its warning already.
    let since = Instant::now();
    let body = Callback::payment("caught").body();
    let (caught, reply) = tokio::join!(publisher.publish(message()), post(ingest.public(), body));
    assert!(matches!(caught, Err(PublishError::Unknown | PublishError::Down)), "{caught:?}");
    assert_eq!(reply?.status, 503);
    assert!(since.elapsed() < Duration::from_secs(4), "took {:?}", since.elapsed());

    // Everybody after that is refused at once.
    until("the publisher is not ready", async || {
        ensure!(publisher.readiness().is_err(), "it is");
        Ok(())
    })
    .await?;
    ingest.until_not_ready().await?;
    let since = Instant::now();
    assert_eq!(publisher.publish(message()).await, Err(PublishError::Down));
    assert_eq!(post(ingest.public(), Callback::payment("after").body()).await?.status, 503);
    assert!(since.elapsed() < Duration::from_millis(500), "took {:?}", since.elapsed());

    drop(alarm);
    until_ready(&publisher).await?;
    ingest.until_ready().await?;
    assert_eq!(publisher.publish(message()).await, Ok(()));
    let reply = post(ingest.public(), Callback::payment("now").body()).await?;
    assert!(reply.is_success(), "{reply:?}");
    assert_eq!(proxy.accepted(), 2, "a connection was thrown away");
    // Four that were stored, and at most the two that were caught.
    let depth = broker.depth(CALLBACKS_QUEUE).await?;
    assert!((4..=6).contains(&depth), "{depth} messages");
    publisher.close().await;
    assert_eq!(ingest.stop().await?, Some(0));
    Ok(())
}
