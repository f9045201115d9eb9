//! Another program with the rights of ingest: it publishes callbacks with whatever properties it likes.

use anyhow::{Context, Result, ensure};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties};
use shared::messaging::envelope::MCH_ID;
use shared::messaging::topology::{CALLBACKS_EXCHANGE, CALLBACKS_ROUTING_KEY};
use url::Url;

use crate::post::Post;
use crate::until::in_time;

/// How many messages are published before their confirms are waited for.
const WINDOW: usize = 256;

/// A message as such a program makes it.
#[derive(Debug, Clone, Default)]
pub struct Forged {
    /// AMQP `message_id`.
    pub id: String,
    /// AMQP `type`.
    pub kind: String,
    /// The header `mch-id`.
    pub mch_id: Option<String>,
    /// The header `x-delivery-count`, which only the broker should set.
    pub delivery_count: Option<i64>,
    /// The bytes.
    pub body: Vec<u8>,
}

impl Forged {
    /// A genuine callback under an id that the writer chose, as ingest would publish it.
    #[must_use]
    pub fn genuine(id: &str, callback: impl Into<Post>) -> Self {
        let Post { kind, path, body, .. } = callback.into();
        let mch_id = path.strip_prefix("/wechatpay/v3/").map(ToOwned::to_owned);
        Self { id: id.to_owned(), kind: kind.name().to_owned(), mch_id, delivery_count: None, body }
    }
}

/// The connection of such a program.
pub struct Writer {
    // Closes when dropped.
    _connection: Connection,
    channel: Channel,
}

impl Writer {
    /// Connects; `url` names the user.
    pub async fn connect(url: &Url) -> Result<Self> {
        let opening = async {
            let properties = ConnectionProperties::default().with_connection_name("another program".into());
            let connection = Connection::connect(url.as_str(), properties).await.context("connecting to RabbitMQ")?;
            let channel = connection.create_channel().await?;
            channel.confirm_select(ConfirmSelectOptions::default()).await?;
            Ok(Self { _connection: connection, channel })
        };
        in_time("the broker has answered", opening).await
    }

    /// Publishes to the callbacks' exchange, in this order, and waits until all are stored.
    pub async fn publish(&self, messages: Vec<Forged>) -> Result<()> {
        let mut messages = messages.into_iter();
        loop {
            let window: Vec<Forged> = messages.by_ref().take(WINDOW).collect();
            if window.is_empty() {
                return Ok(());
            }
            in_time("the broker has confirmed", self.publish_window(window)).await?;
        }
    }

    async fn publish_window(&self, messages: Vec<Forged>) -> Result<()> {
        let mut confirms = Vec::with_capacity(messages.len());
        for message in messages {
            let options = BasicPublishOptions { mandatory: true, immediate: false };
            let (exchange, key) = (CALLBACKS_EXCHANGE.into(), CALLBACKS_ROUTING_KEY.into());
            let publish = self.channel.basic_publish(exchange, key, options, &message.body, message.properties());
            confirms.push(publish.await?);
        }
        for confirm in confirms {
            let confirmation = confirm.await?;
            ensure!(matches!(confirmation, Confirmation::Ack(None)), "the broker said {confirmation:?}");
        }
        Ok(())
    }
}

impl Forged {
    fn properties(&self) -> BasicProperties {
        let mut headers = FieldTable::default();
        headers.insert("envelope-version".into(), AMQPValue::LongString("1".into()));
        if let Some(mch_id) = &self.mch_id {
            headers.insert(MCH_ID.into(), AMQPValue::LongString(mch_id.as_str().into()));
        }
        if let Some(count) = self.delivery_count {
            headers.insert("x-delivery-count".into(), AMQPValue::LongLongInt(count));
        }
        BasicProperties::default()
            .with_message_id(self.id.as_str().into())
            .with_type(self.kind.as_str().into())
            .with_delivery_mode(2)
            .with_headers(headers)
    }
}
