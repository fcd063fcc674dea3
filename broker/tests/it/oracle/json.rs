//! JSON as machines and people write it: a writer that chooses spaces, escapes and spellings by dice, and notes which
//! cell each field has to become.

use std::collections::BTreeMap;
use std::fmt::Write;

use stratalog_storage::simulation::Dice;

use super::value::Cell;

/// A value to write.
#[derive(Clone, Debug)]
pub(super) enum Json {
    Null,
    Bool(bool),
    /// As it is to be spelled.
    Number(String),
    Text(String),
    Array(Vec<Json>),
    Object(Vec<(String, Json)>),
}

/// Objects below this depth are kept as their text.
const MAX_DEPTH: usize = 32;
/// The names that users' fields do not get.
const RESERVED: [&str; 10] =
    ["_time", "_ingested_at", "_timestamp", "_partition", "_offset", "_key", "_headers", "_dead", "_raw", "_rest"];

impl Json {
    pub(super) fn int(value: i64) -> Self {
        Json::Number(value.to_string())
    }

    pub(super) fn text(value: impl Into<String>) -> Self {
        Json::Text(value.into())
    }
}

/// The text of an object, and the cells of its row.
pub(super) fn write(object: &[(String, Json)], dice: &mut Dice) -> (String, BTreeMap<String, Cell>) {
    let mut writer = Writer { text: String::new(), cells: BTreeMap::new(), dice };
    writer.space();
    writer.object(object, Some(""), 1);
    writer.space();
    (writer.text, writer.cells)
}

struct Writer<'a> {
    text: String,
    cells: BTreeMap<String, Cell>,
    dice: &'a mut Dice,
}

impl Writer<'_> {
    /// `path`: the dotted name of the object; `None` within an array, where nothing is a cell.
    fn object(&mut self, members: &[(String, Json)], path: Option<&str>, depth: usize) {
        self.text.push('{');
        for (n, (key, value)) in members.iter().enumerate() {
            if n > 0 {
                self.text.push(',');
            }
            self.space();
            self.string(key);
            self.space();
            self.text.push(':');
            self.space();
            let path = path.map(|path| joined(path, key));
            if let Some(path) = &path {
                self.forget(path);
            }
            self.value(value, path.as_deref(), depth);
            self.space();
        }
        self.text.push('}');
    }

    fn value(&mut self, value: &Json, path: Option<&str>, depth: usize) {
        let start = self.text.len();
        let cell = match value {
            Json::Null => {
                self.text.push_str("null");
                return;
            }
            Json::Bool(value) => {
                self.text.push_str(if *value { "true" } else { "false" });
                Cell::Bool(*value)
            }
            Json::Number(digits) => {
                self.text.push_str(digits);
                Cell::number(digits)
            }
            Json::Text(text) => {
                self.string(text);
                Cell::Text(text.clone())
            }
            Json::Array(items) => {
                self.array(items, depth);
                Cell::Text(self.text[start..].to_owned())
            }
            Json::Object(members) if depth < MAX_DEPTH => return self.object(members, path, depth + 1),
            Json::Object(members) => {
                self.object(members, None, depth + 1);
                Cell::Text(self.text[start..].to_owned())
            }
        };
        if let Some(path) = path {
            self.cells.insert(column(path), cell);
        }
    }

    fn array(&mut self, items: &[Json], depth: usize) {
        self.text.push('[');
        for (n, item) in items.iter().enumerate() {
            if n > 0 {
                self.text.push(',');
            }
            self.space();
            match item {
                Json::Object(members) => self.object(members, None, depth + 1),
                other => self.value(other, None, depth),
            }
            self.space();
        }
        self.text.push(']');
    }

    /// Of a key that comes twice the last value wins, of objects the last one whole.
    fn forget(&mut self, path: &str) {
        let (name, below) = (column(path), format!("{path}."));
        self.cells.retain(|other, _| *other != name && !other.starts_with(&below));
    }

    fn space(&mut self) {
        match self.dice.below(40) {
            0 => self.text.push(' '),
            1 => self.text.push('\t'),
            2 => self.text.push_str("\r\n "),
            _ => {}
        }
    }

    fn string(&mut self, text: &str) {
        self.text.push('"');
        for c in text.chars() {
            let escaped = self.dice.chance(1, 60);
            match c {
                '"' => self.text.push_str("\\\""),
                '\\' => self.text.push_str("\\\\"),
                '/' if escaped => self.text.push_str("\\/"),
                '\n' => self.text.push_str("\\n"),
                '\t' => self.text.push_str("\\t"),
                c if c < ' ' || escaped => {
                    c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| {
                        write!(self.text, "\\u{unit:04x}").expect("memory does not fail");
                    });
                }
                c => self.text.push(c),
            }
        }
        self.text.push('"');
    }
}

fn joined(path: &str, key: &str) -> String {
    let key = if key.is_empty() { "_empty" } else { key };
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

fn column(path: &str) -> String {
    if RESERVED.contains(&path) { format!("_user.{path}") } else { path.to_owned() }
}
