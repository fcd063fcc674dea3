//! Replay segments that other replicas have.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt};
use stratalog_proto::{Code, Error, ShardId};
use stratalog_storage::{OpenMode, RecMeta, rec_file_name};
use tokio::sync::mpsc;

use super::store::RecStore;

/// Chunks of a file that wait for the disk.
const CHUNKS_AHEAD: usize = 4;

/// The bytes of a file, in order.
pub(crate) type SegmentBytes = BoxStream<'static, Result<Bytes, Error>>;

/// Where a replica gets a segment from that it cannot make itself.
#[async_trait]
pub(crate) trait PeerSegments: Send + Sync + 'static {
    /// The file of a segment. What comes is checked against `meta`.
    ///
    /// # Errors
    /// [`Code::Unavailable`] if no peer that can be reached has it.
    async fn fetch(&self, shard: ShardId, meta: &RecMeta) -> Result<SegmentBytes, Error>;

    /// Whether the shard has, or may have had, another replica: then a segment that is not here may have come with a
    /// snapshot of that one, and this replica's own log may be all that there is of it beside.
    fn may_have(&self, shard: ShardId) -> bool;
}

/// No peers: a single node.
#[cfg(test)]
pub(crate) struct NoSegments;

#[cfg(test)]
#[async_trait]
impl PeerSegments for NoSegments {
    async fn fetch(&self, shard: ShardId, meta: &RecMeta) -> Result<SegmentBytes, Error> {
        let message = format!("no other replica of shard {shard} is known that could have replay segment {}", meta.id);
        Err(Error::new(Code::Unavailable, message))
    }

    fn may_have(&self, _: ShardId) -> bool {
        false
    }
}

/// Fetches the file of a segment. When this returns it is whole, verified, durable and known to the store.
///
/// # Errors
/// Those of the peer and of the disk; [`Code::CorruptData`] if the bytes are not those that the manifest means.
pub(super) async fn fetch(peers: &dyn PeerSegments, store: &Arc<RecStore>, meta: &Arc<RecMeta>) -> Result<(), Error> {
    let mut incoming = peers.fetch(store.shard(), meta).await?;
    let (chunks, received) = mpsc::channel(CHUNKS_AHEAD);
    let (into, expected) = (Arc::clone(store), Arc::clone(meta));
    let writing = tokio::task::spawn_blocking(move || receive(&into, &expected, received));
    let mut broken = None;
    while let Some(chunk) = incoming.next().await {
        match chunk {
            Ok(chunk) => {
                // The writer has given up: it says why.
                if chunks.send(chunk).await.is_err() {
                    break;
                }
            }
            Err(error) => {
                broken = Some(error);
                break;
            }
        }
    }
    drop(chunks);
    let written = writing.await.map_err(|panic| Error::new(Code::Internal, format!("a fetch failed: {panic}")))?;
    match broken {
        Some(error) => Err(error),
        None => written,
    }
}

/// Writes what comes to a file, and gives it its name if it is what was expected. Blocks.
fn receive(store: &RecStore, meta: &Arc<RecMeta>, mut chunks: mpsc::Receiver<Bytes>) -> Result<(), Error> {
    let name = rec_file_name(meta.id);
    let (path, part) = (store.dir().join(&name), store.dir().join(format!("{name}.part")));
    let io = &**store.io();
    let written = (|| {
        let file = io.open(&part, OpenMode::CreateOrTruncate).map_err(failed)?;
        let (mut len, mut hash) = (0, blake3::Hasher::new());
        while let Some(chunk) = chunks.blocking_recv().filter(|chunk| len + chunk.len() as u64 <= meta.bytes) {
            file.write_at(len, &chunk).map_err(failed)?;
            hash.update(&chunk);
            len += chunk.len() as u64;
        }
        if len != meta.bytes || hash.finalize() != meta.blake3 {
            let message = format!("replay segment {} of shard {} came damaged from a peer", meta.id, store.shard());
            return Err(Error::new(Code::CorruptData, message));
        }
        file.sync_all().map_err(failed)?;
        io.rename(&part, &path).map_err(failed)?;
        io.sync_dir(store.dir()).map_err(failed)
    })();
    // A rest of what was not finished may not be there; else it is collected at the next start.
    written.inspect_err(|_| drop(io.remove(&part)))?;
    store.verify(meta)?;
    store.adopt(Arc::clone(meta));
    Ok(())
}

fn failed(error: std::io::Error) -> Error {
    let code = if error.kind() == std::io::ErrorKind::StorageFull { Code::StorageFull } else { Code::Io };
    Error::new(code, format!("cannot keep a replay segment that was fetched: {error}"))
}
