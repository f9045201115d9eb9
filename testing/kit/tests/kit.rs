//! The kit itself: what the other tests take for granted.

use std::time::Duration;

use anyhow::{Result, anyhow, ensure};
use kit::broker::{Broker, Message};
use kit::callback::Callback;
use kit::database::Database;
use kit::proxy::Proxy;
use kit::servers::Servers;
use kit::until::until_within;
use kit::{TestResult, until};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const CALLBACKS: &str = "wechatpay.callbacks.v1";

#[tokio::test]
async fn tests_that_start_at_once_share_one_template_and_no_rows() -> TestResult {
    let servers = Servers::from_environment()?;
    let (one, other) = tokio::try_join!(Database::create(&servers), Database::create(&servers))?;
    one.execute("INSERT INTO orders (mch_id, out_trade_no, amount_minor, currency) VALUES ('m', 'o', 1, 'CNY')", &[])
        .await?;
    let count = "SELECT count(*) FROM orders";
    assert_eq!(one.query_one(count, &[]).await?.get::<_, i64>(0), 1);
    assert_eq!(other.query_one(count, &[]).await?.get::<_, i64>(0), 0);
    Ok(())
}

#[tokio::test]
async fn a_virtual_host_has_the_shipped_queues_and_forgets_them_afterwards() -> TestResult {
    let servers = Servers::from_environment()?;
    let broker = Broker::create(&servers).await?;
    let message = Message::new("wechatpay.v2.payment", "body").header("mch-id", "1900000109");
    broker.publish("wechatpay.callbacks", CALLBACKS, message.clone()).await?;
    assert_eq!(broker.depth(CALLBACKS).await?, 1);

    let stored = broker.take_all(CALLBACKS).await?;
    assert_eq!(stored, [Message { routing_key: CALLBACKS.to_owned(), ..message }]);

    let url = broker.url();
    drop(broker);
    let properties = lapin::ConnectionProperties::default();
    assert!(lapin::Connection::connect(url.as_str(), properties).await.is_err(), "the virtual host is still there");
    Ok(())
}

#[tokio::test]
async fn a_queue_can_be_made_full_and_a_key_unroutable() -> TestResult {
    let servers = Servers::from_environment()?;
    let broker = Broker::create(&servers).await?;
    broker.set_policy("^wechatpay", json!({"max-length": 0, "overflow": "reject-publish"})).await?;
    until("the queue refuses", async || {
        let refused = broker.publish("wechatpay.callbacks", CALLBACKS, Message::new("x", "y")).await;
        ensure!(refused.is_err(), "it was taken");
        Ok(())
    })
    .await?;
    broker.clear_policy().await?;
    broker.unbind(CALLBACKS, "wechatpay.callbacks", CALLBACKS).await?;
    let unroutable = broker.publish("wechatpay.callbacks", CALLBACKS, Message::new("x", "y")).await;
    assert!(unroutable.is_err_and(|error| error.to_string().contains("no queue")));
    Ok(())
}

#[tokio::test]
async fn a_timeout_names_the_condition_and_the_last_obstacle() {
    let error =
        until_within(Duration::from_millis(30), "pigs fly", async || -> Result<()> { Err(anyhow!("they walk")) })
            .await
            .unwrap_err();
    let text = format!("{error:#}");
    assert!(text.contains("until pigs fly") && text.contains("they walk"), "{text}");
}

#[test]
fn a_callback_is_authentic_until_it_is_touched() -> TestResult {
    let ring = shared::merchants_file::load(
        kit::merchants::MerchantsFile::write()?.path(),
        shared::merchants_file::Program::Ingest,
    )?;
    let authenticate = |body: &[u8]| shared::protocol::v2::payment::authenticate(body, &ring).is_ok();
    assert!(authenticate(&Callback::payment("order-1").body()));
    assert!(authenticate(&Callback::payment_of_shop("1900000300", "order-1").body()));
    assert!(!authenticate(&Callback::payment("order-1").key("another key").body()));
    Ok(())
}

/// A server that sends back what it gets, a proxy in front of it, and a connection through it.
async fn echo_through_proxy() -> Result<(Proxy, TcpStream)> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let proxy = Proxy::to(listener.local_addr()?).await?;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                tokio::io::copy(&mut from, &mut to).await
            });
        }
    });
    let client = TcpStream::connect(proxy.address()).await?;
    Ok((proxy, client))
}

async fn say_and_hear(client: &mut TcpStream, text: &str) -> Result<String> {
    client.write_all(text.as_bytes()).await?;
    hear(client, text.len()).await
}

async fn hear(client: &mut TcpStream, length: usize) -> Result<String> {
    let mut heard = vec![0; length];
    client.read_exact(&mut heard).await?;
    Ok(String::from_utf8(heard)?)
}

#[tokio::test]
async fn a_proxy_passes_both_ways_and_passes_the_end_on() -> TestResult {
    let (_proxy, mut client) = echo_through_proxy().await?;
    assert_eq!(say_and_hear(&mut client, "one").await?, "one");
    client.shutdown().await?;
    assert_eq!(client.read(&mut [0; 8]).await?, 0);
    Ok(())
}

#[tokio::test]
async fn a_proxy_keeps_what_the_client_says_until_it_passes_again() -> TestResult {
    let (proxy, mut client) = echo_through_proxy().await?;
    assert_eq!(say_and_hear(&mut client, "one").await?, "one");
    proxy.hold_to_server();
    client.write_all(b"two").await?;
    proxy.until_held(3).await?;
    proxy.pass();
    assert_eq!(hear(&mut client, 3).await?, "two");
    assert_eq!(proxy.held(), 0);
    Ok(())
}

#[tokio::test]
async fn a_proxy_keeps_what_the_server_says_in_its_order() -> TestResult {
    let (proxy, mut client) = echo_through_proxy().await?;
    proxy.hold_to_client();
    client.write_all(b"one").await?;
    proxy.until_held(3).await?;
    proxy.pass();
    assert_eq!(say_and_hear(&mut client, "two").await?, "one");
    assert_eq!(hear(&mut client, 3).await?, "two");
    Ok(())
}

#[tokio::test]
async fn a_cut_resets_old_and_new_connections_until_it_is_mended() -> TestResult {
    let (proxy, mut client) = echo_through_proxy().await?;
    assert_eq!(say_and_hear(&mut client, "one").await?, "one");
    proxy.cut();
    assert!(client.read(&mut [0; 8]).await.is_err(), "the old connection ended politely");
    let mut refused = TcpStream::connect(proxy.address()).await?;
    assert!(say_and_hear(&mut refused, "two").await.is_err(), "a new connection passes");
    proxy.pass();
    let mut again = TcpStream::connect(proxy.address()).await?;
    assert_eq!(say_and_hear(&mut again, "three").await?, "three");
    proxy.cut();
    proxy.pass();
    assert!(again.read(&mut [0; 8]).await.is_err(), "a short cut is none");
    assert_eq!(proxy.accepted(), 3);
    Ok(())
}

#[tokio::test]
async fn what_is_held_dies_with_its_connection() -> TestResult {
    let (proxy, mut client) = echo_through_proxy().await?;
    proxy.hold_to_server();
    client.write_all(b"lost").await?;
    proxy.until_held(4).await?;
    drop(client);
    until("nothing is held", async || {
        ensure!(proxy.held() == 0, "{} bytes are", proxy.held());
        Ok(())
    })
    .await?;
    Ok(())
}

#[tokio::test]
async fn what_is_swallowed_never_arrives() -> TestResult {
    let (proxy, mut client) = echo_through_proxy().await?;
    assert_eq!(say_and_hear(&mut client, "one").await?, "one");
    proxy.swallow();
    client.write_all(b"two").await?;
    let mut bytes = [0; 8];
    let heard = until_within(Duration::from_millis(100), "an echo comes", async || Ok(client.read(&mut bytes).await?));
    assert!(heard.await.is_err());
    Ok(())
}

#[tokio::test]
async fn what_is_held_both_ways_arrives_when_it_passes_again_even_from_the_dead() -> TestResult {
    let (proxy, mut client) = echo_through_proxy().await?;
    proxy.hold();
    client.write_all(b"one").await?;
    proxy.until_held(3).await?;
    client.shutdown().await?;
    proxy.pass();
    assert_eq!(hear(&mut client, 3).await?, "one");
    assert_eq!(client.read(&mut [0; 8]).await?, 0);
    Ok(())
}

#[tokio::test]
async fn a_stranded_connection_passes_nothing_ever_and_a_new_one_everything() -> TestResult {
    let (proxy, mut client) = echo_through_proxy().await?;
    assert_eq!(say_and_hear(&mut client, "one").await?, "one");
    proxy.strand();
    client.write_all(b"two").await?;
    client.shutdown().await?;
    let mut again = TcpStream::connect(proxy.address()).await?;
    assert_eq!(say_and_hear(&mut again, "three").await?, "three");
    let mut bytes = [0; 8];
    let heard = until_within(Duration::from_millis(100), "an end comes", async || Ok(client.read(&mut bytes).await?));
    assert!(heard.await.is_err());
    Ok(())
}
