//! A leaf of a query after analysis: what the matcher compares and the index looks up.

use crate::analyzer::{Piece, Pieces, fold, is_word_char};
use crate::query::Leaf;

/// Parts that a text must have, adjacent and in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pattern {
    /// Folded, uncut. Empty: nothing to search for, and no text matches.
    pub(crate) parts: Vec<String>,
    /// The last part is a prefix: a text's part has to start with it. It may be empty ("one more part").
    pub(crate) open: bool,
    /// When the leaf is one word with joiners inside: the word, folded. A text that has it as a whole (open: a whole
    /// that starts with it) matches for sure.
    pub(crate) whole: Option<String>,
}

impl Pattern {
    pub(crate) fn new(leaf: &Leaf) -> Self {
        match leaf {
            Leaf::Term(text) | Leaf::Phrase(text) => Self::closed(text),
            Leaf::Prefix(text) => Self::opened(text),
        }
    }

    /// Whether nothing distinguishes a match: no letter or digit was given.
    pub(crate) fn is_blank(&self) -> bool {
        self.parts.iter().all(String::is_empty)
    }

    fn closed(text: &str) -> Self {
        let (parts, first) = parts_of(text);
        let whole = match Pieces::new(text).last() {
            Some(Piece::Whole(range)) if Some(range.start) == first => Some(fold(&text[range])),
            _ => None,
        };
        Self { parts, open: false, whole }
    }

    fn opened(text: &str) -> Self {
        let (mut parts, first) = parts_of(text);
        let word = &text[first.unwrap_or(text.len())..];
        let one_word = word.chars().all(is_word_char);
        let joined = word.bytes().any(|byte| crate::analyzer::JOINERS.contains(&byte));
        if !text.ends_with(|c| is_word_char(c) && !is_joiner(c)) {
            parts.push(String::new());
        }
        Self { parts, open: true, whole: (one_word && joined).then(|| fold(word)) }
    }
}

fn is_joiner(c: char) -> bool {
    u8::try_from(c).is_ok_and(|byte| crate::analyzer::JOINERS.contains(&byte))
}

/// The folded parts of a text, and where the first one starts.
fn parts_of(text: &str) -> (Vec<String>, Option<usize>) {
    let mut first = None;
    let mut parts = Vec::new();
    for piece in Pieces::new(text) {
        if let Piece::Part(range) = piece {
            first.get_or_insert(range.start);
            parts.push(fold(&text[range]));
        }
    }
    (parts, first)
}
