//! WeChat Pay's side of API v3: events sealed under a merchant's key and signed with a platform key.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use shared::protocol::CallbackKind;
use signer::{PlatformKey, seal_resource};
use uuid::Uuid;

use crate::callback::refund_id;
use crate::merchants::{CERTIFIED, INSTITUTION, INSTITUTION_V3_KEY, MERCHANT, V3_KEY};
use crate::post::Post;

/// An event before it is sealed and signed.
#[derive(Debug, Clone)]
pub struct Event {
    mch_id: String,
    name: String,
    original_type: String,
    resource: Value,
    key: String,
    platform: &'static PlatformKey,
    signed_at: Option<i64>,
}

impl Event {
    /// Anything, for [`MERCHANT`], signed with the certified key.
    #[must_use]
    pub fn new(event_type: &str, original_type: &str, resource: Value) -> Self {
        Self {
            mch_id: MERCHANT.to_owned(),
            name: event_type.to_owned(),
            original_type: original_type.to_owned(),
            resource,
            key: V3_KEY.to_owned(),
            platform: &CERTIFIED,
            signed_at: None,
        }
    }

    /// A successful payment of 1999 fen for `out_trade_no`, with a transaction id of its own.
    #[must_use]
    pub fn payment(out_trade_no: &str) -> Self {
        let unique = Uuid::now_v7().simple().to_string();
        let resource = json!({
            "mchid": MERCHANT, "appid": "wxd678efh567hg6787", "out_trade_no": out_trade_no,
            "transaction_id": format!("42{unique:.26}"), "trade_type": "JSAPI", "trade_state": "SUCCESS",
            "bank_type": "CMC", "success_time": "2026-11-23T10:15:30+08:00",
            "payer": {"openid": "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o"},
            "amount": {"total": 1999, "payer_total": 1500, "currency": "CNY", "payer_currency": "CNY"},
        });
        Self::new("TRANSACTION.SUCCESS", "transaction", resource)
    }

    /// A successful payment of these sub-orders in one go, combined by [`MERCHANT`].
    #[must_use]
    pub fn combined(combine_out_trade_no: &str, sub_orders: &[Value]) -> Self {
        let resource = json!({
            "combine_mchid": MERCHANT, "combine_appid": "wxd678efh567hg6787",
            "combine_out_trade_no": combine_out_trade_no, "sub_orders": sub_orders,
            "combine_payer_info": {"openid": "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o"},
        });
        Self::new("TRANSACTION.SUCCESS", "transaction", resource)
    }

    /// A successful refund of all 1999 fen that `transaction_id` paid for `out_trade_no`.
    #[must_use]
    pub fn refund(out_trade_no: &str, transaction_id: &str, out_refund_no: &str) -> Self {
        let resource = json!({
            "mchid": MERCHANT, "out_trade_no": out_trade_no, "transaction_id": transaction_id,
            "out_refund_no": out_refund_no, "refund_id": refund_id(out_refund_no), "refund_status": "SUCCESS",
            "success_time": "2026-11-24T09:08:07+08:00", "user_received_account": "招商银行信用卡0403",
            "amount": {"total": 1999, "refund": 1999, "payer_total": 1999, "payer_refund": 1999},
        });
        Self::new("REFUND.SUCCESS", "refund", resource)
    }

    /// The global shape of the same: from [`INSTITUTION`] for the shop `sub_mch_id`, in US cents.
    #[must_use]
    pub fn of_shop(self, sub_mch_id: &str) -> Self {
        let mut event = self
            .without("/mchid")
            .without("/appid")
            .set("/sp_mchid", json!(INSTITUTION))
            .set("/sub_mchid", json!(sub_mch_id))
            .set("/amount/currency", json!("USD"))
            .set("/amount/exchange_rate", json!({"type": "SETTLEMENT_RATE", "rate": 717_420_000}));
        INSTITUTION.clone_into(&mut event.mch_id);
        event.key(INSTITUTION_V3_KEY)
    }

    /// A refund that ended as `ABNORMAL` or `CLOSED`.
    #[must_use]
    pub fn ended(mut self, status: &str) -> Self {
        self.name = format!("REFUND.{status}");
        self.without("/success_time").set("/refund_status", json!(status))
    }

    /// With this value in the resource, as in `/amount/total`.
    #[must_use]
    pub fn set(mut self, pointer: &str, value: Value) -> Self {
        let (parent, name) = pointer.rsplit_once('/').unwrap_or_default();
        if let Some(Value::Object(members)) = self.resource.pointer_mut(parent) {
            members.insert(name.to_owned(), value);
        }
        self
    }

    /// Without this value.
    #[must_use]
    pub fn without(mut self, pointer: &str) -> Self {
        let (parent, name) = pointer.rsplit_once('/').unwrap_or_default();
        if let Some(Value::Object(members)) = self.resource.pointer_mut(parent) {
            members.remove(name);
        }
        self
    }

    /// Sealed under another key.
    #[must_use]
    pub fn key(mut self, key: &str) -> Self {
        key.clone_into(&mut self.key);
        self
    }

    /// Signed with another platform key.
    #[must_use]
    pub fn platform(mut self, platform: &'static PlatformKey) -> Self {
        self.platform = platform;
        self
    }

    /// Signed this many seconds from now instead of now.
    #[must_use]
    pub fn signed_after(mut self, seconds: i64) -> Self {
        self.signed_at = Some(now() + seconds);
        self
    }

    /// A text of the resource.
    #[must_use]
    pub fn get(&self, pointer: &str) -> &str {
        self.resource.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }

    /// The request: the body sealed and the headers signed, both with fresh nonces.
    ///
    /// # Panics
    /// The kit's keys are no keys.
    #[must_use]
    pub fn post(&self) -> Post {
        let unique = Uuid::now_v7().simple().to_string();
        let nonce = format!("{unique:.12}");
        let body = json!({
            "id": Uuid::now_v7(), "create_time": "2026-11-23T10:15:31+08:00", "resource_type": "encrypt-resource",
            "event_type": self.name, "summary": "支付成功",
            "resource": {
                "original_type": self.original_type, "algorithm": "AEAD_AES_256_GCM", "nonce": nonce,
                "associated_data": self.original_type,
                "ciphertext": seal(&self.key, &nonce, &self.original_type, &self.resource),
            },
        });
        let mut post = Post::new(
            CallbackKind::V3,
            &format!("/wechatpay/v3/{}", self.mch_id),
            "application/json",
            body.to_string().into_bytes(),
        );
        let timestamp = self.signed_at.unwrap_or_else(now).to_string();
        let signature = self.platform.sign(&timestamp, &unique, &post.body);
        let signature = signature.unwrap_or_else(|error| panic!("the kit cannot sign: {error}"));
        post.headers = [
            ("Wechatpay-Timestamp", timestamp.as_str()),
            ("Wechatpay-Nonce", &unique),
            ("Wechatpay-Serial", self.platform.serial()),
            ("Wechatpay-Signature", &signature),
            ("Wechatpay-Signature-Type", "WECHATPAY2-SHA256-RSA2048"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        post
    }
}

/// A sub-order of 1999 fen of `mch_id`, with a transaction id of its own, as a combined callback of v3 lists it.
#[must_use]
pub fn sub_order(mch_id: &str, out_trade_no: &str) -> Value {
    let unique = Uuid::now_v7().simple().to_string();
    json!({
        "mchid": mch_id, "out_trade_no": out_trade_no, "transaction_id": format!("42{unique:.26}"),
        "trade_type": "JSAPI", "trade_state": "SUCCESS", "bank_type": "CMC",
        "success_time": "2026-11-23T10:15:30+08:00",
        "amount": {"total_amount": 1999, "payer_amount": 1500, "currency": "CNY", "payer_currency": "CNY"},
    })
}

impl From<&Event> for Post {
    fn from(event: &Event) -> Self {
        event.post()
    }
}

fn seal(key: &str, nonce: &str, associated_data: &str, resource: &Value) -> String {
    seal_resource(key, nonce, associated_data, resource.to_string().as_bytes())
        .unwrap_or_else(|error| panic!("the kit cannot seal: {error}"))
}

fn now() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_secs()).unwrap_or_default()
}
