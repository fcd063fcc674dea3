//! What a Produce brings, read by hand: its records are slices of the request.

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::protocol::StrBytes;
use stratalog_proto::batch::HEADER_BYTES;

use super::api::Request;
use super::wire::{Malformed, Reader};

/// Where a batch has the version of its format, and the one that we keep.
const MAGIC_AT: usize = 16;
const MAGIC: u8 = 2;
/// Where it says how many bytes follow, and from where on these count.
const LENGTH_AT: std::ops::Range<usize> = 8..12;

/// A request, as it was read.
#[derive(Debug)]
pub(in crate::kafka) struct Asked {
    pub(in crate::kafka) is_transactional: bool,
    pub(in crate::kafka) acks: i16,
    pub(in crate::kafka) topics: Vec<Topic>,
}

#[derive(Debug)]
pub(in crate::kafka) struct Topic {
    pub(in crate::kafka) name: StrBytes,
    pub(in crate::kafka) partitions: Vec<Partition>,
}

#[derive(Debug)]
pub(in crate::kafka) struct Partition {
    pub(in crate::kafka) index: i32,
    /// `None`: null.
    pub(in crate::kafka) records: Option<Bytes>,
}

/// # Errors
/// What is wrong; the connection cannot go on.
pub(in crate::kafka) fn read(request: &Request) -> Result<Asked, Malformed> {
    let mut reader = Reader::new(request.body.clone(), request.is_flexible());
    let transactional_id = if request.version >= 3 { reader.nullable_text()? } else { None };
    let acks = reader.i16()?;
    // How long to wait for acknowledgements: the broker has its own bound, and says when it is over.
    reader.i32()?;
    let topics = reader.list(2, |reader| {
        let name = reader.text()?;
        let partitions = reader.list(5, |reader| {
            let partition = Partition { index: reader.i32()?, records: reader.nullable_bytes()? };
            reader.tags().map(|()| partition)
        })?;
        reader.tags().map(|()| Topic { name, partitions })
    })?;
    reader.tags()?;
    reader.end()?;
    Ok(Asked { is_transactional: transactional_id.is_some(), acks, topics })
}

/// The batch of a partition, which the broker looks into.
///
/// # Errors
/// It is none, or not the only one.
pub(in crate::kafka) fn one_batch(partition: &Partition) -> Result<Bytes, (ResponseError, &'static str)> {
    let Some(records) = partition.records.clone().filter(|records| records.len() >= HEADER_BYTES) else {
        return Err((ResponseError::InvalidRecord, "a partition comes with one record batch, and this is none"));
    };
    if records[MAGIC_AT] != MAGIC {
        return Err((ResponseError::UnsupportedForMessageFormat, "record batches are taken in format 2 only"));
    }
    let length = records[LENGTH_AT].first_chunk::<4>().map_or(0, |length| u32::from_be_bytes(*length));
    if (length as usize).checked_add(LENGTH_AT.end).is_none_or(|length| length < records.len()) {
        return Err((ResponseError::InvalidRecord, "a partition comes with one record batch, and these are several"));
    }
    Ok(records)
}
