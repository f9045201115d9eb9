//! The whole process: start, serve, stop in order. The public port is actix's HTTP/1 on sockets that have a deadline for
//! every request head.

use std::future::Future;
use std::net::TcpListener;
use std::rc::Rc;
use std::time::Duration;

use actix_http::{ConnectionType, HttpService, Protocol};
use actix_service::{IntoServiceFactory, ServiceFactoryExt, map_config};
use actix_web::dev::{AppConfig, Extensions, Server, ServerHandle, Service, fn_service};
use actix_web::http::header::{ALLOW, ContentType};
use actix_web::{HttpRequest, HttpResponse, Route, web};
use anyhow::Context;
use shared::merchants_file::MerchantsFile;
use shared::process::{self, admin, telemetry};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::capacity::Capacity;
use crate::config::Config;
use crate::connection::{Connection, HEAD_TIMEOUT, Heads, is_chunked};
use crate::refusal::log_unknown;
use crate::state::App;
use crate::{addresses, callbacks};

/// How long an idle connection is kept: longer than the proxies in front keep theirs (nginx: 60 s), so that no proxy sends a
/// callback into a connection that is just being closed here.
pub const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// How long a connection may take to close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// How long requests may take to finish once no new ones are accepted; none takes longer than `REQUEST_DEADLINE`.
const DRAIN_SECONDS: u64 = 5;
/// How long stopping may take in total, after the grace.
const STOP_TIMEOUT: Duration = Duration::from_secs(12);

/// Serves until `shutdown` resolves, then stops in order: readiness off, a grace, no new connections, a reply for every
/// request that waits for a confirm, the connection to the broker closed.
///
/// # Errors
/// A listener cannot be served, or a server stopped unexpectedly.
pub async fn run(
    listener: TcpListener,
    admin_listener: TcpListener,
    config: &Config,
    merchants: MerchantsFile,
    shutdown: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let capacity = Capacity::within(process::open_files_max())?;
    let metrics = telemetry::init_metrics().context("cannot record metrics")?;
    let app = web::Data::new(App::start(config, merchants));
    let reloading = tokio::spawn(app.merchants.clone().reload_on_hangup().context("cannot listen for SIGHUP")?);
    let readiness = app.clone();
    let admin = admin::serve(admin_listener, metrics, move || readiness.readiness()).context("the admin port")?;
    let (admin, _admin_task) = spawn(admin);
    let (server, mut server_task) = spawn(serve(listener, app.clone(), capacity).context("the public port")?);
    tracing::info!(addr = %config.ingest_addr, connections_max = capacity.connections(), "accepting callbacks");

    tokio::select! {
        () = shutdown => {}
        ended = &mut server_task => {
            ended.context("the server panicked")?.context("the server failed")?;
            anyhow::bail!("the server stopped unexpectedly");
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
        tracing::warn!("shutdown timed out after {STOP_TIMEOUT:?}; WeChat Pay will resend unanswered callbacks");
    }
    reloading.abort();
    tracing::info!("stopped");
    Ok(())
}

fn spawn(server: Server) -> (ServerHandle, JoinHandle<std::io::Result<()>>) {
    (server.handle(), tokio::spawn(server))
}

/// actix has a runtime of its own in every thread; the publisher stays on the caller's.
fn serve(listener: TcpListener, app: web::Data<App>, capacity: Capacity) -> std::io::Result<Server> {
    let server = Server::build()
        .workers(capacity.threads)
        .max_concurrent_connections(capacity.connections_per_thread)
        .disable_signals()
        .shutdown_timeout(DRAIN_SECONDS);
    let draining = server.graceful_shutdown_signal();
    let server = server.listen("callbacks", listener, move || {
        let draining = draining.clone();
        let app = actix_web::App::new().app_data(app.clone()).configure(routes).wrap_fn(|request, next| {
            let heads = request.conn_data::<Rc<Heads>>().cloned();
            let is_chunked = is_chunked(request.head());
            if let Some(heads) = &heads {
                heads.begin(request.head());
            }
            let answering = next.call(request);
            async move {
                let mut answered = answering.await;
                if let (Ok(response), true) = (&mut answered, is_chunked) {
                    response.response_mut().head_mut().set_connection_type(ConnectionType::Close);
                }
                if let Some(heads) = &heads {
                    heads.end();
                }
                answered
            }
        });
        let http = HttpService::build()
            .graceful_shutdown_signal(move || {
                let draining = draining.clone();
                async move { draining.notified().await }
            })
            .client_request_timeout(HEAD_TIMEOUT)
            .client_disconnect_timeout(CLOSE_TIMEOUT)
            .keep_alive(KEEP_ALIVE)
            .on_connect_ext(|connection: &Connection, data: &mut Extensions| {
                data.insert(connection.heads());
            })
            .finish(map_config(app.into_factory().map_err(|error: actix_web::Error| error.error_response()), |()| {
                AppConfig::default()
            }));
        fn_service(|stream: TcpStream| async {
            let peer = stream.peer_addr().ok();
            Ok((Connection::new(stream), Protocol::Http1, peer))
        })
        .and_then(http)
    })?;
    Ok(server.run())
}

/// The public routes, each also with a trailing slash. Any other path is a 404, and any other method on a route a 405.
fn routes(config: &mut web::ServiceConfig) {
    let with_slash = |path: &str| [path.to_owned(), format!("{path}/")];
    let route =
        |path, route: Route| web::resource(with_slash(path)).route(route).default_service(web::to(wrong_method));
    config
        .service(route(addresses::V2_PAYMENT, web::post().to(callbacks::v2_payment)))
        .service(route(addresses::V2_REFUND, web::post().to(callbacks::v2_refund)))
        .service(route(addresses::V3, web::post().to(callbacks::v3)))
        .default_service(web::to(unknown_path));
}

async fn unknown_path(request: HttpRequest, app: web::Data<App>) -> HttpResponse {
    app.meters.unknown_path.increment(1);
    log_unknown("unknown_path", request.path(), &app.refusals);
    HttpResponse::NotFound().content_type(ContentType::plaintext()).body("not found\n")
}

async fn wrong_method(request: HttpRequest, app: web::Data<App>) -> HttpResponse {
    app.meters.wrong_method.increment(1);
    log_unknown("wrong_method", request.path(), &app.refusals);
    HttpResponse::MethodNotAllowed().insert_header((ALLOW, "POST")).finish()
}
