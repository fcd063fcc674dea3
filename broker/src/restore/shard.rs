//! One shard of a backup on its way into a directory.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use stratalog_proto::{Code, Error, ShardId};
use stratalog_storage::col::segment_file_name;
use stratalog_storage::{Io, Lane, LogPoint, StateFiles, rec_file_name};

use super::segment::{SegmentSink, WantedSegment};
use super::{META, RestoreOptions, Restoring, blocking};
use crate::identity;
use crate::meta::MetaState;
use crate::raft::{IncomingEntries, RestoredGroup};
use crate::shard::ShardState;

/// A shard whose segments and log are still to come.
pub struct RestoringShard {
    id: ShardId,
    at: LogPoint,
    frontier: LogPoint,
    state: Bytes,
    states: Arc<StateFiles>,
    /// `None` only while a blocking task has it.
    entries: Option<IncomingEntries>,
    io: Arc<dyn Io>,
    segments_dir: PathBuf,
    segments: Vec<WantedSegment>,
    arrived: BTreeSet<String>,
}

impl Restoring {
    /// Begins a shard: its state as of `at`, which needs the log above `frontier` and the segments that it names.
    ///
    /// # Errors
    /// [`Code::CorruptData`] for a state that cannot be read, or belongs to another shard; [`Code::NewerVersion`]; those of
    /// the disk.
    pub async fn begin_shard(
        &self,
        id: ShardId,
        at: LogPoint,
        frontier: LogPoint,
        state: Bytes,
    ) -> Result<RestoringShard, Error> {
        let decoded = ShardState::decode(state.clone())?;
        check_placed(id, &decoded, &self.meta)?;
        if decoded.replay_frontier() != frontier.index || frontier > at || frontier.index > at.index {
            let message = format!("the state of shard {id} in the backup does not have the frontier that it says");
            return Err(Error::new(Code::CorruptData, message));
        }
        let mut shard = RestoringShard::begin(&self.options, id, at, frontier, state, &self.lane).await?;
        shard.segments = wanted(&decoded);
        Ok(shard)
    }
}

impl RestoringShard {
    pub(super) async fn begin(
        options: &RestoreOptions,
        id: ShardId,
        at: LogPoint,
        frontier: LogPoint,
        state: Bytes,
        lane: &Lane,
    ) -> Result<Self, Error> {
        let (io, dir, max_payload) = (Arc::clone(&options.disk), options.data_dir.clone(), lane.max_payload());
        blocking(move || {
            let segments_dir = identity::segments_dir(&dir, id.0);
            if id != META {
                let failed = |error| Error::new(Code::Io, format!("cannot create {}: {error}", segments_dir.display()));
                io.create_dir_all(&segments_dir).map_err(failed)?;
            }
            let states = StateFiles::open(Arc::clone(&io), &identity::state_dir(&dir, id.0), id).map(Arc::new)?;
            let entries = Some(IncomingEntries::begin(&states, frontier, at, max_payload)?);
            let (segments, arrived) = (Vec::new(), BTreeSet::new());
            Ok(Self { id, at, frontier, state, states, entries, io, segments_dir, segments, arrived })
        })
        .await
    }

    /// Its number.
    pub fn id(&self) -> ShardId {
        self.id
    }

    /// The segments that it needs.
    pub fn segments(&self) -> &[WantedSegment] {
        &self.segments
    }

    /// The file of a segment, to be filled.
    ///
    /// # Errors
    /// Those of the disk.
    pub async fn segment(&self, wanted: &WantedSegment) -> Result<SegmentSink, Error> {
        SegmentSink::create(Arc::clone(&self.io), self.segments_dir.clone(), wanted.clone()).await
    }

    /// Takes the file of a segment once all of it has come.
    ///
    /// # Errors
    /// [`Code::CorruptData`] if it is another one than the state names (L5); those of the disk.
    pub async fn take(&mut self, sink: SegmentSink) -> Result<(), Error> {
        let name = sink.finish().await?;
        self.arrived.insert(name);
        Ok(())
    }

    /// Adds bytes of the log, cut anywhere.
    ///
    /// # Errors
    /// [`Code::CorruptData`] for what is no entry, or does not follow the one before; those of the disk.
    pub async fn entries(&mut self, bytes: Bytes) -> Result<(), Error> {
        let broken = || Error::new(Code::Internal, "a log that failed before cannot go on");
        let mut entries = self.entries.take().ok_or_else(broken)?;
        let pushed = blocking(move || entries.push(&bytes).map(|()| entries)).await?;
        self.entries = Some(pushed);
        Ok(())
    }

    /// What is to be made of it, if everything has come.
    pub(super) fn whole(self) -> Result<(Arc<StateFiles>, RestoredGroup), Error> {
        let missing = self.segments.iter().find(|wanted| !self.arrived.contains(&wanted.name));
        if let Some(missing) = missing {
            let message = format!("segment {} of shard {} has not come from the backup", missing.name, self.id);
            return Err(Error::new(Code::CorruptData, message));
        }
        let broken = || Error::new(Code::Internal, "a log that failed before cannot end");
        let Self { at, frontier, state, states, entries, .. } = self;
        let entries = entries.ok_or_else(broken)?;
        Ok((states, RestoredGroup { at, frontier, state, entries }))
    }
}

/// A state under the number of another shard would answer for partitions that are not its own.
fn check_placed(shard: ShardId, state: &ShardState, meta: &MetaState) -> Result<(), Error> {
    for (id, hosted) in state.topics() {
        // One that the metadata does not know was deleted meanwhile.
        let Some(topic) = meta.topic(id) else { continue };
        let stray = hosted.partitions().find(|(partition, _)| topic.shards.get(partition.0 as usize) != Some(&shard));
        if let Some((partition, _)) = stray {
            let message = format!(
                "the state of shard {shard} in the backup has partition {partition} of topic `{}`, which lives elsewhere",
                topic.name
            );
            return Err(Error::new(Code::CorruptData, message));
        }
    }
    Ok(())
}

fn wanted(state: &ShardState) -> Vec<WantedSegment> {
    let manifest = state.manifest();
    let replay = manifest.recs().iter();
    let replay =
        replay.map(|meta| WantedSegment { name: rec_file_name(meta.id), bytes: meta.bytes, blake3: meta.blake3 });
    let columns = manifest.topics().flat_map(|(_, live)| live.segments.values());
    let columns =
        columns.map(|meta| WantedSegment { name: segment_file_name(meta.id), bytes: meta.bytes, blake3: meta.blake3 });
    replay.chain(columns).collect()
}
