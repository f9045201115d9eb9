//! RabbitMQ's management API.

use std::str;

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http_body_util::Full;
use hyper::{Method, Request};
use serde_json::Value;
use url::Url;

use crate::http::{Connection, Response};

/// One call: `api` is the server's URL with an administrator's name and password, `path` is what follows `/api/`.
pub async fn call(api: &Url, method: Method, path: &str, body: Value) -> Result<Response> {
    let address = *api.socket_addrs(|| None)?.first().context("RABBITMQ_MANAGEMENT_URL names no host")?;
    let login = BASE64_STANDARD.encode(format!("{}:{}", api.username(), api.password().unwrap_or_default()));
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let request = Request::builder()
        .method(&method)
        .uri(format!("/api/{path}"))
        .header("host", address.to_string())
        .header("authorization", format!("Basic {login}"))
        .header("content-type", "application/json")
        .body(Full::from(body))?;
    let response = Connection::open(address).await?.send(request).await?;
    let text = || str::from_utf8(&response.body).unwrap_or_default();
    ensure!(response.status.is_success(), "{method} /api/{path}: {} {}", response.status, text());
    Ok(response)
}
