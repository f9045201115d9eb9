//! How large a callback may be.

/// The largest callback accepted, in bytes: one of a combined order, which may have [`SUB_ORDERS_MAX`] sub-orders.
pub const BODY_BYTES_MAX: usize = 64 * 1024;
/// The largest callback about one payment or refund, in bytes. WeChat Pay's own are far smaller (1 to 3 KiB, 8 KiB with
/// promotions).
pub const SINGLE_BODY_BYTES_MAX: usize = 16 * 1024;
/// The most orders that WeChat Pay combines.
pub const SUB_ORDERS_MAX: usize = 50;
