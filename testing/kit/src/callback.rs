//! WeChat Pay's side of API v2: payment and refund callbacks, made with the merchants' keys.

use std::collections::BTreeMap;

use secrecy::SecretString;
use serde_json::{Value, json};
use shared::protocol::CallbackKind;
use shared::protocol::keys::SignType;
use shared::protocol::v2::signature::sign_fields;
use signer::encrypt_req_info;
use uuid::Uuid;

use crate::merchants::{INSTITUTION, INSTITUTION_KEY, KEY, MERCHANT};
use crate::post::Post;

/// A payment callback before it is signed.
#[derive(Debug, Clone)]
pub struct Callback {
    fields: BTreeMap<String, String>,
    key: String,
    sign_type: SignType,
}

impl Callback {
    /// A successful payment of 1999 fen for `out_trade_no`, signed by [`MERCHANT`] under MD5, with a transaction id of
    /// its own.
    #[must_use]
    pub fn payment(out_trade_no: &str) -> Self {
        let unique = Uuid::now_v7().simple().to_string();
        let fields = [
            ("return_code", "SUCCESS"),
            ("result_code", "SUCCESS"),
            ("appid", "wxd678efh567hg6787"),
            ("mch_id", MERCHANT),
            ("nonce_str", &unique),
            ("openid", "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o"),
            ("is_subscribe", "N"),
            ("trade_type", "JSAPI"),
            ("bank_type", "CMC"),
            ("total_fee", "1999"),
            ("cash_fee", "1500"),
            ("transaction_id", &format!("42{unique:.26}")),
            ("out_trade_no", out_trade_no),
            ("time_end", "20261123101530"),
        ];
        let fields = fields.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        Self { fields, key: KEY.to_owned(), sign_type: SignType::Md5 }
    }

    /// The same from [`INSTITUTION`] for the shop `sub_mch_id`, in US cents, under HMAC-SHA256.
    #[must_use]
    pub fn payment_of_shop(sub_mch_id: &str, out_trade_no: &str) -> Self {
        Self::payment(out_trade_no)
            .field("mch_id", INSTITUTION)
            .field("sub_mch_id", sub_mch_id)
            .field("fee_type", "USD")
            .key(INSTITUTION_KEY)
            .digest(SignType::HmacSha256)
    }

    /// A successful payment of these sub-orders in one go, combined and signed by [`MERCHANT`].
    #[must_use]
    pub fn combined(combine_out_trade_no: &str, sub_orders: &[Value]) -> Self {
        let list = json!({"order_num": sub_orders.len(), "order_list": sub_orders});
        ["mch_id", "appid", "out_trade_no", "transaction_id", "total_fee", "cash_fee", "time_end"]
            .into_iter()
            .fold(Self::payment("none"), Self::without)
            .field("combine_mch_id", MERCHANT)
            .field("combine_appid", "wxd678efh567hg6787")
            .field("combine_out_trade_no", combine_out_trade_no)
            .field("sub_order_list", &list.to_string())
    }

    /// With another `total_fee`.
    #[must_use]
    pub fn amount(self, minor: i64) -> Self {
        self.field("total_fee", &minor.to_string())
    }

    /// With this `fee_type`.
    #[must_use]
    pub fn currency(self, code: &str) -> Self {
        self.field("fee_type", code)
    }

    /// With another `transaction_id`.
    #[must_use]
    pub fn transaction(self, transaction_id: &str) -> Self {
        self.field("transaction_id", transaction_id)
    }

    /// With this field set, before the signature is made.
    #[must_use]
    pub fn field(mut self, name: &str, value: &str) -> Self {
        self.fields.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Without this field.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.fields.remove(name);
        self
    }

    /// Signed with another key: a forgery, or a key that was rotated.
    #[must_use]
    pub fn key(mut self, key: &str) -> Self {
        key.clone_into(&mut self.key);
        self
    }

    /// Signed under this digest, which is left to be guessed from the signature's length.
    #[must_use]
    pub fn digest(mut self, sign_type: SignType) -> Self {
        self.sign_type = sign_type;
        self
    }

    /// The value of a field; empty when there is none.
    #[must_use]
    pub fn get(&self, name: &str) -> &str {
        self.fields.get(name).map(String::as_str).unwrap_or_default()
    }

    /// Other fields under the signature that was made for these: a forgery where both make the same signed text.
    #[must_use]
    pub fn recut(&self, fields: &[(&str, &str)]) -> Vec<u8> {
        let element = |(name, value): &(&str, &str)| format!("<{name}><![CDATA[{value}]]></{name}>");
        let elements: String = fields.iter().chain([&("sign", self.sign().as_str())]).map(element).collect();
        format!("<xml>{elements}</xml>").into_bytes()
    }

    fn sign(&self) -> String {
        let fields = self.fields.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        sign_fields(fields, &SecretString::from(self.key.as_str()), self.sign_type)
    }

    /// The signed bytes, half of the values in CDATA and half bare, as WeChat Pay mixes them.
    #[must_use]
    pub fn body(&self) -> Vec<u8> {
        let fields = self.fields.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let sign = self.sign();
        let is_bare = |value: &str| value.bytes().all(|byte| byte.is_ascii_digit());
        let elements: String = fields
            .chain([("sign", sign.as_str())])
            .map(|(name, value)| match value {
                value if is_bare(value) => format!("<{name}>{value}</{name}>\n"),
                value => format!("<{name}><![CDATA[{value}]]></{name}>\n"),
            })
            .collect();
        format!("<xml>{elements}</xml>").into_bytes()
    }
}

/// A sub-order of 1999 fen of `mch_id`, with a transaction id of its own, as a combined callback of v2 lists it.
#[must_use]
pub fn sub_order(mch_id: &str, out_trade_no: &str) -> Value {
    let unique = Uuid::now_v7().simple().to_string();
    json!({
        "mch_id": mch_id, "out_trade_no": out_trade_no, "transaction_id": format!("42{unique:.26}"), "total_fee": 1999,
        "cash_fee": 1500, "fee_type": "CNY", "openid": "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o", "time_end": "20261123101530",
    })
}

/// A refund callback before it is sealed.
#[derive(Debug, Clone)]
pub struct Refund {
    outer: BTreeMap<String, String>,
    sealed: BTreeMap<String, String>,
    key: String,
}

impl Refund {
    /// A successful refund of all 1999 fen that `transaction_id` paid for `out_trade_no` of [`MERCHANT`].
    #[must_use]
    pub fn of(out_trade_no: &str, transaction_id: &str, out_refund_no: &str) -> Self {
        let nonce = Uuid::now_v7().simple().to_string();
        let outer =
            [("return_code", "SUCCESS"), ("appid", "wxd678efh567hg6787"), ("mch_id", MERCHANT), ("nonce_str", &nonce)];
        let sealed = [
            ("transaction_id", transaction_id),
            ("out_trade_no", out_trade_no),
            ("refund_id", &refund_id(out_refund_no)),
            ("out_refund_no", out_refund_no),
            ("total_fee", "1999"),
            ("settlement_total_fee", "1999"),
            ("refund_fee", "1999"),
            ("settlement_refund_fee", "1999"),
            ("refund_status", "SUCCESS"),
            ("success_time", "2026-11-24 09:08:07"),
            ("refund_recv_accout", "招商银行信用卡0403"),
            ("refund_account", "REFUND_SOURCE_RECHARGE_FUNDS"),
            ("refund_request_source", "API"),
        ];
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        Self { outer: outer.map(owned).into(), sealed: sealed.map(owned).into(), key: KEY.to_owned() }
    }

    /// Of so much.
    #[must_use]
    pub fn amount(self, minor: i64) -> Self {
        self.field("refund_fee", &minor.to_string())
    }

    /// That ended as `CHANGE` or `REFUNDCLOSE`.
    #[must_use]
    pub fn status(mut self, status: &str) -> Self {
        self.sealed.remove("success_time");
        self.field("refund_status", status)
    }

    /// With this sealed field set.
    #[must_use]
    pub fn field(mut self, name: &str, value: &str) -> Self {
        self.sealed.insert(name.to_owned(), value.to_owned());
        self
    }

    /// With this field set that is not sealed.
    #[must_use]
    pub fn open_field(mut self, name: &str, value: &str) -> Self {
        self.outer.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Sealed under another key.
    #[must_use]
    pub fn key(mut self, key: &str) -> Self {
        key.clone_into(&mut self.key);
        self
    }

    /// The bytes.
    #[must_use]
    pub fn body(&self) -> Vec<u8> {
        let elements = |fields: &BTreeMap<String, String>| -> String {
            let element = |(name, value): (&String, &String)| format!("<{name}><![CDATA[{value}]]></{name}>\n");
            fields.iter().map(element).collect::<Vec<_>>().concat()
        };
        let req_info = encrypt_req_info(&self.key, format!("<root>\n{}</root>", elements(&self.sealed)).as_bytes());
        format!("<xml>{}<req_info><![CDATA[{req_info}]]></req_info></xml>", elements(&self.outer)).into_bytes()
    }
}

impl From<&Refund> for Post {
    fn from(refund: &Refund) -> Self {
        Self::new(CallbackKind::V2Refund, "/wechatpay/v2/refund", "text/xml", refund.body())
    }
}

/// WeChat Pay's number for a refund, always the same for the merchant's: 29 digits.
#[must_use]
pub fn refund_id(out_refund_no: &str) -> String {
    let digits: String = out_refund_no.bytes().map(|byte| char::from(b'0' + byte % 10)).collect();
    format!("5030{digits:0>25}")
}
