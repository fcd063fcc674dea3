//! Where batches begin and end: what their headers say, judged before anything is read at the places that they name.

use stratalog_proto::Offset;
use stratalog_proto::batch::{BatchHeader, HEADER_BYTES};

use super::partition::Placed;

/// Bytes of a batch that its length field does not count.
const LENGTH_OVERHEAD: i64 = 12;

impl Placed {
    /// What the header of a batch says that begins at `start` in the file; `bytes` begin there, too.
    pub(super) fn read(bytes: &[u8], start: u64) -> Result<Self, String> {
        let header = BatchHeader::read(bytes).map_err(|error| error.to_string())?;
        let len = i64::from(header.batch_length) + LENGTH_OVERHEAD;
        let first = u64::try_from(header.base_offset).map_err(|_| "L2: its base offset is negative".to_owned())?;
        let offsets = header.offset_count();
        if offsets == 0 || u32::try_from(header.record_count).map_or(true, |records| records > offsets) {
            return Err("L2: it has no offsets, or more records than offsets".to_owned());
        }
        let next = first + u64::from(offsets);
        if next > i64::MAX as u64 || len < HEADER_BYTES as i64 {
            return Err("its offsets end above 2^63 - 1, or its bytes before its header does".to_owned());
        }
        let (epoch, max_timestamp_ms) = (header.leader_epoch, header.max_timestamp_ms);
        let end = start.checked_add(len as u64).ok_or("it ends beyond all files")?;
        Ok(Self { first: Offset(first), next: Offset(next), start, end, epoch, max_timestamp_ms })
    }

    pub(super) fn len(&self) -> usize {
        (self.end - self.start) as usize
    }
}
