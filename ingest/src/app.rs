//! What one ingest process owns: the key ring, the publisher, the bounds on reading and publishing, and the routes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use actix_web::http::header::{ALLOW, ContentType};
use actix_web::{HttpRequest, HttpResponse, Route, web};
use shared::merchants_file::MerchantsFile;
use shared::messaging::publisher::{Publisher, PublisherOptions};
use shared::messaging::topology::CALLBACKS_EXCHANGE;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::allowance::Allowance;
use crate::callbacks;
use crate::config::Config;
use crate::meters::Meters;
use crate::reading::Reading;
use crate::refusal::{Allowances, log_unknown};

/// The v2 payment route.
pub const V2_PAYMENT: &str = "/wechatpay/v2/payment";
/// The v2 refund route.
pub const V2_REFUND: &str = "/wechatpay/v2/refund";
/// The v3 route, one for every event.
pub const V3: &str = "/wechatpay/v3/{mch_id}";

/// How often a second it is found out what is wrong with a v3 signature. Finding out costs several verifications, and
/// whoever forges decides how many there are.
const DIAGNOSES_PER_SECOND_MAX: u64 = 100;
/// How many callbacks that were not stored have a log line of their own. An outage has thousands a second: they are
/// counted, and each that is repeated has another message id anyway.
const WARNINGS_PER_SECOND_MAX: u64 = 10;

/// The state behind the routes; one per process, shared by every thread.
#[derive(Debug)]
pub struct App {
    pub(crate) publisher: Publisher,
    pub(crate) meters: Meters,
    pub(crate) merchants: Arc<MerchantsFile>,
    pub(crate) diagnoses: Allowance,
    pub(crate) warnings: Allowance,
    pub(crate) refusals: Allowances,
    pub(crate) reading: Reading,
    slots: Semaphore,
    stopping: AtomicBool,
}

impl App {
    /// Starts to connect to the broker, on the current tokio runtime.
    #[must_use]
    pub fn start(config: &Config, merchants: MerchantsFile) -> Self {
        let in_flight_max = usize::try_from(config.in_flight_max).unwrap_or(usize::MAX);
        merchants.log();
        let publisher = Publisher::start(PublisherOptions {
            urls: config.amqp_urls.clone(),
            exchange: CALLBACKS_EXCHANGE,
            connection_name: "ingest",
            lanes: config.publish_lanes.into(),
            waiting_max: in_flight_max,
        });
        Self {
            publisher,
            meters: Meters::register(),
            merchants: Arc::new(merchants),
            diagnoses: Allowance::per_second(DIAGNOSES_PER_SECOND_MAX),
            warnings: Allowance::per_second(WARNINGS_PER_SECOND_MAX),
            refusals: Allowances::default(),
            reading: Reading::of_mib(config.reading_mib_max),
            slots: Semaphore::new(in_flight_max),
            stopping: AtomicBool::new(false),
        }
    }

    /// A place among the callbacks that are being published; `None` when all are taken.
    pub(crate) fn enter(&self) -> Option<SemaphorePermit<'_>> {
        self.slots.try_acquire().ok()
    }

    /// Whether callbacks should be sent here right now.
    ///
    /// # Errors
    /// Why not, for a person.
    pub fn readiness(&self) -> Result<(), String> {
        if self.is_stopping() {
            return Err("stopping".to_owned());
        }
        self.publisher.readiness().map_err(ToOwned::to_owned)
    }

    /// From here on the process says that it is not ready. Callbacks that come all the same are still taken.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Says goodbye to the broker.
    pub async fn close(&self) {
        self.publisher.close().await;
    }
}

/// The public routes, each also with a slash at its end. Another path is a 404, and another method on a route a 405.
pub fn routes(config: &mut web::ServiceConfig) {
    let with_slash = |path: &str| [path.to_owned(), format!("{path}/")];
    let route =
        |path, route: Route| web::resource(with_slash(path)).route(route).default_service(web::to(wrong_method));
    config
        .service(route(V2_PAYMENT, web::post().to(callbacks::v2_payment)))
        .service(route(V2_REFUND, web::post().to(callbacks::v2_refund)))
        .service(route(V3, web::post().to(callbacks::v3)))
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
