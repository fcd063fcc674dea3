//! Which words a set of texts has, about: enough to know that a leaf stands in none of them without looking.

use crate::analyzer::{Piece, Pieces};
use crate::matcher::LeafMatcher;

/// Text that shares a bit: a word of text and what stands around it, over how often words come again.
const TEXT_BYTES_A_BIT: usize = 4;
const MIN_CELLS: usize = 8;
/// FNV-1a, 64 bits: <http://www.isthe.com/chongo/tech/comp/fnv/>.
const FNV_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0100_0000_01b3;

/// A Bloom filter of the folded parts of texts, whose three bits of a part lie in one cell.
///
/// ```
/// use stratalog_index::{Leaf, LeafMatcher, Words};
/// let words = Words::of(&["GET /api/v1/users", "connection refused"], 40);
/// assert!(words.may_match(&LeafMatcher::new(&Leaf::Term("refused".into()))));
/// assert!(!words.may_match(&LeafMatcher::new(&Leaf::Term("4f2a9c31".into()))));
/// ```
#[derive(Clone, Debug)]
pub struct Words {
    /// A power of two of them.
    cells: Box<[u64]>,
}

impl Words {
    /// The words of `texts`, which have about `text_bytes` bytes together: with fewer the filter is larger than it needs to be,
    /// with more it excludes less.
    pub fn of<'a, T: AsRef<str> + ?Sized + 'a>(texts: impl IntoIterator<Item = &'a T>, text_bytes: usize) -> Self {
        let mut words = Self { cells: vec![0; cells(text_bytes)].into() };
        texts.into_iter().for_each(|text| words.add(text.as_ref()));
        words
    }

    /// Memory that the filter of so much text takes, in bytes.
    pub fn bytes_for(text_bytes: usize) -> usize {
        cells(text_bytes) * size_of::<u64>()
    }

    /// False if no text can match.
    pub fn may_match(&self, matcher: &LeafMatcher) -> bool {
        let (parts, open) = matcher.parts();
        let closed = &parts[..parts.len() - usize::from(open).min(parts.len())];
        !parts.is_empty() && closed.iter().all(|part| self.has(part.bytes().fold(FNV_BASIS, step)))
    }

    fn add(&mut self, text: &str) {
        if text.is_ascii() {
            return self.add_ascii(text.as_bytes());
        }
        for piece in Pieces::new(text) {
            let Piece::Part(range) = piece else { continue };
            let mut utf8 = [0; 4];
            let folded = text[range].chars().flat_map(char::to_lowercase);
            let hash = folded.fold(FNV_BASIS, |hash, c| c.encode_utf8(&mut utf8).bytes().fold(hash, step));
            self.insert(hash);
        }
    }

    fn add_ascii(&mut self, text: &[u8]) {
        for part in text.split(|byte| !byte.is_ascii_alphanumeric()).filter(|part| !part.is_empty()) {
            self.insert(part.iter().map(u8::to_ascii_lowercase).fold(FNV_BASIS, step));
        }
    }

    fn insert(&mut self, hash: u64) {
        let (cell, bits) = self.place(hash);
        self.cells[cell] |= bits;
    }

    fn has(&self, hash: u64) -> bool {
        let (cell, bits) = self.place(hash);
        self.cells[cell] & bits == bits
    }

    /// The cell of a part, and its bits there.
    fn place(&self, hash: u64) -> (usize, u64) {
        // The low bits of FNV depend on few of the bytes' bits.
        let mixed = (hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let bits = [58, 52, 46].into_iter().fold(0, |bits, shift| bits | 1 << ((mixed >> shift) & 63));
        (mixed as usize & (self.cells.len() - 1), bits)
    }
}

fn cells(text_bytes: usize) -> usize {
    (text_bytes / TEXT_BYTES_A_BIT / u64::BITS as usize).next_power_of_two().max(MIN_CELLS)
}

#[inline]
fn step(hash: u64, byte: u8) -> u64 {
    (hash ^ u64::from(byte)).wrapping_mul(FNV_PRIME)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Leaf;

    proptest! {
        /// Q2: what is left out does not match.
        #[test]
        fn q2_texts_that_are_left_out_do_not_match(
            texts in prop::collection::vec("[abAB1éÉK語́.: -]{0,12}", 0..12),
            word in "[abAB1éK語.-]{0,4}",
            kind in 0..3usize,
        ) {
            let matcher = LeafMatcher::new(&[Leaf::Term, Leaf::Phrase, Leaf::Prefix][kind](word));
            let words = Words::of(&texts, texts.iter().map(String::len).sum());
            prop_assert!(words.may_match(&matcher) || !texts.iter().any(|text| matcher.matches(text)));
        }
    }

    #[test]
    fn most_words_that_are_not_there_are_known_not_to_be() {
        let texts: Vec<String> =
            (0..8_192).map(|row| format!("GET /users/{row} took {}ms of node{}", row % 50, row % 7)).collect();
        let words = Words::of(&texts, texts.iter().map(String::len).sum());
        let may = |word: String| words.may_match(&LeafMatcher::new(&Leaf::Term(word)));
        assert!((0..8_192).all(|row| may(row.to_string())));
        let wrong = (0..10_000).filter(|id| may(format!("trace{id}"))).count();
        assert!(wrong < 1_000, "{wrong} of 10,000");
    }

    #[test]
    fn the_last_part_of_a_prefix_may_be_the_begin_of_any_word() {
        let words = Words::of(&["user-4711 left"], 14);
        let may = |text: &str| words.may_match(&LeafMatcher::new(&Leaf::Prefix(text.into())));
        assert!(may("47") && may("user-47") && may("user-"));
        assert!(!may("absent-47"));
        assert!(!words.may_match(&LeafMatcher::new(&Leaf::Term("-".into()))), "nothing to look for");
    }
}
