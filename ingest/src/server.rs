//! The public port: actix's HTTP/1 behind sockets that have a deadline for every head, and no more of them than the process
//! has descriptors for.

use std::net::TcpListener;
use std::num::NonZero;
use std::rc::Rc;
use std::thread::available_parallelism;
use std::time::Duration;

use actix_http::{ConnectionType, HttpService, Protocol};
use actix_service::{IntoServiceFactory, ServiceFactoryExt, map_config};
use actix_web::dev::{AppConfig, Extensions, Server, Service, fn_service};
use actix_web::{App, web};
use shared::process::config::ConfigError;
use tokio::net::TcpStream;

use crate::app::{self, routes};
use crate::connection::{Connection, Heads, is_chunked};
use crate::{DRAIN_SECONDS, HEAD_TIMEOUT, KEEP_ALIVE};

/// How long a connection may take to close once it is to be closed.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// Descriptors that no public connection may take: the broker, the admin port and its clients, files, the runtime.
const DESCRIPTORS_RESERVED: u64 = 64;
/// What each thread that serves connections has open itself; measured as 4.
const DESCRIPTORS_PER_THREAD: u64 = 6;
/// The most connections of one thread, however many descriptors there are: at 40 KiB each they would have 1 GiB.
const CONNECTIONS_PER_THREAD_MAX: u64 = 25_000;

/// How many connections are served, and by how many threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Capacity {
    pub(crate) threads: usize,
    pub(crate) connections_per_thread: usize,
}

impl Capacity {
    /// As many as the process may have, with a reserve for everything else.
    ///
    /// # Errors
    /// The limit leaves no room for connections.
    pub(crate) fn within(descriptors: u64) -> Result<Self, ConfigError> {
        Self::of(descriptors, available_parallelism().map_or(1, NonZero::get))
    }

    fn of(descriptors: u64, threads: usize) -> Result<Self, ConfigError> {
        let count = u64::try_from(threads).unwrap_or(u64::MAX).max(1);
        let reserved = DESCRIPTORS_PER_THREAD.saturating_mul(count).saturating_add(DESCRIPTORS_RESERVED);
        let each = descriptors.saturating_sub(reserved).checked_div(count).unwrap_or_default();
        if each == 0 {
            let needed = reserved.saturating_add(count);
            let problem = format!("the limit of open files is {descriptors}, and ingest needs more than {needed}");
            return Err(ConfigError { variable: "RLIMIT_NOFILE", problem });
        }
        let each = usize::try_from(each.min(CONNECTIONS_PER_THREAD_MAX)).unwrap_or(usize::MAX);
        Ok(Self { threads, connections_per_thread: each })
    }

    pub(crate) fn connections(self) -> usize {
        self.threads.saturating_mul(self.connections_per_thread)
    }
}

/// actix has a runtime of its own in every thread; the publisher stays on the caller's.
pub(crate) fn serve(listener: TcpListener, app: web::Data<app::App>, capacity: Capacity) -> std::io::Result<Server> {
    let server = Server::build()
        .workers(capacity.threads)
        .max_concurrent_connections(capacity.connections_per_thread)
        .disable_signals()
        .shutdown_timeout(DRAIN_SECONDS);
    let draining = server.graceful_shutdown_signal();
    let server = server.listen("callbacks", listener, move || {
        let draining = draining.clone();
        let app = App::new().app_data(app.clone()).configure(routes).wrap_fn(|request, next| {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_a_reserve_whatever_the_machine() {
        for threads in [1, 2, 64, 256] {
            for descriptors in [256, 1024, 20_000, 1_048_576, u64::MAX] {
                let Ok(capacity) = Capacity::of(descriptors, threads) else { continue };
                let taken = u64::try_from(capacity.connections()).unwrap();
                assert!(taken > 0 && taken + 64 <= descriptors, "{descriptors} and {threads}: {capacity:?}");
                assert!(capacity.connections_per_thread <= 25_000);
            }
        }
        assert_eq!(Capacity::of(1024, 2).unwrap(), Capacity { threads: 2, connections_per_thread: 474 });
        let error = Capacity::of(64, 2).unwrap_err();
        assert_eq!(error.to_string(), "RLIMIT_NOFILE: the limit of open files is 64, and ingest needs more than 78");
    }
}
