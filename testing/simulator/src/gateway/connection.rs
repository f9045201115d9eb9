//! One keep-alive connection of WeChat Pay's: takes a job, posts it, reports the answer.
//!
//! Invariant: a request that may have reached ingest is never sent a second time here; only one that certainly was not
//! written (the kept connection had ended by then) is sent again on a fresh connection.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HOST, HeaderName, HeaderValue, USER_AGENT};
use hyper::{Method, Request, StatusCode, Uri};
use kit::http::{Connection, Response, SendError};
use shared::protocol::reply;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use crate::body::{Route, SignedRequest};
use crate::request_log::Answer;

/// WeChat Pay waits this long for an answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// A connection that reaches no server pauses; otherwise a dead ingest would cost a whole core.
const PAUSE_WHEN_UNREACHABLE: Duration = Duration::from_millis(50);

/// Where callbacks go.
#[derive(Debug, Clone)]
pub struct Target {
    authority: String,
    host: HeaderValue,
}

/// One request to make.
#[derive(Debug)]
pub struct Job {
    /// The callback, by its index in the plan.
    pub callback: usize,
    pub signed: SignedRequest,
    /// When it was due: latency counts from here.
    pub due: Instant,
}

/// What came of it.
#[derive(Debug)]
pub struct Answered {
    /// Which line is free again.
    pub line: usize,
    /// What it was about.
    pub job: Job,
    pub answer: Answer,
    pub at: Instant,
}

impl Target {
    /// From ingest's base URL.
    pub fn parse(url: &str) -> anyhow::Result<Self> {
        let uri: Uri = url.trim().parse().with_context(|| format!("INGEST_URL: {url} is not a URL"))?;
        ensure!(uri.scheme_str() == Some("http"), "INGEST_URL: {url} must begin with http:// (TLS is the proxy's job)");
        ensure!(matches!(uri.path(), "" | "/"), "INGEST_URL: {url} must be a base URL without a path");
        let host = uri.host().with_context(|| format!("INGEST_URL: {url} names no host"))?;
        let authority = format!("{host}:{}", uri.port_u16().unwrap_or(80));
        let header = HeaderValue::from_str(&authority).with_context(|| format!("INGEST_URL: {url} has an odd host"))?;
        Ok(Self { authority, host: header })
    }

    fn request(&self, signed: &SignedRequest) -> anyhow::Result<Request<Full<Bytes>>> {
        let (path, content_type) = match &signed.route {
            Route::V2Payment => (Uri::from_static("/wechatpay/v2/payment"), "text/xml"),
            Route::V2Refund => (Uri::from_static("/wechatpay/v2/refund"), "text/xml"),
            Route::V3 { mch_id, .. } => (format!("/wechatpay/v3/{mch_id}").parse()?, "application/json"),
        };
        let mut request = Request::new(Full::new(signed.body.clone()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = path;
        let headers = request.headers_mut();
        headers.insert(HOST, self.host.clone());
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        headers.insert(USER_AGENT, HeaderValue::from_static("Mozilla/4.0"));
        if let Route::V3 { signer, .. } = &signed.route {
            for (name, value) in signer.headers(&signed.body)? {
                headers.insert(HeaderName::try_from(name)?, HeaderValue::from_str(&value)?);
            }
        }
        Ok(request)
    }
}

/// Handles jobs until there are no more.
pub async fn run(line: usize, target: Target, mut jobs: mpsc::Receiver<Job>, answers: mpsc::UnboundedSender<Answered>) {
    let mut kept = None;
    while let Some(job) = jobs.recv().await {
        let posted = timeout(PATIENCE, post(&target, &mut kept, &job.signed)).await;
        // Cut off half-way, `post` has left no connection to keep: the next request gets a fresh one.
        let answer = posted.unwrap_or(Answer::TimedOut);
        let at = Instant::now();
        if answer == Answer::Unreachable {
            sleep(PAUSE_WHEN_UNREACHABLE).await;
        }
        if answers.send(Answered { line, job, answer, at }).is_err() {
            return;
        }
    }
}

/// Posts over the kept connection, or over a fresh one when there is none or it has ended since.
async fn post(target: &Target, kept: &mut Option<Connection>, signed: &SignedRequest) -> Answer {
    // A request that cannot be built is not sent.
    let Ok(mut request) = target.request(signed) else { return Answer::Unreachable };
    if let Some(connection) = kept.take() {
        match send(connection, request, kept).await {
            Ok(response) => return answer(&response, &signed.route),
            Err(SendError::Unsent(unsent)) => request = *unsent,
            Err(SendError::Lost(_)) => return Answer::ConnectionLost,
        }
    }
    let Ok(connection) = Connection::open(&target.authority).await else { return Answer::Unreachable };
    match send(connection, request, kept).await {
        Ok(response) => answer(&response, &signed.route),
        Err(_) => Answer::ConnectionLost,
    }
}

/// Keeps the connection once the whole response has been read.
async fn send(
    mut connection: Connection,
    request: Request<Full<Bytes>>,
    kept: &mut Option<Connection>,
) -> Result<Response, SendError> {
    let response = connection.send(request).await?;
    *kept = Some(connection);
    Ok(response)
}

fn answer(response: &Response, route: &Route) -> Answer {
    match response.status {
        StatusCode::OK if response.body == success(route).as_bytes() => Answer::Success,
        StatusCode::OK => Answer::OddBody,
        other => Answer::Status(other.as_u16()),
    }
}

/// The exact body that WeChat Pay accepts as SUCCESS.
fn success(route: &Route) -> &'static str {
    match route {
        Route::V2Payment | Route::V2Refund => reply::V2_SUCCESS,
        Route::V3 { .. } => reply::V3_SUCCESS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_base_urls_are_targets() {
        assert_eq!(Target::parse("http://127.0.0.1:8080").unwrap().authority, "127.0.0.1:8080");
        assert_eq!(Target::parse(" http://ingest/ ").unwrap().authority, "ingest:80");
        assert_eq!(Target::parse("http://[::1]:8080").unwrap().authority, "[::1]:8080");
        for wrong in ["https://ingest", "ingest:8080", "http://ingest/wechatpay", "", "http://"] {
            assert!(Target::parse(wrong).is_err(), "{wrong}");
        }
    }
}
