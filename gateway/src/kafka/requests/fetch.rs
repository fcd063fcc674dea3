//! What a Fetch asks for, read by hand: its answer is written so, too.

use std::time::Duration;

use kafka_protocol::protocol::StrBytes;

use super::api::Request;
use super::wire::{Malformed, Reader};

/// The most bytes of one answer, whatever was asked for.
pub(in crate::kafka) const MAX_BYTES: usize = 64 << 20;
/// The longest that a client may wait.
const MAX_WAIT: Duration = Duration::from_secs(60);
/// From this version on, topics are named by their ids.
const FIRST_WITH_IDS: i16 = 13;

/// A request, as it was read.
#[derive(Debug)]
pub(in crate::kafka) struct Asked {
    pub(in crate::kafka) limits: Limits,
    /// 0: none.
    pub(in crate::kafka) session: i32,
    pub(in crate::kafka) epoch: i32,
    /// Whether topics are named by their ids.
    pub(in crate::kafka) by_id: bool,
    pub(in crate::kafka) topics: Vec<Topic>,
    /// What its session does not want any more.
    pub(in crate::kafka) forgotten: Vec<Forgotten>,
    /// Where the client is; empty: it does not say.
    pub(in crate::kafka) rack: StrBytes,
}

/// How long a client waits, and for how much.
#[derive(Clone, Copy, Debug)]
pub(in crate::kafka) struct Limits {
    pub(in crate::kafka) max_wait: Duration,
    pub(in crate::kafka) min_bytes: usize,
    pub(in crate::kafka) max_bytes: usize,
}

#[derive(Debug)]
pub(in crate::kafka) struct Topic {
    pub(in crate::kafka) name: Named,
    pub(in crate::kafka) partitions: Vec<Partition>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::kafka) enum Named {
    Name(StrBytes),
    Id(u128),
}

#[derive(Clone, Copy, Debug)]
pub(in crate::kafka) struct Partition {
    pub(in crate::kafka) index: i32,
    pub(in crate::kafka) offset: i64,
    /// The leader epoch that the client knows; negative: none.
    pub(in crate::kafka) epoch: i32,
    /// That of the last record that it has; negative: it does not say.
    pub(in crate::kafka) last_epoch: i32,
    pub(in crate::kafka) max_bytes: usize,
    /// High watermark and log start, as the client was told them last.
    pub(in crate::kafka) told: (i64, i64),
    pub(in crate::kafka) is_forgotten: bool,
}

impl Partition {
    /// One of which its client was told nothing yet.
    pub(in crate::kafka) fn new(index: i32, offset: i64, max_bytes: usize) -> Self {
        Self { index, offset, epoch: -1, last_epoch: -1, max_bytes, told: (-1, -1), is_forgotten: false }
    }
}

#[derive(Debug)]
pub(in crate::kafka) struct Forgotten {
    pub(in crate::kafka) name: Named,
    pub(in crate::kafka) partitions: Vec<i32>,
}

/// The most bytes of records that the answer to a request may hold.
pub(in crate::kafka) fn most_bytes(request: &Request) -> usize {
    read_limits(&mut reader(request), request.version).map_or(0, |limits| limits.max_bytes)
}

/// # Errors
/// What is wrong; the connection cannot go on.
pub(in crate::kafka) fn read(request: &Request) -> Result<Asked, Malformed> {
    let version = request.version;
    let has = |since: i16| version >= since;
    let mut reader = reader(request);
    let limits = read_limits(&mut reader, version)?;
    // The isolation level: without transactions, everything below the high watermark is committed.
    reader.i8()?;
    let (session, epoch) = if has(7) { (reader.i32()?, reader.i32()?) } else { (0, -1) };
    let topics = reader.list(3, |reader| read_topic(reader, version))?;
    let forgotten = if has(7) { reader.list(3, |reader| read_forgotten(reader, version))? } else { Vec::new() };
    let rack = if has(11) { reader.nullable_text()?.unwrap_or_default() } else { StrBytes::default() };
    reader.tags()?;
    reader.end()?;
    Ok(Asked { limits, session, epoch, by_id: has(FIRST_WITH_IDS), topics, forgotten, rack })
}

fn reader(request: &Request) -> Reader {
    Reader::new(request.body.clone(), request.is_flexible())
}

fn read_limits(reader: &mut Reader, version: i16) -> Result<Limits, Malformed> {
    if version < 15 {
        // The id of a replica: this is no protocol between nodes.
        reader.i32()?;
    }
    Ok(Limits {
        max_wait: Duration::from_millis(reader.i32()?.max(0) as u64).min(MAX_WAIT),
        min_bytes: reader.i32()?.max(0) as usize,
        max_bytes: (reader.i32()?.max(1) as usize).min(MAX_BYTES),
    })
}

fn read_topic(reader: &mut Reader, version: i16) -> Result<Topic, Malformed> {
    let has = |since: i16| version >= since;
    let name = read_name(reader, version)?;
    let partitions = reader.list(16, |reader| {
        let index = reader.i32()?;
        let epoch = if has(9) { reader.i32()? } else { -1 };
        let offset = reader.i64()?;
        let last_epoch = if has(12) { reader.i32()? } else { -1 };
        if has(5) {
            reader.i64()?;
        }
        let max_bytes = reader.i32()?.max(1) as usize;
        reader.tags().map(|()| Partition { epoch, last_epoch, ..Partition::new(index, offset, max_bytes) })
    })?;
    reader.tags().map(|()| Topic { name, partitions })
}

fn read_forgotten(reader: &mut Reader, version: i16) -> Result<Forgotten, Malformed> {
    let name = read_name(reader, version)?;
    let partitions = reader.list(4, Reader::i32)?;
    reader.tags().map(|()| Forgotten { name, partitions })
}

fn read_name(reader: &mut Reader, version: i16) -> Result<Named, Malformed> {
    if version >= FIRST_WITH_IDS { reader.uuid().map(Named::Id) } else { reader.text().map(Named::Name) }
}
