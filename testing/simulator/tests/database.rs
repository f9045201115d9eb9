//! The shop's SQL and the audit's, on a real database: what is there is found, and what is tampered with is noticed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use chrono::{DateTime, Utc};
use kit::database::Database as TestDatabase;
use kit::servers::Servers;
use secrecy::SecretString;
use sha2::{Digest, Sha256};
use simulator::audit::{Violation, audit};
use simulator::checkout;
use simulator::database::Database;
use simulator::fulfilment::{Consumed, Event, Payload};
use simulator::plan::{Api, Callback, Checkout, Claim, Forgery, Order, PayResult, PaymentClaim, Plan, Requested, Run};
use simulator::request_log::{Answer, RequestLog};
use simulator::scenarios::Scenario;
use simulator::snapshot::{self, Bounds, Standing};
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
    let claim = Claim::Payment(PaymentClaim {
        result: PayResult::Success,
        transaction_id: format!("T{order}"),
        sub_mch_id: Some("1900000301"),
        app_id: "wx1",
        amount_minor: if order == REFUSED { 99 } else { 100 },
        currency: "JPY",
        paid_at: DateTime::from_timestamp(started_at.timestamp(), 0).unwrap_or_default(),
    });
    let forgery = (order == FORGED).then_some(Forgery::NoSign);
    Callback { order, claim, forgery, copies: 1, repeats: 0, after: None }
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
    stage: TestDatabase,
    shop: Database,
    bounds: Bounds,
    plan: Plan,
    log: RequestLog,
    consumed: Consumed,
}

impl World {
    /// The shop is open and each callback was sent, answered and handled as it should be.
    async fn settled() -> Result<Self> {
        let stage = TestDatabase::create(&Servers::from_environment()?).await?;
        let mut shop = Database::new(SecretString::from(stage.url().as_str()));
        let plan = plan();
        let bounds = Bounds::new(&plan.run, checkout::first_order_id(&mut shop).await?);
        checkout::open_shop(&mut shop, &plan).await?;
        let log = RequestLog::new(plan.callbacks.len(), Instant::now());
        let mut world = Self { stage, shop, bounds, plan, log, consumed: Consumed::default() };
        for (index, record) in world.log.records.iter_mut().enumerate() {
            record.body_sha256 = Some(Sha256::digest(body(index)).into());
        }
        for index in [PAID, REFUSED, UNKNOWN, FORGED] {
            let answer = if index == FORGED { Answer::Status(401) } else { Answer::Success };
            world.log.note(index, answer, Duration::ZERO, Instant::now());
        }
        world.handle(PAID, "applied", None, None).await?;
        world.handle(REFUSED, "quarantined", Some("amount_mismatch"), Some("open")).await?;
        world.handle(UNKNOWN, "waiting", Some("for_order"), Some("waiting")).await?;
        Ok(world)
    }

    /// Writes what a worker would write for one message, and consumes the event that it would publish.
    async fn handle(&mut self, index: usize, outcome: &str, reason: Option<&str>, state: Option<&str>) -> Result<()> {
        let id = uuid::Uuid::now_v7();
        let (number, transaction) = (format!("SIM-{index}"), format!("T{index}"));
        let kind = match index {
            PAID => Some("order.paid"),
            REFUSED => Some("payment.refused"),
            _ => None,
        };
        let event_id = kind.map(|_| uuid::Uuid::now_v7());
        self.stage
            .execute(
                "INSERT INTO notifications (id, received_at, kind, mch_id, sub_mch_id, out_trade_no, transaction_id,
                     key_fingerprint, outcome, reason, seen_version, seen_state, seen_amount_minor, seen_currency,
                     event_id, event_type, event_version, handled_at, body, headers)
                 SELECT $1::uuid, now(), 'payment', $2, '1900000301', $3, $4, 'v2-1', $5, $6, orders.version, orders.state,
                     orders.amount_minor, orders.currency, $8::uuid, $9, CASE WHEN $8::uuid IS NOT NULL THEN 1 END, now(),
                     $7::bytea, '{}'
                 FROM (SELECT 1) AS always LEFT JOIN orders ON out_trade_no = $3",
                &[&id, &MCH_ID, &number, &transaction, &outcome, &reason, &body(index), &event_id, &kind],
            )
            .await?;
        if let Some(state) = state {
            self.stage
                .execute(
                    "INSERT INTO quarantine (notification_id, notification_received_at, mch_id, sub_mch_id, out_trade_no,
                                             transaction_id, reason, state, waits_until, opened_at)
                     VALUES ($1, now(), $2, '1900000301', $3, $4, $5, $6, now(), now())",
                    &[&id, &MCH_ID, &number, &transaction, &reason, &state],
                )
                .await?;
        }
        let Some((kind, event_id)) = kind.zip(event_id) else { return Ok(()) };
        self.record(index, id).await?;
        self.consume(index, kind, event_id).await
    }

    /// The payment is on record, and its order counts it.
    async fn record(&self, index: usize, brought_by: uuid::Uuid) -> Result<()> {
        let claim =
            self.plan.callbacks.get(index).and_then(|callback| callback.claim.payment()).context("a payment")?;
        let disposition = if index == PAID { "accepted" } else { "refused" };
        self.stage
            .execute(
                "INSERT INTO payments (order_id, mch_id, transaction_id, amount_minor, currency, paid_at, disposition,
                                       notification_id, notification_received_at, notification_part)
                 SELECT id, mch_id, $2, $3::bigint, 'JPY', $4::timestamptz, $5, $6::uuid, now(), 0 FROM orders WHERE out_trade_no = $1",
                &[
                    &format!("SIM-{index}"),
                    &claim.transaction_id,
                    &claim.amount_minor,
                    &claim.paid_at,
                    &disposition,
                    &brought_by,
                ],
            )
            .await?;
        let count = "UPDATE orders SET version = 1 WHERE out_trade_no = $1";
        let pay = "UPDATE orders SET state = 'paid', transaction_id = 'T0', paid_at = $2 WHERE out_trade_no = $1";
        let number = format!("SIM-{index}");
        self.stage.execute(count, &[&number]).await?;
        if index == PAID {
            self.stage.execute(pay, &[&number, &claim.paid_at]).await?;
        }
        Ok(())
    }

    async fn consume(&mut self, index: usize, kind: &str, event_id: uuid::Uuid) -> Result<()> {
        let claim =
            self.plan.callbacks.get(index).and_then(|callback| callback.claim.payment()).context("a payment")?;
        let select = "SELECT id FROM orders WHERE out_trade_no = $1";
        let row = self.stage.query_one(select, &[&format!("SIM-{index}")]).await?;
        let refused = (index == REFUSED).then_some(claim);
        let payload = Payload {
            event_id: event_id.to_string(),
            kind: kind.to_owned(),
            order_id: row.get(0),
            version: 1,
            mch_id: MCH_ID.to_owned(),
            sub_mch_id: Some("1900000301".to_owned()),
            out_trade_no: format!("SIM-{index}"),
            transaction_id: Some(claim.transaction_id.clone()),
            amount_minor: Some(100),
            currency: Some("JPY".to_owned()),
            paid_at: Some(claim.paid_at),
            reason: refused.map(|_| "amount_mismatch".to_owned()),
            payment_amount_minor: refused.map(|claim| claim.amount_minor),
            payment_currency: refused.map(|claim| claim.currency.to_owned()),
            payment_returned_minor: None,
            refunded_minor: None,
            out_refund_no: None,
            refund_id: None,
            refund_amount_minor: None,
        };
        let event = Event { id: payload.event_id.clone(), payload, consumed_at: Instant::now() };
        self.consumed.events.insert(event.id.clone(), event);
        Ok(())
    }

    /// Held callbacks whose cause is gone.
    async fn healable(&mut self) -> Result<u64> {
        let client = self.shop.client().await?;
        let statement = snapshot::prepare_standing(client).await?;
        Ok(snapshot::standing(client, &statement, &self.bounds).await?.healable)
    }

    async fn broken(&mut self) -> Result<Vec<Violation>> {
        let found = snapshot::collect(self.shop.client().await?, &self.bounds).await?;
        let findings = audit(&self.plan, &self.log, &found, &self.consumed);
        Ok(Violation::ALL.into_iter().filter(|violation| findings.count(*violation) > 0).collect())
    }
}

#[tokio::test]
async fn a_settled_run_breaks_no_rule_and_its_standing_is_known() -> Result<()> {
    let mut world = World::settled().await?;
    assert_eq!(world.broken().await?, []);

    let client = world.shop.client().await?;
    let statement = snapshot::prepare_standing(client).await?;
    let standing = snapshot::standing(client, &statement, &world.bounds).await?;
    assert_eq!(standing, Standing { handled: 3, applied: 1, caused: 2, healable: 0 });
    Ok(())
}

#[tokio::test]
async fn a_wait_whose_order_has_come_is_healable() -> Result<()> {
    let mut world = World::settled().await?;
    world
        .stage
        .batch_execute(
            "INSERT INTO orders (mch_id, sub_mch_id, out_trade_no, amount_minor, currency) VALUES
                 ('1900000109', '1900000301', 'SIM-2', 1, 'CNY')",
        )
        .await?;
    assert_eq!(world.healable().await?, 1);
    assert_eq!(world.broken().await?, [Violation::WrongOrderState]);
    Ok(())
}

#[tokio::test]
async fn a_wait_for_a_payment_is_healable_once_that_payment_is_on_record() -> Result<()> {
    let mut world = World::settled().await?;
    world.stage.batch_execute("UPDATE quarantine SET reason = 'for_payment' WHERE state = 'waiting'").await?;
    assert_eq!(world.healable().await?, 0);
    world
        .stage
        .batch_execute(
            "INSERT INTO payments (order_id, mch_id, transaction_id, amount_minor, currency, paid_at, disposition)
             SELECT id, mch_id, 'T2', 100, 'JPY', now(), 'refused' FROM orders WHERE out_trade_no = 'SIM-3'",
        )
        .await?;
    assert_eq!(world.healable().await?, 1);
    Ok(())
}

#[tokio::test]
async fn a_refused_payment_that_has_gone_back_is_to_be_resolved() -> Result<()> {
    let mut world = World::settled().await?;
    let back =
        "UPDATE payments SET disposition = 'returned', returned_minor = amount_minor WHERE transaction_id = 'T1'";
    world.stage.batch_execute(back).await?;
    assert_eq!(world.healable().await?, 1);
    Ok(())
}

#[tokio::test]
async fn an_order_of_another_shop_heals_no_wait() -> Result<()> {
    let mut world = World::settled().await?;
    world
        .stage
        .batch_execute(
            "INSERT INTO orders (mch_id, out_trade_no, amount_minor, currency) VALUES ('1900000109', 'SIM-2', 1, 'CNY')",
        )
        .await?;
    assert_eq!(world.healable().await?, 0);
    Ok(())
}

#[tokio::test]
async fn tampering_with_the_database_is_noticed() -> Result<()> {
    let tampers: [(&str, &[Violation]); 11] = [
        (
            "DELETE FROM notifications WHERE out_trade_no = 'SIM-1'",
            &[
                Violation::WrongRowCount,
                Violation::WrongOutcome,
                Violation::WrongOrderState,
                Violation::WrongPaymentRecord,
                Violation::QuarantineMismatch,
                Violation::WrongEventContent,
                Violation::WrongCausedEvent,
            ],
        ),
        (
            "UPDATE notifications SET body = 'x' WHERE out_trade_no = 'SIM-2'",
            &[Violation::WrongRowCount, Violation::UnknownBody],
        ),
        (
            "UPDATE notifications SET outcome = 'duplicate' WHERE out_trade_no = 'SIM-0'",
            &[
                Violation::WrongOutcome,
                Violation::WrongOrderState,
                Violation::WrongPaymentRecord,
                Violation::WrongCausedEvent,
            ],
        ),
        (
            "UPDATE notifications SET event_version = 2 WHERE out_trade_no = 'SIM-0'",
            &[Violation::WrongCausedEvent, Violation::WrongDecisionBasis],
        ),
        (
            "UPDATE notifications SET seen_currency = 'CNY' WHERE out_trade_no = 'SIM-1'",
            &[Violation::WrongDecisionBasis],
        ),
        (
            "UPDATE orders SET version = 2 WHERE out_trade_no = 'SIM-0'",
            &[Violation::WrongOrderState, Violation::WrongEventVersions],
        ),
        (
            "UPDATE orders SET amount_minor = 99 WHERE out_trade_no = 'SIM-1'",
            &[Violation::WrongOrderState, Violation::WrongEventContent, Violation::WrongDecisionBasis],
        ),
        (
            "DELETE FROM refunds WHERE order_id = (SELECT id FROM orders WHERE out_trade_no = 'SIM-3');
             DELETE FROM orders WHERE out_trade_no = 'SIM-3'",
            &[Violation::WrongOrderState, Violation::WrongRefundState],
        ),
        ("UPDATE payments SET notification_id = NULL WHERE transaction_id = 'T1'", &[Violation::WrongPaymentRecord]),
        ("UPDATE quarantine SET reason = 'paid_twice' WHERE out_trade_no = 'SIM-1'", &[Violation::QuarantineMismatch]),
        (
            "INSERT INTO order_events (id, type, order_id, payload) SELECT gen_random_uuid(), 'order.paid', id, '{}'
             FROM orders WHERE out_trade_no = 'SIM-0'",
            &[Violation::OutboxNotEmpty],
        ),
    ];
    for (tamper, rules) in tampers {
        let mut world = World::settled().await?;
        // As one who can switch off the triggers that protect the facts.
        let statement = format!("SET session_replication_role = replica; {tamper}; RESET session_replication_role");
        world.stage.batch_execute(&statement).await.with_context(|| tamper)?;
        assert_eq!(world.broken().await?, rules, "{tamper}");
    }
    Ok(())
}

#[tokio::test]
async fn a_row_that_was_decided_again_still_names_the_event_that_it_caused() -> Result<()> {
    let mut world = World::settled().await?;
    let decided_again = "SET session_replication_role = replica;
        UPDATE notifications SET event_id = NULL, event_type = NULL, event_version = NULL, earlier = jsonb_build_array(
            jsonb_build_object('seen_version', seen_version, 'seen_state', seen_state, 'event_id', event_id,
                'seen_amount_minor', seen_amount_minor, 'seen_currency', seen_currency, 'event_type', event_type,
                'event_version', event_version))
        WHERE out_trade_no = 'SIM-1'; RESET session_replication_role";
    world.stage.batch_execute(decided_again).await?;
    assert_eq!(world.broken().await?, []);
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
    let found = snapshot::collect(world.shop.client().await?, &world.bounds).await?;
    assert!(found.orders.iter().any(|order| order.out_trade_no == "SIM-4" && order.state == "pending"));
    Ok(())
}
