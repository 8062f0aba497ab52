//! Text from outside: bounds, and output without unprintable characters.
//!
//! Annotations, fields of specs, error texts of the API server and texts of routers may be long and may
//! contain any character. A message that contains such a text is written to conditions, Events and logs. So
//! every text from outside passes through [`quoted`] or [`printable`], every message through [`message`], and
//! names are displayed without quotation marks only if [`is_name`] accepts them.

use std::borrow::Cow;
use std::fmt::{self, Display, Write};

/// The maximum length of a message in a condition, an Event or a log line, in octets. The API server accepts
/// notes of Events up to this length.
pub const MAX_MESSAGE: usize = 1024;
/// The maximum length of a text in which a user requests something of Fairlead, in octets. Longer texts are
/// invalid, and are not stored.
pub const MAX_REQUEST: usize = 256;
/// The maximum length of the name of an object, in octets (RFC 1123 subdomain).
pub const MAX_NAME: usize = 253;

/// The maximum length of a quotation without its quotation marks, in octets. Two of them fit into a message.
const MAX_QUOTATION: usize = 256;
/// Ends a text of which a part is omitted.
const ELLIPSIS: &str = "…";

/// Returns true if the character is visible or a space. Others, for example control and format characters,
/// line separators and unassigned characters, can change the display of a terminal or forge a log line.
pub fn is_printable(character: char) -> bool {
    match character {
        ' '..='~' => true,
        // The standard library escapes every character that is not printable.
        _ => !character.is_ascii() && character.escape_debug().len() == 1,
    }
}

/// Returns true if a text has the form of a name of an object: an RFC 1123 subdomain.
pub fn is_name(text: &str) -> bool {
    let is_label = |label: &str| {
        let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        !label.is_empty() && label.bytes().all(inner) && !label.starts_with('-') && !label.ends_with('-')
    };
    text.len() <= MAX_NAME && text.split('.').all(is_label)
}

/// Returns a text in quotation marks for a message. Unprintable characters are escaped as in string literals
/// of Rust, and what exceeds 256 octets is omitted.
pub fn quoted(text: &str) -> Quoted<'_> {
    Quoted(text)
}

/// A text in quotation marks; see [`quoted`].
#[derive(Clone, Copy, Debug)]
pub struct Quoted<'a>(&'a str);

impl Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_escaped = |character| matches!(character, '"' | '\\') || !is_printable(character);
        f.write_char('"')?;
        write_escaped(f, self.0, MAX_QUOTATION, is_escaped)?;
        f.write_char('"')
    }
}

/// Returns a text without its unprintable characters, which are escaped, and not longer than `max` octets.
pub fn printable<'a>(text: impl Into<Cow<'a, str>>, max: usize) -> Cow<'a, str> {
    let text = text.into();
    if text.len() <= max && text.chars().all(is_printable) {
        return text;
    }
    let mut escaped = String::new();
    // Writing to a string does not fail.
    let _ = write_escaped(&mut escaped, &text, max, |character| !is_printable(character));
    Cow::Owned(escaped)
}

/// Returns a message as it may be written to a condition, an Event or a log: printable and not longer than
/// [`MAX_MESSAGE`].
pub fn message<'a>(text: impl Into<Cow<'a, str>>) -> Cow<'a, str> {
    printable(text, MAX_MESSAGE)
}

/// Writes at most `max` octets of a text. The last three are an ellipsis if a part is omitted.
fn write_escaped(
    out: &mut impl Write,
    text: &str,
    max: usize,
    is_escaped: impl Fn(char) -> bool,
) -> fmt::Result {
    // Characters that fit only if nothing is omitted.
    let mut held = String::new();
    let mut written = 0;
    for character in text.chars() {
        let mut piece = String::new();
        if is_escaped(character) {
            piece.extend(character.escape_debug());
        } else {
            piece.push(character);
        }
        if written + held.len() + piece.len() > max {
            return out.write_str(if written + ELLIPSIS.len() <= max { ELLIPSIS } else { "" });
        }
        held.push_str(&piece);
        if written + held.len() + ELLIPSIS.len() <= max {
            out.write_str(&held)?;
            written += held.len();
            held.clear();
        }
    }
    out.write_str(&held)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotation_escapes_unprintable_characters() {
        for (text, expected) in [
            ("", r#""""#),
            ("192.0.2.1", r#""192.0.2.1""#),
            ("a b'ü日本", r#""a b'ü日本""#),
            ("a\nlevel=error msg=forged", r#""a\nlevel=error msg=forged""#),
            ("\u{1b}[2J", r#""\u{1b}[2J""#),
            ("\u{7f}\0\r\t", r#""\u{7f}\0\r\t""#),
            (r#"a"b\"#, r#""a\"b\\""#),
            // Right-to-left override, line separator, byte order mark, private use, unassigned.
            ("\u{202e}\u{2028}\u{feff}\u{e000}\u{378}", r#""\u{202e}\u{2028}\u{feff}\u{e000}\u{378}""#),
        ] {
            assert_eq!(quoted(text).to_string(), expected);
        }
    }

    #[test]
    fn output_never_exceeds_its_bound() {
        let pieces = ["x", "ü", "日", "😀", "\u{7f}", "\n", "\u{10ffff}", "\""];
        for piece in pieces {
            for count in (0..300).chain([255 * 1024]) {
                let text = piece.repeat(count);
                let quotation = quoted(&text).to_string();
                assert!(quotation.len() <= MAX_QUOTATION + 2, "{count} × {piece:?}");
                assert!(quotation.chars().all(is_printable));
                let message = message(&*text);
                assert!(message.len() <= MAX_MESSAGE && message.chars().all(is_printable));
                let is_complete = text.len() <= MAX_MESSAGE && text.chars().all(is_printable);
                assert_eq!(is_complete, *message == *text, "{count} × {piece:?}");
                for max in [0, 1, 2, 3, 7] {
                    assert!(printable(&*text, max).len() <= max, "{count} × {piece:?}");
                }
            }
        }
        assert_eq!(printable("abcdef", 5), "ab…");
        assert_eq!(printable("abcde", 5), "abcde");
        assert_eq!(printable("a\ncde", 5), "a…");
    }

    #[test]
    fn names_are_rfc_1123_subdomains() {
        for name in ["a", "pool-1", "a.b-c.9", &"x".repeat(253)] {
            assert!(is_name(name), "{name}");
        }
        let long = "x".repeat(254);
        for text in ["", "A", "-a", "a-", "a..b", ".a", "a.", "a.-b", "a_b", "a b", "a\n", "ü", "a,b", &long]
        {
            assert!(!is_name(text), "{text:?}");
        }
    }
}
