//! The bytes of v2 callbacks, as WeChat Pay really sends them, signed, sealed or forged.
//!
//! Varied where real ones vary: CDATA or bare values, alphabetical or other order, one line or many, with or without
//! `sign_type`, coupons, fields that no document knows, an `attach` full of markup. Every call draws a fresh
//! `nonce_str`, so no two bodies are equal.
//! Source: pay.weixin.qq.com/doc/v2/merchant/4011937248 and published real messages.

use std::borrow::Cow;
use std::fmt::Write;

use chrono::{DateTime, FixedOffset, Utc};
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use secrecy::{ExposeSecret, SecretString};
use shared::protocol::keys::SignType;
use shared::protocol::v2::signature::sign_fields;

use crate::merchants::Merchant;
use crate::plan::{Forgery, Order, PayResult, PaymentClaim, RefundClaim, RefundResult};
use signer::encrypt_req_info;

/// v2's times are in China's time.
const CHINA_OFFSET_SECONDS: i32 = 8 * 60 * 60;
/// What a forger signs with.
const FORGERS_KEY: &str = "0123456789abcdef0123456789abcdef";
/// What a forger makes of an amount: one digit more.
const ALTERED_DIGIT: char = '9';

const NONCE_CHARACTERS: &[u8] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
const BANKS: [&str; 4] = ["CMB_DEBIT", "ICBC_CREDIT", "OTHERS", "CFT"];
const TRADE_TYPES: [&str; 4] = ["JSAPI", "NATIVE", "APP", "MWEB"];
const ATTACHMENTS: [&str; 4] =
    ["订单附言 & <测试>", r#"{"店铺":"深圳分店","table":7,"note":"a&b \"c\""}"#, "plain text", "5 < 7 > 3 & \u{1F9E7}"];

struct Field {
    name: Cow<'static, str>,
    value: Cow<'static, str>,
    /// Numbers are mostly bare, the rest is mostly CDATA.
    bare: bool,
}

/// The bytes of a payment callback of `order`, which is one of `merchant`'s.
pub fn payment(
    claim: &PaymentClaim,
    forgery: Option<Forgery>,
    order: &Order,
    merchant: &Merchant,
    rng: &mut StdRng,
) -> Vec<u8> {
    let mut fields = Vec::with_capacity(36);
    push_common(&mut fields, claim, order, merchant, rng);
    match claim.result {
        PayResult::Success => push_payment(&mut fields, claim, rng),
        PayResult::TradeStateFail => {
            push_payment(&mut fields, claim, rng);
            push(&mut fields, "trade_state", "PAY_FAIL");
        }
        PayResult::ResultFail => {
            push(&mut fields, "err_code", "NOTENOUGH");
            push(&mut fields, "err_code_des", "账户余额不足");
            push(&mut fields, "contract_id", "Wx15463511252015071056489715");
        }
    }
    sign(&mut fields, forgery, merchant, rng);
    if rng.random_bool(0.3) {
        fields.shuffle(rng);
    }
    render("xml", &fields, rng)
}

/// The bytes of a refund callback of `order`: the numbers sealed inside a body that is not signed.
pub fn refund(
    claim: &RefundClaim,
    forgery: Option<Forgery>,
    order: &Order,
    merchant: &Merchant,
    rng: &mut StdRng,
) -> Vec<u8> {
    let (status, is_success) = match claim.result {
        RefundResult::Succeeded => ("SUCCESS", true),
        RefundResult::Abnormal => ("CHANGE", false),
        RefundResult::Closed => ("REFUNDCLOSE", false),
    };
    let mut sealed = Vec::with_capacity(14);
    push(&mut sealed, "transaction_id", claim.transaction_id.clone());
    push(&mut sealed, "out_trade_no", order.out_trade_no.clone());
    push(&mut sealed, "refund_id", claim.refund_id.clone());
    push(&mut sealed, "out_refund_no", claim.out_refund_no.clone());
    push_number(&mut sealed, "total_fee", claim.total_minor);
    push_number(&mut sealed, "settlement_total_fee", claim.total_minor);
    push_number(&mut sealed, "refund_fee", claim.amount_minor);
    push_number(&mut sealed, "settlement_refund_fee", claim.amount_minor);
    push(&mut sealed, "refund_status", status);
    if is_success {
        push(&mut sealed, "success_time", china_time(claim.succeeded_at, "%Y-%m-%d %H:%M:%S"));
    }
    push(&mut sealed, "refund_recv_accout", pick(&["招商银行信用卡0403", "用户零钱"], rng));
    push(&mut sealed, "refund_account", "REFUND_SOURCE_RECHARGE_FUNDS");
    push(&mut sealed, "refund_request_source", pick(&["API", "VENDOR_PLATFORM"], rng));
    let sealed = render("root", &sealed, rng);
    let key = if forgery == Some(Forgery::WrongKey) { FORGERS_KEY } else { merchant.key.expose_secret() };
    let mut req_info = encrypt_req_info(key, &sealed);
    if forgery == Some(Forgery::Altered) {
        // One block less: what is left is no refund any more.
        req_info.drain(..64);
    }

    let mut fields = Vec::with_capacity(8);
    push(&mut fields, "return_code", "SUCCESS");
    push(&mut fields, "appid", order.app_id.unwrap_or("wx0000000000000001"));
    push(&mut fields, "mch_id", merchant.mch_id.clone());
    if let Some(sub_mch_id) = order.sub_mch_id {
        push(&mut fields, "sub_mch_id", sub_mch_id);
    }
    push(&mut fields, "nonce_str", nonce(rng));
    if forgery != Some(Forgery::NoSign) {
        push(&mut fields, "req_info", req_info);
    }
    render("xml", &fields, rng)
}

/// What every callback has.
fn push_common(fields: &mut Vec<Field>, claim: &PaymentClaim, order: &Order, merchant: &Merchant, rng: &mut StdRng) {
    // An institution names its own app, and the shop's as the second one.
    if claim.sub_mch_id.is_some() && rng.random_bool(0.5) {
        push(fields, "appid", "wx0000000000000001");
        push(fields, "sub_appid", claim.app_id);
    } else {
        push(fields, "appid", claim.app_id);
    }
    push(fields, "mch_id", merchant.mch_id.clone());
    if let Some(sub_mch_id) = claim.sub_mch_id {
        push(fields, "sub_mch_id", sub_mch_id);
    }
    push(fields, "nonce_str", nonce(rng));
    push(fields, "return_code", "SUCCESS");
    if rng.random_bool(0.3) {
        push(fields, "return_msg", "OK");
    }
    push(fields, "result_code", if claim.result == PayResult::ResultFail { "FAIL" } else { "SUCCESS" });
    push(fields, "out_trade_no", order.out_trade_no.clone());
}

/// What a payment with a sum and a transaction has.
fn push_payment(fields: &mut Vec<Field>, claim: &PaymentClaim, rng: &mut StdRng) {
    push(fields, "openid", format!("oUpF8u{}", nonce(rng).get(..22).unwrap_or_default()));
    push(fields, "is_subscribe", pick(&["Y", "N"], rng));
    push(fields, "trade_type", pick(&TRADE_TYPES, rng));
    push(fields, "bank_type", pick(&BANKS, rng));
    push(fields, "transaction_id", claim.transaction_id.clone());
    push(fields, "time_end", china_time(claim.paid_at, "%Y%m%d%H%M%S"));
    push_number(fields, "total_fee", claim.amount_minor);
    // Mainland callbacks mostly leave the currency out, which means CNY.
    if claim.currency != "CNY" || rng.random_bool(0.5) {
        push(fields, "fee_type", claim.currency);
    }
    push_cash(fields, claim, rng);
    if rng.random_bool(0.4) {
        push(fields, "attach", pick(&ATTACHMENTS, rng));
    } else if rng.random_bool(0.2) {
        push(fields, "attach", "");
    }
    if rng.random_bool(0.1) {
        push(fields, "device_info", "WEB");
    }
    if rng.random_bool(0.1) {
        // Names that no document has: they are signed like all others.
        push(fields, "Zone_Hint", "ap-guangzhou");
        push(fields, "x_future_field", "值 1");
    }
}

/// What the payer really gave: after coupons, in the payer's own currency. Never to be compared with the order.
fn push_cash(fields: &mut Vec<Field>, claim: &PaymentClaim, rng: &mut StdRng) {
    if claim.currency != "CNY" {
        // Close enough to a rate: the cash of a foreign payment is another number in another currency.
        push_number(fields, "cash_fee", claim.amount_minor.saturating_mul(7));
        push(fields, "cash_fee_type", "CNY");
        push(fields, "rate_value", "700000000");
    } else if claim.amount_minor > 2 && rng.random_bool(0.2) {
        let coupon = rng.random_range(1..claim.amount_minor);
        push_number(fields, "cash_fee", claim.amount_minor.saturating_sub(coupon));
        push_number(fields, "coupon_fee", coupon);
        push_number(fields, "coupon_count", 1);
        push_number(fields, "coupon_fee_0", coupon);
        push(fields, "coupon_id_0", nonce(rng).get(..12).unwrap_or_default().to_owned());
        push_number(fields, "settlement_total_fee", claim.amount_minor.saturating_sub(coupon));
    } else {
        push_number(fields, "cash_fee", claim.amount_minor);
    }
}

fn sign(fields: &mut Vec<Field>, forgery: Option<Forgery>, merchant: &Merchant, rng: &mut StdRng) {
    let digest = merchant.sign_types.choose(rng).copied().unwrap_or(SignType::Md5);
    // In reality most callbacks do not name their digest, whatever it is.
    if rng.random_bool(0.4) {
        push(fields, "sign_type", digest.name());
    }
    fields.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    let pairs = fields.iter().map(|field| (field.name.as_ref(), field.value.as_ref()));
    match forgery {
        Some(Forgery::NoSign) => {}
        Some(Forgery::WrongKey) => {
            let sign = sign_fields(pairs, &SecretString::from(FORGERS_KEY), digest);
            push(fields, "sign", sign);
        }
        Some(Forgery::Altered) => {
            let sign = sign_fields(pairs, &merchant.key, digest);
            push(fields, "sign", sign);
            if let Some(amount) = fields.iter_mut().find(|field| field.name == "total_fee") {
                amount.value.to_mut().push(ALTERED_DIGIT);
            }
        }
        None => {
            let sign = sign_fields(pairs, &merchant.key, digest);
            push(fields, "sign", sign);
        }
    }
}

fn render(root: &str, fields: &[Field], rng: &mut StdRng) -> Vec<u8> {
    let between = pick(&["", "\n", "\r\n  "], rng);
    let mut xml = String::with_capacity(2048);
    extend(&mut xml, format_args!("<{root}>"));
    for field in fields {
        xml.push_str(between);
        let name = &field.name;
        let bare = field.bare || rng.random_bool(0.1);
        if field.value.is_empty() && rng.random_bool(0.5) {
            extend(&mut xml, format_args!("<{name}/>"));
        } else if bare {
            extend(&mut xml, format_args!("<{name}>"));
            push_escaped(&mut xml, &field.value);
            extend(&mut xml, format_args!("</{name}>"));
        } else {
            extend(&mut xml, format_args!("<{name}><![CDATA[{}]]></{name}>", field.value));
        }
    }
    xml.push_str(if between.is_empty() { "" } else { "\n" });
    extend(&mut xml, format_args!("</{root}>"));
    xml.into_bytes()
}

fn push_escaped(xml: &mut String, value: &str) {
    for character in value.chars() {
        match character {
            '&' => xml.push_str("&amp;"),
            '<' => xml.push_str("&lt;"),
            '>' => xml.push_str("&#62;"),
            '"' => xml.push_str("&quot;"),
            other => xml.push(other),
        }
    }
}

fn extend(xml: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _infallible = xml.write_fmt(text);
}

fn push(fields: &mut Vec<Field>, name: &'static str, value: impl Into<Cow<'static, str>>) {
    fields.push(Field { name: Cow::Borrowed(name), value: value.into(), bare: false });
}

fn push_number(fields: &mut Vec<Field>, name: &'static str, value: i64) {
    fields.push(Field { name: Cow::Borrowed(name), value: Cow::Owned(value.to_string()), bare: true });
}

fn china_time(time: DateTime<Utc>, format: &str) -> String {
    let local = FixedOffset::east_opt(CHINA_OFFSET_SECONDS)
        .map_or_else(|| time.naive_utc(), |china| time.with_timezone(&china).naive_local());
    local.format(format).to_string()
}

pub(super) fn nonce(rng: &mut StdRng) -> String {
    (0..32).map(|_| char::from(NONCE_CHARACTERS.choose(rng).copied().unwrap_or(b'0'))).collect()
}

fn pick<const N: usize>(choices: &[&'static str; N], rng: &mut StdRng) -> &'static str {
    choices.choose(rng).copied().unwrap_or_default()
}
