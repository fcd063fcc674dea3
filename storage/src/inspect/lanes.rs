//! The lanes and the votes beside them.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use stratalog_proto::batch::Batch;
use stratalog_proto::entry::{Command, Entry};
use stratalog_proto::{Error, SegmentId, ShardId, TopicId};

use super::Depth;
use super::report::Report;
use super::spans::Spans;
use super::states::States;
use crate::lane::walk::{LaneEvent, WholeFrame, walk};
use crate::{FrameKind, Io, LaneError, Votes};

/// What commands behind the state files have removed.
#[derive(Debug, Default)]
pub(super) struct Removed {
    /// Segments that they name.
    pub(super) segments: BTreeSet<SegmentId>,
    /// Topics that lost rows or are gone.
    pub(super) topics: BTreeSet<TopicId>,
}

/// The directories of the lanes, in order.
pub(super) fn dirs(io: &dyn Io, dir: &Path) -> io::Result<Vec<PathBuf>> {
    let lanes = dir.join("lanes");
    let mut numbers: Vec<u64> = io.list(&lanes)?.iter().filter_map(|name| name.parse().ok()).collect();
    numbers.sort_unstable();
    Ok(numbers.into_iter().map(|number| lanes.join(number.to_string())).collect())
}

pub(super) fn verify(
    io: &Arc<dyn Io>,
    dir: &Path,
    depth: Depth,
    states: &States,
    report: &mut Report,
) -> io::Result<Removed> {
    let mut look = Look { depth, states, logs: BTreeMap::new(), removed: Removed::default(), report };
    for lane in dirs(&**io, dir)? {
        walk(&**io, &lane, &mut |event| {
            look.see(event);
            ControlFlow::Continue(())
        })?;
        look.votes(io, &lane.join("votes"))?;
    }
    look.check_logs();
    Ok(look.removed)
}

struct Look<'a> {
    depth: Depth,
    states: &'a States,
    logs: BTreeMap<ShardId, Spans>,
    removed: Removed,
    report: &'a mut Report,
}

impl Look<'_> {
    fn see(&mut self, event: LaneEvent<'_>) {
        match event {
            LaneEvent::File { bytes } => {
                self.report.counts.lane_files += 1;
                self.report.counts.lane_bytes += bytes;
            }
            LaneEvent::Group => self.report.counts.groups += 1,
            LaneEvent::Frame(frame) => self.frame(&frame),
            LaneEvent::Torn { path, offset, bytes } => {
                let what = format!(
                    "{bytes} bytes of a write that a crash cut short; it was never acknowledged, the next start discards it"
                );
                self.report.note(path, Some(offset), what);
            }
            LaneEvent::Broken(error) => self.broken(error),
            LaneEvent::Aside(aside) => {
                let what = format!(
                    "{} files of {} bytes that a start has set aside, because the log was damaged; nothing reads them: remove \
                     them once no replica of this node waits for a leader that has what they had",
                    aside.files, aside.bytes
                );
                self.report.note(aside.dir, None, what);
            }
            LaneEvent::Stray { path } => self.report.note(
                path,
                None,
                "it is no part of the log: a file that a crash left unfinished is cleared away",
            ),
        }
    }

    fn broken(&mut self, error: LaneError) {
        match error {
            LaneError::Corrupt { path, offset, what } => self.report.damage(path, Some(offset), what),
            LaneError::NewerVersion { path, version } => {
                self.report.damage(path, None, format!("it has format version {version}, of a newer release"));
            }
            other => self.report.damage(PathBuf::new(), None, other.to_string()),
        }
    }

    fn frame(&mut self, seen: &WholeFrame<'_>) {
        self.report.counts.frames += 1;
        let (frame, offset) = (&seen.frame, Some(seen.frame.pos.offset));
        if let Some(wrong) = self.logs.entry(frame.shard).or_default().take(frame) {
            self.report.damage(seen.path(), offset, format!("shard {}: {wrong}", frame.shard));
        }
        let behind_state = self.states.at(frame.shard).is_none_or(|at| frame.index > at);
        if frame.kind != FrameKind::Normal || !(behind_state || self.depth == Depth::Deep) {
            return;
        }
        let read = seen.payload().map_err(|error| error.to_string());
        let read = read.and_then(|payload| self.entry(payload, behind_state).map_err(|error| error.message));
        if let Err(what) = read {
            let (shard, index) = (frame.shard, frame.index);
            self.report.damage(seen.path(), offset, format!("entry {index} of shard {shard}: {what}"));
        }
    }

    fn entry(&mut self, payload: bytes::Bytes, behind_state: bool) -> Result<(), Error> {
        for command in Entry::parse(payload)?.commands() {
            match command? {
                Command::Append(append) if self.depth == Depth::Deep => {
                    Batch::parse(append.batch)?;
                    self.report.counts.batches += 1;
                }
                Command::Drop(drop) if behind_state => {
                    self.removed.topics.extend(TopicId::from_slice(&drop.topic));
                    self.removed.segments.extend(drop.segments.iter().filter_map(|id| SegmentId::from_slice(id)));
                }
                Command::Merge(merge) if behind_state => {
                    self.removed.segments.extend(merge.remove.iter().filter_map(|id| SegmentId::from_slice(id)));
                }
                Command::RemoveTopic(remove) if behind_state => {
                    self.removed.topics.extend(TopicId::from_slice(&remove.topic));
                }
                Command::Repack(repack) if behind_state => {
                    self.removed.segments.extend(SegmentId::from_slice(&repack.remove));
                }
                Command::Merge(merge) if behind_state => {
                    self.removed.segments.extend(merge.remove.iter().filter_map(|id| SegmentId::from_slice(id)));
                }
                Command::DeleteRecords(delete) if behind_state => {
                    self.removed.topics.extend(TopicId::from_slice(&delete.topic));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Checks every vote in a directory that may not be there.
    fn votes(&mut self, io: &Arc<dyn Io>, dir: &Path) -> io::Result<()> {
        if !io.exists(dir)? {
            return Ok(());
        }
        let votes = Votes::to_look_at(Arc::clone(io), dir);
        for name in io.list(dir)?.into_iter().filter(|name| !Votes::is_reserve(name)) {
            let path = dir.join(&name);
            if let Some(shard) = Votes::lost_shard_of(&name) {
                let what = format!(
                    "a part of the log of shard {shard} is lost here: this replica does not vote until a leader has come"
                );
                self.report.note(path, None, what);
                continue;
            }
            match Votes::shard_of(&name).map(|shard| votes.load(shard)) {
                Some(Ok(Some(_))) => self.report.counts.votes += 1,
                Some(Ok(None)) | None => self.report.note(path, None, "it is no vote: nothing reads it"),
                Some(Err(error)) => self.report.damage(path, None, error.to_string()),
            }
        }
        Ok(())
    }

    /// Compares what is there of each log with what its state file needs.
    fn check_logs(&mut self) {
        let shards: BTreeSet<ShardId> = self.logs.keys().copied().chain(self.states.shards()).collect();
        for shard in shards {
            let log = self.logs.remove(&shard).unwrap_or_default();
            self.report.shards.entry(shard).or_default().log = log.last();
            let Some(state) = self.states.get(shard) else { continue };
            if let Some((first, last)) = log.missing(state.frontier, state.at) {
                let what =
                    format!("shard {shard}: it needs entries {first} to {last} of the log, and they are not all there");
                self.report.damage(&state.path, None, what);
            }
        }
    }
}
