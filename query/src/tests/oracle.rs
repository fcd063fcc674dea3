//! What queries should answer, computed the naive way and with no code of the engine.

use super::rows::{Row, Value};

/// Whether a text has these words, adjacent and in order, whatever the case and the punctuation.
pub(super) fn has_words(text: &str, words: &str) -> bool {
    let split = |text: &str| -> Vec<String> {
        let lower = text.to_lowercase();
        lower.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_owned).collect()
    };
    let (text, words) = (split(text), split(words));
    !words.is_empty() && text.windows(words.len()).any(|window| window == words)
}

/// Whether a text has a word that starts with this.
pub(super) fn has_prefix(text: &str, prefix: &str) -> bool {
    let lower = text.to_lowercase();
    lower.split(|c: char| !c.is_alphanumeric()).any(|word| word.starts_with(prefix))
}

impl Row {
    /// A text column of the row; `None` is null.
    pub(super) fn get_text(&self, column: &str) -> Option<String> {
        self.values.get(column).map(Value::text)
    }

    /// Whether a column has these words; not if it is null.
    pub(super) fn matches(&self, column: &str, words: &str) -> bool {
        self.get_text(column).is_some_and(|text| has_words(&text, words))
    }

    /// Whether one of several columns has these words.
    pub(super) fn any_matches(&self, columns: &[&str], words: &str) -> bool {
        columns.iter().any(|column| self.matches(column, words))
    }

    /// A number of the row; `None` is null.
    pub(super) fn number(&self, column: &str) -> Option<f64> {
        self.values.get(column).and_then(Value::number)
    }
}

/// Positions of the rows for which `truth` holds, ascending.
pub(super) fn positions(rows: &[Row], truth: impl Fn(&Row) -> bool) -> Vec<(u32, u64)> {
    let mut positions: Vec<_> = rows.iter().filter(|row| truth(row)).map(|row| (row.partition, row.offset)).collect();
    positions.sort_unstable();
    positions
}
