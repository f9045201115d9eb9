//! What a callback means for an order. Pure: no IO, no clock, no async, no log.
//!
//! Reading order: [`money`], [`ids`], [`order`], [`payment`], [`refund`], [`notification`], [`verdict`], and the heart, [`decide`].

pub mod decide;
pub mod ids;
pub mod money;
pub mod notification;
pub mod order;
pub mod payment;
pub mod refund;
pub mod verdict;
