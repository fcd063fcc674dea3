//! Segment files, as they come from a disk or from another node.

use std::path::Path;
use std::sync::Arc;

use stratalog_mutation::Decoder;
use stratalog_proto::{Offset, RaftIndex, SegmentId};

use super::disk_with;
use crate::col::{self, ColReader};
use crate::container::parts::{apart, together};
use crate::rec::{self, RecError, RecRange};
use crate::{ErasedOffsets, Io, RecReader, repack};

/// A replay segment in parts.
pub const REC: Decoder = Decoder { name: "rec", samples: recs, run: read_rec, words: &[], memory_bytes: 8 << 20 };

/// A column segment in parts. What opening one takes is bounded by its cells, of which a few bytes may claim four millions.
pub const COL: Decoder = Decoder { name: "col", samples: cols, run: read_col, words: &[], memory_bytes: 320 << 20 };

const DIR: &str = "/segments";
const REC_FILE: &[u8] = include_bytes!("../../tests/fixtures/v1.rec");
const COL_FILE: &[u8] = include_bytes!("../../tests/fixtures/v1.col");
/// What is asked of a partition at once: less than it has.
const READ_BYTES: usize = 700;

fn recs() -> Vec<Vec<u8>> {
    vec![apart(REC_FILE, &rec::KIND)]
}

fn read_rec(parts: &[u8]) -> bool {
    let path = Path::new(DIR).join("a.rec");
    let io = disk_with(&path, &together(parts, &rec::KIND));
    let Ok(reader) = RecReader::open(io.clone(), &path) else { return false };
    let reader = Arc::new(reader);
    let verified = reader.verify().is_ok();
    let walked = read_partitions(&reader).is_ok();
    let ordered = reader.ordered(RaftIndex(0)).and_then(|batches| batches.collect::<Result<Vec<_>, _>>());
    if verified {
        let ordered = ordered.expect("L4: what was verified can be read in the order of the log");
        assert!(walked, "L4: what was verified can be read");
        assert_eq!(ordered.len(), reader.batches() as usize);
    }
    // What is made of damaged batches is of no use, and that is no reason to panic.
    repack_half(&*io, &reader, verified);
    verified
}

/// Reads each partition as consumers do: from its first offset on, and from a time.
fn read_partitions(reader: &RecReader) -> Result<(), RecError> {
    for meta in reader.topics() {
        for RecRange { partition, first, next, max_timestamp_ms, .. } in meta.ranges {
            let mut from = first;
            while let Some(slice) = reader.read(meta.topic, partition, from, READ_BYTES)? {
                assert!(slice.first <= from && from < slice.next, "L2: an answer holds what was asked for");
                from = slice.next;
            }
            assert_eq!(from, next, "L2: a partition ends where it says");
            let middle = Offset(first.0 + (next.0 - first.0) / 2);
            reader.offset_at_time(meta.topic, partition, middle, max_timestamp_ms)?;
        }
    }
    Ok(())
}

/// Rewrites the first of each two partitions, without their first offset.
fn repack_half(io: &dyn Io, reader: &RecReader, verified: bool) {
    let topics = reader.topics();
    let all = topics.iter().flat_map(|meta| meta.ranges.iter().map(|range| (meta.topic, range)));
    let kept: Vec<_> = all.step_by(2).collect();
    let erased: ErasedOffsets = kept.iter().map(|(topic, range)| (*topic, range.partition, range.first)).collect();
    let keep: Vec<_> = kept.iter().map(|(topic, range)| (*topic, range.partition)).collect();
    let repacked = repack(io, Path::new(DIR), reader, SegmentId::new(), &keep, &erased);
    assert!(!verified || repacked.is_ok(), "L4: what was verified can be rewritten: {repacked:?}");
}

fn cols() -> Vec<Vec<u8>> {
    vec![apart(COL_FILE, &col::KIND)]
}

fn read_col(parts: &[u8]) -> bool {
    let path = Path::new(DIR).join("a.col");
    let io = disk_with(&path, &together(parts, &col::KIND));
    let Ok(reader) = ColReader::open(io, &path) else { return false };
    let mut whole = reader.verify().is_ok();
    for (column, field) in reader.schema().fields().iter().enumerate() {
        let zones = [reader.zone_min(column), reader.zone_max(column), reader.null_counts(column)];
        assert!(zones.iter().all(|zone| zone.len() == reader.granules()));
        // A file of a few bytes may claim thousands of granules without anything in them.
        for granule in 0..reader.granules().min(3) {
            let _ = reader.stored_bytes(column, granule);
            match reader.read(column, granule) {
                Ok(values) => {
                    assert_eq!(values.len(), reader.granule_rows(granule).len());
                    assert_eq!(values.data_type(), field.data_type());
                }
                Err(_) => whole = false,
            }
        }
    }
    let text = reader.text().map(|text| text.view(0..text.len()).is_ok());
    whole && text != Some(false)
}
