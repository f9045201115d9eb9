//! Combined orders: one callback about several orders, of one merchant or of several, in both APIs.
//!
//! In reading order: `both` (what holds of either API), `v2` and `v3` (how each names things).
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail like tests")]

mod both;
mod v2;
mod v3;

use kit::callback::{self, Callback};
use kit::merchants::{MERCHANT, MerchantsFile};
use kit::v3 as event;
use serde_json::{Value, json};
use shared::domain::notification::{Notification, Payment, PaymentResult, PaymentSuccess};
use shared::merchants_file::{self, Program};
use shared::protocol::keys::KeyRing;
use shared::protocol::v2::payment;
use shared::protocol::v3::{notification, resource};
use shared::protocol::{DecodeError, Part};

/// Either API.
#[derive(Debug, Clone, Copy)]
enum Api {
    V2,
    V3,
}

const BOTH: [Api; 2] = [Api::V2, Api::V3];

impl Api {
    fn sub_order(self, mch_id: &str, out_trade_no: &str) -> Value {
        match self {
            Self::V2 => callback::sub_order(mch_id, out_trade_no),
            Self::V3 => event::sub_order(mch_id, out_trade_no),
        }
    }

    /// What a combined order of these says.
    fn said(self, sub_orders: &[Value]) -> Result<Vec<Part>, DecodeError> {
        match self {
            Self::V2 => said_v2(&Callback::combined("c-1", sub_orders)),
            Self::V3 => said_v3(&event::Event::combined("c-1", sub_orders)),
        }
    }

    fn list(self) -> &'static str {
        match self {
            Self::V2 => "sub_order_list",
            Self::V3 => "sub_orders",
        }
    }
}

fn said_v2(callback: &Callback) -> Result<Vec<Part>, DecodeError> {
    let (body, ring) = (callback.body(), ring());
    let authentic = payment::authenticate(&body, &ring).unwrap();
    assert_eq!(authentic.key.mch_id.as_str(), MERCHANT);
    payment::decode(&authentic.content.unambiguous().unwrap(), authentic.merchant)
}

fn said_v3(event: &event::Event) -> Result<Vec<Part>, DecodeError> {
    let (body, ring) = (event.post().body, ring());
    let authentic = resource::open(&body, MERCHANT, &ring).unwrap();
    notification::decode(&authentic.content, authentic.merchant)
}

/// Of the kit: MERCHANT may combine PARTNER's orders with its own, INSTITUTION its own only.
fn ring() -> KeyRing {
    let file = MerchantsFile::write().unwrap();
    merchants_file::load(file.path(), Program::Worker).unwrap()
}

/// With this value at this place, as in `/amount/total_amount`.
fn set(mut sub_order: Value, pointer: &str, value: Value) -> Value {
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    sub_order.pointer_mut(parent).unwrap().as_object_mut().unwrap().insert(name.to_owned(), value);
    sub_order
}

fn payment_in(part: &Part) -> &Payment {
    match part {
        Ok(Notification::Payment(payment)) => payment,
        other => panic!("not a payment: {other:?}"),
    }
}

fn success_in(part: &Part) -> &PaymentSuccess {
    match &payment_in(part).result {
        PaymentResult::Success(success) => success,
        PaymentResult::NotSuccessful => panic!("not a success: {part:?}"),
    }
}

fn null() -> Value {
    json!(null)
}
