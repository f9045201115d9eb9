//! A virtual host per test, with `deploy/rabbitmq/definitions.json` imported: the topology that ships is the one tested.
//! Queues are looked at over AMQP, whose counts are exact at once; the management API's lag by seconds.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use hyper::Method;
use lapin::options::{
    BasicGetOptions, BasicPublishOptions, BasicRejectOptions, ConfirmSelectOptions, QueueBindOptions,
    QueueDeclareOptions, QueuePurgeOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use serde_json::{Value, json};
use shared::messaging::envelope::MCH_ID;
use shared::messaging::topology::{CALLBACKS_EXCHANGE, CALLBACKS_ROUTING_KEY};
use url::Url;
use uuid::Uuid;

use crate::management::call;
use crate::post::Post;
use crate::servers::{Servers, with_path};
use crate::teardown;
use crate::until::{in_time, until};

/// A test's own virtual host.
pub struct Broker {
    name: String,
    servers: Servers,
    connection: Connection,
}

/// A message as the broker holds it, or as a test puts it there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message {
    /// AMQP `message_id`.
    pub id: Option<String>,
    /// AMQP `type`.
    pub kind: Option<String>,
    /// AMQP `content_type`.
    pub content_type: Option<String>,
    /// 2 is persistent.
    pub delivery_mode: Option<u8>,
    /// Seconds since 1970.
    pub timestamp: Option<u64>,
    /// Text headers; others are left out.
    pub headers: BTreeMap<String, String>,
    /// The routing key it came with; not looked at when publishing.
    pub routing_key: String,
    /// Whether the broker has handed it out before; not looked at when publishing.
    pub redelivered: bool,
    /// The bytes.
    pub body: Vec<u8>,
}

impl Broker {
    /// Makes one; it is deleted with the value.
    pub async fn create(servers: &Servers) -> Result<Self> {
        delete_abandoned(&servers.management).await?;
        let name = teardown::fresh_name();
        let api = &servers.management;
        call(api, Method::PUT, &format!("vhosts/{name}"), json!({})).await?;
        grant(api, &name, servers.amqp.username(), &json!({"configure": ".*", "write": ".*", "read": ".*"})).await?;
        import(api, &name).await?;
        for user in [&servers.ingest_amqp, &servers.worker_amqp] {
            let rights = rights_of(api, user).await?;
            grant(api, &name, user.username(), &rights).await?;
        }
        let connection = connect(&with_path(&servers.amqp, &name)).await?;
        Ok(Self { name, servers: servers.clone(), connection })
    }

    /// Its URL as administrator.
    #[must_use]
    pub fn url(&self) -> Url {
        with_path(&self.servers.amqp, &self.name)
    }

    /// Its URL with the rights of ingest.
    #[must_use]
    pub fn ingest_url(&self) -> Url {
        with_path(&self.servers.ingest_amqp, &self.name)
    }

    /// Its URL with the rights of a worker.
    #[must_use]
    pub fn worker_url(&self) -> Url {
        with_path(&self.servers.worker_amqp, &self.name)
    }

    /// A channel as administrator, for what the methods here do not do.
    pub async fn channel(&self) -> Result<Channel> {
        Ok(self.connection.create_channel().await?)
    }

    /// How many messages of `queue` are ready; those that a consumer holds unacked are not counted.
    pub async fn depth(&self, queue: &str) -> Result<u32> {
        Ok(self.look_at(queue).await?.0)
    }

    /// How many consumers `queue` has.
    pub async fn consumers(&self, queue: &str) -> Result<u32> {
        Ok(self.look_at(queue).await?.1)
    }

    async fn look_at(&self, queue: &str) -> Result<(u32, u32)> {
        let channel = self.channel().await?;
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let queue = channel.queue_declare(queue.into(), options, FieldTable::default()).await?;
        let counts = (queue.message_count(), queue.consumer_count());
        channel.close(200, "".into()).await?;
        Ok(counts)
    }

    /// Takes all ready messages out of `queue`.
    pub async fn take_all(&self, queue: &str) -> Result<Vec<Message>> {
        let channel = self.channel().await?;
        let mut messages = Vec::new();
        while let Some(got) = channel.basic_get(queue.into(), BasicGetOptions { no_ack: true }).await? {
            messages.push(Message::from(got.delivery));
        }
        channel.close(200, "".into()).await?;
        Ok(messages)
    }

    /// Publishes `message` without ingest, as any program with the rights could; returns once it is stored.
    pub async fn publish(&self, exchange: &str, routing_key: &str, message: Message) -> Result<()> {
        self.publish_all(exchange, routing_key, vec![message]).await
    }

    /// [`Broker::publish`] for many, in their order.
    pub async fn publish_all(&self, exchange: &str, routing_key: &str, messages: Vec<Message>) -> Result<()> {
        // A broker with a memory alarm takes nothing and says nothing.
        in_time("the broker has confirmed", self.publish_and_confirm(exchange, routing_key, messages)).await
    }

    async fn publish_and_confirm(&self, exchange: &str, routing_key: &str, messages: Vec<Message>) -> Result<()> {
        let channel = self.channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        let mut confirms = Vec::with_capacity(messages.len());
        for message in messages {
            let options = BasicPublishOptions { mandatory: true, immediate: false };
            let (properties, body) = message.into_parts();
            let confirm =
                channel.basic_publish(exchange.into(), routing_key.into(), options, &body, properties).await?;
            confirms.push(confirm);
        }
        for confirm in confirms {
            let confirmation = confirm.await?;
            ensure!(confirmation.is_ack(), "the broker refused the message");
            ensure!(confirmation.take_message().is_none(), "the broker has no queue for {routing_key}");
        }
        Ok(channel.close(200, "".into()).await?)
    }

    /// Puts callbacks into the workers' queue, past ingest.
    pub async fn publish_callbacks(&self, messages: Vec<Message>) -> Result<()> {
        self.publish_all(CALLBACKS_EXCHANGE, CALLBACKS_ROUTING_KEY, messages).await
    }

    /// Takes the next message of `queue` and returns it to the queue, `times` times: the broker counts each delivery.
    pub async fn redeliver_without_ack(&self, queue: &str, times: usize) -> Result<()> {
        let channel = self.channel().await?;
        for _ in 0..times {
            let got = until("a message is there", async || {
                channel.basic_get(queue.into(), BasicGetOptions::default()).await?.context("the queue is empty")
            });
            got.await?.delivery.acker.reject(BasicRejectOptions { requeue: true }).await?;
        }
        Ok(channel.close(200, "".into()).await?)
    }

    /// Discards the messages that are ready in `queue`.
    pub async fn purge(&self, queue: &str) -> Result<()> {
        self.channel().await?.queue_purge(queue.into(), QueuePurgeOptions::default()).await?;
        Ok(())
    }

    /// Takes `queue` off `exchange`, so that what was routed there becomes unroutable.
    pub async fn unbind(&self, queue: &str, exchange: &str, routing_key: &str) -> Result<()> {
        let channel = self.channel().await?;
        Ok(channel.queue_unbind(queue.into(), exchange.into(), routing_key.into(), FieldTable::default()).await?)
    }

    /// Puts it back.
    pub async fn bind(&self, queue: &str, exchange: &str, routing_key: &str) -> Result<()> {
        let channel = self.channel().await?;
        let (options, none) = (QueueBindOptions::default(), FieldTable::default());
        Ok(channel.queue_bind(queue.into(), exchange.into(), routing_key.into(), options, none).await?)
    }

    /// Lays a policy over the shipped ones, for the queues whose names match `pattern` (a regular expression).
    pub async fn set_policy(&self, pattern: &str, definition: Value) -> Result<()> {
        let policy = json!({"pattern": pattern, "definition": definition, "apply-to": "queues", "priority": 100});
        call(&self.servers.management, Method::PUT, &format!("policies/{}/of-the-test", self.name), policy).await?;
        Ok(())
    }

    /// Removes that policy.
    pub async fn clear_policy(&self) -> Result<()> {
        let path = format!("policies/{}/of-the-test", self.name);
        call(&self.servers.management, Method::DELETE, &path, Value::Null).await?;
        Ok(())
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let api = self.servers.management.clone();
        let path = format!("vhosts/{}", self.name);
        teardown::finish("a test's virtual host", async move {
            call(&api, Method::DELETE, &path, Value::Null).await?;
            Ok(())
        });
    }
}

impl Message {
    /// A v2 payment callback as ingest publishes it.
    #[must_use]
    pub fn callback(body: impl Into<Vec<u8>>) -> Self {
        Self::posted(body.into())
    }

    /// A callback of any kind as ingest publishes it.
    #[must_use]
    pub fn posted(callback: impl Into<Post>) -> Self {
        let Post { kind, path, body, .. } = callback.into();
        let message = Self::new(kind.name(), body).header("envelope-version", "1");
        match path.strip_prefix("/wechatpay/v3/") {
            Some(mch_id) => message.header(MCH_ID, mch_id),
            None => message,
        }
    }

    /// A persistent message with a fresh UUID v7 as its id.
    #[must_use]
    pub fn new(kind: &str, body: impl Into<Vec<u8>>) -> Self {
        Self {
            id: Some(Uuid::now_v7().to_string()),
            kind: Some(kind.to_owned()),
            delivery_mode: Some(2),
            body: body.into(),
            ..Self::default()
        }
    }

    /// With one more header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.insert(name.to_owned(), value.to_owned());
        self
    }

    fn into_parts(self) -> (BasicProperties, Vec<u8>) {
        let mut headers = FieldTable::default();
        for (name, value) in self.headers {
            headers.insert(name.into(), AMQPValue::LongString(value.into()));
        }
        let mut properties = BasicProperties::default().with_headers(headers);
        if let Some(id) = self.id {
            properties = properties.with_message_id(id.into());
        }
        if let Some(kind) = self.kind {
            properties = properties.with_type(kind.into());
        }
        if let Some(content_type) = self.content_type {
            properties = properties.with_content_type(content_type.into());
        }
        if let Some(mode) = self.delivery_mode {
            properties = properties.with_delivery_mode(mode);
        }
        if let Some(timestamp) = self.timestamp {
            properties = properties.with_timestamp(timestamp);
        }
        (properties, self.body)
    }
}

impl From<lapin::message::Delivery> for Message {
    fn from(delivery: lapin::message::Delivery) -> Self {
        let properties = delivery.properties;
        let headers = properties.headers().as_ref().map(text_headers).unwrap_or_default();
        Self {
            id: properties.message_id().as_ref().map(ToString::to_string),
            kind: properties.kind().as_ref().map(ToString::to_string),
            content_type: properties.content_type().as_ref().map(ToString::to_string),
            delivery_mode: *properties.delivery_mode(),
            timestamp: *properties.timestamp(),
            headers,
            routing_key: delivery.routing_key.to_string(),
            redelivered: delivery.redelivered,
            body: delivery.data,
        }
    }
}

fn text_headers(table: &FieldTable) -> BTreeMap<String, String> {
    let text = |value: &AMQPValue| match value {
        AMQPValue::LongString(text) => Some(text.to_string()),
        AMQPValue::ShortString(text) => Some(text.to_string()),
        _ => None,
    };
    table.inner().iter().filter_map(|(name, value)| Some((name.to_string(), text(value)?))).collect()
}

async fn connect(url: &Url) -> Result<Connection> {
    let properties = ConnectionProperties::default().with_connection_name("test".into());
    Connection::connect(url.as_str(), properties).await.context("connecting to RabbitMQ")
}

/// The shipped definitions, moved from the virtual host that they name into `vhost`.
async fn import(api: &Url, vhost: &str) -> Result<()> {
    let mut definitions = definitions()?;
    let sections = definitions.as_object_mut().context("definitions.json holds no object")?;
    sections.remove("vhosts");
    for entry in sections.values_mut().filter_map(Value::as_array_mut).flatten().filter_map(Value::as_object_mut) {
        entry.remove("vhost");
    }
    call(api, Method::POST, &format!("definitions/{vhost}"), definitions).await?;
    Ok(())
}

/// `deploy/rabbitmq/definitions.json` as it ships.
pub fn definitions() -> Result<Value> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/rabbitmq/definitions.json");
    Ok(serde_json::from_str(&fs::read_to_string(&file)?)?)
}

/// What a user may do in the virtual host of its URL, where `deploy/rabbitmq/make-users` or an operator has granted it.
async fn rights_of(api: &Url, user: &Url) -> Result<Value> {
    let vhost = Some(user.path().trim_start_matches('/')).filter(|path| !path.is_empty()).unwrap_or("%2f");
    let rights = call(api, Method::GET, &format!("permissions/{vhost}/{}", user.username()), Value::Null).await?;
    Ok(serde_json::from_slice(&rights.body)?)
}

async fn grant(api: &Url, vhost: &str, user: &str, rights: &Value) -> Result<()> {
    let right = |name| rights.get(name).cloned().unwrap_or_else(|| json!("^$"));
    let body = json!({"configure": right("configure"), "write": right("write"), "read": right("read")});
    call(api, Method::PUT, &format!("permissions/{vhost}/{user}"), body).await?;
    Ok(())
}

async fn delete_abandoned(api: &Url) -> Result<()> {
    let vhosts = call(api, Method::GET, "vhosts?columns=name", Value::Null).await?;
    let vhosts: Value = serde_json::from_slice(&vhosts.body)?;
    for name in vhosts.as_array().into_iter().flatten().filter_map(|vhost| vhost.get("name")?.as_str()) {
        if teardown::is_abandoned(name) {
            call(api, Method::DELETE, &format!("vhosts/{name}"), Value::Null).await?;
        }
    }
    Ok(())
}
