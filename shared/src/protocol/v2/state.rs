//! Whether a v2 callback says that the payer paid: its three flags, taken together.
//!
//! `return_code` is about transport alone; `result_code` and, where present, `trade_state` say whether the payer paid. A
//! payment counts as failed only when a flag says so: a flag that is missing or unknown means neither.

use super::fields::{optional, required};
use super::xml::Fields;
use crate::protocol::error::DecodeError;
use crate::protocol::json;
use crate::protocol::trade_state::TradeState;

/// The combined meaning of `return_code`, `result_code` and `trade_state` of a callback.
pub(super) fn state_of(fields: &Fields<'_>) -> Result<TradeState, DecodeError> {
    let returned = required(fields, "return_code", parse_code)?;
    let result = optional(fields, "result_code", parse_code)?;
    let state = optional(fields, "trade_state", TradeState::parse)?;
    match (returned, result) {
        (TradeState::Paid, None) => Err(DecodeError::Missing("result_code")),
        (TradeState::Paid, Some(result)) => agreed(result, state),
        (TradeState::NotPaid, Some(TradeState::Paid)) => Err(DecodeError::Contradiction("return_code")),
        (TradeState::NotPaid, _) => agreed(TradeState::NotPaid, state),
    }
}

/// The same for a sub-order, whose own flags override those of the callback as a `whole`.
pub(super) fn state_of_sub_order(
    whole: TradeState,
    result_code: Option<&str>,
    trade_state: Option<&str>,
) -> Result<TradeState, DecodeError> {
    let result = json::optional("result_code", result_code, parse_code)?;
    let state = json::optional("trade_state", trade_state, TradeState::parse)?;
    match (whole, result) {
        (TradeState::NotPaid, Some(TradeState::Paid)) => Err(DecodeError::Contradiction("result_code")),
        (whole, result) => agreed(result.unwrap_or(whole), state),
    }
}

/// A successful result may turn out not to be paid; a failed one cannot be paid.
fn agreed(result: TradeState, state: Option<TradeState>) -> Result<TradeState, DecodeError> {
    match (result, state) {
        (TradeState::NotPaid, Some(TradeState::Paid)) => Err(DecodeError::Contradiction("trade_state")),
        (result, state) => Ok(state.unwrap_or(result)),
    }
}

fn parse_code(text: &str) -> Option<TradeState> {
    match text {
        "SUCCESS" => Some(TradeState::Paid),
        "FAIL" => Some(TradeState::NotPaid),
        _ => None,
    }
}
