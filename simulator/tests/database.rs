//! The shop's SQL and the audit's, on a real database: what is there is found, and what is tampered with is noticed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use chrono::{DateTime, Utc};
use e2e::database::Database as Stage;
use e2e::servers::Servers;
use secrecy::SecretString;
use sha2::{Digest, Sha256};
use simulator::audit::{Rule, audit};
use simulator::book::{Answer, Book};
use simulator::checkout;
use simulator::database::Database;
use simulator::evidence::{self, Bounds, Standing};
use simulator::fulfilment::{Consumed, Event, Payload};
use simulator::plan::{Api, Callback, Checkout, Forgery, Order, PayResult, PaymentSays, Plan, Requested, Run, Says};
use simulator::scenarios::Scenario;
use tokio::sync::mpsc;

const MCH_ID: &str = "1900000109";
const PAID: usize = 0;
const REFUSED: usize = 1;
const UNKNOWN: usize = 2;
const FORGED: usize = 3;

fn order(index: usize, checkout: Checkout) -> Order {
    let asked = Requested { out_refund_no: "R".to_owned(), amount_minor: 7 };
    Order {
        scenario: Scenario::Plain,
        mch_id: MCH_ID.to_owned(),
        merchant: 0,
        out_trade_no: format!("SIM-{index}"),
        sub_mch_id: Some("1900000301"),
        app_id: None,
        amount_minor: 100,
        currency: "JPY",
        checkout,
        api: Api::V2,
        requested: if checkout == Checkout::Never { Vec::new() } else { vec![asked] },
    }
}

fn callback(order: usize, started_at: DateTime<Utc>) -> Callback {
    let says = Says::Payment(PaymentSays {
        result: PayResult::Success,
        transaction_id: format!("T{order}"),
        sub_mch_id: Some("1900000301"),
        app_id: "wx1",
        amount_minor: if order == REFUSED { 99 } else { 100 },
        currency: "JPY",
        paid_at: DateTime::from_timestamp(started_at.timestamp(), 0).unwrap_or_default(),
    });
    let forgery = (order == FORGED).then_some(Forgery::NoSign);
    Callback { order, says, forgery, copies: 1, repeats: 0, after: None }
}

/// A payment, a refusal, a callback for an order that never comes, and a forgery.
fn plan() -> Plan {
    let checkouts = [Checkout::Pending, Checkout::Pending, Checkout::Never, Checkout::Pending];
    #[expect(clippy::disallowed_methods, reason = "ids of ledger rows carry the real time")]
    let started_at = Utc::now();
    Plan {
        run: Run { prefix: "SIM-".to_owned(), serial: 1, started_at },
        orders: checkouts.into_iter().enumerate().map(|(index, checkout)| order(index, checkout)).collect(),
        callbacks: (0..4).map(|index| callback(index, started_at)).collect(),
    }
}

/// Stands for the bytes of a callback.
fn body(index: usize) -> Vec<u8> {
    format!("body {index}").into_bytes()
}

struct World {
    stage: Stage,
    shop: Database,
    bounds: Bounds,
    plan: Plan,
    book: Book,
    consumed: Consumed,
}

impl World {
    /// The shop is open and each callback was sent, answered and handled as it should be.
    async fn settled() -> Result<Self> {
        let stage = Stage::create(&Servers::from_environment()?).await?;
        let mut shop = Database::new(SecretString::from(stage.url().as_str()));
        let plan = plan();
        let bounds = Bounds::new(&plan.run, checkout::first_order_id(&mut shop).await?);
        checkout::open_shop(&mut shop, &plan).await?;
        let book = Book::new(plan.callbacks.len(), Instant::now())?;
        let mut world = Self { stage, shop, bounds, plan, book, consumed: Consumed::default() };
        for (index, record) in world.book.records.iter_mut().enumerate() {
            record.body_sha256 = Some(Sha256::digest(body(index)).into());
        }
        for index in [PAID, REFUSED, UNKNOWN, FORGED] {
            let answer = if index == FORGED { Answer::Status(401) } else { Answer::Success };
            world.book.note(index, answer, Duration::ZERO, Instant::now());
        }
        world.handle(PAID, "applied", None, None).await?;
        world.handle(REFUSED, "quarantined", Some("amount_mismatch"), Some("open")).await?;
        world.handle(UNKNOWN, "waiting", Some("for_order"), Some("waiting")).await?;
        world.pay().await?;
        Ok(world)
    }

    /// Writes what a worker would write for one message.
    async fn handle(&self, index: usize, outcome: &str, reason: Option<&str>, state: Option<&str>) -> Result<()> {
        let id = uuid::Uuid::now_v7();
        let (number, transaction) = (format!("SIM-{index}"), format!("T{index}"));
        self.stage
            .execute(
                "INSERT INTO notifications (id, received_at, kind, mch_id, out_trade_no, transaction_id, outcome,
                                            reason, handled_at, body, headers)
                 VALUES ($1, now(), 'payment', $2, $3, $4, $5, $6, now(), $7, '{}')",
                &[&id, &MCH_ID, &number, &transaction, &outcome, &reason, &body(index)],
            )
            .await?;
        if let Some(state) = state {
            self.stage
                .execute(
                    "INSERT INTO quarantine (notification_id, notification_received_at, mch_id, out_trade_no, reason,
                                             state, waits_until, opened_at)
                     VALUES ($1, now(), $2, $3, $4, $5, now(), now())",
                    &[&id, &MCH_ID, &number, &reason, &state],
                )
                .await?;
        }
        Ok(())
    }

    async fn pay(&mut self) -> Result<()> {
        let paid_at = self.plan.callbacks.first().and_then(|callback| callback.says.payment()).map(|says| says.paid_at);
        let row = self
            .stage
            .query_one(
                "UPDATE orders SET state = 'paid', transaction_id = 'T0', paid_at = $1, version = 1
                 WHERE out_trade_no = 'SIM-0' RETURNING id",
                &[&paid_at],
            )
            .await?;
        let says = Payload {
            event_id: "event".to_owned(),
            kind: "order.paid".to_owned(),
            order_id: row.get(0),
            version: 1,
            mch_id: MCH_ID.to_owned(),
            out_trade_no: "SIM-0".to_owned(),
            transaction_id: Some("T0".to_owned()),
            amount_minor: Some(100),
            currency: Some("JPY".to_owned()),
            refunded_minor: None,
            out_refund_no: None,
            refund_id: None,
            refund_amount_minor: None,
        };
        let event = Event { id: "event".to_owned(), says, consumed_at: Instant::now() };
        self.consumed.events.insert(event.id.clone(), event);
        Ok(())
    }

    /// The rules that are broken.
    async fn broken(&mut self) -> Result<Vec<Rule>> {
        let found = evidence::collect(self.shop.client().await?, &self.bounds).await?;
        let findings = audit(&self.plan, &self.book, &found, &self.consumed);
        Ok(Rule::ALL.into_iter().filter(|rule| findings.count(*rule) > 0).collect())
    }
}

#[tokio::test]
async fn a_settled_run_breaks_no_rule_and_its_standing_is_known() -> Result<()> {
    let mut world = World::settled().await?;
    assert_eq!(world.broken().await?, []);

    let client = world.shop.client().await?;
    let statement = evidence::prepare_standing(client).await?;
    let standing = evidence::standing(client, &statement, &world.bounds).await?;
    assert_eq!(standing, Standing { handled: 3, applied: 1, healable: 0 });
    Ok(())
}

#[tokio::test]
async fn a_wait_whose_order_has_come_is_healable() -> Result<()> {
    let mut world = World::settled().await?;
    world
        .stage
        .batch_execute(
            "INSERT INTO orders (mch_id, out_trade_no, amount_minor, currency) VALUES ('1900000109', 'SIM-2', 1, 'CNY')",
        )
        .await?;
    let client = world.shop.client().await?;
    let statement = evidence::prepare_standing(client).await?;
    assert_eq!(evidence::standing(client, &statement, &world.bounds).await?.healable, 1);
    assert_eq!(world.broken().await?, [Rule::OrderState]);
    Ok(())
}

#[tokio::test]
async fn tampering_with_the_database_is_noticed() -> Result<()> {
    let tampers: [(&str, &[Rule]); 8] = [
        ("DELETE FROM notifications WHERE out_trade_no = 'SIM-1'", &[Rule::OneRowEach, Rule::Quarantine]),
        ("UPDATE notifications SET body = 'x' WHERE out_trade_no = 'SIM-2'", &[Rule::OneRowEach, Rule::UnknownBody]),
        ("UPDATE notifications SET outcome = 'duplicate' WHERE out_trade_no = 'SIM-0'", &[Rule::Outcome]),
        ("UPDATE orders SET version = 2 WHERE out_trade_no = 'SIM-0'", &[Rule::OrderState, Rule::EventContent]),
        ("UPDATE orders SET amount_minor = 99 WHERE out_trade_no = 'SIM-1'", &[Rule::OrderState]),
        (
            "DELETE FROM refunds WHERE order_id = (SELECT id FROM orders WHERE out_trade_no = 'SIM-3');
             DELETE FROM orders WHERE out_trade_no = 'SIM-3'",
            &[Rule::OrderState, Rule::RefundState],
        ),
        ("UPDATE quarantine SET reason = 'paid_twice' WHERE out_trade_no = 'SIM-1'", &[Rule::Quarantine]),
        (
            "INSERT INTO order_events (id, type, order_id, payload) SELECT gen_random_uuid(), 'order.paid', id, '{}'
             FROM orders WHERE out_trade_no = 'SIM-0'",
            &[Rule::Outbox],
        ),
    ];
    for (tamper, rules) in tampers {
        let mut world = World::settled().await?;
        world.stage.batch_execute(tamper).await.with_context(|| tamper)?;
        assert_eq!(world.broken().await?, rules, "{tamper}");
    }
    Ok(())
}

#[tokio::test]
async fn a_late_order_is_written_two_seconds_after_it_was_asked_for() -> Result<()> {
    let mut world = World::settled().await?;
    let mut plan = world.plan.clone();
    plan.orders.push(order(4, Checkout::Late));
    let (sender, indexes) = mpsc::unbounded_channel();
    sender.send(4)?;
    drop(sender);
    let asked_at = Instant::now();
    let shop = Database::new(SecretString::from(world.stage.url().as_str()));
    checkout::write_late_orders(shop, Arc::new(plan), indexes).await?;
    assert!(asked_at.elapsed() >= Duration::from_secs(2));
    let found = evidence::collect(world.shop.client().await?, &world.bounds).await?;
    assert!(found.orders.iter().any(|order| order.out_trade_no == "SIM-4" && order.state == "pending"));
    Ok(())
}
