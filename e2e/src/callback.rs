//! WeChat Pay's side: payment callbacks, signed with the merchants' keys, posted to ingest.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{env, fs};

use anyhow::{Context, Result};
use http_body_util::Full;
use hyper::Request;
use hyper::body::Bytes;
use secrecy::SecretString;
use shared::protocol::v2::signature::{SignType, sign_fields};
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::http::Connection;
use crate::until::in_time;

/// A direct merchant that accepts both digests.
pub const MERCHANT: &str = "1900000109";
/// Its key.
pub const KEY: &str = "key-of-the-first-merchant-000001";
/// An institution with shops (sub-merchants) behind it, that accepts HMAC-SHA256 only.
pub const INSTITUTION: &str = "1900000200";
/// Its key.
pub const INSTITUTION_KEY: &str = "key-of-the-institution-000000002";

const PAYMENT_PATH: &str = "/wechatpay/v2/payment";

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

    /// The signed bytes, half of the values in CDATA and half bare, as WeChat Pay mixes them.
    #[must_use]
    pub fn body(&self) -> Vec<u8> {
        let fields = self.fields.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let sign = sign_fields(fields.clone(), &SecretString::from(self.key.as_str()), self.sign_type);
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

/// A merchants file with [`MERCHANT`] and [`INSTITUTION`]; it is deleted with the value.
pub struct MerchantsFile(PathBuf);

impl MerchantsFile {
    /// Writes it.
    ///
    /// # Errors
    /// There is no place for it.
    pub fn write() -> Result<Self> {
        let text = format!(
            "[[merchant]]\nmch_id = \"{MERCHANT}\"\nv2_keys = [\"{KEY}\"]\n\n\
             [[merchant]]\nmch_id = \"{INSTITUTION}\"\nv2_keys = [\"{INSTITUTION_KEY}\"]\n\
             v2_sign_types = [\"HMAC-SHA256\"]\n"
        );
        let file = Self(env::temp_dir().join(format!("merchants-{}.toml", Uuid::now_v7())));
        file.replace(&text)?;
        Ok(file)
    }

    /// Another text in its place, whole at any instant.
    ///
    /// # Errors
    /// There is no place for it.
    pub fn replace(&self, text: &str) -> Result<()> {
        let new = self.0.with_extension("new");
        fs::write(&new, text)?;
        fs::rename(&new, &self.0).context("replacing the merchants file")
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for MerchantsFile {
    fn drop(&mut self) {
        // A file left in the temporary folder harms nobody.
        let _ = fs::remove_file(&self.0);
    }
}

/// What ingest answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// The XML.
    pub body: String,
}

impl Reply {
    /// Whether WeChat Pay would take it for SUCCESS and never send the callback again.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.status == 200 && self.body == shared::protocol::reply::V2_SUCCESS
    }
}

/// Posts one body to ingest.
///
/// # Errors
/// There was no reply.
pub async fn post(ingest: SocketAddr, body: Vec<u8>) -> Result<Reply> {
    send(Connection::open(ingest).await?, ingest, body).await
}

/// Posts all bodies at the same instant, each over its own connection; one result for each, in their order.
pub async fn post_at_once(ingest: SocketAddr, bodies: Vec<Vec<u8>>) -> Vec<Result<Reply>> {
    let all_connected = Arc::new(Barrier::new(bodies.len()));
    let mut posts = JoinSet::new();
    for (place, body) in bodies.into_iter().enumerate() {
        let all_connected = Arc::clone(&all_connected);
        posts.spawn(async move {
            let connection = Connection::open(ingest).await;
            all_connected.wait().await;
            let reply = async { send(connection?, ingest, body).await };
            (place, reply.await)
        });
    }
    let mut replies = posts.join_all().await;
    replies.sort_by_key(|(place, _)| *place);
    replies.into_iter().map(|(_, reply)| reply).collect()
}

async fn send(connection: Connection, ingest: SocketAddr, body: Vec<u8>) -> Result<Reply> {
    let request = Request::post(PAYMENT_PATH)
        .header("host", ingest.to_string())
        .header("content-type", "text/xml")
        .header("user-agent", "Mozilla/4.0")
        .body(Full::new(Bytes::from(body)))?;
    let response = in_time("ingest has answered", connection.send(request)).await?;
    Ok(Reply { status: response.status.as_u16(), body: String::from_utf8(response.body.to_vec())? })
}
