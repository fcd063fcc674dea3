//! One column of an index under construction.

use tantivy::tokenizer::{TokenStream, Tokenizer};

use super::memo::Memo;
use super::terms::{TermId, Terms};
use crate::analyzer::V1;

/// The words of a column, and what makes finding them cheap.
#[derive(Default)]
pub(super) struct ColumnWriter {
    pub(super) terms: Terms,
    /// Words that were added, as often as they came.
    pub(super) tokens: u64,
    memo: Memo,
    /// The words of the text at hand; reused.
    words: Vec<TermId>,
}

impl ColumnWriter {
    /// Adds the words of a text. Rows do not descend.
    pub(super) fn add(&mut self, analyzer: &mut V1, text: &str, row: u32) {
        let Self { terms, tokens, memo, words, .. } = self;
        if let Some(known) = memo.words(text.as_bytes()) {
            *tokens += known.len() as u64;
            known.iter().for_each(|id| terms.add_known(*id, row));
            return;
        }
        words.clear();
        let mut stream = analyzer.token_stream(text);
        while stream.advance() {
            words.push(terms.add(stream.token().text.as_bytes(), row));
        }
        *tokens += words.len() as u64;
        memo.remember(text.as_bytes(), words);
    }

    /// Memory in use, in bytes.
    pub(super) fn used_bytes(&self) -> usize {
        self.terms.used_bytes() + self.memo.used_bytes() + self.words.capacity() * size_of::<TermId>()
    }
}
