//! Takes WeChat Pay's callbacks: prove authentic → publish → reply. SUCCESS is said only once the broker has confirmed
//! and routed that very callback; anything else is a failure reply within 4 s, and WeChat Pay sends it again.
//!
//! Reading order: [`config`], [`app`] (what a process owns, and the routes), [`callbacks`] (what happens to one), `reading`
//! (how much is read at once), `authenticate` (whether it is WeChat Pay's), [`outcome`] (how it can end), `refusal` (what an
//! operator hears of it), `allowance` (how often, at most), `meters`, `server` and `connection` (the public port).
//! Left out on purpose: a database, and any memory of earlier callbacks. Every process is like every other.

use std::future::Future;
use std::net::TcpListener;
use std::time::Duration;

use actix_web::dev::{Server, ServerHandle};
use actix_web::web;
use anyhow::Context;
use shared::merchants_file::MerchantsFile;
use shared::process::{self, admin, telemetry};
use tokio::task::JoinHandle;

use crate::app::App;
use crate::config::Config;
use crate::server::Capacity;

mod allowance;
pub mod app;
mod authenticate;
pub mod callbacks;
pub mod config;
mod connection;
mod meters;
pub mod outcome;
mod reading;
mod refusal;
mod server;

/// How long a client may take over a request's head, from its first byte.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(4);
/// How long an idle connection is kept: longer than the proxies in front keep theirs (nginx: 60 s), so that none of them
/// sends a callback into a connection that is just being closed here.
pub const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// How long requests may take to finish once no new ones come; none takes longer than
/// [`callbacks::REQUEST_DEADLINE`].
const DRAIN_SECONDS: u64 = 5;
/// How long stopping may take altogether, after the grace.
const STOP_TIMEOUT: Duration = Duration::from_secs(12);

/// Serves until `shutdown` resolves, then stops in order: readiness off, a grace, no new connections, every request that
/// waits for a confirm gets its answer, goodbye to the broker.
///
/// # Errors
/// A listener cannot be served, or a server ended by itself.
pub async fn run(
    listener: TcpListener,
    admin_listener: TcpListener,
    config: &Config,
    merchants: MerchantsFile,
    shutdown: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let capacity = Capacity::within(process::open_files_max())?;
    let metrics = telemetry::init_metrics().context("metrics cannot be recorded")?;
    let app = web::Data::new(App::start(config, merchants));
    let reloading = tokio::spawn(app.merchants.clone().reload_on_hangup().context("SIGHUP cannot be listened for")?);
    let readiness = app.clone();
    let admin = admin::serve(admin_listener, metrics, move || readiness.readiness()).context("the admin port")?;
    let (admin, _admin_task) = spawn(admin);
    let (server, mut server_task) = spawn(server::serve(listener, app.clone(), capacity).context("the public port")?);
    tracing::info!(addr = %config.ingest_addr, connections_max = capacity.connections(), "taking callbacks");

    tokio::select! {
        () = shutdown => {}
        ended = &mut server_task => {
            ended.context("the server panicked")?.context("the server failed")?;
            anyhow::bail!("the server ended by itself");
        }
    }

    tracing::info!(grace = ?config.readiness_grace(), "stopping");
    app.stop();
    tokio::time::sleep(config.readiness_grace()).await;
    let stopping = async {
        server.stop(true).await;
        app.close().await;
        admin.stop(true).await;
    };
    if tokio::time::timeout(STOP_TIMEOUT, stopping).await.is_err() {
        tracing::warn!("not everything was finished within {STOP_TIMEOUT:?}; who was not answered sends it again");
    }
    reloading.abort();
    tracing::info!("stopped");
    Ok(())
}

fn spawn(server: Server) -> (ServerHandle, JoinHandle<std::io::Result<()>>) {
    (server.handle(), tokio::spawn(server))
}
