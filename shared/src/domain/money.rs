//! Amounts of money as WeChat Pay counts them: an integer in the currency's smallest unit, never rescaled.
//!
//! There is deliberately no arithmetic here: amounts are compared. Only the remainder that can be refunded is computed, within
//! one currency, in [`super::decide`].

use std::fmt;

/// An ISO 4217 code: three upper-case ASCII letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Currency([u8; 3]);

impl Currency {
    /// The currency of a mainland order, and the default when a v2 callback names none.
    pub const CNY: Currency = Currency(*b"CNY");

    /// `None` unless `code` is three upper-case ASCII letters.
    #[must_use]
    pub fn parse(code: &str) -> Option<Self> {
        let letters: [u8; 3] = code.as_bytes().try_into().ok()?;
        letters.iter().all(u8::is_ascii_uppercase).then_some(Self(letters))
    }

    /// The code, as in `CNY`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// An amount of money: `amount_minor` in the currency's smallest unit (fen for CNY, yen for JPY).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Money {
    /// Not negative in anything WeChat Pay sends.
    pub amount_minor: i64,
    /// The unit `amount_minor` counts.
    pub currency: Currency,
}

impl fmt::Display for Money {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.amount_minor, self.currency)
    }
}
