//! The v2 callback of a combined order: signed by the merchant that combined it, the orders in a JSON list inside a field.
//!
//! Source: <https://pay.weixin.qq.com/wiki/doc/api/combine.php?chapter=24_4>. Each sub-order names its own merchant, number, payment,
//! amount and time; if it lacks app, time or result, those of the callback as a whole apply.

use serde::Deserialize;

use super::fields::{
    TIME_END_FORMAT, optional as optional_field, parse_amount, parse_china_time, required as required_field,
};
use super::state::{state_of, state_of_sub_order};
use super::xml::Fields;
use crate::domain::ids::{AppId, MchId, OutTradeNo, SubMchId, TransactionId};
use crate::domain::money::{Currency, Money};
use crate::domain::notification::{Notification, Payment, PaymentResult, PaymentSuccess};
use crate::protocol::combined;
use crate::protocol::error::{DecodeError, Part};
use crate::protocol::json::{Node, optional, required, sum};
use crate::protocol::keys::Merchant;
use crate::protocol::trade_state::TradeState;

/// The merchant that combined the orders and whose key signed them.
pub(super) const COMBINE_MCH_ID: &str = "combine_mch_id";
const LIST: &str = "sub_order_list";
/// Fields of a callback about one order that a combined order's never has.
const SINGLE: [&str; 3] = ["mch_id", "out_trade_no", "transaction_id"];

#[derive(Deserialize)]
struct List {
    order_num: Option<Whole>,
    order_list: Vec<Node>,
}

/// A number that may be in quotation marks.
#[derive(Deserialize)]
#[serde(untagged)]
enum Whole {
    Number(i64),
    Text(String),
}

#[derive(Deserialize)]
struct SubOrder {
    appid: Option<String>,
    mch_id: Option<String>,
    sub_appid: Option<String>,
    sub_mch_id: Option<String>,
    out_trade_no: Option<String>,
    transaction_id: Option<String>,
    total_fee: Option<Whole>,
    fee_type: Option<String>,
    time_end: Option<String>,
    result_code: Option<String>,
    trade_state: Option<String>,
}

/// Whether the fields are those of a combined order, well-formed or not.
pub(super) fn is_combined(fields: &Fields<'_>) -> bool {
    [COMBINE_MCH_ID, "combine_out_trade_no", LIST].iter().any(|name| fields.get(name).is_some())
}

/// The parts of the combined order that `merchant` has signed.
pub(super) fn decode(fields: &Fields<'_>, merchant: &Merchant) -> Result<Vec<Part>, DecodeError> {
    if SINGLE.iter().any(|name| fields.get(name).is_some()) {
        return Err(DecodeError::CombinedAndSingle);
    }
    if required_field(fields, COMBINE_MCH_ID, MchId::parse)? != *merchant.mch_id() {
        return Err(DecodeError::OtherMerchant);
    }
    let state = state_of(fields)?;
    let app_id = optional_field(fields, "combine_appid", AppId::parse)?;
    if state == TradeState::NotPaid && fields.get(LIST).is_none() {
        return Ok(vec![Ok(not_successful(merchant, app_id))]);
    }
    required_field(fields, "combine_out_trade_no", OutTradeNo::parse)?;
    let sub_orders = required_field(fields, LIST, list)?;
    let time_end = fields.get("time_end");
    let read = |node: Node| {
        let sub_order: SubOrder = node.read().ok_or(DecodeError::Malformed("a sub-order"))?;
        sub_order.decode(state, app_id.as_ref(), time_end)
    };
    combined::parts(LIST, sub_orders, merchant, read)
}

/// The sub-orders of a combined order whose list can be read.
pub(in crate::protocol) fn sub_orders(fields: &Fields<'_>) -> Option<Vec<Node>> {
    fields.get(LIST).and_then(list)
}

/// The sub-orders, if there are as many as the list claims.
fn list(text: &str) -> Option<Vec<Node>> {
    let list: List = serde_json::from_str(text).ok()?;
    let counted = list.order_num.map(|number| number.parse().and_then(|number| usize::try_from(number).ok()));
    (counted.is_none_or(|number| number == Some(list.order_list.len()))).then_some(list.order_list)
}

/// The report that a combined order as a whole failed names no single order.
fn not_successful(merchant: &Merchant, app_id: Option<AppId>) -> Notification {
    Notification::Payment(Payment {
        mch_id: merchant.mch_id().clone(),
        sub_mch_id: None,
        app_id,
        sub_app_id: None,
        out_trade_no: None,
        result: PaymentResult::NotSuccessful,
    })
}

impl Whole {
    fn parse(&self) -> Option<i64> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Text(digits) => parse_amount(digits),
        }
    }
}

impl SubOrder {
    fn decode(&self, whole: TradeState, app_id: Option<&AppId>, time_end: Option<&str>) -> Part {
        let state = state_of_sub_order(whole, self.result_code.as_deref(), self.trade_state.as_deref())?;
        let out_trade_no = optional("out_trade_no", self.out_trade_no.as_deref(), OutTradeNo::parse)?;
        let result = match state {
            TradeState::NotPaid => PaymentResult::NotSuccessful,
            TradeState::Paid if out_trade_no.is_none() => return Err(DecodeError::Missing("out_trade_no")),
            TradeState::Paid => PaymentResult::Success(self.success(time_end)?),
        };
        Ok(Notification::Payment(Payment {
            mch_id: required("mch_id", self.mch_id.as_deref(), MchId::parse)?,
            sub_mch_id: optional("sub_mch_id", self.sub_mch_id.as_deref(), SubMchId::parse)?,
            app_id: optional("appid", self.appid.as_deref(), AppId::parse)?.or_else(|| app_id.cloned()),
            sub_app_id: optional("sub_appid", self.sub_appid.as_deref(), AppId::parse)?,
            out_trade_no,
            result,
        }))
    }

    fn success(&self, time_end: Option<&str>) -> Result<PaymentSuccess, DecodeError> {
        let total_fee = self.total_fee.as_ref().ok_or(DecodeError::Missing("total_fee"))?;
        let amount_minor = total_fee.parse().ok_or(DecodeError::Malformed("total_fee"))?;
        let time = |text: &str| parse_china_time(text, TIME_END_FORMAT);
        Ok(PaymentSuccess {
            transaction_id: required("transaction_id", self.transaction_id.as_deref(), TransactionId::parse)?,
            total: Money {
                amount_minor: sum("total_fee", Some(amount_minor))?,
                currency: optional("fee_type", self.fee_type.as_deref(), Currency::parse)?.unwrap_or(Currency::CNY),
            },
            paid_at: required("time_end", self.time_end.as_deref().or(time_end), time)?,
        })
    }
}
