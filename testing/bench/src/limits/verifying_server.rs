//! Limit A of ingest: the same HTTP server takes, verifies and answers the same callbacks, and publishes nothing.

use std::net::SocketAddr;
use std::path::PathBuf;

use actix_web::web::{self, Bytes};
use actix_web::{App, HttpResponse, HttpServer};
use anyhow::Result;
use shared::merchants_file::{MerchantsFile, Program};
use shared::process::listener;
use shared::protocol::reply;
use shared::protocol::v2::payment;

/// Where it listens, and whose keys it has.
#[derive(Debug, clap::Args)]
pub struct Options {
    #[arg(long)]
    listen: SocketAddr,
    #[arg(long)]
    merchants: PathBuf,
}

/// Serves until it is killed.
pub async fn run(options: Options) -> Result<()> {
    let merchants = web::Data::new(MerchantsFile::open(options.merchants, Program::Ingest)?);
    let listener = listener::listen(options.listen)?;
    let server = HttpServer::new(move || {
        App::new().app_data(merchants.clone()).route("/wechatpay/v2/payment", web::post().to(take))
    });
    let server = server.client_request_timeout(ingest::HEAD_TIMEOUT).keep_alive(ingest::KEEP_ALIVE);
    Ok(server.listen(listener)?.run().await?)
}

async fn take(body: Bytes, merchants: web::Data<MerchantsFile>) -> HttpResponse {
    let keys = merchants.keys();
    match payment::authenticate(&body, keys.ring()) {
        Ok(_) => HttpResponse::Ok().content_type(reply::V2_CONTENT_TYPE).body(reply::V2_SUCCESS),
        Err(error) => HttpResponse::Unauthorized().body(error.to_string()),
    }
}
