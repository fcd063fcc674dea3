//! The table of sections in a footer: which part of the blocks holds what.

use std::ops::Range;

use super::cursor::{Cursor, Malformed};
use super::trailer::HEADER_BYTES;

/// More kinds of section than any release will have.
const MAX_SECTIONS: usize = 64;

/// Where the sections of a file are, each with its kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sections(Vec<(u32, Range<u64>)>);

impl Sections {
    /// Ascending, not overlapping.
    pub(crate) fn new(sections: impl IntoIterator<Item = (u32, Range<u64>)>) -> Self {
        Self(sections.into_iter().collect())
    }

    /// The section of a kind, if there is one. Kinds that a later release added are never asked for.
    pub(crate) fn get(&self, kind: u32) -> Option<Range<u64>> {
        self.0.iter().find(|(of, _)| *of == kind).map(|(_, section)| section.clone())
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&(self.0.len() as u32).to_le_bytes());
        for (kind, section) in &self.0 {
            out.extend_from_slice(&kind.to_le_bytes());
            out.extend_from_slice(&section.start.to_le_bytes());
            out.extend_from_slice(&(section.end - section.start).to_le_bytes());
        }
    }

    /// Reads the table of a file whose blocks end at `blocks_end`. The sections lie behind the header, ascend and do not
    /// overlap.
    pub(crate) fn decode(cursor: &mut Cursor<'_>, blocks_end: u64) -> Result<Self, Malformed> {
        let mut sections = Vec::new();
        let mut end = HEADER_BYTES as u64;
        for _ in 0..cursor.count(MAX_SECTIONS)? {
            let (kind, start, len) = (cursor.u32()?, cursor.u64()?, cursor.u64()?);
            let outside = Malformed("sections overlap, or lie outside of the blocks");
            let section = start..start.checked_add(len).filter(|&end| end <= blocks_end).ok_or(outside)?;
            if start < end {
                return Err(outside);
            }
            end = section.end;
            sections.push((kind, section));
        }
        Ok(Self(sections))
    }
}
