//! How single v2 fields are read: ids, amounts and China's time.

use chrono::{DateTime, FixedOffset, NaiveDateTime, TimeZone, Utc};

use super::xml::Fields;
use crate::protocol::error::DecodeError;

/// The form of `time_end`, in China's time.
pub(super) const TIME_END_FORMAT: &str = "%Y%m%d%H%M%S";
/// v2's times are in China's time zone, without saying so.
const CHINA_OFFSET_SECONDS: i32 = 8 * 60 * 60;

/// The value of a field that must be there.
pub(super) fn required<T>(
    fields: &Fields<'_>,
    name: &'static str,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<T, DecodeError> {
    optional(fields, name, parse)?.ok_or(DecodeError::Missing(name))
}

/// The value of a field that may be absent or empty.
pub(super) fn optional<T>(
    fields: &Fields<'_>,
    name: &'static str,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<Option<T>, DecodeError> {
    fields.get(name).map(|value| parse(value).ok_or(DecodeError::Malformed(name))).transpose()
}

/// Digits only: no sign, no point, no blanks.
pub(in crate::protocol) fn parse_amount(text: &str) -> Option<i64> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

/// A time of UTC+8 in this format, every digit written out.
pub(super) fn parse_china_time(text: &str, format: &str) -> Option<DateTime<Utc>> {
    // chrono also accepts signed years, far outside the range that a database can hold.
    if !text.starts_with(|first: char| first.is_ascii_digit()) {
        return None;
    }
    let local = NaiveDateTime::parse_from_str(text, format).ok()?;
    if local.format(format).to_string() != text {
        return None;
    }
    let china = FixedOffset::east_opt(CHINA_OFFSET_SECONDS)?;
    Some(china.from_local_datetime(&local).single()?.to_utc())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_year_has_four_digits_and_no_sign() {
        let parse = |text: &str| parse_china_time(text, "%Y-%m-%d %H:%M:%S");
        assert_eq!(
            parse("2025-11-25 16:24:13").map(|time| time.to_string()).as_deref(),
            Some("2025-11-25 08:24:13 UTC")
        );
        for year in ["+2025", "+12025", "+262142", "-2025", "-262143", "12025", "025", " 2025"] {
            assert_eq!(parse(&format!("{year}-11-25 16:24:13")), None, "{year}");
        }
    }
}
