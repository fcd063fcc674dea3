//! A line of logfmt, streamed into the columns of its keys: `level=info msg="took 3 ms" took=3 cached`.

use std::borrow::Cow;

use super::column::Value;
use super::fields::{Fields, ROOT};
use super::number::number;

/// Puts the pairs of one line into `fields`.
///
/// Pairs are separated by white space. A value in quotes is text, and may hold white space and the escapes of JSON; one
/// without is `true`, `false`, a number, or else text, and `null` is no value. A key alone is `true`, and `key=` an empty
/// text. Of a key that comes twice, the last value wins.
///
/// # Errors
/// Why this is not a line of logfmt. What was put until then has to be rolled back.
pub(super) fn read(value: &[u8], fields: &mut Fields) -> Result<(), String> {
    let text =
        std::str::from_utf8(value).map_err(|e| format!("the value is not UTF-8 from byte {} on", e.valid_up_to()))?;
    if !text.contains('=') {
        return Err("the value is not logfmt: it has no `=`".to_owned());
    }
    let mut line = Line { text, at: 0, expected: 0 };
    while line.skip_space() {
        line.pair(fields)?;
    }
    Ok(())
}

struct Line<'a> {
    text: &'a str,
    at: usize,
    /// Where among the columns the next key is looked for first.
    expected: usize,
}

impl<'a> Line<'a> {
    /// Steps over white space; whether anything is left.
    fn skip_space(&mut self) -> bool {
        let rest = &self.text[self.at..];
        let left = rest.trim_start_matches(is_space);
        self.at += rest.len() - left.len();
        !left.is_empty()
    }

    /// Reads one pair. There is at least one byte of it.
    fn pair(&mut self, fields: &mut Fields) -> Result<(), String> {
        let key = self.until(|c| c == '=' || c == '"' || is_space(c));
        if key.is_empty() || self.next() == Some(b'"') {
            return Err(format!("the value is not logfmt: there is no key at byte {}", self.at + 1));
        }
        if self.next() != Some(b'=') {
            self.put(fields, key, Value::Bool(true));
            return Ok(());
        }
        self.at += 1;
        if self.next() == Some(b'"') {
            let quoted = self.quoted()?;
            self.put(fields, key, Value::Text(&unescape(quoted)));
            return Ok(());
        }
        let bare = self.until(is_space);
        self.put_bare(fields, key, bare);
        Ok(())
    }

    fn put(&mut self, fields: &mut Fields, key: &str, value: Value<'_>) {
        match fields.child(ROOT, key, &mut self.expected) {
            Some(node) => fields.put(node, value),
            None => super::json_text::push_value(fields.rest(ROOT, key), value),
        }
    }

    fn put_bare(&mut self, fields: &mut Fields, key: &str, bare: &str) {
        let value = match bare {
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            "null" => return self.put_null(fields, key),
            _ => match number(bare) {
                Some(_) => return self.put_number(fields, key, bare),
                None => Value::Text(bare),
            },
        };
        self.put(fields, key, value);
    }

    /// No value, also if the key had one before.
    fn put_null(&mut self, fields: &mut Fields, key: &str) {
        if fields.child(ROOT, key, &mut self.expected).is_none() {
            fields.rest(ROOT, key).push_str("null");
        }
    }

    fn put_number(&mut self, fields: &mut Fields, key: &str, digits: &str) {
        match fields.child(ROOT, key, &mut self.expected) {
            Some(node) => fields.put_number(node, digits),
            None => fields.rest(ROOT, key).push_str(digits),
        }
    }

    fn next(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// Up to the first character that ends it.
    fn until(&mut self, ends: impl Fn(char) -> bool) -> &'a str {
        let rest = &self.text[self.at..];
        let taken = &rest[..rest.find(ends).unwrap_or(rest.len())];
        self.at += taken.len();
        taken
    }

    /// What stands between the quote here and the next that is not escaped; behind it is white space, or nothing.
    fn quoted(&mut self) -> Result<&'a str, String> {
        let open = self.at;
        let inner = &self.text[open + 1..];
        let mut escaped = false;
        let close = inner.bytes().position(|byte| {
            let closes = byte == b'"' && !escaped;
            escaped = byte == b'\\' && !escaped;
            closes
        });
        let close =
            close.ok_or_else(|| format!("the value is not logfmt: the quote at byte {} has no end", open + 1))?;
        self.at = open + 1 + close + 1;
        match self.text[self.at..].chars().next() {
            Some(c) if !is_space(c) => {
                Err(format!("the value is not logfmt: there is no space behind the quote at byte {}", self.at))
            }
            _ => Ok(&inner[..close]),
        }
    }
}

fn is_space(c: char) -> bool {
    c <= ' '
}

/// The text with the escapes of JSON replaced. Any other backslash stands for itself, as in a path of Windows.
fn unescape(quoted: &str) -> Cow<'_, str> {
    if !quoted.contains('\\') {
        return Cow::Borrowed(quoted);
    }
    let mut text = String::with_capacity(quoted.len());
    let mut rest = quoted;
    while let Some(at) = rest.find('\\') {
        text.push_str(&rest[..at]);
        rest = match escape(&rest[at..]) {
            Some((c, len)) => {
                text.push(c);
                &rest[at + len..]
            }
            None => {
                text.push('\\');
                &rest[at + 1..]
            }
        };
    }
    text.push_str(rest);
    Cow::Owned(text)
}

/// The character of the escape that a text begins with, and the bytes of the escape.
fn escape(text: &str) -> Option<(char, usize)> {
    let c = match text.as_bytes().get(1)? {
        b'"' => '"',
        b'\\' => '\\',
        b'/' => '/',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'u' => return unicode(text),
        _ => return None,
    };
    Some((c, 2))
}

/// `\u00e4`, or two of them that are one character beyond 16 bits.
fn unicode(text: &str) -> Option<(char, usize)> {
    let first = unit(text)?;
    if let Some(c) = char::from_u32(first) {
        return Some((c, 6));
    }
    let second = unit(text.get(6..)?)?;
    let c = char::decode_utf16([first as u16, second as u16]).next()?.ok()?;
    Some((c, 12))
}

fn unit(text: &str) -> Option<u32> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    let all_hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    all_hex.then(|| u32::from_str_radix(digits, 16).ok()).flatten()
}
