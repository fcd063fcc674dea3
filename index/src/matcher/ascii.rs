//! Matching ASCII texts: jump to the places where the first part may stand, and look at those only.
//!
//! In an ASCII text the parts are runs of ASCII letters and digits, and folding is ASCII case. Other texts go the long
//! way, since a character outside of ASCII may fold to one inside (`K`, the Kelvin sign, to `k`).

use crate::pattern::Pattern;

/// Each candidate costs up to this many parts. A pattern with more takes the walk, whose cost does not depend on it.
const MAX_PARTS: usize = 8;

/// Bytes that are looked at together.
const BLOCK_BYTES: usize = 128;
/// What an upper-case letter lacks to be its lower-case one. Set in a digit already.
const CASE_BIT: u8 = 0x20;

/// Letters from common to rare in logs: English, and hexadecimal ids. What is not listed, digits above all, is as common as
/// the first.
const COMMON_FIRST: &[u8] = b"eatoinsrdcfblhumpgwyvkxjqz";

/// Where to look for the first part: at a byte of it that is rare in texts, in both cases.
#[derive(Clone, Debug)]
pub(super) struct Quick {
    lower: u8,
    upper: u8,
    /// Of the byte in the part.
    offset: usize,
    /// The two rarest bytes of the part with [`CASE_BIT`] set, and where they are in it; the same twice if it has one.
    pair: [(u8, usize); 2],
}

impl Quick {
    /// `None` for a pattern that has to take the walk.
    pub(super) fn new(pattern: &Pattern) -> Option<Self> {
        let first = pattern.parts.first()?.as_bytes();
        let suits = pattern.parts.len() <= MAX_PARTS && pattern.parts.iter().all(|part| part.is_ascii());
        let (offset, &lower) = first.iter().enumerate().max_by_key(|&(_, &byte)| rarity(byte))?;
        let others = first.iter().enumerate().filter(|(at, _)| *at != offset);
        let (second, &other) = others.max_by_key(|&(_, &byte)| rarity(byte)).unwrap_or((offset, &lower));
        let pair = [(lower | CASE_BIT, offset), (other | CASE_BIT, second)];
        suits.then_some(Self { lower, upper: lower.to_ascii_uppercase(), offset, pair })
    }

    /// Whether an ASCII text matches.
    pub(super) fn matches(&self, pattern: &Pattern, text: &[u8]) -> bool {
        memchr::memchr2_iter(self.lower, self.upper, text)
            .filter_map(|at| at.checked_sub(self.offset))
            .any(|start| stands_at(pattern, text, start))
    }

    /// Where the first part of the pattern stands in a text, and perhaps goes on: two of its bytes are looked for in whole
    /// blocks, which the compiler turns into vectors, and the few places where both are get a second look.
    pub(super) fn places(&self, first: &[u8], text: &[u8], mut found: impl FnMut(usize)) {
        let Some(starts) = (text.len() + 1).checked_sub(first.len()) else { return };
        let [(a, at_a), (b, at_b)] = self.pair;
        let (left, right) = (&text[at_a..][..starts], &text[at_b..][..starts]);
        for (n, (left, right)) in left.chunks(BLOCK_BYTES).zip(right.chunks(BLOCK_BYTES)).enumerate() {
            let has_both = |(x, y): (&u8, &u8)| (x | CASE_BIT == a) & (y | CASE_BIT == b);
            if !left.iter().zip(right).fold(false, |any, bytes| any | has_both(bytes)) {
                continue;
            }
            let starts = (0..left.len()).filter(|at| has_both((&left[*at], &right[*at])));
            let starts = starts.map(|at| n * BLOCK_BYTES + at);
            starts.filter(|&at| text[at..at + first.len()].eq_ignore_ascii_case(first)).for_each(&mut found);
        }
    }
}

fn rarity(byte: u8) -> usize {
    COMMON_FIRST.iter().position(|&common| common == byte).unwrap_or(0)
}

/// Whether the pattern's parts stand in the text from `start` on, adjacent and in order.
fn stands_at(pattern: &Pattern, text: &[u8], start: usize) -> bool {
    if start > 0 && text[start - 1].is_ascii_alphanumeric() {
        return false;
    }
    let mut at = start;
    for (i, part) in pattern.parts.iter().enumerate() {
        if i > 0 {
            at += text[at..].iter().take_while(|byte| !byte.is_ascii_alphanumeric()).count();
        }
        let open = pattern.open && i + 1 == pattern.parts.len();
        let Some(found) = text.get(at..at + part.len()) else { return false };
        at += part.len();
        let goes_on = text.get(at).is_some_and(u8::is_ascii_alphanumeric);
        // An open part that is empty still wants a part to stand there.
        let ends = if open { !part.is_empty() || goes_on } else { !goes_on };
        if !ends || !found.eq_ignore_ascii_case(part.as_bytes()) {
            return false;
        }
    }
    true
}
