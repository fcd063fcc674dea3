//! Rebuilds the logs of all groups from what the lane recovered and the newest state files.

use std::collections::BTreeMap;
use std::sync::Arc;

use stratalog_proto::{Code, Error, RaftIndex, ReplicaId, ShardId};
use stratalog_storage::{FrameKind, LogPoint, RecoveredFrame, Recovery, StateFiles, Votes};

use super::codec::decode_vote;
use super::index::{LogIndex, Slot};
use super::log::{ABANDONED, BEGINS_ANEW, GroupLog, KEEP_NOTHING, Kept};
use super::logs::{Begun, Logs, LogsOptions};
use super::types::Vote;

/// What the newest state file of a group says of its log.
#[derive(Clone, Copy, Debug)]
struct Origin {
    at: LogPoint,
    frontier: LogPoint,
}

/// A replica that a data directory has.
#[derive(Clone)]
pub(crate) struct Known {
    /// Its id in the group. Frames of replicas with lower ids, which were here before it, are passed over.
    pub(crate) replica: ReplicaId,
    /// Its state files, which know the shard.
    pub(crate) states: Arc<StateFiles>,
}

impl Logs {
    /// Rebuilds the logs of the given replicas from what the lane recovered. `gone` has, by shard, the highest id of the
    /// replicas that have left this node: frames up to it belong to nobody. Blocks on the disk.
    ///
    /// A log begins after the frontier of its newest state file. Everything above, up to where that state was taken, has
    /// to be there.
    ///
    /// # Errors
    /// [`Code::CorruptData`] if a log has a hole or does not reach its state file (L5), if a state file or a vote does
    /// not decode, or if frames belong to a replica that is not among the given ones. Nothing was written then.
    pub(crate) fn recover(
        options: LogsOptions,
        known: &[Known],
        gone: &BTreeMap<ShardId, ReplicaId>,
        recovery: &Recovery,
    ) -> Result<Arc<Self>, Error> {
        let mut replays: BTreeMap<ShardId, (ReplicaId, Replay)> =
            known.iter().map(|known| (known.states.shard(), (known.replica, Replay::default()))).collect();
        for frame in &recovery.frames {
            let has_left = gone.get(&frame.shard).is_some_and(|gone| writer(frame) <= *gone);
            match replays.get_mut(&frame.shard) {
                Some((replica, replay)) if writer(frame) == *replica => replay.frame(frame)?,
                Some((replica, _)) if writer(frame) < *replica => {}
                _ if has_left => {}
                _ => return Err(unknown_replica(frame)),
            }
        }
        let mut recovered = Vec::new();
        for Known { replica, states } in known {
            let shard = states.shard();
            let (_, replay) = replays.remove(&shard).unwrap_or_default();
            let image = states.newest()?;
            let origin = image.map(|image| Origin { at: image.at, frontier: image.frontier });
            let (vote, lost) = (load_vote(&options.votes, shard)?, options.votes.is_lost(shard)?);
            let replayed = replay.finish(shard, origin, lost)?;
            let frontier = origin.filter(|_| replayed.rest != Rest::Nothing).map(|origin| origin.frontier.index);
            let kept = Kept { frontier, file: replayed.oldest_file };
            recovered.push((*replica, states, replayed.rest, Begun { index: replayed.index, vote, kept, lost }));
        }
        let logs = Arc::new(Logs::new(options, recovery.doubt.clone()));
        for (replica, states, rest, begun) in recovered {
            let log = logs.open(states.shard(), replica, begun);
            match rest {
                Rest::Log => {}
                Rest::BeforePurge => log.abandon_purge()?,
                Rest::State(at) => log.begin_at(at)?,
                Rest::Nothing => {
                    states.set_aside()?;
                    log.begin_anew()?;
                }
            }
        }
        Ok(logs)
    }
}

/// Reads what no replica can start without, before the end of the lane is settled: a start that is refused changes nothing.
/// Blocks on the disk.
///
/// # Errors
/// [`Code::CorruptData`] for a vote or a newest state file that does not decode; those of the disk.
pub(crate) fn check_readable(known: &[Known], votes: &Votes) -> Result<(), Error> {
    for Known { states, .. } in known {
        load_vote(votes, states.shard())?;
        states.newest()?;
    }
    Ok(())
}

/// The replica that wrote a frame. Release 0.1 had one replica of each group, and did not always name it.
pub(super) fn writer(frame: &RecoveredFrame) -> ReplicaId {
    ReplicaId(frame.replica.0.max(1))
}

impl GroupLog {
    /// Writes that the log is again what it was before its last Purge frame.
    fn abandon_purge(&self) -> Result<(), Error> {
        let last = self.last_index();
        tracing::warn!(shard = %self.shard(), ?last, "a snapshot was not installed to its end; the log before it counts");
        let kept = last.map_or(KEEP_NOTHING, RaftIndex);
        let marked = self.mark(&mut self.0.appends.lock(), FrameKind::Truncate, ABANDONED, kept);
        marked.map(|_| ()).map_err(|error| self.takes_no_mark(&error))
    }

    /// Has a log of which the rest does not reach its state file go on behind that, which needs no entry of it.
    fn begin_at(&self, at: LogPoint) -> Result<(), Error> {
        tracing::warn!(shard = %self.shard(), index = %at.index, "the log is lost up to its state file, and begins there");
        self.jump(at.term.0, at.index.0).map_err(|error| self.takes_no_mark(&error))
    }

    /// Has a log begin anew whose state file needs entries of it that are lost.
    fn begin_anew(&self) -> Result<(), Error> {
        tracing::warn!(shard = %self.shard(), "the log that the state needs is lost: both come again from a leader");
        let marked = self.mark(&mut self.0.appends.lock(), FrameKind::Truncate, BEGINS_ANEW, KEEP_NOTHING);
        marked.map(|_| ()).map_err(|error| self.takes_no_mark(&error))
    }

    fn takes_no_mark(&self, error: &std::io::Error) -> Error {
        Error::new(Code::Io, format!("the log of shard {} takes no mark: {error}", self.shard()))
    }
}

/// The frames of one group, read in the order of the lane. The lane may begin anywhere in a log: what it let go of is not
/// needed.
#[derive(Debug, Default)]
struct Replay {
    log: LogIndex,
    /// What follows a Purge frame. It counts once the state file that came with it is durable.
    after_purge: Option<LogIndex>,
    oldest_file: Option<u64>,
}

/// What became of them.
struct Replayed {
    index: LogIndex,
    rest: Rest,
    oldest_file: Option<u64>,
}

/// What of a log counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rest {
    /// All of it, as it is.
    Log,
    /// What it was before a purge that was not followed by its state file.
    BeforePurge,
    /// The rest is lost but for the state file, which needs none of it.
    State(LogPoint),
    /// The rest is lost, and the state file, if there is one, cannot be without it.
    Nothing,
}

impl Replay {
    fn frame(&mut self, frame: &RecoveredFrame) -> Result<(), Error> {
        self.oldest_file = self.oldest_file.or(Some(frame.pos.file));
        if frame.index.0 == u64::MAX && frame.kind != FrameKind::Truncate {
            return Err(contradicts(frame, "no entry has this index"));
        }
        match frame.kind {
            FrameKind::Truncate => self.truncate(frame),
            FrameKind::Purge => {
                // A purge that was not abandoned before the next one had its state file.
                if let Some(counts) = self.after_purge.take() {
                    self.log = counts;
                }
                self.after_purge = Some(LogIndex::after(frame.term.0, frame.index.0));
                Ok(())
            }
            FrameKind::Blank | FrameKind::Normal | FrameKind::Membership => {
                let log = self.after_purge.as_mut().unwrap_or(&mut self.log);
                if let Some(hole) = log.objection(frame.index.0) {
                    return Err(contradicts(frame, &hole));
                }
                log.push(frame.index.0, frame.term.0, Slot { pos: frame.pos, kind: frame.kind }, None);
                Ok(())
            }
        }
    }

    fn truncate(&mut self, frame: &RecoveredFrame) -> Result<(), Error> {
        let last = (frame.index != KEEP_NOTHING).then_some(frame.index.0);
        if frame.term == BEGINS_ANEW {
            (self.log, self.after_purge) = (LogIndex::default(), None);
            return Ok(());
        }
        if frame.term == ABANDONED && self.after_purge.take().is_none() {
            // The purge frame is gone, with all that was before it: what was read so far came after it.
            self.log = LogIndex::default();
        }
        let log = self.after_purge.as_mut().unwrap_or(&mut self.log);
        if last < log.base().map(|(_, index)| index) {
            return Err(contradicts(frame, "entries are taken back that the log had let go of"));
        }
        log.truncate_after(last);
        Ok(())
    }

    /// `lost`: the lane was cut, so that the rest of the log may end before its state file.
    fn finish(self, shard: ShardId, origin: Option<Origin>, lost: bool) -> Result<Replayed, Error> {
        let oldest_file = self.oldest_file;
        match (self.whole(shard, origin), origin) {
            (Err(error), _) if !lost => Err(error),
            (Err(_), Some(Origin { at, frontier })) if at == frontier => {
                Ok(Replayed { index: LogIndex::default(), rest: Rest::State(at), oldest_file })
            }
            (Err(_), _) => Ok(Replayed { index: LogIndex::default(), rest: Rest::Nothing, oldest_file }),
            (whole, _) => whole,
        }
    }

    fn whole(self, shard: ShardId, origin: Option<Origin>) -> Result<Replayed, Error> {
        let Self { log, after_purge, oldest_file } = self;
        let purged_at = after_purge.as_ref().and_then(|log| log.base()).map(|(_, index)| RaftIndex(index));
        let counts = purged_at.is_some() && purged_at <= origin.map(|origin| origin.at.index);
        let abandoned = purged_at.is_some() && !counts;
        let mut index = after_purge.filter(|_| counts).unwrap_or(log);
        match origin {
            Some(origin) => begin(shard, &mut index, origin)?,
            None => check_whole(shard, &index)?,
        }
        let rest = if abandoned { Rest::BeforePurge } else { Rest::Log };
        Ok(Replayed { index, rest, oldest_file })
    }
}

/// Makes a log begin after the frontier of its state file.
fn begin(shard: ShardId, log: &mut LogIndex, Origin { at, frontier }: Origin) -> Result<(), Error> {
    let (first, next) = (log.first(), log.next());
    let (from, to) = (frontier.index.0, at.index.0);
    if first == next && log.base().is_none() && from == to {
        *log = LogIndex::after(frontier.term.0, from);
        return Ok(());
    }
    let lost = |what: &str| {
        let message = format!(
            "L5: the state file of shard {shard} was taken at entry {to} and needs the log above entry {from}, but {what}. \
             Nothing was changed; restore the log files from a copy"
        );
        Error::new(Code::CorruptData, message)
    };
    if first > from + 1 || next <= to {
        return Err(lost(&format!("the log holds the entries from {first} and ends before entry {next}")));
    }
    // The lane may have let go of everything up to the frontier, and of the frontier's term with it.
    let same = |point: LogPoint| point.index.0 < first || log.has(point.term.0, point.index.0);
    if !(same(at) && same(frontier)) {
        return Err(lost("the log has entries of other terms there"));
    }
    log.begin_after(frontier.term.0, from);
    Ok(())
}

/// Checks a log that has no state file: it never let go of an entry.
fn check_whole(shard: ShardId, log: &LogIndex) -> Result<(), Error> {
    if log.first() == 0 || log.last().is_none() {
        return Ok(());
    }
    let message = format!(
        "L5: the log of shard {shard} begins at entry {}, and there is no state file for what was before. Nothing was \
         changed; restore the shard's state directory from a copy",
        log.first()
    );
    Err(Error::new(Code::CorruptData, message))
}

fn contradicts(frame: &RecoveredFrame, what: &str) -> Error {
    let (file, offset) = (frame.pos.file, frame.pos.offset);
    let message = format!("L5: log of shard {}, file {file}, offset {offset}: {what}", frame.shard);
    Error::new(Code::CorruptData, message)
}

fn load_vote(votes: &Votes, shard: ShardId) -> Result<Option<Vote>, Error> {
    let corrupt = |error: String| {
        let message =
            format!("the vote of shard {shard} cannot be read, and without it the shard must not vote: {error}");
        Error::new(Code::CorruptData, message)
    };
    let bytes = votes.load(shard).map_err(|error| corrupt(error.to_string()))?;
    bytes.map(decode_vote).transpose().map_err(|error| corrupt(error.to_string()))
}

fn unknown_replica(frame: &RecoveredFrame) -> Error {
    let message = format!(
        "the log holds frames of replica {} of shard {}, which this data directory does not have",
        writer(frame),
        frame.shard
    );
    Error::new(Code::CorruptData, message)
}

#[cfg(test)]
mod tests;
