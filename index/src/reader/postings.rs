//! Lists of rows as bitmaps. What is read is checked for what the algebra relies on: ids ascend and are rows.

use roaring::RoaringBitmap;
use tantivy::postings::TermInfo;
use tantivy::schema::IndexRecordOption;
use tantivy::{DocSet, InvertedIndexReader, TERMINATED};

use crate::IndexError;

/// Most lists that one prefix reads. Beyond, the prefix is so common that its rows are better found by scanning.
const MAX_EXPANSION: usize = 16 * 1024;

/// A candidate is worth this many entries of a list: with fewer candidates, seeking beats reading the list.
const SEEK_WORTH: u64 = 32;

/// The lists of one column.
pub(super) struct Lists<'a> {
    pub(super) index: &'a InvertedIndexReader,
    pub(super) rows: u32,
}

/// The rows of many lists, and whether that is all of them.
pub(super) struct Union {
    pub(super) rows: RoaringBitmap,
    pub(super) complete: bool,
}

impl Lists<'_> {
    /// The list of a term.
    pub(super) fn find(&self, term: &str) -> Result<Option<TermInfo>, IndexError> {
        Ok(self.index.terms().get(term)?)
    }

    /// The rows of a list, block by block.
    pub(super) fn rows_of(&self, list: &TermInfo) -> Result<RoaringBitmap, IndexError> {
        let mut rows = RoaringBitmap::new();
        self.for_each_block(list, |block| rows.append(block.iter().copied()).map(drop).map_err(|_| out_of_order()))?;
        Ok(rows)
    }

    /// The candidates that are in a list too.
    pub(super) fn narrow(&self, candidates: RoaringBitmap, list: &TermInfo) -> Result<RoaringBitmap, IndexError> {
        if candidates.len().saturating_mul(SEEK_WORTH) >= u64::from(list.doc_freq) {
            return Ok(candidates & self.rows_of(list)?);
        }
        let mut postings = self.index.read_postings_from_terminfo(list, IndexRecordOption::Basic)?;
        let mut kept = RoaringBitmap::new();
        let mut row = postings.doc();
        for candidate in candidates {
            if row < candidate {
                row = postings.seek(candidate);
            }
            match row {
                TERMINATED => break,
                _ if row == candidate => kept.append([row]).map(drop).map_err(|_| out_of_order())?,
                _ => {}
            }
        }
        Ok(kept)
    }

    /// The rows of all terms that start with `prefix`.
    pub(super) fn starting_with(&self, prefix: &str) -> Result<Union, IndexError> {
        let mut terms = self.index.terms().range().ge(prefix).into_stream()?;
        let mut rows = RoaringBitmap::new();
        let mut lists = 0;
        while terms.advance() {
            if !terms.key().starts_with(prefix.as_bytes()) {
                break;
            }
            lists += 1;
            if lists > MAX_EXPANSION {
                return Ok(Union { rows, complete: false });
            }
            self.for_each_block(terms.value(), |block| {
                rows.extend(block);
                Ok(())
            })?;
        }
        Ok(Union { rows, complete: true })
    }

    fn for_each_block(
        &self,
        list: &TermInfo,
        mut visit: impl FnMut(&[u32]) -> Result<(), IndexError>,
    ) -> Result<(), IndexError> {
        let mut blocks = self.index.read_block_postings_from_terminfo(list, IndexRecordOption::Basic)?;
        let mut left = u64::from(list.doc_freq);
        if left > u64::from(self.rows) {
            return Err(IndexError::Corrupt(format!("a word is in {left} of {} rows", self.rows)));
        }
        loop {
            let block = blocks.docs();
            match block.iter().max() {
                None => break,
                Some(&last) if last >= self.rows => {
                    return Err(IndexError::Corrupt(format!("a word is in row {last} of {} rows", self.rows)));
                }
                Some(_) => visit(block)?,
            }
            left = left.checked_sub(block.len() as u64).ok_or_else(out_of_order)?;
            blocks.advance();
        }
        match left {
            0 => Ok(()),
            _ => Err(IndexError::Corrupt(format!("a list of rows ends {left} rows early"))),
        }
    }
}

fn out_of_order() -> IndexError {
    IndexError::Corrupt("a list of rows is out of order".to_owned())
}
