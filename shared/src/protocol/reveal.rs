//! An authentic callback as text for an operator: sealed parts opened, the payer's own data masked.
//!
//! Each value is a line of its path and the value, as in `amount.total = 1999`. Control characters and those that change the
//! direction of writing are escaped. A payment whose signature is ambiguous is shown as it was sent, which may not be how it
//! was signed.

use std::fmt::Write;

use super::json::Node;
use super::keys::KeyRing;
use super::v2::xml::Fields;
use super::v2::{AuthenticateError, payment, refund};
use super::v3::resource::{self, OpenError};

/// Replaces a value that is the payer's own.
const MASKED: &str = "***";
/// Fields of v2 whose values are JSON.
const JSON_FIELDS: [&str; 5] = ["sub_order_list", "promotion_detail", "detail", "scene_info", "transaction_id_list"];
/// A field whose name contains one of these holds the payer's own data.
const OF_THE_PAYER: [&str; 14] = [
    "openid",
    "unionid",
    "account",
    "accout",
    "payer_info",
    "phone",
    "mobile",
    "email",
    "id_card",
    "real_name",
    "true_name",
    "user_name",
    "bank_card",
    "client_ip",
];
/// Whole names of such fields, and the signature, with which the callback could be sent again.
const MASKED_NAMES: [&str; 6] = ["payer", "sign", "bank_billno", "plate_number", "user_ip", "spbill_create_ip"];
/// The kind of the merchant's own account that a refund was taken from.
const NOT_OF_THE_PAYER: [&str; 1] = ["refund_account"];

/// Why nothing can be shown.
#[derive(Debug, thiserror::Error)]
pub enum RevealError {
    /// A v2 callback that no key of this ring authenticates.
    #[error(transparent)]
    V2(#[from] AuthenticateError),
    /// A v3 callback that no key of this ring opens.
    #[error(transparent)]
    V3(#[from] OpenError),
    /// Without named members, the payer's part cannot be found.
    #[error("the sealed resource is not JSON, so the payer's data cannot be masked")]
    NotJson,
}

/// The fields of a v2 payment or combined order.
///
/// # Errors
/// [`RevealError::V2`].
pub fn v2_payment(body: &[u8], ring: &KeyRing) -> Result<String, RevealError> {
    let mut text = String::new();
    show_fields(&mut text, &payment::authenticate(body, ring)?.content.accepted_by_operator());
    Ok(text)
}

/// The fields of a v2 refund, those sealed in `req_info` among them.
///
/// # Errors
/// [`RevealError::V2`].
pub fn v2_refund(body: &[u8], ring: &KeyRing) -> Result<String, RevealError> {
    let refund = refund::authenticate(body, ring)?.content;
    let mut text = String::new();
    for (name, value) in refund.outer().iter().filter(|(name, _)| *name != "req_info") {
        show_field(&mut text, name, value);
    }
    let mut sealed = String::new();
    show_fields(&mut sealed, refund.sealed());
    for line in sealed.lines() {
        put(&mut text, format_args!("req_info.{line}"));
    }
    Ok(text)
}

/// The type of a v3 event to `mch_id`, and its resource.
///
/// # Errors
/// [`RevealError::V3`] and [`RevealError::NotJson`].
pub fn v3(body: &[u8], mch_id: &str, ring: &KeyRing) -> Result<String, RevealError> {
    let event = resource::open(body, mch_id, ring)?.content;
    let resource: Node = serde_json::from_slice(&event.resource).map_err(|_| RevealError::NotJson)?;
    let mut text = String::new();
    put(&mut text, format_args!("event_type = {:?}", event.name));
    put(&mut text, format_args!("original_type = {:?}", event.original_type));
    show(&mut text, "resource", &resource, !matches!(resource, Node::Members(_)));
    Ok(text)
}

fn show_fields(text: &mut String, fields: &Fields<'_>) {
    for (name, value) in fields.iter() {
        show_field(text, name, value);
    }
}

fn show_field(text: &mut String, name: &str, value: &str) {
    match serde_json::from_str::<Node>(value) {
        _ if !JSON_FIELDS.contains(&name) => show(text, name, &Node::Text(value.to_owned()), is_masked(name)),
        Ok(node) => show(text, name, &node, false),
        Err(_) => show(text, name, &Node::Text(value.to_owned()), true),
    }
}

/// `place` is the path of the value, as in `amount.total`.
fn show(text: &mut String, place: &str, node: &Node, masked: bool) {
    match node {
        Node::List(list) => {
            for (index, node) in list.iter().enumerate() {
                show(text, &format!("{place}[{index}]"), node, masked);
            }
        }
        Node::Members(members) => {
            for (name, node) in members {
                show(text, &format!("{place}.{}", name.escape_debug()), node, masked || is_masked(name));
            }
        }
        Node::Plain(_) | Node::Text(_) if masked => put(text, format_args!("{place} = {MASKED}")),
        Node::Plain(value) => put(text, format_args!("{place} = {value}")),
        Node::Text(value) => put(text, format_args!("{place} = {value:?}")),
    }
}

fn is_masked(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let is_of_the_payer = OF_THE_PAYER.iter().any(|part| name.contains(part)) || MASKED_NAMES.contains(&name.as_str());
    is_of_the_payer && !NOT_OF_THE_PAYER.contains(&name.as_str())
}

fn put(text: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{line}");
}
