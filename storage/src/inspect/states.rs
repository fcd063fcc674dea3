//! The state files, and which segments they name.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use prost::Message;
use stratalog_proto::{RaftIndex, SegmentId, ShardId, TopicId, internal};

use super::report::Report;
use crate::{Io, Manifest, StateError, StateFiles};

/// The group that has topics and no batches.
const META: ShardId = ShardId(0);

/// The newest state file of a group.
#[derive(Debug)]
pub(super) struct State {
    pub(super) path: PathBuf,
    pub(super) at: RaftIndex,
    pub(super) frontier: RaftIndex,
    /// Its segments; none for the metadata group, and where the state cannot be read.
    manifest: Manifest,
}

/// Those of all groups.
#[derive(Debug, Default)]
pub(super) struct States(BTreeMap<ShardId, State>);

impl States {
    pub(super) fn get(&self, shard: ShardId) -> Option<&State> {
        self.0.get(&shard)
    }

    pub(super) fn at(&self, shard: ShardId) -> Option<RaftIndex> {
        self.get(shard).map(|state| state.at)
    }

    pub(super) fn shards(&self) -> impl Iterator<Item = ShardId> {
        self.0.keys().copied()
    }
}

/// The directories of the groups.
pub(super) fn shard_dirs(io: &dyn Io, dir: &Path) -> io::Result<Vec<(ShardId, PathBuf)>> {
    let shards = dir.join("shards");
    if !io.exists(&shards)? {
        return Ok(Vec::new());
    }
    let names = io.list(&shards)?;
    let numbered = names.iter().filter_map(|name| Some((ShardId(name.parse().ok()?), shards.join(name))));
    Ok(numbered.collect())
}

pub(super) fn verify(io: &Arc<dyn Io>, dir: &Path, report: &mut Report) -> io::Result<States> {
    let mut states = States::default();
    for (shard, dir) in shard_dirs(&**io, dir)? {
        let dir = dir.join("state");
        if !io.exists(&dir)? {
            continue;
        }
        for name in io.list(&dir)?.iter().filter(|name| !name.ends_with(".state")) {
            let what = match StateFiles::is_aside(name) {
                true => "a state that was set aside, because the log that it needs was damaged; nothing reads it",
                false => "a state file that a crash left unfinished; the next start clears it away",
            };
            report.note(dir.join(name), None, what);
        }
        if let Some(state) = newest(io, &dir, shard, report) {
            let summary = report.shards.entry(shard).or_default();
            (summary.state, summary.frontier) = (Some(state.at), Some(state.frontier));
            states.0.insert(shard, state);
        }
    }
    Ok(states)
}

/// Reads the newest state file of a group; what is wrong with it goes into the report.
fn newest(io: &Arc<dyn Io>, dir: &Path, shard: ShardId, report: &mut Report) -> Option<State> {
    let files = StateFiles::to_look_at(Arc::clone(io), dir, shard);
    let image = match files.newest() {
        Ok(image) => image?,
        Err(error) => {
            let place = match &error {
                StateError::Corrupt { path, .. } | StateError::NewerVersion { path, .. } => path.as_path(),
                StateError::Io(_) | StateError::TooLarge { .. } => dir,
            };
            report.damage(place, None, error.to_string());
            return None;
        }
    };
    report.counts.states += 1;
    let path = files.path(image.at.index);
    let manifest = if shard == META { Ok(Manifest::default()) } else { manifest_of(image.state) };
    let manifest = manifest.unwrap_or_else(|what| {
        report.damage(&path, None, what);
        Manifest::default()
    });
    Some(State { path, at: image.at.index, frontier: image.frontier.index, manifest })
}

fn manifest_of(state: bytes::Bytes) -> Result<Manifest, String> {
    let decoded = internal::ShardState::decode(state).map_err(|error| format!("the state does not decode: {error}"))?;
    Manifest::from_proto(&decoded).map_err(|error| error.message)
}

impl State {
    /// The files that the manifest names, with what else is known of them.
    pub(super) fn names(&self) -> impl Iterator<Item = Named> {
        let columns = self.manifest.topics().flat_map(|(_, topic)| topic.segments.values()).map(|meta| Named {
            id: meta.id,
            extension: "col",
            bytes: meta.bytes,
            blake3: meta.blake3,
            topics: vec![meta.topic],
        });
        let replays = self.manifest.recs().iter().map(|meta| Named {
            id: meta.id,
            extension: "rec",
            bytes: meta.bytes,
            blake3: meta.blake3,
            topics: meta.topics.iter().map(|topic| topic.topic).collect(),
        });
        columns.chain(replays)
    }
}

/// A segment as a manifest names it.
#[derive(Clone, Debug)]
pub(super) struct Named {
    pub(super) id: SegmentId,
    pub(super) extension: &'static str,
    pub(super) bytes: u64,
    pub(super) blake3: [u8; 32],
    pub(super) topics: Vec<TopicId>,
}

impl Named {
    pub(super) fn file_name(&self) -> String {
        format!("{}.{}", self.id, self.extension)
    }
}
