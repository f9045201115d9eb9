//! From the bytes of a v2 refund callback to a notification: what opens it (`opening`), and what it says (`fields`).
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail like tests")]

mod fields;
mod opening;

use shared::domain::notification::{Notification, ReportedRefund};
use shared::merchants_file::{self, Program};
use shared::protocol::keys::KeyRing;
use shared::protocol::v2::refund::{OpenError, authenticate, decode};
use shared::protocol::{AuthenticateError, DecodeError};
use signer::encrypt_req_info;

const MERCHANT: &str = "1900000109";
const KEYS: [&str; 2] = ["key-of-the-first-merchant-000001", "key-of-the-first-merchant-000002"];
const RETIRED_KEY: &str = "key-of-the-first-merchant-000000";
const OTHER_MERCHANT: &str = "1900000200";
const OTHER_KEY: &str = "key-of-the-other-merchant-000001";

/// A refund callback before it is encrypted.
#[derive(Clone)]
struct Callback {
    open: Vec<(String, String)>,
    sealed: Vec<(String, String)>,
    key: String,
}

impl Callback {
    /// 500 of the 1999 fen of `order-1` went back.
    fn new() -> Self {
        let open =
            [("return_code", "SUCCESS"), ("appid", "wxd678efh567hg6787"), ("mch_id", MERCHANT), ("nonce_str", "n")];
        let sealed = [
            ("transaction_id", "4200000001"),
            ("out_trade_no", "order-1"),
            ("refund_id", "50300103182026112400000000001"),
            ("out_refund_no", "refund-1"),
            ("total_fee", "1999"),
            ("settlement_total_fee", "1999"),
            ("refund_fee", "500"),
            ("settlement_refund_fee", "500"),
            ("refund_status", "SUCCESS"),
            ("success_time", "2026-11-24 09:08:07"),
            ("refund_recv_accout", "招商银行信用卡0403"),
            ("refund_account", "REFUND_SOURCE_RECHARGE_FUNDS"),
            ("refund_request_source", "API"),
        ];
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        Self { open: open.map(owned).into(), sealed: sealed.map(owned).into(), key: KEYS[0].to_owned() }
    }

    fn open(mut self, name: &str, value: &str) -> Self {
        put(&mut self.open, name, value);
        self
    }

    fn sealed(mut self, name: &str, value: &str) -> Self {
        put(&mut self.sealed, name, value);
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.sealed.retain(|(other, _)| other != name);
        self
    }

    fn key(mut self, key: &str) -> Self {
        key.clone_into(&mut self.key);
        self
    }

    fn get(&self, name: &str) -> &str {
        self.sealed.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str()).unwrap()
    }

    fn inner(&self) -> String {
        format!("<root>\n{}</root>", elements(&self.sealed))
    }

    fn encrypted(&self) -> String {
        encrypt_req_info(&self.key, self.inner().as_bytes())
    }

    fn body(&self) -> Vec<u8> {
        self.req_info(&self.encrypted())
    }

    /// The body with another `req_info`.
    fn req_info(&self, req_info: &str) -> Vec<u8> {
        format!("<xml>{}<req_info><![CDATA[{req_info}]]></req_info></xml>", elements(&self.open)).into_bytes()
    }
}

fn put(fields: &mut Vec<(String, String)>, name: &str, value: &str) {
    fields.retain(|(other, _)| other != name);
    fields.push((name.to_owned(), value.to_owned()));
}

fn elements(fields: &[(String, String)]) -> String {
    let element = |(name, value): &(String, String)| format!("<{name}><![CDATA[{value}]]></{name}>\n");
    fields.iter().map(element).collect::<Vec<_>>().concat()
}

fn ring(program: Program) -> KeyRing {
    let text = format!(
        "[[merchant]]\nmch_id = \"{MERCHANT}\"\nv2_keys = [\"{}\", \"{}\"]\nv2_keys_retired = [\"{RETIRED_KEY}\"]\n\
         [[merchant]]\nmch_id = \"{OTHER_MERCHANT}\"\nv2_keys = [\"{OTHER_KEY}\"]\n",
        KEYS[0], KEYS[1]
    );
    merchants_file::parse(&text, program).unwrap()
}

fn not_opened(body: &[u8], program: Program) -> OpenError {
    match authenticate(body, &ring(program)) {
        Err(AuthenticateError::NotOpened(error)) => error,
        Err(other) => panic!("refused for another reason: {other}"),
        Ok(_) => panic!("opened: {}", String::from_utf8_lossy(body)),
    }
}

fn decoded(callback: &Callback) -> ReportedRefund {
    let (body, ring) = (callback.body(), ring(Program::Ingest));
    match decode(&authenticate(&body, &ring).unwrap().content).unwrap() {
        Notification::Refund(refund) => refund,
        other => panic!("not a refund: {other:?}"),
    }
}

fn refusal(callback: &Callback) -> DecodeError {
    let (body, ring) = (callback.body(), ring(Program::Ingest));
    decode(&authenticate(&body, &ring).unwrap().content).unwrap_err()
}
