//! The v3 callback of a combined order: sealed for the merchant that combined it, with a list of sub-orders inside.
//!
//! Source: <https://pay.weixin.qq.com/wiki/doc/apiv3/apis/chapter5_1_13.shtml>. Each sub-order has its own merchant, number, state, payment, amount
//! and time; the app is the one through which all were paid.

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::domain::ids::{AppId, MchId, OutTradeNo, SubMchId, TransactionId};
use crate::domain::money::{Currency, Money};
use crate::domain::notification::{Notification, Payment, PaymentResult, PaymentSuccess};
use crate::protocol::combined::parts;
use crate::protocol::error::{DecodeError, Part};
use crate::protocol::json::{Node, optional, parse_time, required, sum};
use crate::protocol::keys::Merchant;
use crate::protocol::trade_state::TradeState;

#[derive(Deserialize)]
struct CombinedResource {
    combine_mchid: Option<String>,
    combine_appid: Option<String>,
    combine_out_trade_no: Option<String>,
    sub_orders: Option<Vec<Node>>,
    out_trade_no: Option<IgnoredAny>,
    transaction_id: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct SubOrder {
    mchid: Option<String>,
    sub_mchid: Option<String>,
    sub_appid: Option<String>,
    out_trade_no: Option<String>,
    transaction_id: Option<String>,
    trade_state: Option<String>,
    success_time: Option<String>,
    amount: Option<Amount>,
}

#[derive(Deserialize)]
struct Amount {
    total_amount: Option<i64>,
    currency: Option<String>,
}

/// Whether the resource is that of a combined order, well-formed or not, whatever its kind.
pub(super) fn is_combined(resource: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Marks {
        combine_mchid: Option<IgnoredAny>,
        combine_out_trade_no: Option<IgnoredAny>,
        sub_orders: Option<IgnoredAny>,
    }
    serde_json::from_slice::<Marks>(resource).is_ok_and(|marks| {
        [marks.combine_mchid, marks.combine_out_trade_no, marks.sub_orders].iter().any(Option::is_some)
    })
}

/// The parts of the combined order whose resource a key of `merchant` has opened.
pub(super) fn decode(resource: &[u8], merchant: &Merchant) -> Result<Vec<Part>, DecodeError> {
    let resource: CombinedResource =
        serde_json::from_slice(resource).map_err(|_| DecodeError::Malformed("the resource of a combined order"))?;
    if resource.out_trade_no.is_some() || resource.transaction_id.is_some() {
        return Err(DecodeError::CombinedAndSingle);
    }
    if required("combine_mchid", resource.combine_mchid.as_deref(), MchId::parse)? != *merchant.mch_id() {
        return Err(DecodeError::OtherMerchant);
    }
    required("combine_out_trade_no", resource.combine_out_trade_no.as_deref(), OutTradeNo::parse)?;
    let app_id = optional("combine_appid", resource.combine_appid.as_deref(), AppId::parse)?;
    parts("sub_orders", resource.sub_orders.unwrap_or_default(), merchant, |node| {
        let sub_order: SubOrder = node.read().ok_or(DecodeError::Malformed("a sub-order"))?;
        sub_order.decode(app_id.as_ref())
    })
}

impl SubOrder {
    fn decode(&self, app_id: Option<&AppId>) -> Part {
        let out_trade_no = optional("out_trade_no", self.out_trade_no.as_deref(), OutTradeNo::parse)?;
        let result = match required("trade_state", self.trade_state.as_deref(), TradeState::parse)? {
            TradeState::NotPaid => PaymentResult::NotSuccessful,
            TradeState::Paid if out_trade_no.is_none() => return Err(DecodeError::Missing("out_trade_no")),
            TradeState::Paid => PaymentResult::Success(self.success()?),
        };
        Ok(Notification::Payment(Payment {
            mch_id: required("mchid", self.mchid.as_deref(), MchId::parse)?,
            sub_mch_id: optional("sub_mchid", self.sub_mchid.as_deref(), SubMchId::parse)?,
            app_id: app_id.cloned(),
            sub_app_id: optional("sub_appid", self.sub_appid.as_deref(), AppId::parse)?,
            out_trade_no,
            result,
        }))
    }

    fn success(&self) -> Result<PaymentSuccess, DecodeError> {
        let amount = self.amount.as_ref().ok_or(DecodeError::Missing("amount"))?;
        let currency = optional("amount.currency", amount.currency.as_deref(), Currency::parse)?;
        Ok(PaymentSuccess {
            transaction_id: required("transaction_id", self.transaction_id.as_deref(), TransactionId::parse)?,
            total: Money {
                amount_minor: sum("amount.total_amount", amount.total_amount)?,
                currency: currency.unwrap_or(Currency::CNY),
            },
            paid_at: required("success_time", self.success_time.as_deref(), parse_time)?,
        })
    }
}
