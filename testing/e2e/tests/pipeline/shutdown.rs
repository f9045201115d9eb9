//! SIGTERM under load: nothing is lost, every promise is kept, and the exit code is 0.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::ensure;
use kit::broker::Message;
use kit::callback::Callback;
use kit::post::{Reply, post};
use kit::test_env::TestEnv;
use kit::{TestResult, until};
use shared::messaging::topology::CALLBACKS_QUEUE;
use tokio::task::JoinSet;

#[tokio::test]
async fn a_worker_that_is_stopped_in_the_middle_finishes_what_it_holds_and_leaves_the_rest() -> TestResult {
    const ORDERS: usize = 4000;
    let env = TestEnv::start().await?;
    let orders: Vec<String> = (0..ORDERS).map(|number| format!("order-{number}")).collect();
    env.insert_orders(&orders.iter().map(String::as_str).collect::<Vec<_>>()).await?;
    let messages = orders.iter().map(|order| Message::callback(Callback::payment(order).body())).collect();
    env.broker.publish_callbacks(messages).await?;

    // Small batches, so that there is a middle.
    let mut first = env.worker()?.env("WORKER_BATCH_MAX", "8").start().await?;
    until("some are paid", async || {
        ensure!(env.value("SELECT count(*) FROM notifications").await? != "0", "none is");
        Ok(())
    })
    .await?;
    assert_eq!(first.stop().await?, Some(0));
    let handled: usize = env.value("SELECT count(*) FROM notifications").await?.parse()?;
    let queued = usize::try_from(env.broker.depth(CALLBACKS_QUEUE).await?)?;
    assert!(queued > 0, "everything was done already: the test tests nothing");
    assert_eq!(handled + queued, ORDERS, "{handled} handled, {queued} queued");

    let _second = env.start_worker().await?;
    env.until_value("SELECT count(*) FROM orders WHERE state = 'paid' AND version = 1", &ORDERS.to_string()).await?;
    assert_eq!(env.outcomes().await?, [("applied".to_owned(), ORDERS)].into());
    Ok(())
}

#[tokio::test]
async fn an_ingest_that_is_stopped_under_load_has_stored_all_that_it_said_success_for() -> TestResult {
    const CLIENTS: usize = 16;
    let env = TestEnv::start().await?;
    let mut ingest = env.start_ingest().await?;
    let (address, succeeded) = (ingest.public(), Arc::new(AtomicUsize::new(0)));
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let succeeded = Arc::clone(&succeeded);
        clients.spawn(async move {
            let mut promised = Vec::new();
            for number in 0.. {
                let body = Callback::payment(&format!("order-{client}-{number}")).body();
                match post(address, body.clone()).await {
                    Ok(reply) if reply.is_success() => {
                        succeeded.fetch_add(1, Ordering::Relaxed);
                        promised.push(body);
                    }
                    Ok(Reply { status: 503, .. }) => {}
                    Ok(reply) => panic!("{reply:?}"),
                    // The listener is closed.
                    Err(_) => break,
                }
            }
            promised
        });
    }
    until("the load is on", async || {
        let succeeded = succeeded.load(Ordering::Relaxed);
        ensure!(succeeded >= 20 * CLIENTS, "{succeeded} callbacks are stored");
        Ok(())
    })
    .await?;
    assert_eq!(ingest.stop().await?, Some(0));

    let promised = clients.join_all().await.concat();
    let stored = env.broker.take_all(CALLBACKS_QUEUE).await?;
    let stored: HashSet<&[u8]> = stored.iter().map(|message| message.body.as_slice()).collect();
    let lost = promised.iter().filter(|body| !stored.contains(body.as_slice())).count();
    assert_eq!(lost, 0, "of {} that were answered SUCCESS", promised.len());
    Ok(())
}

#[tokio::test]
async fn idle_programs_stop_at_once() -> TestResult {
    let env = TestEnv::start().await?;
    let mut ingest = env.start_ingest().await?;
    let mut worker = env.start_worker().await?;
    let asked = std::time::Instant::now();
    assert_eq!([ingest.stop().await?, worker.stop().await?], [Some(0), Some(0)]);
    let took = asked.elapsed();
    assert!(took.as_secs() < 5, "it took {took:?}");
    Ok(())
}

#[tokio::test]
async fn a_program_that_gets_sigterm_while_it_starts_stops() -> TestResult {
    let env = TestEnv::start().await?;
    let proxy = kit::proxy::Proxy::in_front_of(&env.broker.worker_url()).await?;
    proxy.swallow();
    let amqp = proxy.rewrite(&env.broker.worker_url())?;
    let launches = [env.worker()?.env("AMQP_URLS", amqp.as_str()), env.ingest()?.env("AMQP_URLS", amqp.as_str())];
    for launch in launches {
        let mut program = launch.spawn()?;
        program.until_not_ready().await?;
        assert_eq!(program.stop().await?, Some(0));
    }
    Ok(())
}
