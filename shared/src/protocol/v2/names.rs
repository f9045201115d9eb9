//! The field names of API v2, which reveal a value that contains other fields.
//!
//! They are the top-level fields of every v2 text that is signed with the API key and is about money or a contract: orders,
//! combined orders, deposits, payment codes, queries, closing and reversing, refunds and refund queries, deductions and
//! contracts, coupons, additional fields of cross-border merchants, every callback, and the parameters of the payer's app.
//! The fields of interfaces that move no order (red packets, transfers, the opening of accounts, bills for hotels and
//! rentals) are left out where merchants use the same words for their own: each text of those has a `mch_id`, a `nonce_str`
//! or a `result_code` as well, and none of them carries a payer's words.

/// Sorted; the numbered ones without their numbers, and without those of [`FAMILIES`].
static NAMES: [&str; 136] = [
    "algorithm",
    "appId",
    "appid",
    "attach",
    "auth_code",
    "bank_billno",
    "bank_type",
    "body",
    "cert_serial_no",
    "change_type",
    "clientip",
    "code_url",
    "consume_fee",
    "creid",
    "deduct_mode",
    "deposit",
    "deposit_amount",
    "detail",
    "device_info",
    "deviceid",
    "enc_bank_no",
    "err_code",
    "err_code_des",
    "error_code",
    "event_algorithm",
    "event_associated_data",
    "event_ciphertext",
    "event_code",
    "event_create_time",
    "event_id",
    "event_nonce",
    "event_type",
    "exchange_rate",
    "face_code",
    "fee_type",
    "finish_ticket",
    "finish_transaction_id",
    "goods_detail",
    "goods_tag",
    "interface_url",
    "is_subscribe",
    "key",
    "limit_pay",
    "long_url",
    "mch_appid",
    "mch_id",
    "mchid",
    "merchant_contribute",
    "miniprogram_appid",
    "mweb_url",
    "nonceStr",
    "nonce_str",
    "noncestr",
    "notify_url",
    "op_user_id",
    "op_user_passwd",
    "openid",
    "operate_time",
    "order_fee",
    "other_contribute",
    "out_order_no",
    "out_refund_no",
    "out_request_no",
    "out_trade_no",
    "package",
    "partnerid",
    "paySign",
    "pay_fee",
    "pay_net_fee",
    "pay_type",
    "plan_id",
    "plate_number",
    "plate_number_info",
    "poundage_fee",
    "pre_entrustweb_id",
    "prepay_id",
    "prepayid",
    "product_id",
    "profit_sharing",
    "rate",
    "rate_time",
    "rate_value",
    "re_openid",
    "recall",
    "receipt",
    "redirect_url",
    "req_info",
    "request_serial",
    "result_code",
    "result_msg",
    "retcode",
    "retmsg",
    "return_app",
    "return_appid",
    "return_code",
    "return_msg",
    "return_web",
    "risk_level",
    "risk_level_desc",
    "scene_info",
    "service_id",
    "settlementfee_type",
    "short_url",
    "sign",
    "signType",
    "sign_type",
    "spbill_create_ip",
    "split_settlement_fee",
    "split_unsettlement_fee",
    "sub_appid",
    "sub_is_subscribe",
    "sub_mch_id",
    "sub_mch_name",
    "sub_openid",
    "sub_order_list",
    "success_time",
    "timeStamp",
    "time_end",
    "time_expire",
    "time_stamp",
    "time_start",
    "total_fee",
    "total_refund_count",
    "transaction_id",
    "transaction_id_list",
    "unsettlement_fee",
    "user_creid",
    "user_repaid",
    "user_truename",
    "vehicle_event_createtime",
    "vehicle_event_des",
    "vehicle_event_type",
    "version",
    "voucher_id",
    "wxappid",
    "wxpay_contribute",
];

/// Every name with one of these prefixes counts: the documents list dozens of each, and more are added.
const FAMILIES: [&str; 8] =
    ["cash_", "combine_", "contract_", "coupon_", "promotion_", "refund_", "settlement_", "trade_"];

/// Whether `name` is a v2 field, as it is or with the number of a coupon (`_0`) or of a coupon's refund (`_0_1`).
pub(super) fn is_field_name(name: &str) -> bool {
    let base = without_number(without_number(name));
    [name, base].iter().any(|name| NAMES.binary_search(name).is_ok())
        || FAMILIES.iter().any(|family| name.len() > family.len() && name.starts_with(family))
}

/// `coupon_id` of `coupon_id_0`.
fn without_number(name: &str) -> &str {
    match name.rsplit_once('_') {
        Some((base, number)) if !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()) => base,
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_sorted_and_repeats_nothing() {
        assert!(NAMES.is_sorted_by(|one, next| one < next));
        let of_a_family = |name: &&str| FAMILIES.iter().any(|family| name.starts_with(family));
        assert_eq!(NAMES.iter().find(|name| of_a_family(name)), None, "a family has it already");
    }

    #[test]
    fn every_name_of_a_payment_of_a_refund_and_of_a_contract_is_known() {
        let names = "appid mch_id sub_appid sub_mch_id device_info nonce_str sign sign_type result_code return_code \
                     return_msg err_code err_code_des openid is_subscribe sub_openid sub_is_subscribe trade_type \
                     bank_type total_fee settlement_total_fee fee_type cash_fee cash_fee_type coupon_fee coupon_count \
                     coupon_type_0 coupon_id_11 coupon_fee_2 coupon_refund_id_0_1 coupon_refund_fee_3 rate rate_value \
                     transaction_id out_trade_no attach time_end trade_state trade_state_desc version promotion_detail \
                     contract_id user_repaid combine_appid combine_mch_id combine_out_trade_no sub_order_list \
                     out_refund_no_0 refund_id_1 refund_fee_0 refund_status_0 refund_success_time_0 refund_channel_0 \
                     refund_recv_accout_0 settlement_refund_fee_0 cash_refund_fee req_info plan_id contract_code \
                     change_type operate_time request_serial event_type event_ciphertext algorithm key detail body";
        for name in names.split_whitespace() {
            assert!(is_field_name(name), "{name}");
        }
    }

    #[test]
    fn names_that_a_shop_chooses_are_not_field_names() {
        let names = "id uid user_id order_id type name a b x_1 a_1_2 utm_source shop table_7 Mch_id MCH_ID mch mch_id_ \
                     _0 _ coupon coupon_ trade refundfee 0 source page lang from ref token";
        for name in names.split_whitespace() {
            assert!(!is_field_name(name), "{name}");
        }
    }
}
