//! Other replicas, as tests have them.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use parking_lot::Mutex;
use stratalog_proto::{Code, Error, NodeId, SegmentId, ShardId, Term};
use stratalog_storage::SegmentMeta;
use stratalog_storage::col::segment_file_name;

use crate::pull::SegmentBytes;
use crate::rows::clock_ns;
use crate::rows::copies::SegmentCopies;

/// No other replicas: a cluster of one.
pub(in crate::rows) struct AloneCopies;

#[async_trait]
impl SegmentCopies for AloneCopies {
    async fn hold(&self, _: ShardId, _: Term, _: &[SegmentMeta]) -> Result<(), Error> {
        Ok(())
    }

    fn release(&self, _: ShardId, _: Term, _: &[SegmentMeta]) {}

    async fn fetch(
        &self,
        shard: ShardId,
        segment: &SegmentMeta,
        _: Option<NodeId>,
        _: u64,
    ) -> Result<SegmentBytes, Error> {
        let message =
            format!("no other replica of shard {shard} is known that could have column segment {}", segment.id);
        Err(Error::new(Code::Unavailable, message))
    }

    async fn clock_ns(&self, _: ShardId) -> Option<i64> {
        Some(clock_ns())
    }

    fn may_have(&self, _: ShardId) -> bool {
        false
    }

    async fn all_answer(&self, _: ShardId) -> bool {
        true
    }
}

/// Other replicas, as a test has them.
pub(in crate::rows) struct FakeCopies {
    /// The segments that they have.
    dir: PathBuf,
    /// How holding ends.
    pub(in crate::rows) holds: Mutex<Result<(), Error>>,
    /// What was to be held, and what need not be any more.
    pub(in crate::rows) held: Mutex<Vec<SegmentId>>,
    pub(in crate::rows) released: Mutex<Vec<SegmentId>>,
    /// From where each fetch began.
    pub(in crate::rows) offsets: Mutex<Vec<u64>>,
    /// Segments of which every copy is damaged.
    pub(in crate::rows) bad: Mutex<HashSet<SegmentId>>,
    /// What the voters' clocks say.
    pub(in crate::rows) clock: Mutex<Option<i64>>,
    /// Whether a file never comes to its end.
    pub(in crate::rows) hangs: Mutex<bool>,
    /// Whether one of them does not answer.
    pub(in crate::rows) silent: Mutex<bool>,
    /// What becomes of a file on its way.
    pub(in crate::rows) fetched: Mutex<OnItsWay>,
}

/// The chunks in which the bytes of a file arrive.
type OnItsWay = fn(Vec<u8>) -> Vec<Result<Bytes, Error>>;

impl FakeCopies {
    pub(in crate::rows) fn of(dir: &Path) -> Arc<Self> {
        Arc::new(Self {
            dir: dir.to_owned(),
            holds: Mutex::new(Ok(())),
            held: Mutex::default(),
            released: Mutex::default(),
            offsets: Mutex::default(),
            bad: Mutex::default(),
            clock: Mutex::default(),
            hangs: Mutex::default(),
            silent: Mutex::default(),
            fetched: Mutex::new(|bytes| bytes.chunks(100).map(|part| Ok(Bytes::copy_from_slice(part))).collect()),
        })
    }
}

#[async_trait]
impl SegmentCopies for FakeCopies {
    async fn hold(&self, _: ShardId, _: Term, segments: &[SegmentMeta]) -> Result<(), Error> {
        self.held.lock().extend(segments.iter().map(|meta| meta.id));
        self.holds.lock().clone()
    }

    fn release(&self, _: ShardId, _: Term, segments: &[SegmentMeta]) {
        self.released.lock().extend(segments.iter().map(|meta| meta.id));
    }

    async fn fetch(
        &self,
        _: ShardId,
        segment: &SegmentMeta,
        _: Option<NodeId>,
        offset: u64,
    ) -> Result<SegmentBytes, Error> {
        self.offsets.lock().push(offset);
        let read = std::fs::read(self.dir.join(segment_file_name(segment.id)));
        let mut bytes = read.map_err(|error| Error::new(Code::Unavailable, error.to_string()))?;
        if self.bad.lock().contains(&segment.id) {
            bytes[0] ^= 1;
        }
        let chunks = (self.fetched.lock())(bytes[offset as usize..].to_vec());
        let chunks = futures::stream::iter(chunks);
        Ok(if *self.hangs.lock() { chunks.chain(futures::stream::pending()).boxed() } else { chunks.boxed() })
    }

    async fn clock_ns(&self, _: ShardId) -> Option<i64> {
        *self.clock.lock()
    }

    fn may_have(&self, _: ShardId) -> bool {
        true
    }

    async fn all_answer(&self, _: ShardId) -> bool {
        !*self.silent.lock()
    }
}
