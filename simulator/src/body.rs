//! The bytes of a v2 payment callback, as WeChat Pay really sends them, signed or forged.
//!
//! Varied where real ones vary: CDATA or bare values, alphabetical or other order, one line or many, with or without
//! `sign_type`, coupons, fields that no document knows, an `attach` full of markup. Every call draws a fresh
//! `nonce_str`, so no two bodies are equal.
//! Source: pay.weixin.qq.com/doc/v2/merchant/4011937248 and published real messages.

use std::borrow::Cow;
use std::fmt::Write;

use chrono::FixedOffset;
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use secrecy::SecretString;
use shared::protocol::v2::signature::{SignType, sign_fields};

use crate::merchants::Merchant;
use crate::plan::{Callback, Forgery, Order, PayResult, Says};

/// `time_end` is in China's time.
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

/// The bytes of `callback`, which claims to be about `order` of `merchant`.
pub fn write(callback: &Callback, order: &Order, merchant: &Merchant, rng: &mut StdRng) -> Vec<u8> {
    let mut fields = Vec::with_capacity(36);
    push_common(&mut fields, &callback.says, order, merchant, rng);
    match callback.says.result {
        PayResult::Success => push_payment(&mut fields, &callback.says, rng),
        PayResult::TradeStateFail => {
            push_payment(&mut fields, &callback.says, rng);
            push(&mut fields, "trade_state", "PAY_FAIL");
        }
        PayResult::ResultFail => {
            push(&mut fields, "err_code", "NOTENOUGH");
            push(&mut fields, "err_code_des", "账户余额不足");
            push(&mut fields, "contract_id", "Wx15463511252015071056489715");
        }
    }
    sign(&mut fields, callback.forgery, merchant, rng);
    if rng.random_bool(0.3) {
        fields.shuffle(rng);
    }
    render(&fields, rng)
}

/// What every callback has.
fn push_common(fields: &mut Vec<Field>, says: &Says, order: &Order, merchant: &Merchant, rng: &mut StdRng) {
    // An institution names its own app, and the shop's as the second one.
    if says.sub_mch_id.is_some() && rng.random_bool(0.5) {
        push(fields, "appid", "wx0000000000000001");
        push(fields, "sub_appid", says.app_id);
    } else {
        push(fields, "appid", says.app_id);
    }
    push(fields, "mch_id", merchant.mch_id.clone());
    if let Some(sub_mch_id) = says.sub_mch_id {
        push(fields, "sub_mch_id", sub_mch_id);
    }
    push(fields, "nonce_str", nonce(rng));
    push(fields, "return_code", "SUCCESS");
    if rng.random_bool(0.3) {
        push(fields, "return_msg", "OK");
    }
    push(fields, "result_code", if says.result == PayResult::ResultFail { "FAIL" } else { "SUCCESS" });
    push(fields, "out_trade_no", order.out_trade_no.clone());
}

/// What a payment with a sum and a transaction has.
fn push_payment(fields: &mut Vec<Field>, says: &Says, rng: &mut StdRng) {
    push(fields, "openid", format!("oUpF8u{}", nonce(rng).get(..22).unwrap_or_default()));
    push(fields, "is_subscribe", pick(&["Y", "N"], rng));
    push(fields, "trade_type", pick(&TRADE_TYPES, rng));
    push(fields, "bank_type", pick(&BANKS, rng));
    push(fields, "transaction_id", says.transaction_id.clone());
    push(fields, "time_end", china_time(says));
    push_number(fields, "total_fee", says.amount_minor);
    // Mainland callbacks mostly leave the currency out, which means CNY.
    if says.currency != "CNY" || rng.random_bool(0.5) {
        push(fields, "fee_type", says.currency);
    }
    push_cash(fields, says, rng);
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
fn push_cash(fields: &mut Vec<Field>, says: &Says, rng: &mut StdRng) {
    if says.currency != "CNY" {
        // Close enough to a rate: the cash of a foreign payment is another number in another currency.
        push_number(fields, "cash_fee", says.amount_minor.saturating_mul(7));
        push(fields, "cash_fee_type", "CNY");
        push(fields, "rate_value", "700000000");
    } else if says.amount_minor > 2 && rng.random_bool(0.2) {
        let coupon = rng.random_range(1..says.amount_minor);
        push_number(fields, "cash_fee", says.amount_minor.saturating_sub(coupon));
        push_number(fields, "coupon_fee", coupon);
        push_number(fields, "coupon_count", 1);
        push_number(fields, "coupon_fee_0", coupon);
        push(fields, "coupon_id_0", nonce(rng).get(..12).unwrap_or_default().to_owned());
        push_number(fields, "settlement_total_fee", says.amount_minor.saturating_sub(coupon));
    } else {
        push_number(fields, "cash_fee", says.amount_minor);
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
        Some(Forgery::AmountAltered) => {
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

fn render(fields: &[Field], rng: &mut StdRng) -> Vec<u8> {
    let between = pick(&["", "\n", "\r\n  "], rng);
    let mut xml = String::with_capacity(2048);
    xml.push_str("<xml>");
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
    xml.push_str("</xml>");
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

fn china_time(says: &Says) -> String {
    let local = FixedOffset::east_opt(CHINA_OFFSET_SECONDS)
        .map_or_else(|| says.paid_at.naive_utc(), |china| says.paid_at.with_timezone(&china).naive_local());
    local.format("%Y%m%d%H%M%S").to_string()
}

fn nonce(rng: &mut StdRng) -> String {
    (0..32).map(|_| char::from(NONCE_CHARACTERS.choose(rng).copied().unwrap_or(b'0'))).collect()
}

fn pick<const N: usize>(choices: &[&'static str; N], rng: &mut StdRng) -> &'static str {
    choices.choose(rng).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use rand::SeedableRng;
    use shared::domain::ids::SubMchId;
    use shared::domain::notification::{Notification, PaymentResult};
    use shared::protocol::AuthenticateError;
    use shared::protocol::merchants::{KeyRing, Side};
    use shared::protocol::v2::payment;

    use super::*;
    use crate::plan::{Plan, Run, draw};
    use crate::scenarios::Scenario;
    use crate::scenarios::tests::mix;

    const RING: &str = r#"
        [[merchant]]
        mch_id = "1900000109"
        v2_keys = ["k1k1k1k1k1k1k1k1k1k1k1k1k1k1k1k1"]
        [[merchant]]
        mch_id = "1900000200"
        v2_keys = ["k2k2k2k2k2k2k2k2k2k2k2k2k2k2k2k2"]
        v2_sign_types = ["HMAC-SHA256"]
    "#;

    fn merchants() -> Vec<Merchant> {
        let merchant = |mch_id: &str, key: &str, sign_types: &[SignType]| Merchant {
            mch_id: mch_id.to_owned(),
            key: SecretString::from(key.repeat(16)),
            sign_types: sign_types.to_vec(),
        };
        vec![
            merchant("1900000109", "k1", &[SignType::Md5, SignType::HmacSha256]),
            merchant("1900000200", "k2", &[SignType::HmacSha256]),
        ]
    }

    fn plan() -> Plan {
        let run = Run { prefix: "SIM-".to_owned(), serial: 1, started_at: DateTime::UNIX_EPOCH };
        draw(run, 3_000, &merchants(), &mix(&[]), &mut StdRng::seed_from_u64(5))
    }

    #[test]
    fn genuine_bodies_say_what_the_plan_says_and_forged_ones_are_not_authentic() {
        let (plan, merchants) = (plan(), merchants());
        let key_ring = KeyRing::parse(RING, Side::Edge).unwrap();
        let mut rng = StdRng::seed_from_u64(9);
        for callback in &plan.callbacks {
            let order = &plan.orders[callback.order];
            let body = write(callback, order, &merchants[order.merchant], &mut rng);
            let read = payment::authenticate(&body, &key_ring);
            if callback.forgery.is_some() {
                assert!(matches!(read, Err(AuthenticateError::NotAuthentic(_))), "{}", String::from_utf8_lossy(&body));
                continue;
            }
            let Notification::Payment(payment) = payment::decode(&read.unwrap()).unwrap();
            let says = &callback.says;
            assert_eq!(payment.out_trade_no.unwrap().as_str(), order.out_trade_no);
            assert_eq!(payment.sub_mch_id.as_ref().map(SubMchId::as_str), says.sub_mch_id);
            let apps = [payment.app_id, payment.sub_app_id].into_iter().flatten();
            assert!(order.app_id.is_none_or(|app| apps.into_iter().any(|one| one.as_str() == app)));
            match payment.result {
                PaymentResult::Success(success) => {
                    assert_eq!(says.result, PayResult::Success);
                    assert_eq!(success.transaction_id.as_str(), says.transaction_id);
                    assert_eq!(success.total.amount_minor, says.amount_minor);
                    assert_eq!(success.total.currency.as_str(), says.currency);
                    assert_eq!(success.paid_at, says.paid_at);
                }
                PaymentResult::NotSuccessful => assert_eq!(order.scenario, Scenario::NotSuccessful),
            }
        }
    }

    #[test]
    fn the_same_callback_written_twice_differs_by_its_nonce() {
        let (plan, merchants) = (plan(), merchants());
        let mut rng = StdRng::seed_from_u64(9);
        let mut write = || write(&plan.callbacks[0], &plan.orders[0], &merchants[plan.orders[0].merchant], &mut rng);
        assert_ne!(write(), write());
    }
}
