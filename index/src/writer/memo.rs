//! Texts that come again and again, such as the name of a host: their words are looked up once.

use std::hash::BuildHasher;
use std::ops::Range;

use hashbrown::{DefaultHashBuilder, HashTable};

use super::terms::TermId;

/// A longer text is not remembered.
const MAX_TEXT_BYTES: usize = 256;
/// So many texts are remembered at the most.
const MAX_TEXTS: usize = 4_096;
/// After so many texts it is decided whether remembering them is worth it, again and again.
const LOOK_AT: u32 = 1_024;

struct Entry {
    text: Range<usize>,
    words: Range<usize>,
}

/// The texts of a column that were met, and the words of each.
pub(super) struct Memo {
    table: HashTable<u32>,
    hasher: DefaultHashBuilder,
    entries: Vec<Entry>,
    text: Vec<u8>,
    words: Vec<TermId>,
    asked: u32,
    known: u32,
    /// Cleared for good once too few texts came again.
    is_worth_it: bool,
}

impl Default for Memo {
    fn default() -> Self {
        Self {
            table: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            entries: Vec::new(),
            text: Vec::new(),
            words: Vec::new(),
            asked: 0,
            known: 0,
            is_worth_it: true,
        }
    }
}

impl Memo {
    /// The words of a text, as [`remember`](Self::remember) got them.
    #[inline]
    pub(super) fn words(&mut self, text: &[u8]) -> Option<&[TermId]> {
        if !self.is_worth_it || text.len() > MAX_TEXT_BYTES {
            return None;
        }
        self.asked += 1;
        let hash = self.hasher.hash_one(text);
        let entries = &self.entries;
        let found = self.table.find(hash, |&at| self.text[entries[at as usize].text.clone()] == *text);
        if let Some(&at) = found {
            self.known += 1;
            return Some(&self.words[entries[at as usize].words.clone()]);
        }
        if self.asked >= LOOK_AT {
            self.decide();
        }
        None
    }

    /// Half of the texts have to be known: looking one up costs about as much as a few of its words.
    fn decide(&mut self) {
        if self.known * 2 < self.asked {
            *self = Self { is_worth_it: false, ..Self::default() };
        }
        (self.asked, self.known) = (0, 0);
    }

    /// Remembers the words of a text that [`words`](Self::words) did not know, if there is room.
    pub(super) fn remember(&mut self, text: &[u8], words: &[TermId]) {
        if !self.is_worth_it || text.len() > MAX_TEXT_BYTES || self.entries.len() >= MAX_TEXTS {
            return;
        }
        let at = self.entries.len() as u32;
        let entry = Entry {
            text: self.text.len()..self.text.len() + text.len(),
            words: self.words.len()..self.words.len() + words.len(),
        };
        self.text.extend_from_slice(text);
        self.words.extend_from_slice(words);
        self.entries.push(entry);
        let Self { table, hasher, entries, text: texts, .. } = self;
        let hash_of = |at: &u32| hasher.hash_one(&texts[entries[*at as usize].text.clone()]);
        table.insert_unique(hash_of(&at), at, hash_of);
    }

    /// Memory in use, in bytes.
    pub(super) fn used_bytes(&self) -> usize {
        self.table.allocation_size()
            + self.entries.capacity() * size_of::<Entry>()
            + self.text.capacity()
            + self.words.capacity() * size_of::<TermId>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_remembered_with_its_words() {
        let mut memo = Memo::default();
        assert_eq!(memo.words(b"ts-order"), None);
        memo.remember(b"ts-order", &[1, 2, 1]);
        memo.remember(b"", &[]);
        assert_eq!(memo.words(b"ts-order"), Some(&[1, 2, 1][..]));
        assert_eq!(memo.words(b""), Some(&[][..]));
        assert_eq!(memo.words(b"ts-orde"), None);
    }

    #[test]
    fn texts_that_do_not_come_again_are_no_longer_remembered() {
        let mut memo = Memo::default();
        for n in 0..LOOK_AT {
            let text = n.to_string();
            assert_eq!(memo.words(text.as_bytes()), None);
            memo.remember(text.as_bytes(), &[n]);
        }
        assert_eq!(memo.words(b"1"), None);
        assert_eq!(memo.used_bytes(), 0);
    }

    #[test]
    fn memory_is_bounded() {
        let mut memo = Memo::default();
        for n in 0..100_000_u32 {
            let text = format!("{n:0>200}");
            // Each is asked for twice at once, so that it is worth it.
            if memo.words(text.as_bytes()).is_none() {
                memo.remember(text.as_bytes(), &[n]);
            }
            memo.words(text.as_bytes());
        }
        assert!(memo.entries.len() <= MAX_TEXTS);
        memo.remember(&[0; MAX_TEXT_BYTES + 1], &[0]);
        assert_eq!(memo.words(&[0; MAX_TEXT_BYTES + 1]), None);
    }
}
