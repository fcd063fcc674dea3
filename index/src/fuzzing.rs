//! The decoders of this room, as fuzz targets and for a short run of mutations in every test run.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;
use stratalog_mutation::Decoder;

use crate::blob::with_right_checksum;
use crate::{Leaf, LeafMatcher, MIN_BUDGET_BYTES, Query, TextIndex, TextIndexWriter, parse};

/// The text index of a column segment, under a checksum that is right for its header.
pub const TEXT_INDEX: Decoder =
    Decoder { name: "text_index", samples: indexes, run: read_index, words: &[], memory_bytes: 16 << 20 };

/// A search, as a user writes it.
pub const SEARCH: Decoder =
    Decoder { name: "search", samples: searches, run: read_search, words: WORDS, memory_bytes: 1 << 20 };

/// All of them.
pub const DECODERS: &[Decoder] = &[TEXT_INDEX, SEARCH];

const WORDS: &[&str] = &[
    " AND ",
    " OR ",
    "NOT ",
    " TO ",
    "_exists_:",
    "a.b:",
    "&&",
    "||",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    "\"",
    "\\",
    "*",
    "?",
    "~",
    "^",
    ":",
    "-",
    "+",
    "!",
    ">=",
    "<",
    "é",
    "\u{3000}",
];

fn indexes() -> Vec<Vec<u8>> {
    let mut writer = TextIndexWriter::new(&["message".into(), "".into()], MIN_BUDGET_BYTES).expect("two columns");
    for row in 0..40 {
        let message = format!("request {row} took {} ms on /api/v1", row % 7);
        writer.add_row(&mut [(0, message.as_str()), (1, "web-1")].into_iter()).expect("memory does not fail");
    }
    vec![include_bytes!("blob/fixtures/v1.text").to_vec(), writer.finish().expect("memory does not fail")]
}

fn read_index(bytes: &[u8]) -> bool {
    let _ = TextIndex::open(Arc::new(Bytes::copy_from_slice(bytes)));
    let Ok(index) = TextIndex::open(Arc::new(Bytes::from(with_right_checksum(bytes)))) else { return false };
    let (term, phrase) = (Leaf::Term("took".into()), Leaf::Phrase("api v1".into()));
    let prefixes = ["web-", "r", ""].map(|start| Leaf::Prefix(start.into()));
    let mut whole = true;
    for leaf in [term, phrase].into_iter().chain(prefixes) {
        for field in [None, Some("message")] {
            // Every row may match a word of a column that is not there, and there are as many as the header says.
            if field.is_some_and(|field| !index.fields().iter().any(|known| known == field)) {
                continue;
            }
            match index.leaf(field, &leaf) {
                Ok(hits) => {
                    assert!(hits.sure.is_subset(&hits.maybe), "what is sure is possible");
                    assert!(hits.maybe.max().is_none_or(|row| row < index.rows()), "a hit is a row");
                }
                Err(_) => whole = false,
            }
        }
    }
    whole
}

const SEARCHES: [&str; 6] = [
    "level:error AND (timeout OR \"connection refused\") -debug",
    "status:>=500 took:[100 TO 250} host:web-*",
    "_exists_:trace.id NOT user:(alice bob)",
    "a\\:b \"two words\" +must !not 10.0.0.1",
    "größe:{* TO 9] || c && d",
    "*",
];

fn searches() -> Vec<Vec<u8>> {
    SEARCHES.map(|text| text.as_bytes().to_vec()).into()
}

fn read_search(bytes: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(bytes) else { return false };
    match parse(text) {
        Err(error) => {
            assert!(text.is_char_boundary(error.position), "an error is at a place within the text");
            false
        }
        Ok(query) => {
            assert_eq!(parse(&query.to_string()).as_ref(), Ok(&query), "a query shown parses to itself");
            match_leaves(&query, text);
            true
        }
    }
}

/// Tries the words of a query on its own text.
fn match_leaves(query: &Query, text: &str) {
    match query {
        Query::Leaf { leaf, .. } => drop(LeafMatcher::new(leaf).matches(text)),
        Query::And(members) | Query::Or(members) => members.iter().for_each(|member| match_leaves(member, text)),
        Query::Not(inner) => match_leaves(inner, text),
        Query::All | Query::Compare { .. } | Query::Exists { .. } => {}
    }
}
