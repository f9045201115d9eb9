//! The paths under which callbacks come in: what a merchant writes into `notify_url`.

use shared::protocol::CallbackKind;

pub(crate) const V2_PAYMENT: &str = "/wechatpay/v2/payment";
pub(crate) const V2_REFUND: &str = "/wechatpay/v2/refund";
/// One for every v3 event.
pub(crate) const V3: &str = "/wechatpay/v3/{mch_id}";

/// Where callbacks of this kind belong.
pub(crate) fn address(kind: CallbackKind) -> &'static str {
    match kind {
        CallbackKind::V2Payment => V2_PAYMENT,
        CallbackKind::V2Refund => V2_REFUND,
        CallbackKind::V3 => V3,
    }
}
