//! A segment's file, of either kind, as a scrub reads it.

use std::io;
use std::path::Path;
use std::sync::Arc;

use stratalog_proto::{Error, SegmentId, ShardId};
use stratalog_storage::{File, Io, OpenMode, RecHandle, SegmentHandle};

use crate::broker::Broker;
use crate::shard::Shard;

/// Bytes that are read at once.
const READ_BYTES: u64 = 1 << 20;

/// Which file to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Place {
    pub(super) shard: ShardId,
    pub(super) segment: SegmentId,
    pub(super) kind: Kind,
}

/// What a segment holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Replay,
    Column,
}

impl Kind {
    /// Its name in metrics and messages.
    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Replay => "rec",
            Kind::Column => "col",
        }
    }
}

/// A file, which keeps its name as long as this is held.
pub(super) enum Segment {
    Replay(Arc<RecHandle>),
    Column(Arc<SegmentHandle>),
}

/// The files of a node, but for those of which it is known that they are damaged or not here.
pub(super) fn places(broker: &Broker) -> Vec<Place> {
    let shards = broker.shards().all();
    let of_shard = |shard: &Arc<Shard>| {
        let place = |segment, kind| Place { shard: shard.id(), segment, kind };
        let replays = shard.recs().whole().into_iter().map(move |id| place(id, Kind::Replay));
        let columns = broker.rows().whole_segments(shard.id()).into_iter().map(move |id| place(id, Kind::Column));
        replays.chain(columns).collect::<Vec<_>>()
    };
    shards.iter().flat_map(of_shard).collect()
}

impl Segment {
    /// The file of a place; `None` if it is not wanted any more.
    pub(super) fn at(broker: &Broker, place: Place) -> Option<Self> {
        match place.kind {
            Kind::Replay => broker.shards().get(place.shard)?.recs().handle_of(place.segment).map(Segment::Replay),
            Kind::Column => broker.rows().segment_here(place.shard, place.segment).map(Segment::Column),
        }
    }

    pub(super) fn path(&self) -> &Path {
        match self {
            Segment::Replay(handle) => handle.path(),
            Segment::Column(handle) => handle.path(),
        }
    }

    /// Begins to read it. Blocks.
    ///
    /// # Errors
    /// Those of opening it.
    pub(super) fn open(&self, io: &dyn Io) -> io::Result<Reading> {
        let file = io.open(self.path(), OpenMode::Read)?;
        let (end, blake3) = match self {
            Segment::Replay(handle) => (handle.meta.bytes, handle.meta.blake3),
            Segment::Column(handle) => (handle.meta.bytes, handle.meta.blake3),
        };
        let is_as_long = file.len()? == end;
        Ok(Reading { file, at: 0, end, is_as_long, hash: blake3::Hasher::new(), blake3 })
    }

    /// The same file, opened anew: who has it open reads it on, though its name is gone.
    pub(super) fn anew(&self, io: &Arc<dyn Io>) -> Self {
        let (io, dir) = (Arc::clone(io), self.path().parent().unwrap_or(Path::new("")));
        match self {
            Segment::Replay(handle) => {
                Segment::Replay(Arc::new(RecHandle::new(io, dir, handle.shard, Arc::clone(&handle.meta))))
            }
            Segment::Column(handle) => {
                Segment::Column(Arc::new(SegmentHandle::new(io, dir, handle.shard, Arc::clone(&handle.meta))))
            }
        }
    }

    /// Reads all of a file: what is wrong with it, and where. `None` if nothing is, or it cannot be told now. Blocks.
    pub(super) fn damage(&self) -> Option<String> {
        let (checked, damage) = match self {
            Segment::Replay(handle) => (handle.verify().map_err(Error::from), handle.damage()),
            Segment::Column(handle) => (handle.verify().map_err(Error::from), handle.damage()),
        };
        damage?;
        checked.err().map(|error| error.message)
    }

    /// It is damaged: has a copy of another replica take its place, if one has it.
    pub(super) fn have_replaced(&self, broker: &Broker) {
        match self {
            Segment::Replay(handle) => {
                if let Some(shard) = broker.shards().get(handle.shard) {
                    shard.recs().suspect(handle);
                }
            }
            Segment::Column(handle) => broker.rows().suspect(handle),
        }
    }
}

/// On the way through a file.
pub(super) struct Reading {
    file: Arc<dyn File>,
    at: u64,
    end: u64,
    is_as_long: bool,
    hash: blake3::Hasher,
    blake3: [u8; 32],
}

impl Reading {
    /// Reads the next bytes; how many, 0 at the end. Blocks.
    ///
    /// # Errors
    /// Those of the device.
    pub(super) fn step(&mut self) -> io::Result<u64> {
        let range = self.at..self.end.min(self.at + READ_BYTES);
        if range.is_empty() || !self.is_as_long {
            return Ok(0);
        }
        self.hash.update(&self.file.view(range.clone())?);
        self.at = range.end;
        Ok(range.end - range.start)
    }

    /// Whether it was read to its end, and is what the manifest means.
    pub(super) fn is_whole(&self) -> bool {
        self.is_as_long && self.at == self.end && *self.hash.finalize().as_bytes() == self.blake3
    }
}
