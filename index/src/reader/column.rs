//! A pattern against one column: which lists of rows bound the truth, from below and from above.

use roaring::RoaringBitmap;
use tantivy::InvertedIndexReader;

use super::postings::{Lists, Union};
use crate::IndexError;
use crate::analyzer::{MAX_TOKEN_BYTES, MAYBE_CUT_BYTES};
use crate::hits::Hits;
use crate::pattern::Pattern;

pub(super) fn search(index: &InvertedIndexReader, rows: u32, pattern: &Pattern) -> Result<Hits, IndexError> {
    let lists = Lists { index, rows };
    match (pattern.parts.as_slice(), pattern.open) {
        ([], _) => Ok(Hits::none()),
        ([part], false) => one_part(&lists, part),
        ([part], true) if !part.is_empty() => one_prefix(&lists, part),
        _ => adjacent(&lists, pattern),
    }
}

/// One word: its list is the truth, unless the word may have been cut.
fn one_part(lists: &Lists<'_>, part: &str) -> Result<Hits, IndexError> {
    let Some(list) = lists.find(cut(part, MAX_TOKEN_BYTES))? else { return Ok(Hits::none()) };
    let maybe = lists.rows_of(&list)?;
    Ok(match part.len() < MAYBE_CUT_BYTES {
        true => Hits::exact(maybe),
        false => Hits { sure: RoaringBitmap::new(), maybe },
    })
}

/// The start of a word: the union of the lists of the words that start with it.
fn one_prefix(lists: &Lists<'_>, part: &str) -> Result<Hits, IndexError> {
    let Union { rows: found, complete } = lists.starting_with(cut(part, MAYBE_CUT_BYTES))?;
    let sure = if part.len() <= MAYBE_CUT_BYTES { found.clone() } else { RoaringBitmap::new() };
    let maybe = if complete { found } else { Hits::unknown(lists.rows).maybe };
    Ok(Hits { sure, maybe })
}

/// Several parts in order. Rows with all parts may have them in order; rows with the whole word have.
fn adjacent(lists: &Lists<'_>, pattern: &Pattern) -> Result<Hits, IndexError> {
    let (closed, open) = match pattern.open {
        true => pattern.parts.split_last().map(|(open, closed)| (closed, open.as_str())).unwrap_or_default(),
        false => (pattern.parts.as_slice(), ""),
    };
    let maybe = with_all(lists, closed, open)?;
    if maybe.is_empty() {
        return Ok(Hits::none());
    }
    let sure = match &pattern.whole {
        Some(whole) if whole.len() > MAX_TOKEN_BYTES => RoaringBitmap::new(),
        Some(whole) if pattern.open => lists.starting_with(whole)?.rows,
        Some(whole) => lists.find(whole)?.map(|list| lists.rows_of(&list)).transpose()?.unwrap_or_default(),
        None => RoaringBitmap::new(),
    };
    Ok(Hits { sure: sure & &maybe, maybe })
}

/// Rows that have each of the closed parts and a word that starts with the open one.
fn with_all(lists: &Lists<'_>, closed: &[String], open: &str) -> Result<RoaringBitmap, IndexError> {
    let mut found = Vec::with_capacity(closed.len());
    for part in closed {
        match lists.find(cut(part, MAX_TOKEN_BYTES))? {
            Some(list) => found.push(list),
            None => return Ok(RoaringBitmap::new()),
        }
    }
    // The rarest first: every list after it only narrows.
    found.sort_by_key(|list| list.doc_freq);
    found.dedup();
    let mut all = match found.first() {
        Some(rarest) => lists.rows_of(rarest)?,
        None => Hits::unknown(lists.rows).maybe,
    };
    for list in found.iter().skip(1) {
        if all.is_empty() {
            return Ok(all);
        }
        all = lists.narrow(all, list)?;
    }
    if !open.is_empty() && !all.is_empty() {
        let starts = lists.starting_with(cut(open, MAYBE_CUT_BYTES))?;
        if starts.complete {
            all &= starts.rows;
        }
    }
    Ok(all)
}

/// The first characters of a text that fit, as indexing cuts them.
fn cut(text: &str, limit: usize) -> &str {
    &text[..text.floor_char_boundary(limit)]
}
