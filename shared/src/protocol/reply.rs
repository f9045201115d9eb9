//! What WeChat Pay gets back. Anything but exactly these bytes with status 200 makes it send the callback again.
//!
//! Sources: pay.weixin.qq.com/doc/v2/merchant/4011937248 (a 201, an XML declaration or a stray character counts as failure)
//! and the callback pages of API v3 (current ones want the status alone, older ones this body).

/// The content type of a v2 reply, as WeChat Pay itself uses it.
pub const V2_CONTENT_TYPE: &str = "text/xml; charset=utf-8";

/// The callback is stored durably: do not send it again.
pub const V2_SUCCESS: &str =
    "<xml><return_code><![CDATA[SUCCESS]]></return_code><return_msg><![CDATA[OK]]></return_msg></xml>";

/// The callback is not stored: send it again. `reason` is one of our own short texts, never text from the sender.
#[must_use]
pub fn v2_failure(reason: &'static str) -> String {
    format!("<xml><return_code><![CDATA[FAIL]]></return_code><return_msg><![CDATA[{reason}]]></return_msg></xml>")
}

/// The content type of a v3 reply.
pub const V3_CONTENT_TYPE: &str = "application/json";

/// The callback is stored durably: do not send it again.
pub const V3_SUCCESS: &str = r#"{"code":"SUCCESS","message":"OK"}"#;

/// The callback is not stored: send it again. `reason` is one of our own short texts, never text from the sender.
#[must_use]
pub fn v3_failure(reason: &'static str) -> String {
    format!(r#"{{"code":"FAIL","message":"{reason}"}}"#)
}
