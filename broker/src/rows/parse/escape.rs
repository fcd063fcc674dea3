//! Bytes as text.

use std::borrow::Cow;
use std::fmt::Write;

/// The bytes as text; each byte that is not part of valid UTF-8 becomes `\xNN`.
pub(in crate::rows) fn escape(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => Cow::Owned(escape_invalid(bytes)),
    }
}

fn escape_invalid(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() + 16);
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            write!(text, "\\x{byte:02x}").expect("writing to memory does not fail");
        }
    }
    text
}

/// At most `max_bytes` of the text, cut between characters.
pub(super) fn clip(text: &str, max_bytes: usize) -> &str {
    &text[..text.floor_char_boundary(max_bytes)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_not_utf8_are_escaped() {
        assert_eq!(escape(b"plain"), "plain");
        assert_eq!(escape(b"a\xffb\xc3"), "a\\xffb\\xc3");
        assert_eq!(escape("ä".as_bytes()), "ä");
    }

    #[test]
    fn clip_cuts_between_characters() {
        assert_eq!(clip("äöü", 3), "ä");
        assert_eq!(clip("abc", 9), "abc");
    }
}
