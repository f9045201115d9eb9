//! What one would write instead: the callback is verified, applied in a transaction of its own, and answered after the
//! commit. It keeps the same tables: order, ledger and outbox. Kept small and honest: prepared statements, one round trip
//! for everything that may go together, as many connections as do it good.

use std::net::SocketAddr;
use std::path::PathBuf;

use actix_web::web::{self, Bytes};
use actix_web::{App, HttpResponse, HttpServer};
use anyhow::{Context, Result, ensure};
use serde_json::json;
use shared::domain::notification::{Notification, PaymentResult};
use shared::listener;
use shared::merchants_file::MerchantsFile;
use shared::protocol::merchants::Side;
use shared::protocol::reply;
use shared::protocol::v2::payment;
use tokio::sync::{Mutex, mpsc};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, NoTls, Statement};
use url::Url;
use uuid::Uuid;

/// Where it listens, its database and whose keys it has.
#[derive(Debug, clap::Args)]
pub struct Options {
    #[arg(long)]
    listen: SocketAddr,
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    database: Url,
    #[arg(long)]
    merchants: PathBuf,
    /// Database sessions of each of the server's threads
    #[arg(long)]
    sessions: usize,
}

/// A connection with its statements.
struct Session {
    client: Client,
    lock: Statement,
    pay: Statement,
    note: Statement,
    tell: Statement,
}

/// The connections of one of the server's threads that are free.
struct Pool {
    free: Mutex<mpsc::UnboundedReceiver<Session>>,
    give_back: mpsc::UnboundedSender<Session>,
}

impl Pool {
    async fn open(database: Url, sessions: usize) -> Result<Self> {
        let (give_back, free) = mpsc::unbounded_channel();
        for _ in 0..sessions {
            give_back.send(Session::open(&database).await?).ok().context("the pool is closed")?;
        }
        Ok(Self { free: Mutex::new(free), give_back })
    }
}

/// Serves until it is killed.
///
/// # Errors
/// It cannot listen, or has no database or keys.
pub async fn run(options: Options) -> Result<()> {
    let merchants = web::Data::new(MerchantsFile::open(options.merchants, Side::Edge)?);
    let listener = listener::listen(options.listen)?;
    let (database, sessions) = (options.database, options.sessions);
    let server = HttpServer::new(move || {
        let database = database.clone();
        // Each thread drives its own connections, as ingest and worker do: nothing is handed from thread to thread.
        App::new()
            .app_data(merchants.clone())
            .data_factory(move || Pool::open(database.clone(), sessions))
            .route("/wechatpay/v2/payment", web::post().to(take))
    });
    let server = server.client_request_timeout(ingest::HEAD_TIMEOUT).keep_alive(ingest::KEEP_ALIVE);
    Ok(server.listen(listener)?.run().await?)
}

async fn take(body: Bytes, merchants: web::Data<MerchantsFile>, pool: web::Data<Pool>) -> HttpResponse {
    let notification = {
        let keys = merchants.keys();
        let Ok(payment) = payment::authenticate(&body, &keys) else { return HttpResponse::Unauthorized().finish() };
        let Ok(fields) = payment.content.unambiguous() else { return HttpResponse::BadRequest().finish() };
        payment::decode(&fields, payment.merchant).ok().and_then(|mut parts| parts.pop())
    };
    let Some(Ok(Notification::Payment(payment))) = notification else { return HttpResponse::BadRequest().finish() };
    let PaymentResult::Success(success) = payment.result else { return HttpResponse::Ok().body(reply::V2_SUCCESS) };
    let Some(number) = payment.out_trade_no else { return HttpResponse::BadRequest().finish() };

    let Some(session) = pool.free.lock().await.recv().await else { return HttpResponse::ServiceUnavailable().finish() };
    let paid = Paid {
        mch_id: payment.mch_id.as_str(),
        out_trade_no: number.as_str(),
        transaction_id: success.transaction_id.as_str(),
        amount_minor: success.total.amount_minor,
        body: &body,
    };
    let applied = session.apply(&paid).await;
    // A broken connection would be replaced here: nothing breaks one in this comparison.
    drop(pool.give_back.send(session));
    match applied {
        Ok(()) => HttpResponse::Ok().content_type(reply::V2_CONTENT_TYPE).body(reply::V2_SUCCESS),
        Err(error) => HttpResponse::ServiceUnavailable().body(error.to_string()),
    }
}

struct Paid<'a> {
    mch_id: &'a str,
    out_trade_no: &'a str,
    transaction_id: &'a str,
    amount_minor: i64,
    body: &'a [u8],
}

impl Session {
    async fn open(database: &Url) -> Result<Self> {
        let (client, connection) = tokio_postgres::connect(database.as_str(), NoTls).await?;
        tokio::spawn(connection);
        let lock =
            "SELECT id, amount_minor, state FROM orders WHERE mch_id = $1 AND out_trade_no = $2 FOR NO KEY UPDATE";
        let pay = "UPDATE orders SET state = 'paid', transaction_id = $2, paid_at = now(), version = version + 1, \
                   updated_at = now() WHERE id = $1";
        let note = "INSERT INTO notifications (id, received_at, kind, mch_id, out_trade_no, transaction_id, outcome, \
                    handled_at, body, headers) VALUES ($1, now(), 'payment', $2, $3, $4, $5, now(), $6, \
                    '{\"type\": \"wechatpay.v2.payment\", \"mch-id\": \"1900000109\", \"content-type\": \"text/xml\"}')";
        let tell =
            "INSERT INTO order_events (id, type, order_id, payload) VALUES ($1, 'order.paid', $2, $3::text::jsonb)";
        Ok(Self {
            lock: client.prepare(lock).await?,
            pay: client.prepare(pay).await?,
            note: client.prepare(note).await?,
            tell: client.prepare(tell).await?,
            client,
        })
    }

    async fn apply(&self, paid: &Paid<'_>) -> Result<()> {
        let Self { client, lock, pay, note, tell } = self;
        // Two round trips: what is sent together costs one.
        let (begun, order) = tokio::join!(client.batch_execute("BEGIN"), async {
            client.query_one(lock, &[&paid.mch_id, &paid.out_trade_no]).await
        },);
        begun?;
        let applied = async {
            let order = order?;
            let (id, amount, state): (i64, i64, String) = (order.try_get(0)?, order.try_get(1)?, order.try_get(2)?);
            ensure!(amount == paid.amount_minor, "another amount");
            let is_new = state == "pending";
            let (id_of_note, id_of_event) = (Uuid::now_v7(), Uuid::now_v7());
            let outcome = if is_new { "applied" } else { "duplicate" };
            let event = json!({
                "event_id": id_of_event, "type": "order.paid", "order_id": id, "mch_id": paid.mch_id,
                "out_trade_no": paid.out_trade_no, "transaction_id": paid.transaction_id, "amount_minor": amount,
                "currency": "CNY", "version": 1, "paid_at": "2026-11-23T02:15:30Z",
            });
            let event = event.to_string();
            let row: [&(dyn ToSql + Sync); 6] =
                [&id_of_note, &paid.mch_id, &paid.out_trade_no, &paid.transaction_id, &outcome, &paid.body];
            // Sent in this order; after a statement that failed COMMIT rolls back.
            let (changed, noted, told, committed) = tokio::join!(
                biased;
                async { if is_new { client.execute(pay, &[&id, &paid.transaction_id]).await } else { Ok(0) } },
                client.execute(note, &row),
                async { if is_new { client.execute(tell, &[&id_of_event, &id, &event]).await } else { Ok(0) } },
                client.batch_execute("COMMIT"),
            );
            changed?;
            noted?;
            told?;
            Ok(committed?)
        };
        let applied = applied.await;
        if applied.is_err() {
            // Nothing happens when COMMIT has ended the transaction already.
            client.batch_execute("ROLLBACK").await?;
        }
        applied
    }
}
