//! What is known of a segment without its file ([`SegmentMeta`]), and its file while somebody needs it
//! ([`SegmentHandle`]).

use std::any::Any;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use parking_lot::Mutex;
use stratalog_proto::{Code, Error, Offset, PartitionId, SegmentId, ShardId, TimeBucket, TopicId, internal};

use crate::col::{ColError, ColReader, segment_file_name};
use crate::container::FileError;
use crate::io::Io;

/// How the rows of a segment lie in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SegmentKind {
    /// All rows in one time bucket.
    Column,
    /// Rows of many buckets; retained as the newest of them, which is the segment's bucket.
    Mixed,
}

impl SegmentKind {
    pub(crate) fn tag(self) -> u32 {
        match self {
            SegmentKind::Column => 1,
            SegmentKind::Mixed => 2,
        }
    }

    pub(crate) fn from_tag(tag: u32) -> Option<Self> {
        [SegmentKind::Column, SegmentKind::Mixed].into_iter().find(|kind| kind.tag() == tag)
    }
}

/// The offsets of one partition in a segment: `first` is the lowest, `next` the highest plus one. Both are exact (S3);
/// offsets between them may lie in segments of other buckets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OffsetRange {
    /// The partition.
    pub partition: PartitionId,
    /// Its lowest offset here.
    pub first: Offset,
    /// One past its highest offset here.
    pub next: Offset,
}

/// A segment as the manifest knows it: the typed twin of [`internal::SegmentMeta`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentMeta {
    /// Its id, and its file's name.
    pub id: SegmentId,
    /// Whose rows it holds.
    pub topic: TopicId,
    /// How they lie in time.
    pub kind: SegmentKind,
    /// Their time bucket; for a mixed segment, the newest.
    pub bucket: TimeBucket,
    /// The lowest `_time`, exact (S3).
    pub min_time_ns: i64,
    /// The highest `_time`, exact (S3).
    pub max_time_ns: i64,
    /// The highest `_ingested_at`.
    pub max_ingested_ns: i64,
    /// Rows, dead ones included.
    pub rows: u64,
    /// Rows whose value did not parse.
    pub dead_rows: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// Ascending by partition, one for each, none empty.
    pub ranges: Vec<OffsetRange>,
    /// Of the whole file.
    pub blake3: [u8; 32],
    /// The analyzer that its text index was built with; 0 without one.
    pub analyzer_version: u32,
}

impl SegmentMeta {
    /// The offsets of `partition` in this segment, if it has any.
    pub fn range(&self, partition: PartitionId) -> Option<&OffsetRange> {
        let at = self.ranges.binary_search_by_key(&partition, |range| range.partition).ok()?;
        Some(&self.ranges[at])
    }

    /// What contradicts itself in this value, if anything (S3).
    pub(crate) fn contradiction(&self) -> Option<&'static str> {
        let bucket = self.bucket;
        let ascending = self.ranges.windows(2).all(|pair| pair[0].partition < pair[1].partition);
        let in_bucket = bucket_holds(bucket, self.min_time_ns) && bucket_holds(bucket, self.max_time_ns);
        let checks = [
            (self.rows == 0, "it has no rows"),
            (self.dead_rows > self.rows, "it has more dead rows than rows"),
            (bucket.start_ns >= bucket.end_ns, "its bucket is empty"),
            (self.min_time_ns > self.max_time_ns, "its lowest time is above its highest"),
            (self.kind == SegmentKind::Column && !in_bucket, "S3: its rows are not within its bucket"),
            (self.ranges.is_empty() || !ascending, "S3: its offset ranges do not ascend"),
            (self.ranges.iter().any(|range| range.first >= range.next), "S3: an offset range is empty"),
        ];
        checks.into_iter().find_map(|(wrong, what)| wrong.then_some(what))
    }
}

/// Whether a time lies in a bucket. The bucket that is cut at the end of time holds the last nanosecond too: no later
/// bucket could.
pub(crate) fn bucket_holds(bucket: TimeBucket, time_ns: i64) -> bool {
    bucket.contains(time_ns) || (time_ns == i64::MAX && bucket.end_ns == i64::MAX)
}

impl From<&SegmentMeta> for internal::SegmentMeta {
    fn from(meta: &SegmentMeta) -> Self {
        let range = |range: &OffsetRange| internal::OffsetRange {
            partition: range.partition.0,
            first: range.first.0,
            next: range.next.0,
        };
        internal::SegmentMeta {
            id: meta.id.to_bytes(),
            topic: meta.topic.to_bytes(),
            kind: meta.kind.tag(),
            bucket_start_ns: meta.bucket.start_ns,
            bucket_end_ns: meta.bucket.end_ns,
            min_time_ns: meta.min_time_ns,
            max_time_ns: meta.max_time_ns,
            max_ingested_ns: meta.max_ingested_ns,
            rows: meta.rows,
            dead_rows: meta.dead_rows,
            bytes: meta.bytes,
            ranges: meta.ranges.iter().map(range).collect(),
            blake3: bytes::Bytes::copy_from_slice(&meta.blake3),
            location: 0,
            key_id: 0,
            schema_id: 0,
            analyzer_version: meta.analyzer_version,
        }
    }
}

impl TryFrom<&internal::SegmentMeta> for SegmentMeta {
    type Error = Error;

    /// # Errors
    /// [`Code::NewerVersion`] for a kind, place or key that this node does not know, [`Code::CorruptData`] for a value
    /// that contradicts itself.
    fn try_from(meta: &internal::SegmentMeta) -> Result<Self, Error> {
        let corrupt = |what: &str| Error::new(Code::CorruptData, format!("segment in a command is malformed: {what}"));
        let newer =
            |what: &str| Error::new(Code::NewerVersion, format!("segment in a command has {what}; upgrade the node"));
        if meta.location != 0 || meta.key_id != 0 {
            return Err(newer("a location or a key that this node does not know"));
        }
        let range = |range: &internal::OffsetRange| OffsetRange {
            partition: PartitionId(range.partition),
            first: Offset(range.first),
            next: Offset(range.next),
        };
        let typed = SegmentMeta {
            id: SegmentId::from_slice(&meta.id).ok_or_else(|| corrupt("its id does not have 16 bytes"))?,
            topic: TopicId::from_slice(&meta.topic).ok_or_else(|| corrupt("its topic does not have 16 bytes"))?,
            kind: SegmentKind::from_tag(meta.kind).ok_or_else(|| newer("a kind that this node does not know"))?,
            bucket: TimeBucket { start_ns: meta.bucket_start_ns, end_ns: meta.bucket_end_ns },
            min_time_ns: meta.min_time_ns,
            max_time_ns: meta.max_time_ns,
            max_ingested_ns: meta.max_ingested_ns,
            rows: meta.rows,
            dead_rows: meta.dead_rows,
            bytes: meta.bytes,
            ranges: meta.ranges.iter().map(range).collect(),
            blake3: meta.blake3[..].try_into().map_err(|_| corrupt("its hash does not have 32 bytes"))?,
            analyzer_version: meta.analyzer_version,
        };
        typed.contradiction().map_or(Ok(typed.clone()), |what| Err(corrupt(what)))
    }
}

/// A live segment's file. Its reader is opened at the first need and shared by all. Once condemned, the file is
/// unlinked when the last of its users lets go: the handle, the readers it gave and their sections. Until then it keeps
/// its name, since a reader may have no descriptor and open the file again: see [`crate::PooledDisk`].
#[derive(Debug)]
pub struct SegmentHandle {
    /// The shard that it belongs to.
    pub shard: ShardId,
    /// What the manifest says of it.
    pub meta: Arc<SegmentMeta>,
    lease: Arc<Lease>,
    reader: Mutex<Option<Arc<ColReader>>>,
    companion: Mutex<Option<Arc<dyn Any + Send + Sync>>>,
}

impl SegmentHandle {
    /// A handle on `<dir>/<id>.col`; touches no file.
    pub fn new(io: Arc<dyn Io>, dir: &Path, shard: ShardId, meta: Arc<SegmentMeta>) -> Self {
        let path = dir.join(segment_file_name(meta.id));
        let lease = Arc::new(Lease::new(io, path));
        Self { shard, meta, lease, reader: Mutex::new(None), companion: Mutex::new(None) }
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.lease.path
    }

    /// The reader, opened by the first who asks: this blocks on the disk.
    ///
    /// # Errors
    /// As [`ColReader::open`], and [`ColError::Corrupt`] if the file is not the one that the manifest means. An error
    /// is not kept: the next call tries again.
    pub fn reader(&self) -> Result<Arc<ColReader>, ColError> {
        let mut slot = self.reader.lock();
        if let Some(reader) = &*slot {
            return Ok(reader.clone());
        }
        let opened = ColReader::open_leased(self.lease.clone(), &self.meta);
        // Also where the file is whole, and another one.
        let opened = opened.inspect_err(|error| {
            if let ColError::Corrupt { what, .. } = error {
                self.lease.note(what.clone());
            }
        });
        let reader = Arc::new(opened?);
        *slot = Some(reader.clone());
        Ok(reader)
    }

    /// What a layer above keeps with the file because it is dear to open, such as its text index: made by the first who
    /// asks, dropped with the handle. It may hold the reader and its sections, never the handle, which would keep both
    /// for ever. There is one: one of another type takes the place of what was there.
    ///
    /// # Errors
    /// Those of `make`. An error is not kept: the next call tries again.
    pub fn companion<T, E>(&self, make: impl FnOnce() -> Result<T, E>) -> Result<Arc<T>, E>
    where
        T: Any + Send + Sync,
    {
        let mut slot = self.companion.lock();
        if let Some(known) = slot.clone().and_then(|known| known.downcast().ok()) {
            return Ok(known);
        }
        let made = Arc::new(make()?);
        *slot = Some(made.clone());
        Ok(made)
    }

    /// Forgets the companion; who uses it goes on with it.
    pub fn dismiss_companion(&self) {
        *self.companion.lock() = None;
    }

    /// Checks the whole file against the hash in the manifest.
    ///
    /// # Errors
    /// As [`SegmentHandle::reader`], and [`ColError::Corrupt`] for a file that is not what was sealed.
    pub fn verify(&self) -> Result<(), ColError> {
        self.reader()?.verify_against(&self.meta.blake3)
    }

    /// What was found wrong with the file since this was made: bytes that are not what was written, or cannot be read (L5).
    pub fn damage(&self) -> Option<&str> {
        self.lease.damage()
    }

    /// Tells later whether somebody still keeps the file in place.
    pub fn file_in_use(&self) -> FileInUse {
        FileInUse(Arc::downgrade(&self.lease))
    }

    /// Marks the file for unlinking when the last user lets go. Called once the manifest no longer names it.
    pub fn condemn(&self) {
        self.lease.condemn();
    }
}

/// A segment's file, as long as it is kept in place: by its handle, or by whoever reads through it. It does not keep it.
#[derive(Clone, Debug)]
pub struct FileInUse(Weak<Lease>);

impl FileInUse {
    /// Whether it is still kept in place. A file that is condemned and no longer kept is unlinked, or about to be.
    pub fn is_kept(&self) -> bool {
        self.0.strong_count() > 0
    }
}

/// Keeps a file in place, under its name; shared by a handle and all that read through it.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) io: Arc<dyn Io>,
    pub(crate) path: PathBuf,
    condemned: AtomicBool,
    /// What was found wrong with the file first.
    damage: OnceLock<String>,
}

impl Lease {
    pub(crate) fn new(io: Arc<dyn Io>, path: PathBuf) -> Self {
        Self { io, path, condemned: AtomicBool::new(false), damage: OnceLock::new() }
    }

    /// Remembers that the file is damaged, if that is what came of reading it.
    pub(crate) fn noted<T>(&self, read: Result<T, FileError>) -> Result<T, FileError> {
        read.inspect_err(|error| error.damage().into_iter().for_each(|what| self.note(what)))
    }

    /// What was found wrong with the file.
    pub(crate) fn damage(&self) -> Option<&str> {
        self.damage.get().map(String::as_str)
    }

    pub(crate) fn note(&self, what: String) {
        // Of many damaged places the first is enough.
        let _ = self.damage.set(what);
    }

    /// Has the file unlinked when the last who keeps it in place lets go.
    pub(crate) fn condemn(&self) {
        self.condemned.store(true, Ordering::Release);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if !self.condemned.load(Ordering::Acquire) {
            return;
        }
        // A file that stays behind is found and removed at the next start: no manifest names it.
        if let Err(error) = self.io.remove(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "cannot unlink a dropped segment");
        }
    }
}

#[cfg(test)]
mod tests;
