//! Combined orders: one callback that reports on several orders, each of which is decided on its own.
//!
//! The key of the merchant that combined them authenticates the callback, but the orders may be other merchants'. The
//! merchants file therefore lists which merchants (`combines`); otherwise one merchant's key could pay another's orders.

use std::collections::HashSet;

use super::error::{DecodeError, Part};
use super::json::Node;
use super::keys::Merchant;
use super::limits::SUB_ORDERS_MAX;
use crate::domain::notification::Notification;

/// The parts of a list of sub-orders, each read by `read`. One that is malformed or another merchant's does not affect the
/// others.
///
/// `list` is the name of the list.
pub(super) fn parts(
    list: &'static str,
    sub_orders: Vec<Node>,
    merchant: &Merchant,
    read: impl Fn(Node) -> Part,
) -> Result<Vec<Part>, DecodeError> {
    if sub_orders.is_empty() {
        return Err(DecodeError::Missing(list));
    }
    if sub_orders.len() > SUB_ORDERS_MAX {
        return Err(DecodeError::TooManySubOrders);
    }
    let parts: Vec<Part> = sub_orders.into_iter().map(read).collect();
    each_once(&parts)?;
    let of_a_combined_merchant = |notification: Notification| {
        if merchant.combines(notification.mch_id()) { Ok(notification) } else { Err(DecodeError::MerchantNotCombined) }
    };
    Ok(parts.into_iter().map(|part| part.and_then(of_a_combined_merchant)).collect())
}

/// No order and no payment may occur twice: it would be unclear which of the two is right.
fn each_once(parts: &[Part]) -> Result<(), DecodeError> {
    let (mut orders, mut transactions) = (HashSet::new(), HashSet::new());
    for notification in parts.iter().flatten() {
        if notification.out_trade_no().is_some_and(|number| !orders.insert((notification.mch_id(), number))) {
            return Err(DecodeError::RepeatedSubOrder("out_trade_no"));
        }
        if notification.transaction_id().is_some_and(|transaction_id| !transactions.insert(transaction_id)) {
            return Err(DecodeError::RepeatedSubOrder("transaction_id"));
        }
    }
    Ok(())
}
