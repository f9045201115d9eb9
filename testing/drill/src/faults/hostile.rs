//! Hostile or slow outsiders: clients of ingest that never finish a request, and a program that publishes as ingest.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures_util::future::{join_all, try_join_all};
use kit::callback::Callback;
use kit::post::{Post, post};
use kit::unfinished::Unfinished;
use kit::v3::Event;
use kit::writer::{Forged, Writer};
use shared::protocol::CallbackKind;
use tokio::time::Instant;
use tokio_postgres::Client;
use uuid::Uuid;

use super::Scene;
use super::operator::until_held;
use crate::fault::{FORGED_MESSAGES, HALF_HEADS, SLOW_BODIES};
use crate::own;
use crate::record::FaultRecord;

/// How soon ingest must close each of them.
const CLOSED_WITHIN: Duration = Duration::from_secs(10);
/// Genuine callbacks to each ingest at the same time, and how long their answers may take.
const GENUINE: usize = 10;
const ANSWERED_WITHIN: Duration = Duration::from_secs(2);

const MADE_UP_COUNT: i64 = 9;
/// Genuine callbacks whose ids the writer uses first, and those whose type it changes.
const STOLEN: usize = 20;
/// Bodies far over every limit.
const HUGE: usize = 5;
const HUGE_BYTES: usize = 1_048_576;
/// How soon genuine callbacks are applied, whatever is ahead of them.
const APPLIED_WITHIN_SECONDS: u64 = 15;
/// How soon no forged message waits to be decided.
const DECIDED_WITHIN_SECONDS: u64 = 30;

/// Half a head after a whole request, and bodies that trickle, on hundreds of connections.
pub(super) async fn be_slow(scene: &Scene, record: &FaultRecord) -> Result<()> {
    let addresses: Vec<SocketAddr> = scene.fleet.ingests().iter().filter_map(|ingest| ingest.public()).collect();
    let each = |count: usize| addresses.iter().flat_map(move |address| std::iter::repeat_n(*address, count));
    let heads = try_join_all(each(HALF_HEADS).map(Unfinished::half_a_head)).await?;
    record.injected();
    let bodies = try_join_all(each(SLOW_BODIES).map(Unfinished::slow_body)).await?;
    record.note(format!("{} heads, {} bodies", heads.len(), bodies.len()));
    let numbers = own::numbers(GENUINE.saturating_mul(addresses.len()));
    own::insert(&scene.servers.database().await?, &numbers, "pending").await?;
    let genuine = async {
        let mut slowest = Duration::ZERO;
        for (number, address) in numbers.iter().zip(addresses.iter().cycle()) {
            let began = Instant::now();
            let reply = post(*address, Callback::payment(number).body()).await?;
            ensure!(reply.is_success(), "one was answered {}", reply.status);
            slowest = slowest.max(began.elapsed());
        }
        ensure!(slowest <= ANSWERED_WITHIN, "one took {} ms", slowest.as_millis());
        Ok(())
    };
    let (genuine, heads, bodies) =
        tokio::join!(genuine, join_all(heads.into_iter().map(|it| it.until_ended(CLOSED_WITHIN, false))), {
            join_all(bodies.into_iter().map(|it| it.until_ended(CLOSED_WITHIN, true)))
        });
    record.lifted();
    record.observed(
        "genuine callbacks are answered SUCCESS within 2 s while hundreds of clients never finish theirs",
        2,
        genuine,
    );
    record.observed("ingest closes a connection with half a head", CLOSED_WITHIN.as_secs(), all_ended(&heads));
    record.observed("ingest answers a request whose body does not arrive", CLOSED_WITHIN.as_secs(), all_ended(&bodies));
    Ok(())
}

fn all_ended(ended: &[Option<Duration>]) -> Result<()> {
    let open = ended.iter().filter(|after| after.is_none()).count();
    ensure!(open == 0, "{open} of {} are open", ended.len());
    Ok(())
}

/// Everything that ingest's rights at the broker allow.
pub(super) async fn write(scene: &Scene, record: &FaultRecord) -> Result<()> {
    let database = scene.servers.database().await?;
    let [waiting, stolen, mistyped] = [own::numbers(STOLEN), own::numbers(STOLEN), own::numbers(STOLEN)];
    let payments: Vec<Post> = own::payments(&waiting).iter().map(|payment| payment.body().into()).collect();
    own::deliver_all(&scene.fleet, payments).await?;
    until_held(&database, &waiting).await?;
    own::insert(&database, &stolen, "pending").await?;
    own::insert(&database, &mistyped, "pending").await?;

    let url = scene.servers.ingest_amqp()?;
    let writer = Writer::connect(url).await?;
    writer.publish(made_up()).await?;
    record.injected();
    writer.publish(under_stolen_ids(&stolen)).await?;
    writer.publish(mistyped.iter().map(|number| mistype(number)).collect::<Result<_>>()?).await?;
    // A broker with a limit closes the channel, which is fine too.
    let huge = Writer::connect(url).await?.publish(huge()).await;
    own::insert(&database, &waiting, "pending").await?;
    record.note(format!("{FORGED_MESSAGES} forged, huge bodies {}", if huge.is_ok() { "stored" } else { "refused" }));
    record.lifted();
    keep_promises(&database, [&waiting, &stolen, &mistyped], record).await;
    Ok(())
}

async fn keep_promises(database: &Client, [waiting, stolen, mistyped]: [&[String]; 3], record: &FaultRecord) {
    record
        .promise(
            "a payment that waited for its order pays it before forged messages are decided",
            APPLIED_WITHIN_SECONDS,
            async || own::ensure_paid(database, waiting).await,
        )
        .await;
    record
        .promise(
            "a genuine callback pays its order, whatever was published under its id before",
            APPLIED_WITHIN_SECONDS,
            async || own::ensure_paid(database, stolen).await,
        )
        .await;
    record
        .promise("a genuine callback under a wrong type changes no order", 0, async || {
            own::ensure_all(database, mistyped, |_, order| order.state == "pending").await
        })
        .await;
    record
        .promise("no forged message waits to be decided alone", DECIDED_WITHIN_SECONDS, async || {
            let suspects = "SELECT count(*) FROM quarantine WHERE reason = 'decide_alone' AND state <> 'resolved'";
            let suspects: i64 = database.query_one(suspects, &[]).await?.try_get(0)?;
            ensure!(suspects == 0, "{suspects} do");
            Ok(())
        })
        .await;
}

fn made_up() -> Vec<Forged> {
    let kinds = CallbackKind::ALL.iter().cycle();
    let message = |kind: &CallbackKind| Forged {
        id: Uuid::now_v7().to_string(),
        kind: kind.name().to_owned(),
        delivery_count: Some(MADE_UP_COUNT),
        body: b"<xml>made up</xml>".to_vec(),
        ..Forged::default()
    };
    kinds.take(FORGED_MESSAGES).map(message).collect()
}

/// Garbage first, and the callback that the id belongs to after it.
fn under_stolen_ids(numbers: &[String]) -> Vec<Forged> {
    let pair = |number: &String| {
        let id = Uuid::now_v7().to_string();
        let genuine = Forged::genuine(&id, Callback::payment(number).body());
        [Forged { body: b"<xml>garbage</xml>".to_vec(), ..genuine.clone() }, genuine]
    };
    numbers.iter().flat_map(pair).collect()
}

/// A callback of API v3 for a payment of v2, and the other way round.
fn mistype(number: &str) -> Result<Forged> {
    let place = number.rsplit('-').next().context("a number without a place")?;
    let id = Uuid::now_v7().to_string();
    let even = place.parse::<usize>()? % 2 == 0;
    let genuine = if even {
        Forged::genuine(&id, Callback::payment(number).body())
    } else {
        Forged::genuine(&id, &Event::payment(number))
    };
    let kind = if even { CallbackKind::V2Refund } else { CallbackKind::V2Payment };
    Ok(Forged { kind: kind.name().to_owned(), ..genuine })
}

fn huge() -> Vec<Forged> {
    let message = |_| Forged {
        id: Uuid::now_v7().to_string(),
        kind: CallbackKind::V2Payment.name().to_owned(),
        body: vec![b'x'; HUGE_BYTES],
        ..Forged::default()
    };
    (0..HUGE).map(message).collect()
}
