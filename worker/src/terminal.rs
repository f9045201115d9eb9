//! Escapes text from outside for an operator's screen: characters that a terminal would act on, or that would reorder the text.
//!
//! Outsiders choose the bytes of callbacks. Control characters move the cursor and talk to the terminal; bidirectional
//! controls and invisible characters make a line read as another one.

use std::fmt::Write;

/// One line: also line ends are escaped.
#[must_use]
pub fn escape(text: &str) -> String {
    escape_unless(text, |_| false)
}

/// Several lines: line ends and tabs stay.
#[must_use]
pub fn escape_lines(text: &str) -> String {
    escape_unless(text, |char| matches!(char, '\n' | '\t'))
}

/// JSON, with JSON's own escapes: it means the same afterwards.
#[must_use]
pub fn escape_json(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len());
    for char in json.chars() {
        if char == '\n' || !is_active(char) {
            escaped.push(char);
        } else {
            for unit in char.encode_utf16(&mut [0; 2]) {
                // Writing to a string cannot fail.
                let _ = write!(escaped, "\\u{unit:04x}");
            }
        }
    }
    escaped
}

fn escape_unless(text: &str, stays: impl Fn(char) -> bool) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        if stays(char) || !is_active(char) {
            escaped.push(char);
        } else {
            escaped.extend(char.escape_unicode());
        }
    }
    escaped
}

/// Control characters (C0, DEL, C1), bidirectional controls, invisible characters, and separators that break lines.
fn is_active(char: char) -> bool {
    char.is_control()
        || matches!(
            char,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
                | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_characters_that_a_terminal_acts_on_are_escaped() {
        assert_eq!(escape("\u{1b}]0;owned\u{7}"), "\\u{1b}]0;owned\\u{7}");
        assert_eq!(escape("a\u{9b}2Jb\u{202e}c\u{200b}d\ne"), "a\\u{9b}2Jb\\u{202e}c\\u{200b}d\\u{a}e");
        assert_eq!(escape("招商银行 order-1 €"), "招商银行 order-1 €");
        assert_eq!(escape_lines("a\n\tb\r\u{1b}"), "a\n\tb\\u{d}\\u{1b}");
    }

    #[test]
    fn escaped_json_means_the_same() {
        let value = serde_json::json!({ "problem": "\u{9b}2J \u{202e} \u{e0041} \u{7f} 银行" });
        let escaped = escape_json(&serde_json::to_string_pretty(&value).unwrap_or_default());
        assert!(escaped.chars().all(|char| char == '\n' || !is_active(char)), "{escaped}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&escaped).ok(), Some(value));
    }
}
