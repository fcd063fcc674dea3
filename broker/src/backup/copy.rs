//! What a shard is at one moment: taken where it is led.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use stratalog_proto::v1::{CopyHead, CopySegment};
use stratalog_proto::{Code, Error, ShardId};
use stratalog_storage::col::segment_file_name;
use stratalog_storage::{Io, Manifest, RecHandle, SegmentHandle, rec_file_name};

use crate::broker::{Broker, META};
use crate::raft::GroupCopy;
use crate::shard::{Shard, ShardState};

/// Copies that a node has open at a time: one of each shard that it leads, as a rule. Each holds its shard's state until that was
/// read.
pub(crate) const MAX_COPIES: usize = 128;
/// Log that is not rolled is copied in each backup anew; with more than this it is rolled first.
const UNROLLED_BYTES: u64 = 8 << 20;
/// How long the metadata may take to apply what it has committed.
const APPLIED_WAIT: Duration = Duration::from_secs(5);

/// A shard at one moment. Its files stay while this is held.
pub(super) struct ShardCopy {
    pub(super) group: GroupCopy,
    pub(super) files: Vec<CopiedFile>,
    pub(super) io: Arc<dyn Io>,
}

/// The file of a segment.
pub(super) struct CopiedFile {
    pub(super) path: PathBuf,
    pub(super) segment: CopySegment,
    handle: Handle,
}

/// Keeps a file in place.
enum Handle {
    Replay(Arc<RecHandle>),
    Column(Arc<SegmentHandle>),
}

impl ShardCopy {
    /// Takes a shard that this node leads, with everything that was acknowledged before the call.
    ///
    /// # Errors
    /// [`Code::NotLeader`], [`Code::Timeout`]; [`Code::Unavailable`] if a file is not here now; [`Code::CorruptData`],
    /// naming it, if one is known to be damaged.
    pub(super) async fn take(broker: &Broker, shard: ShardId) -> Result<Self, Error> {
        let io = Arc::clone(&broker.options().disk);
        if shard == META {
            let group = take_meta(broker).await?;
            return Ok(Self { group, files: Vec::new(), io });
        }
        let led = broker.led_shard(shard).await?;
        roll(broker, &led).await;
        let group = led.group().copy().await?;
        let state = ShardState::decode(group.state.clone())?;
        let files = files(broker, &led, state.manifest())?;
        Ok(Self { group, files, io })
    }

    /// The head of the copy.
    pub(super) fn head(&self, broker: &Broker, shard: ShardId) -> CopyHead {
        let (view, GroupCopy { at, frontier, state, .. }) = (broker.meta().view(), &self.group);
        let shards = view.data_shards().map(|(shard, _)| shard.0);
        CopyHead {
            cluster: view.cluster.map(|cluster| Bytes::copy_from_slice(cluster.as_bytes())).unwrap_or_default(),
            feature_level: view.feature_level,
            shards: if shard == META { shards.collect() } else { Vec::new() },
            at_term: at.term.0,
            at_index: at.index.0,
            frontier_term: frontier.term.0,
            frontier_index: frontier.index.0,
            state_bytes: state.len() as u64,
            state_blake3: Bytes::copy_from_slice(blake3::hash(state).as_bytes()),
            segments: self.files.len() as u64,
        }
    }
}

async fn take_meta(broker: &Broker) -> Result<GroupCopy, Error> {
    let meta = broker.meta();
    let index = meta.group().read_index(APPLIED_WAIT).await?;
    let mut applied = meta.watch_applied();
    let reached = tokio::time::timeout(APPLIED_WAIT, applied.wait_for(|applied| *applied >= index)).await;
    let late = || Error::new(Code::Timeout, format!("the metadata has not applied entry {index} yet; try again"));
    reached.map_err(|_| late())?.map_err(|_| late())?;
    meta.group().copy().await
}

/// Has most of the log be in segments, which are copied once. What cannot be rolled now is copied as log.
async fn roll(broker: &Broker, shard: &Shard) {
    let (frontier, applied) = (shard.read(ShardState::replay_frontier), shard.applied());
    if shard.group().log().bytes_between(frontier, applied) <= UNROLLED_BYTES {
        return;
    }
    if let Err(error) = broker.roller().roll_through(shard.id(), applied).await {
        tracing::info!(shard = %shard.id(), %error, "a backup copies log that could not be rolled");
    }
}

/// The files that a manifest names.
fn files(broker: &Broker, shard: &Shard, manifest: &Manifest) -> Result<Vec<CopiedFile>, Error> {
    let mut files = Vec::new();
    for meta in manifest.recs() {
        let handle = shard.recs().get(meta)?;
        let (path, name) = (handle.path().to_owned(), rec_file_name(meta.id));
        files.push(file(path, name, meta.bytes, &meta.blake3, Handle::Replay(handle)));
    }
    for meta in manifest.topics().flat_map(|(_, live)| live.segments.values()) {
        let handle = broker.rows().segment(shard.id(), (**meta).clone())?;
        let (path, name) = (handle.path().to_owned(), segment_file_name(meta.id));
        files.push(file(path, name, meta.bytes, &meta.blake3, Handle::Column(handle)));
    }
    match files.iter().find_map(|file| Some((file, file.damage()?))) {
        Some((file, what)) => Err(damaged(broker, shard.id(), &file.segment.name, what)),
        None => Ok(files),
    }
}

fn file(path: PathBuf, name: String, bytes: u64, blake3: &[u8; 32], handle: Handle) -> CopiedFile {
    let segment = CopySegment { name, bytes, blake3: Bytes::copy_from_slice(blake3) };
    CopiedFile { path, segment, handle }
}

impl CopiedFile {
    /// What is known to be wrong with it.
    fn damage(&self) -> Option<&str> {
        match &self.handle {
            Handle::Replay(handle) => handle.damage(),
            Handle::Column(handle) => handle.damage(),
        }
    }

    /// Reads all of it: what is wrong is known from then on, to whoever repairs it, too. Blocks on the disk.
    pub(super) fn examine(&self) -> String {
        let read = match &self.handle {
            Handle::Replay(handle) => handle.verify().map_err(|error| error.to_string()),
            Handle::Column(handle) => handle.verify().map_err(|error| error.to_string()),
        };
        read.err().unwrap_or_else(|| "it was read with other bytes than it has".to_owned())
    }
}

/// A damaged file is not copied (L5). Where there are other replicas it is fetched from one soon, and may be asked for again.
pub(super) fn damaged(broker: &Broker, shard: ShardId, name: &str, what: &str) -> Error {
    let (nodes, me) = (broker.nodes().view().nodes.len(), broker.nodes().me());
    let code = if nodes > 1 { Code::Unavailable } else { Code::CorruptData };
    Error::new(
        code,
        format!("L5: segment {name} of shard {shard} is damaged on node {me}, which leads the shard: {what}"),
    )
}
