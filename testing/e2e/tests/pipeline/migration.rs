//! `worker migrate`: any number at once, any number of times.

use kit::TestResult;
use kit::broker::{Broker, Message};
use kit::callback::Callback;
use kit::database::Database;
use kit::merchants::MerchantsFile;
use kit::program::Launch;
use kit::servers::Servers;
use kit::test_env::TestEnv;

#[tokio::test]
async fn two_migrations_at_once_make_one_schema() -> TestResult {
    let database = Database::create_empty(&Servers::from_environment()?).await?;
    let migrate = || Launch::new("worker").argument("migrate").env("DATABASE_URL", database.url().as_str()).finish();
    let (one, other) = tokio::join!(migrate(), migrate());
    let (one, other) = (one?, other?);
    assert_eq!([one.code, other.code], [Some(0), Some(0)], "{one:?} {other:?}");
    let applied = [&one, &other].map(|run| run.stdout.matches("applied ").count());
    assert_eq!(applied.iter().filter(|&&count| count > 0).count(), 1, "{one:?} {other:?}");

    let again = migrate().await?;
    assert_eq!((again.code, again.stdout.matches("applied ").count()), (Some(0), 0), "{again:?}");
    let months = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'notifications'::regclass";
    let months: i64 = database.query_one(months, &[]).await?.get(0);
    assert_eq!(months, 24 + 1, "24 months and the partition for everything else");
    Ok(())
}

/// What the partition for everything else has caught moves into its month when the month is made.
#[tokio::test]
async fn months_made_late_take_over_what_came_before_them() -> TestResult {
    let env = TestEnv::start().await?;
    env.insert_order("order-1").await?;
    let this_month = "SELECT 'notifications_' || to_char(now() AT TIME ZONE 'UTC', 'YYYY_MM')";
    let this_month = env.value(this_month).await?;
    let detach = format!("ALTER TABLE notifications DETACH PARTITION {this_month}; DROP TABLE {this_month}");
    env.database.batch_execute(&detach).await?;
    let _worker = env.start_worker().await?;
    env.broker.publish_callbacks(vec![Message::callback(Callback::payment("order-1").body())]).await?;
    env.until_ledger_has(1).await?;
    assert_eq!(env.value("SELECT count(*) FROM notifications_default").await?, "1");

    env.database.execute("SELECT notifications_make_months(now(), 24)", &[]).await?;
    assert_eq!(env.value("SELECT count(*) FROM notifications_default").await?, "0");
    assert_eq!(env.value(&format!("SELECT count(*) FROM {this_month}")).await?, "1");
    Ok(())
}

#[tokio::test]
async fn a_worker_without_a_schema_takes_nothing_and_begins_when_there_is_one() -> TestResult {
    let servers = Servers::from_environment()?;
    let (database, broker, merchants) =
        (Database::create_empty(&servers).await?, Broker::create(&servers).await?, MerchantsFile::write()?);
    broker.publish_callbacks(vec![Message::callback(Callback::payment("order-1").body())]).await?;
    let (amqp, url) = (broker.worker_url(), database.url());
    let mut worker = Launch::worker(amqp.as_str(), url.as_str(), merchants.path())?.spawn()?;
    worker.until_not_ready().await?;
    assert_eq!(broker.depth(shared::messaging::topology::CALLBACKS_QUEUE).await?, 1);

    let migrated = Launch::new("worker").argument("migrate").env("DATABASE_URL", url.as_str()).finish().await?;
    assert_eq!(migrated.code, Some(0), "{migrated:?}");
    worker.until_ready().await?;
    Ok(())
}
