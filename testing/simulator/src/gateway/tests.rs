//! The gateway against a fake ingest with scripted answers, over real sockets.

mod fake_ingest;

use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::Arc;
use std::time::Duration;

use chrono::DateTime;
use rand::SeedableRng;
use rand::rngs::StdRng;
use secrecy::SecretString;
use shared::protocol::keys::SignType;
use shared::protocol::reply;
use tokio::sync::Barrier;
use tokio::sync::{mpsc, oneshot};

use self::fake_ingest::{FakeIngest, Reply};
use super::{Hooks, Settings, Target, builder, send_all};
use crate::merchants::Merchant;
use crate::plan::{Api, Callback, Checkout, Claim, Forgery, Order, PayResult, PaymentClaim, Plan, Run};
use crate::progress::Counters;
use crate::request_log::{Answer, RequestLog};
use crate::scenarios::Scenario;

const LINES: usize = 8;

fn callback() -> Callback {
    let claim = Claim::Payment(PaymentClaim {
        result: PayResult::Success,
        transaction_id: "4200000000000000000000000001".to_owned(),
        sub_mch_id: None,
        app_id: "wx1",
        amount_minor: 100,
        currency: "CNY",
        paid_at: DateTime::UNIX_EPOCH,
    });
    Callback { order: 0, claim, forgery: None, copies: 1, repeats: 0, after: None }
}

fn plan(callbacks: Vec<Callback>, checkout: Checkout) -> Arc<Plan> {
    let order = Order {
        scenario: Scenario::Plain,
        mch_id: "1900000109".to_owned(),
        merchant: 0,
        out_trade_no: "SIM-1".to_owned(),
        sub_mch_id: None,
        app_id: None,
        amount_minor: 100,
        currency: "CNY",
        checkout,
        api: Api::V2,
        requested: Vec::new(),
    };
    let run = Run { prefix: "SIM-".to_owned(), serial: 1, started_at: DateTime::UNIX_EPOCH };
    Arc::new(Plan { run, orders: vec![order], callbacks })
}

struct Sent {
    log: RequestLog,
    late: Vec<usize>,
    half_reached: bool,
}

/// Sends `plan` with the schedule a million times as fast.
async fn send(plan: Arc<Plan>, target: Target) -> Sent {
    let merchant = Merchant {
        mch_id: "1900000109".to_owned(),
        key: SecretString::from("k"),
        sign_types: vec![SignType::Md5, SignType::HmacSha256],
        v3: None,
    };
    let built = builder::start(plan.clone(), vec![merchant], StdRng::seed_from_u64(1));
    let settings = Settings {
        targets: vec![target],
        connections: NonZeroUsize::new(LINES).unwrap(),
        rate: None,
        retry_compression: NonZeroU32::new(1_000_000).unwrap(),
    };
    let (late, mut late_orders) = mpsc::unbounded_channel();
    let (half, mut half_reached) = oneshot::channel();
    let hooks = Hooks { late, half, counters: Arc::new(Counters::default()) };
    let log = send_all(plan, built, &settings, hooks).await.unwrap();
    let late = std::iter::from_fn(|| late_orders.try_recv().ok()).collect();
    Sent { log, late, half_reached: half_reached.try_recv().is_ok() }
}

fn count(log: &RequestLog, answer: Answer) -> u64 {
    log.answers.get(&answer).copied().unwrap_or_default()
}

#[tokio::test]
async fn failures_are_repeated_with_the_same_bytes_until_success() {
    let ingest = FakeIngest::start(async |number, _| match number {
        0 => Reply::status(503),
        1 => Reply::ok("SUCCESS"),
        2 => Reply::Hangup,
        _ => Reply::ok(reply::V2_SUCCESS),
    })
    .await;
    let sent = send(plan(vec![callback()], Checkout::Pending), ingest.target()).await;
    for answer in [Answer::Status(503), Answer::OddBody, Answer::ConnectionLost, Answer::Success] {
        assert_eq!(count(&sent.log, answer), 1, "{answer:?}");
    }
    let record = &sent.log.records[0];
    assert_eq!((record.sent, record.accepted, record.unsure, record.rejected), (4, 1, 3, 0));
    let bodies = ingest.bodies();
    assert_eq!(bodies.len(), 4);
    assert!(bodies.iter().all(|body| *body == bodies[0]));
    assert!(sent.half_reached);
}

#[tokio::test]
async fn a_forger_tries_once() {
    let ingest = FakeIngest::start(async |_, _| Reply::status(401)).await;
    let forged = Callback { forgery: Some(Forgery::WrongKey), ..callback() };
    let sent = send(plan(vec![forged], Checkout::Pending), ingest.target()).await;
    assert_eq!(ingest.bodies().len(), 1);
    assert_eq!(sent.log.records[0].rejected, 1);
}

#[tokio::test]
async fn copies_arrive_at_the_same_instant_over_different_connections() {
    // No request is answered before all have arrived.
    let all_here = Arc::new(Barrier::new(LINES));
    let ingest = FakeIngest::start(move |_, _| {
        let all_here = all_here.clone();
        async move {
            all_here.wait().await;
            Reply::ok(reply::V2_SUCCESS)
        }
    })
    .await;
    let copies = Callback { copies: LINES, ..callback() };
    let sent = send(plan(vec![copies], Checkout::Pending), ingest.target()).await;
    assert_eq!(sent.log.records[0].accepted, 8);
}

#[tokio::test]
async fn repeats_and_what_was_held_back_come_after_success() {
    let ingest = FakeIngest::start(
        async |number, _| {
            if number == 0 { Reply::status(503) } else { Reply::ok(reply::V2_SUCCESS) }
        },
    )
    .await;
    let first = Callback { repeats: 2, ..callback() };
    let held = Callback { after: Some(0), ..callback() };
    let sent = send(plan(vec![first, held], Checkout::Pending), ingest.target()).await;
    assert_eq!(sent.log.records[0].accepted, 3);
    assert_eq!(sent.log.records[1].accepted, 1);
    let bodies = ingest.bodies();
    assert_eq!(bodies[0], bodies[1], "the failed one is repeated before anything else is sent");
}

#[tokio::test]
async fn a_kept_connection_that_ended_meanwhile_is_no_failure() {
    let ingest = FakeIngest::start(async |_, _| Reply::OkThenHangup).await;
    let repeated = Callback { repeats: 15, ..callback() };
    let sent = send(plan(vec![repeated], Checkout::Pending), ingest.target()).await;
    // A request may still cross with the hang-up on the wire; it must not be all of them.
    let lost = count(&sent.log, Answer::ConnectionLost);
    assert_eq!(count(&sent.log, Answer::Success) + lost, 16);
    assert!(lost < 8, "{lost} lost");
}

#[tokio::test]
async fn wechat_pay_gives_up_at_the_end_of_its_schedule() {
    let ingest = FakeIngest::start(async |_, _| Reply::status(503)).await;
    let held = Callback { after: Some(0), ..callback() };
    let sent = send(plan(vec![callback(), held], Checkout::Pending), ingest.target()).await;
    assert_eq!(count(&sent.log, Answer::Status(503)), 16);
    assert!(sent.log.records[0].given_up);
    assert_eq!(sent.log.records[1].sent, 0);
}

#[tokio::test]
async fn an_unreachable_server_leaves_no_doubt() {
    let target = FakeIngest::start(async |_, _| Reply::Hangup).await.target_of_nobody().await;
    let started = tokio::time::Instant::now();
    let sent = send(plan(vec![callback()], Checkout::Pending), target).await;
    assert_eq!(count(&sent.log, Answer::Unreachable), 16);
    assert_eq!(sent.log.records[0].unsure, 0);
    assert!(started.elapsed() > Duration::from_millis(500), "a dead ingest is not hammered");
}

#[tokio::test]
async fn the_shop_learns_once_of_each_callback_that_overtook_its_order() {
    let ingest = FakeIngest::start(
        async |number, _| {
            if number == 0 { Reply::status(503) } else { Reply::ok(reply::V2_SUCCESS) }
        },
    )
    .await;
    let sent = send(plan(vec![callback()], Checkout::Late), ingest.target()).await;
    assert_eq!(sent.late, [0]);
}
