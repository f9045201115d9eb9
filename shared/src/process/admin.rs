//! The admin port: `/healthz` (the process is alive), `/readyz` (it can do its job right now), `/metrics` (Prometheus).
//!
//! It listens on an address of its own, which must not be reachable from outside.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::Server;
use actix_web::http::header::ContentType;
use actix_web::{App, HttpResponse, HttpServer, web};
use metrics_exporter_prometheus::PrometheusHandle;

/// How long `healthcheck` waits for a connection and then for an answer.
const HEALTHCHECK_TIMEOUT: Duration = Duration::from_secs(2);
/// The content type that Prometheus expects.
const METRICS_CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// `Err` with the reason while the program cannot do its job.
pub type Readiness = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// Serves the admin port on one thread. The caller spawns the server and stops it by its handle.
///
/// # Errors
/// The listener cannot be used.
pub fn serve(
    listener: TcpListener,
    metrics: PrometheusHandle,
    readiness: impl Fn() -> Result<(), String> + Send + Sync + 'static,
) -> io::Result<Server> {
    let metrics = web::Data::new(metrics);
    let readiness: Readiness = Arc::new(readiness);
    let readiness = web::Data::new(readiness);
    let app = move || {
        App::new()
            .app_data(metrics.clone())
            .app_data(readiness.clone())
            .route("/healthz", web::get().to(healthz))
            .route("/readyz", web::get().to(readyz))
            .route("/metrics", web::get().to(render))
    };
    Ok(HttpServer::new(app).workers(1).disable_signals().shutdown_timeout(1).listen(listener)?.run())
}

async fn healthz() -> HttpResponse {
    HttpResponse::Ok().content_type(ContentType::plaintext()).body("ok\n")
}

async fn readyz(readiness: web::Data<Readiness>) -> HttpResponse {
    match (readiness.get_ref())() {
        Ok(()) => HttpResponse::Ok().content_type(ContentType::plaintext()).body("ready\n"),
        Err(reason) => {
            HttpResponse::ServiceUnavailable().content_type(ContentType::plaintext()).body(format!("{reason}\n"))
        }
    }
}

async fn render(metrics: web::Data<PrometheusHandle>) -> HttpResponse {
    HttpResponse::Ok().content_type(METRICS_CONTENT_TYPE).body(metrics.render())
}

/// Asks the process behind the admin address for `/healthz`, for images that have no curl.
#[must_use]
pub fn healthcheck(addr: SocketAddr) -> ExitCode {
    match ask(reachable(addr)) {
        Ok(status) if status.starts_with("HTTP/1.1 200 ") => ExitCode::SUCCESS,
        Ok(status) => {
            eprintln!("{addr} answered {}", status.trim_end());
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("{addr}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The status line of the answer.
fn ask(addr: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&addr, HEALTHCHECK_TIMEOUT)?;
    stream.set_read_timeout(Some(HEALTHCHECK_TIMEOUT))?;
    stream.set_write_timeout(Some(HEALTHCHECK_TIMEOUT))?;
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut start = Vec::new();
    stream.take(64).read_to_end(&mut start)?;
    Ok(String::from_utf8_lossy(&start).lines().next().unwrap_or_default().to_owned())
}

/// A program that listens on all addresses is asked on loopback.
fn reachable(addr: SocketAddr) -> SocketAddr {
    let ip = match addr.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, addr.port())
}
