//! Files of segments, for replicas that do not have them.

use std::any::Any;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream;
use stratalog_proto::internal::fetch_segment::File as Asked;
use stratalog_proto::internal::{FetchSegment, HoldSegments};
use stratalog_proto::{Code, Error, NodeId, SegmentId, ShardId, Term};
use stratalog_storage::{File, Io, OpenMode, RecMeta, SegmentMeta};
use stratalog_transport::{CallError, Frame, Frames, Method};

use super::decode;
use crate::broker::Broker;

/// What is read at once of a file.
const CHUNK_BYTES: u64 = 1 << 20;
/// The longest that files are fetched for one request.
const LONGEST_HOLD: Duration = Duration::from_secs(3_600);
/// The most segments of one request.
const MAX_SEGMENTS: usize = 4_096;

/// Gets column segments that are about to be sealed, and answers once they are durable here; or lets go of those that will
/// not be.
pub(super) async fn hold(broker: &Arc<Broker>, frame: Frame) -> Result<Frame, Error> {
    let asked: HoldSegments = decode(Method::HoldSegments, frame.head)?;
    if asked.segments.len().max(asked.release.len()) > MAX_SEGMENTS {
        return Err(malformed(format!("more than {MAX_SEGMENTS} segments are to be held at once")));
    }
    let (shard, term) = (ShardId(asked.shard), Term(asked.term));
    let segments = asked.segments.iter().map(SegmentMeta::try_from).collect::<Result<Vec<_>, _>>()?;
    let id = |bytes: &bytes::Bytes| SegmentId::from_slice(bytes).ok_or_else(|| malformed("an id has 16 bytes".into()));
    let released = asked.release.iter().map(id).collect::<Result<Vec<_>, _>>()?;
    if !released.is_empty() {
        broker.rows().release(shard, term, released).await?;
    }
    if !segments.is_empty() {
        let from = NodeId(asked.from_node);
        broker.rows().hold(shard, term, from, segments, hold_wait(asked.wait_ms)).await?;
    }
    Ok(Frame::default())
}

/// How long files are fetched for a leader that waits for so many milliseconds; one of an older version does not say.
fn hold_wait(wait_ms: u64) -> Duration {
    match wait_ms {
        0 => LONGEST_HOLD,
        told => Duration::from_millis(told).min(LONGEST_HOLD),
    }
}

/// Sends the bytes of a segment's file, from an offset on.
pub(super) async fn fetch(broker: &Arc<Broker>, mut frames: Frames) -> Result<Frames, Error> {
    let asked = match frames.next().await {
        Some(Ok(frame)) => decode::<FetchSegment>(Method::FetchSegment, frame.head)?,
        Some(Err(error)) => return Err(Error::new(Code::Unavailable, error.to_string())),
        None => return Err(malformed("a fetch of a segment does not say of which".to_owned())),
    };
    let source = blocking({
        let broker = Arc::clone(broker);
        move || Source::open(&broker, asked)
    });
    let chunks = stream::try_unfold(source.await?, |mut source| async move {
        if source.next >= source.end {
            return Ok(None);
        }
        // One read at a time, each when the one before has been taken: a slow reader costs one chunk, and no thread.
        let read = move || {
            let frame = source.read()?;
            Ok(Some((frame, source)))
        };
        blocking(read).await.map_err(CallError::Refused)
    });
    Ok(chunks.boxed())
}

/// A file that is being sent.
struct Source {
    file: Arc<dyn File>,
    next: u64,
    end: u64,
    /// Keeps the file in place.
    _keep: Arc<dyn Any + Send + Sync>,
}

impl Source {
    /// Blocks on the disk.
    fn open(broker: &Broker, asked: FetchSegment) -> Result<Self, Error> {
        let shard = ShardId(asked.shard);
        let not_here = || Error::new(Code::Unavailable, format!("this node has no replica of shard {shard}"));
        let replica = broker.shards().get(shard).ok_or_else(not_here)?;
        match &asked.file {
            Some(Asked::Column(meta)) => {
                let handle = broker.rows().segment(shard, SegmentMeta::try_from(meta)?)?;
                check_whole(shard, handle.meta.id, handle.damage())?;
                let (path, bytes) = (handle.path().to_owned(), handle.meta.bytes);
                Self::of(&**replica.io(), &path, asked.offset..bytes, handle)
            }
            Some(Asked::Replay(meta)) => {
                let handle = replica.recs().get(&Arc::new(RecMeta::try_from(meta)?))?;
                check_whole(shard, handle.meta.id, handle.damage())?;
                let (path, bytes) = (handle.path().to_owned(), handle.meta.bytes);
                Self::of(&**replica.io(), &path, asked.offset..bytes, handle)
            }
            None => Err(malformed("a fetch of a segment names no file that this node knows".to_owned())),
        }
    }

    fn of(io: &dyn Io, path: &Path, range: Range<u64>, keep: Arc<dyn Any + Send + Sync>) -> Result<Self, Error> {
        let failed =
            |error| Error::new(Code::Io, format!("cannot read {} for another replica: {error}", path.display()));
        let file = io.open(path, OpenMode::Read).map_err(failed)?;
        let bytes = file.len().map_err(failed)?;
        if bytes != range.end || range.start > range.end {
            let message = format!("{} has {bytes} bytes, and not what was asked for: {range:?}", path.display());
            return Err(Error::new(Code::CorruptData, message));
        }
        Ok(Self { file, next: range.start, end: range.end, _keep: keep })
    }

    /// The next bytes. Blocks on the disk.
    fn read(&mut self) -> Result<Frame, Error> {
        let range = self.next..self.end.min(self.next + CHUNK_BYTES);
        let failed = |error| Error::new(Code::Io, format!("cannot read a segment for another replica: {error}"));
        let part = self.file.view(range.clone()).map_err(failed)?;
        self.next = range.end;
        Ok(Frame { head: bytes::Bytes::new(), parts: vec![part] })
    }
}

/// Refuses to send a file of which it is known that it is damaged: another replica may have it whole.
fn check_whole(shard: ShardId, segment: SegmentId, damage: Option<&str>) -> Result<(), Error> {
    let Some(what) = damage else { return Ok(()) };
    let message = format!("segment {segment} of shard {shard} is damaged on this node, too: {what}");
    Err(Error::new(Code::CorruptData, message))
}

fn malformed(what: String) -> Error {
    Error::new(Code::InvalidRequest, what)
}

async fn blocking<R: Send + 'static>(work: impl FnOnce() -> Result<R, Error> + Send + 'static) -> Result<R, Error> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|panic| Err(Error::new(Code::Internal, format!("reading a segment failed: {panic}"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leader_that_does_not_say_how_long_it_waits_is_served_as_long_as_any() {
        assert_eq!(hold_wait(0), LONGEST_HOLD);
        assert_eq!(hold_wait(30_000), Duration::from_secs(30));
        assert_eq!(hold_wait(u64::MAX), LONGEST_HOLD, "X1");
    }
}
