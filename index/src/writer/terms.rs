//! The words of one column, each with the rows that it is in.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

use super::postings::{Arena, List};

/// A word's number: words are numbered as they come.
pub(super) type TermId = u32;

struct Term {
    /// Where its bytes are.
    start: u32,
    len: u8,
    rows: List,
}

/// Words and rows of one column. The seed of the hash is another one in each: texts cannot be made to collide.
#[derive(Default)]
pub(super) struct Terms {
    table: HashTable<TermId>,
    hasher: DefaultHashBuilder,
    terms: Vec<Term>,
    text: Vec<u8>,
    arena: Arena,
}

impl Terms {
    /// Adds a word of a row; its number. Rows do not descend, and a word has at most 255 bytes.
    #[inline]
    pub(super) fn add(&mut self, word: &[u8], row: u32) -> TermId {
        let Self { table, hasher, terms, text, arena } = self;
        let hash = hasher.hash_one(word);
        if let Some(&id) = table.find(hash, |&id| terms[id as usize].bytes(text) == word) {
            arena.push(&mut terms[id as usize].rows, row);
            return id;
        }
        let id = terms.len() as TermId;
        let len = u8::try_from(word.len()).expect("the analyzer cuts words to 255 bytes");
        terms.push(Term { start: text.len() as u32, len, rows: List::new(row) });
        text.extend_from_slice(word);
        table.insert_unique(hash, id, |&id| hasher.hash_one(terms[id as usize].bytes(text)));
        id
    }

    /// Adds a word that is known to another row.
    #[inline]
    pub(super) fn add_known(&mut self, id: TermId, row: u32) {
        self.arena.push(&mut self.terms[id as usize].rows, row);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// Memory in use, in bytes.
    pub(super) fn used_bytes(&self) -> usize {
        self.table.allocation_size()
            + self.terms.capacity() * size_of::<Term>()
            + self.text.capacity()
            + self.arena.used_bytes()
    }

    /// The words, ascending by their bytes.
    pub(super) fn sorted(&self) -> Vec<TermId> {
        // Most comparisons end within the first bytes, which lie side by side here.
        let mut keyed: Vec<(u64, TermId)> = (0..).zip(&self.terms).map(|(id, term)| (self.prefix(term), id)).collect();
        keyed.sort_unstable_by(|(a, one), (b, other)| a.cmp(b).then_with(|| self.word(*one).cmp(self.word(*other))));
        keyed.into_iter().map(|(_, id)| id).collect()
    }

    /// The first eight bytes of a word, as a number that is ordered as they are.
    fn prefix(&self, term: &Term) -> u64 {
        let bytes = term.bytes(&self.text);
        let mut first = [0; 8];
        let len = bytes.len().min(first.len());
        first[..len].copy_from_slice(&bytes[..len]);
        u64::from_be_bytes(first)
    }

    pub(super) fn word(&self, id: TermId) -> &[u8] {
        self.terms[id as usize].bytes(&self.text)
    }

    /// Calls `visit` with each row of a word, ascending.
    pub(super) fn for_each_row(&self, id: TermId, visit: impl FnMut(u32)) {
        self.arena.for_each(&self.terms[id as usize].rows, visit);
    }
}

impl Term {
    #[inline]
    fn bytes<'a>(&self, text: &'a [u8]) -> &'a [u8] {
        &text[self.start as usize..self.start as usize + usize::from(self.len)]
    }
}
