//! Whether one text matches a leaf: the truth that the index approximates.

mod ascii;

use crate::analyzer::{Piece, Pieces};
use crate::pattern::Pattern;
use crate::query::Leaf;
use ascii::Quick;

/// A leaf of a query, ready to be tried on many texts.
///
/// ```
/// use stratalog_index::{Leaf, LeafMatcher};
/// let matcher = LeafMatcher::new(&Leaf::Phrase("connection refused".into()));
/// assert!(matcher.matches("10.0.0.1: Connection refused (os error 111)"));
/// assert!(!matcher.matches("refused connection"));
/// ```
#[derive(Clone, Debug)]
pub struct LeafMatcher {
    pattern: Pattern,
    /// Knuth-Morris-Pratt: where to go on after part `i` did not match, so that a text is walked once whatever the
    /// pattern is.
    fallback: Vec<usize>,
    /// Whether a part has a character outside of ASCII. ASCII text folds to ASCII, so it never matches then.
    beyond_ascii: bool,
    /// The short way through ASCII texts, for patterns that have one.
    quick: Option<Quick>,
}

impl LeafMatcher {
    /// Analyzes the leaf. A leaf without a letter or digit matches nothing.
    pub fn new(leaf: &Leaf) -> Self {
        let pattern = Pattern::new(leaf);
        let fallback = fallback_of(&pattern.parts);
        let beyond_ascii = !pattern.parts.iter().all(|part| part.is_ascii());
        let quick = Quick::new(&pattern);
        Self { pattern, fallback, beyond_ascii, quick }
    }

    /// Whether the text has the leaf's parts, adjacent and in order. Takes no memory.
    pub fn matches(&self, text: &str) -> bool {
        match &self.quick {
            _ if !text.is_ascii() => self.walk(text),
            _ if self.beyond_ascii => false,
            Some(quick) => quick.matches(&self.pattern, text.as_bytes()),
            None => self.walk(text),
        }
    }

    /// Where the leaf may stand in texts that lie back to back, ascending: each ASCII text that matches has one of these
    /// places in it. Other texts have to be tried one by one. False for a leaf that cannot be looked for this way.
    pub fn places(&self, texts: &[u8], found: impl FnMut(usize)) -> bool {
        let Some(quick) = &self.quick else { return false };
        if !self.beyond_ascii {
            quick.places(self.pattern.parts[0].as_bytes(), texts, found);
        }
        true
    }

    /// The folded parts that a text must have, and whether the last one may go on. No parts: no text matches.
    pub(crate) fn parts(&self) -> (&[String], bool) {
        (&self.pattern.parts, self.pattern.open)
    }

    /// The truth itself, for any text and any pattern.
    fn walk(&self, text: &str) -> bool {
        let last = match self.pattern.parts.len() {
            0 => return false,
            count => count - 1,
        };
        let mut at = 0;
        for piece in Pieces::new(text) {
            let Piece::Part(range) = piece else { continue };
            let part = &text[range];
            while at > 0 && !self.part_matches(part, at) {
                at = self.fallback[at];
            }
            if self.part_matches(part, at) {
                if at == last {
                    return true;
                }
                at += 1;
            }
        }
        false
    }

    #[inline]
    fn part_matches(&self, part: &str, at: usize) -> bool {
        let wanted = &self.pattern.parts[at];
        if self.pattern.open && at + 1 == self.pattern.parts.len() {
            folded_starts_with(part, wanted)
        } else {
            folded_equals(part, wanted)
        }
    }
}

/// For each `i`: the length of the longest proper prefix of `parts[..i]` that is also its suffix. Only closed parts
/// are compared, since the open one is the last.
fn fallback_of(parts: &[String]) -> Vec<usize> {
    let mut fallback = vec![0; parts.len()];
    let mut border = 0;
    for i in 2..parts.len() {
        while border > 0 && parts[i - 1] != parts[border] {
            border = fallback[border];
        }
        if parts[i - 1] == parts[border] {
            border += 1;
        }
        fallback[i] = border;
    }
    fallback
}

#[inline]
fn folded_equals(part: &str, folded: &str) -> bool {
    if part.is_ascii() {
        return part.eq_ignore_ascii_case(folded);
    }
    part.chars().flat_map(char::to_lowercase).eq(folded.chars())
}

#[inline]
fn folded_starts_with(part: &str, folded: &str) -> bool {
    if part.is_ascii() {
        let start = part.as_bytes().get(..folded.len());
        return start.is_some_and(|start| start.eq_ignore_ascii_case(folded.as_bytes()));
    }
    let mut chars = part.chars().flat_map(char::to_lowercase);
    folded.chars().all(|wanted| chars.next() == Some(wanted))
}
