//! Text indexes that stay open between queries: the first search of a column reads its dictionary, and the next one
//! should not.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::ops::Range;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use parking_lot::Mutex;
use stratalog_index::{IndexError, Source, TextIndex};
use stratalog_proto::SegmentId;
use stratalog_storage::SegmentHandle;
use stratalog_storage::col::Section;

/// Opens text indexes, and closes those that were not used for longest when there are too many. An open index belongs to
/// its segment's handle and goes with it, so that the file of a dropped segment is unlinked without delay; this only
/// knows who has one.
#[derive(Debug)]
pub(crate) struct OpenIndexes {
    /// The most bytes of open indexes, each counted as if all of it were in memory.
    limit: u64,
    uses: Mutex<Uses>,
}

/// By segment, its last use; by use, the segment. Uses are numbered.
#[derive(Debug, Default)]
struct Uses {
    last: HashMap<SegmentId, u64>,
    by_age: BTreeMap<u64, Use>,
    bytes: u64,
    next: u64,
}

#[derive(Debug)]
struct Use {
    segment: Weak<SegmentHandle>,
    id: SegmentId,
    bytes: u64,
}

impl OpenIndexes {
    /// Keeps indexes of at most `limit` bytes open.
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit: limit as u64, uses: Mutex::default() }
    }

    /// The index in a section of a segment, opened if it is not. May block on the disk.
    ///
    /// # Errors
    /// As [`TextIndex::open`], and [`IndexError::Corrupt`] for an index of another number of rows.
    pub(super) fn open(
        &self,
        segment: &Arc<SegmentHandle>,
        section: Section,
        rows: u32,
    ) -> Result<Arc<TextIndex>, IndexError> {
        let bytes = section.len();
        let index = segment.companion(|| {
            let index = TextIndex::open(Arc::new(TextSection(section)))?;
            if index.rows() != rows {
                return Err(IndexError::Corrupt(format!("it has {} rows, its segment {rows}", index.rows())));
            }
            Ok(index)
        })?;
        let unused = self.uses.lock().note(segment, bytes, self.limit);
        unused.iter().filter_map(Weak::upgrade).for_each(|segment| segment.dismiss_companion());
        Ok(index)
    }
}

impl Uses {
    /// Notes a use; gives the segments whose indexes have to be closed, perhaps this one.
    fn note(&mut self, segment: &Arc<SegmentHandle>, bytes: u64, limit: u64) -> Vec<Weak<SegmentHandle>> {
        let id = segment.meta.id;
        if let Some(before) = self.last.insert(id, self.next).and_then(|last| self.by_age.remove(&last)) {
            self.bytes -= before.bytes;
        }
        self.by_age.insert(self.next, Use { segment: Arc::downgrade(segment), id, bytes });
        self.bytes += bytes;
        self.next += 1;
        let mut unused = Vec::new();
        while self.bytes > limit {
            let Some((_, oldest)) = self.by_age.pop_first() else { break };
            self.last.remove(&oldest.id);
            self.bytes -= oldest.bytes;
            unused.push(oldest.segment);
        }
        unused
    }
}

/// The text section of a segment as the index crate reads it. It keeps the file in place, not the segment's handle.
struct TextSection(Section);

impl Source for TextSection {
    fn len(&self) -> u64 {
        self.0.len()
    }

    fn view(&self, range: Range<u64>) -> io::Result<Bytes> {
        self.0.view(range)
    }
}
