//! One shard on its way to a target.

use std::collections::HashMap;

use stratalog_proto::v1::copy_ask::Ask;
use stratalog_proto::v1::{CopyHead, CopyPiece, CopySegment};
use stratalog_proto::{Code, Error};
use uuid::Uuid;

use crate::blob::{Blob, Hash};
use crate::manifest::{Part, Point, Segment};
use crate::names;
use crate::pace::Pace;
use crate::run::{Cluster, Copy};
use crate::target::Target;
use crate::upload::Upload;

/// The most segments of a shard.
const MAX_SEGMENTS: u64 = 1 << 20;

/// What a backup needs while it goes on.
pub(crate) struct Way<'a> {
    pub(crate) target: &'a Target,
    /// The backup.
    pub(crate) id: &'a str,
    pub(crate) pace: Pace,
    /// Segments that are at the target.
    pub(crate) known: HashMap<Hash, u64>,
    /// Objects and bytes that were sent.
    pub(crate) sent: Sent,
    pub(crate) progress: &'a (dyn Fn(u64) + Send + Sync),
}

/// What was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) segments: u64,
    pub(crate) segment_bytes: u64,
    /// Of states and logs.
    pub(crate) other_bytes: u64,
}

/// A shard that is open in the cluster, with its state and its log at the target.
pub(crate) struct Opened {
    copy: Box<dyn Copy>,
    pub(crate) head: CopyHead,
    pub(crate) part: Part,
}

impl Opened {
    /// Opens a shard, and copies what does not stay.
    ///
    /// # Errors
    /// Those of the cluster and of the store; [`Code::CorruptData`] for an answer that contradicts itself.
    pub(crate) async fn open(cluster: &dyn Cluster, shard: u32, way: &mut Way<'_>) -> Result<Self, Error> {
        let (mut copy, head) = open(cluster, shard).await?;
        let state = store_state(&mut *copy, &head, shard, way).await?;
        let log = store_log(&mut *copy, &head, shard, way).await?;
        let segments = list(&mut *copy, &head).await?;
        let at = Point { term: head.at_term, index: head.at_index };
        let frontier = Point { term: head.frontier_term, index: head.frontier_index };
        Ok(Self { copy, head, part: Part { shard, at, frontier, state, log, segments } })
    }

    /// Copies the segments that the target does not have.
    ///
    /// # Errors
    /// As [`Opened::open`]. What was copied is known.
    pub(crate) async fn send_segments(mut self, way: &mut Way<'_>) -> Result<Part, Error> {
        for (at, segment) in (0..).zip(&self.part.segments) {
            if way.known.get(&segment.blake3) != Some(&segment.bytes) {
                send(&mut *self.copy, at, segment, way).await?;
                way.known.insert(segment.blake3, segment.bytes);
                way.sent.segments += 1;
                way.sent.segment_bytes += segment.bytes;
            }
        }
        Ok(self.part)
    }
}

/// Opens a shard: what answers from then on, and its head.
///
/// # Errors
/// As [`Opened::open`].
pub(crate) async fn open(cluster: &dyn Cluster, shard: u32) -> Result<(Box<dyn Copy>, CopyHead), Error> {
    let mut copy = cluster.copy(shard).await?;
    let head = copy.ask(Ask::Open(shard)).await?.head;
    let head = head.ok_or_else(|| contradiction(shard, "it has no head"))?;
    Ok((copy, head))
}

/// The cluster of a head.
///
/// # Errors
/// [`Code::CorruptData`].
pub(crate) fn cluster_of(head: &CopyHead) -> Result<Uuid, Error> {
    Uuid::from_slice(&head.cluster).map_err(|_| contradiction(0, "it names no cluster"))
}

async fn store_state(copy: &mut dyn Copy, head: &CopyHead, shard: u32, way: &mut Way<'_>) -> Result<Blob, Error> {
    let expected = Blob { bytes: head.state_bytes, blake3: hash_of(shard, &head.state_blake3)? };
    let mut upload = Upload::begin(way.target, names::state(way.id, shard));
    let filled = fill(&mut upload, copy, expected.bytes, way, Ask::StateFrom).await;
    way.sent.other_bytes += expected.bytes;
    upload.end(filled, Some(expected)).await
}

async fn store_log(copy: &mut dyn Copy, head: &CopyHead, shard: u32, way: &mut Way<'_>) -> Result<Blob, Error> {
    let mut upload = Upload::begin(way.target, names::log(way.id, shard));
    let filled = fill_log(&mut upload, copy, head, shard, way).await;
    let log = upload.end(filled, None).await?;
    way.sent.other_bytes += log.bytes;
    Ok(log)
}

async fn fill_log(
    upload: &mut Upload<'_>,
    copy: &mut dyn Copy,
    head: &CopyHead,
    shard: u32,
    way: &mut Way<'_>,
) -> Result<(), Error> {
    let mut next = head.frontier_index.saturating_add(1);
    while next <= head.at_index {
        let answer = copy.ask(Ask::EntriesFrom(next)).await?;
        if answer.next_entry <= next || answer.bytes.is_empty() {
            return Err(contradiction(shard, "its log ends before its state"));
        }
        next = answer.next_entry;
        way.pass(answer.bytes.len()).await;
        upload.push(answer.bytes).await?;
    }
    Ok(())
}

async fn list(copy: &mut dyn Copy, head: &CopyHead) -> Result<Vec<Segment>, Error> {
    if head.segments > MAX_SEGMENTS {
        return Err(contradiction(0, "it has too many segments"));
    }
    let mut all = Vec::new();
    while (all.len() as u64) < head.segments {
        let some = copy.ask(Ask::SegmentsFrom(all.len() as u64)).await?.segments;
        if some.is_empty() || all.len() + some.len() > head.segments as usize {
            return Err(contradiction(0, "it does not have as many segments as it says"));
        }
        for CopySegment { name, bytes, blake3 } in some {
            all.push(Segment { name, bytes, blake3: hash_of(0, &blake3)? });
        }
    }
    Ok(all)
}

async fn send(copy: &mut dyn Copy, at: u64, segment: &Segment, way: &mut Way<'_>) -> Result<(), Error> {
    let expected = Blob { bytes: segment.bytes, blake3: segment.blake3 };
    let mut upload = Upload::begin(way.target, names::segment(segment.blake3));
    let piece = |offset| Ask::Piece(CopyPiece { segment: at, offset });
    let filled = fill(&mut upload, copy, expected.bytes, way, piece).await;
    let named = |error: Error| Error::new(error.code, format!("segment {}: {}", segment.name, error.message));
    upload.end(filled, Some(expected)).await.map(|_| ()).map_err(named)
}

/// Fetches what is stored, from where it has come to on; it ends early where nothing more comes.
async fn fill(
    upload: &mut Upload<'_>,
    copy: &mut dyn Copy,
    bytes: u64,
    way: &mut Way<'_>,
    ask: impl Fn(u64) -> Ask,
) -> Result<(), Error> {
    while upload.bytes() < bytes {
        let come = copy.ask(ask(upload.bytes())).await?.bytes;
        if come.is_empty() {
            break;
        }
        way.pass(come.len()).await;
        upload.push(come).await?;
    }
    Ok(())
}

impl Way<'_> {
    async fn pass(&mut self, bytes: usize) {
        self.pace.earn(bytes as u64).await;
        (self.progress)(bytes as u64);
    }
}

fn hash_of(shard: u32, bytes: &[u8]) -> Result<Hash, Error> {
    bytes.try_into().map(Hash).map_err(|_| contradiction(shard, "a hash does not have 32 bytes"))
}

fn contradiction(shard: u32, what: &str) -> Error {
    Error::new(
        Code::CorruptData,
        format!("the copy of shard {shard} that the cluster sends contradicts itself: {what}"),
    )
}
