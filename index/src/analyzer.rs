//! Analyzer v1: what the words of a text are.
//!
//! - A **part** is a maximal run of letters and digits (Unicode alphanumerics and combining diacritics), lowercased.
//!   An ideograph or kana is a part by itself, since those scripts put no spaces between words.
//! - A **whole** is a maximal run of part characters and [joiners](JOINERS), trimmed of joiners at both ends, that has
//!   a joiner inside: `10.0.0.1`, `req-4f2a`, `/api/v1/users`. It is indexed beside its parts, so that a search for the
//!   whole is as sharp as a search for one word.
//!
//! Tokens are bounded by [`MAX_TOKEN_BYTES`]: a longer part is cut, a longer whole is not indexed at all.

mod pieces;
mod stream;

pub(crate) use pieces::{Piece, Pieces, is_word_char};
pub(crate) use stream::{TOKENIZER, V1};

/// Version of the rules in this module. A segment records it; a change of any rule is a new version.
pub const ANALYZER_VERSION: u32 = 1;

/// Longest token in the index, in bytes of its lowercased form.
pub const MAX_TOKEN_BYTES: usize = 255;

/// A token of at least this length may be the cut form of a longer one: cutting at a character boundary removes up to
/// three bytes more than needed.
pub(crate) const MAYBE_CUT_BYTES: usize = MAX_TOKEN_BYTES - 3;

/// ASCII characters that join parts into a whole.
pub(crate) const JOINERS: &[u8] = b"._-:/@#$+";

/// Whether a folded token was cut to fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fit {
    Entire,
    Cut,
}

/// Appends the lowercased form of `text` to `out`, at most `limit` bytes of it, cut at a character boundary.
///
/// Lowercasing is per character, without context (no final sigma rule), so that a part folds the same alone and inside
/// a whole.
pub(crate) fn fold_into(text: &str, limit: usize, out: &mut String) -> Fit {
    let start = out.len();
    if text.is_ascii() {
        let kept = text.len().min(limit);
        out.push_str(&text[..kept]);
        out[start..].make_ascii_lowercase();
        return if kept == text.len() { Fit::Entire } else { Fit::Cut };
    }
    for c in text.chars().flat_map(char::to_lowercase) {
        if out.len() - start + c.len_utf8() > limit {
            return Fit::Cut;
        }
        out.push(c);
    }
    Fit::Entire
}

/// The lowercased form of `text`, uncut.
pub(crate) fn fold(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    fold_into(text, usize::MAX, &mut out);
    out
}

#[cfg(test)]
mod tests;
