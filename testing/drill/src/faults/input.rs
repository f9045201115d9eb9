//! Input that must be refused.

use std::sync::{Arc, PoisonError};

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hyper::Method;
use kit::callback::Callback;
use kit::post::post;
use kit::v3::Event;
use serde_json::{Value, json};
use shared::messaging::topology::{CALLBACKS_EXCHANGE, CALLBACKS_ROUTING_KEY};
use shared::protocol::CallbackKind;
use uuid::Uuid;

use super::{Planted, Scene};
use crate::fault::CLOCK_SKEW_SECONDS;
use crate::fleet::Member;
use crate::record::FaultRecord;

/// How many callbacks each ingest gets from either side of the window.
const SKEWED: usize = 5;

/// A program with rights at the broker publishes what no ingest would. The messages must harm nothing else, and never move
/// money.
pub(super) async fn poison(scene: &Scene, record: &FaultRecord) -> Result<()> {
    let database = scene.servers.database().await?;
    let victim: String = database
        .query_one("SELECT out_trade_no FROM orders WHERE state = 'pending' ORDER BY id DESC LIMIT 1", &[])
        .await
        .context("there is no order to attack")?
        .try_get(0)?;
    let forged = Callback::payment(&victim).key("a guess").body();
    let payment = CallbackKind::V2Payment.name();
    let poison = [
        ("no body", payment, Vec::new(), "quarantined malformed"),
        ("bytes that are not text", payment, vec![0xff, 0x00, 0xfe], "quarantined malformed"),
        ("a DOCTYPE", payment, b"<!DOCTYPE x><xml></xml>".to_vec(), "quarantined malformed"),
        ("a body over the limit", payment, vec![b'x'; 70_000], "quarantined malformed"),
        ("an unknown type", "wechatpay.v9", forged.clone(), "waiting for_version"),
        ("a forged payment", payment, forged, "waiting for_key"),
    ];
    record.injected();
    for (what, kind, body, verdict) in poison {
        let id = Uuid::now_v7();
        publish(scene, id, kind, &body).await?;
        scene.planted.lock().unwrap_or_else(PoisonError::into_inner).push(Planted { id, what, verdict });
    }
    Ok(())
}

async fn publish(scene: &Scene, id: Uuid, kind: &str, body: &[u8]) -> Result<()> {
    let message = json!({
        "routing_key": CALLBACKS_ROUTING_KEY, "payload": BASE64_STANDARD.encode(body), "payload_encoding": "base64",
        "properties": {"message_id": id, "type": kind, "delivery_mode": 2, "headers": {"envelope-version": "1"}},
    });
    let path = format!("exchanges/%2f/{CALLBACKS_EXCHANGE}/publish");
    let reply = scene.servers.api(Method::POST, &path, message).await?;
    let reply: Value = serde_json::from_slice(&reply.body)?;
    ensure!(reply.pointer("/routed") == Some(&true.into()), "the poison found no queue");
    Ok(())
}

/// Callbacks that are authentic except for the time in their signature.
pub(super) async fn skew_clock(ingests: &[Arc<Member>], record: &FaultRecord) -> Result<()> {
    record.injected();
    let mut refused = 0_usize;
    for ingest in ingests {
        let address = ingest.public().context("an ingest has a public port")?;
        for number in 0..SKEWED {
            for seconds in [-CLOCK_SKEW_SECONDS, CLOCK_SKEW_SECONDS] {
                let event = Event::payment(&format!("SKEWED-{number}")).signed_after(seconds);
                let reply = post(address, &event).await?;
                ensure!(reply.status == 401, "a callback signed {seconds} s from now was answered {}", reply.status);
                refused = refused.saturating_add(1);
            }
        }
    }
    record.note(format!("{refused} refused"));
    Ok(())
}
