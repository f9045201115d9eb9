//! Verified v2 fields, and whether their signature proves that they are the ones that WeChat Pay signed.
//!
//! The signed text is `a=b&c=d` with nothing escaped, so it can be cut into fields in more than one way, and anyone who has
//! seen it signed can send it cut differently. A cut that is not the genuine one either hides a genuine field in a value,
//! where it shows as `&name=`, or adds fields without hiding any. `docs/decisions/0005` says why this check finds every cut
//! that would pay a different order, amount, currency or shop.

use super::names::is_field_name;
use super::xml::Fields;

/// The longest field name that is looked for or shown to an operator, in bytes. WeChat Pay's have at most 27.
const NAME_BYTES_MAX: usize = 64;

/// Verified fields that may have been cut differently from how WeChat Pay signed them.
#[derive(Debug)]
pub struct Signed<'body>(Fields<'body>);

/// Verified fields that could be cut differently under the same signature.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the signature does not say whether {name} is a field of its own or a part of {field}")]
pub struct AmbiguousSignature {
    /// The field whose value allows it.
    pub field: String,
    /// The field that can be read in it.
    pub name: String,
}

impl<'body> Signed<'body> {
    pub(super) fn new(fields: Fields<'body>) -> Self {
        Self(fields)
    }

    /// The fields, when only these can have been signed.
    ///
    /// # Errors
    /// Names the field in whose value another one can be read. The callback may be genuine nevertheless: the merchant or the
    /// payer may have put such a text into `attach`.
    pub fn unambiguous(self) -> Result<Fields<'body>, AmbiguousSignature> {
        match self.ambiguity() {
            Some(ambiguity) => Err(ambiguity),
            None => Ok(self.0),
        }
    }

    /// The fields as they were sent, because an operator has compared them with WeChat Pay's own records.
    #[must_use]
    pub fn accepted_by_operator(self) -> Fields<'body> {
        self.0
    }

    /// The reason for which [`Self::unambiguous`] would reject them.
    #[must_use]
    pub fn ambiguity(&self) -> Option<AmbiguousSignature> {
        let hidden = |(field, value): (&str, &str)| field_inside(value).map(|name| ambiguous(field, name));
        self.0.iter().filter(|(name, _)| *name != "sign").find_map(hidden).or_else(|| self.doubtful_currency())
    }

    /// The one meaningful field that a cut can add without hiding another: WeChat Pay may leave `fee_type` out, and the field
    /// before it is `device_info`, whose value the shop chooses. A genuine payment in another currency also names the payer's
    /// currency: the same one, or the rate to it.
    fn doubtful_currency(&self) -> Option<AmbiguousSignature> {
        let get = |name| self.0.get(name);
        let fee_type = get("fee_type").filter(|currency| *currency != "CNY")?;
        let is_backed = get("rate").or(get("rate_value")).is_some() || get("cash_fee_type") == Some(fee_type);
        (get("device_info").is_some() && !is_backed).then(|| ambiguous("device_info", "fee_type"))
    }
}

fn ambiguous(field: &str, name: &str) -> AmbiguousSignature {
    AmbiguousSignature { field: field.chars().take(NAME_BYTES_MAX).collect(), name: name.to_owned() }
}

/// The first v2 field that begins inside `value`: `&name=`.
fn field_inside(value: &str) -> Option<&str> {
    value.match_indices('&').find_map(|(at, _)| {
        let rest = value.get(at.saturating_add(1)..)?;
        let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
        let length = rest.bytes().take(NAME_BYTES_MAX).take_while(is_part).count();
        let (name, after) = rest.split_at_checked(length)?;
        (after.starts_with('=') && is_field_name(name)).then_some(name)
    })
}
