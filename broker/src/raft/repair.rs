//! A node whose log is damaged where it was durable, in a cluster: what is damaged is set aside, and others send it again.
//!
//! All logs of the node end before the damage then, and each of its replicas may have forgotten what it acknowledged, as much
//! as there was behind. Before anything is cut it is durable, for each of them, that a part of its log is *lost*. Such a replica
//! takes what a leader sends, and does not vote, stand for election, or tell others where its log ends, until a leader that
//! was elected without it has sent everything that it has committed in its own term (L1). What is missing of its log is then
//! there, or a snapshot in its place. Nothing is deleted: files that were set aside stay until somebody removes them.
//!
//! Where a shard cannot elect a leader without the replica that is here, nobody could ever send it anything: then nothing is
//! changed, and the node does not start.

use std::io;
use std::path::Path;
use std::sync::Arc;

use stratalog_proto::{Code, Error, ReplicaId, ShardId};
use stratalog_storage::{DamagedLane, FrameKind, Io, LaneError, LaneOptions, RecoveredFrame, Votes};

use super::codec::{decode_membership, decode_stored_membership};
use super::recover::{Known, writer};
use super::types::Membership;

/// What is looked at, and changed, to have a damaged lane opened.
pub(crate) struct Repair<'a> {
    pub(crate) io: &'a Arc<dyn Io>,
    pub(crate) lane_dir: &'a Path,
    pub(crate) options: &'a LaneOptions,
    pub(crate) votes: &'a Votes,
    /// The replicas that are here.
    pub(crate) known: &'a [Known],
    /// How many others vote with a replica, as the cluster was known last; `None` if that does not say.
    pub(crate) other_voters: &'a dyn Fn(ShardId, ReplicaId) -> Option<usize>,
}

impl Repair<'_> {
    /// Opens the lane; one that is damaged once more, after what is damaged was set aside. Blocks on the disk.
    ///
    /// # Errors
    /// [`Code::CorruptData`], naming file and offset: it is damaged, and a shard has too few others. Nothing was changed then.
    /// Those of the disk, and of `open`.
    pub(crate) fn opened<L>(&self, open: impl Fn() -> Result<L, LaneError>) -> Result<L, Error> {
        let error = match open() {
            Err(error @ LaneError::Corrupt { .. }) => error,
            opened => return Ok(opened?),
        };
        let Some(damaged) = DamagedLane::look(self.io, self.lane_dir, self.options)? else { return Err(error.into()) };
        if let Some(why) = self.objection(&damaged)? {
            return Err(Error::new(Code::CorruptData, format!("{error}. {why}")));
        }
        self.set_aside(damaged)?;
        Ok(open()?)
    }

    /// Makes durable that all replicas lack a part of what they had, and cuts the lane then.
    fn set_aside(&self, damaged: DamagedLane) -> Result<(), Error> {
        let (what, (file, offset)) = (named(damaged.error()), damaged.end());
        for Known { states, .. } in self.known {
            self.votes.mark_lost(states.shard())?;
        }
        let aside = damaged.set_aside()?;
        let (dir, files, bytes, replicas) = (aside.dir.display(), aside.files, aside.bytes, self.known.len());
        tracing::error!(
            %dir, files, bytes, replicas,
            "L5: {what}. The log ends at offset {offset} of lane file {file} now, and what it had from there on is kept in the \
             directory that is named: this node's replicas do not vote until leaders have sent them what they lack"
        );
        Ok(())
    }

    /// Why the replicas that are here cannot get again what they would lose, if one cannot.
    fn objection(&self, damaged: &DamagedLane) -> Result<Option<String>, Error> {
        for known in self.known {
            let shard = known.states.shard();
            if self.votes.load(shard)?.is_none() && has_voted(known, damaged)? {
                let why = format!(
                    "The vote of shard {shard} is lost, too, and without it the replica that is here could vote twice in a term: \
                     restore `lanes` from a copy, or start with an empty data directory as a new node"
                );
                return Ok(Some(why));
            }
            if !self.can_do_without(known, damaged)? {
                let why = format!(
                    "The other replicas of shard {shard} cannot elect a leader without the one that is here, and nobody could send \
                     it again what is lost"
                );
                return Ok(Some(why));
            }
        }
        Ok(None)
    }

    fn can_do_without(&self, known: &Known, damaged: &DamagedLane) -> Result<bool, Error> {
        if let Some(others) = (self.other_voters)(known.states.shard(), known.replica) {
            return Ok(others >= majority(others + 1));
        }
        let found = members(known, damaged)?;
        Ok(found.is_some_and(|members| {
            let mut configs = members.get_joint_config().iter().peekable();
            configs.peek().is_some()
                && configs.all(|voters| {
                    let others = voters.iter().filter(|voter| **voter != known.replica.0).count();
                    others >= majority(voters.len())
                })
        }))
    }
}

/// What is damaged, and where.
fn named(error: &LaneError) -> String {
    match error {
        LaneError::Corrupt { path, offset, what } => {
            format!("{} is damaged at offset {offset}: {what}", path.display())
        }
        error => error.to_string(),
    }
}

/// Whether what is whole tells that a replica has saved a vote: who has an entry of a leader, or a state, had one.
fn has_voted(known: &Known, damaged: &DamagedLane) -> Result<bool, Error> {
    let (shard, replica) = (known.states.shard(), known.replica);
    let is_of_leader = |frame: &RecoveredFrame| {
        let is_entry = matches!(frame.kind, FrameKind::Blank | FrameKind::Normal | FrameKind::Membership);
        is_entry && frame.term.0 > 0 && frame.shard == shard && writer(frame) == replica
    };
    Ok(damaged.frames().iter().any(is_of_leader) || known.states.newest()?.is_some())
}

fn majority(voters: usize) -> usize {
    voters / 2 + 1
}

/// Who belongs to a group as what is whole of its log says, or its newest state file; `None` if neither does.
fn members(known: &Known, damaged: &DamagedLane) -> Result<Option<Membership>, Error> {
    let (shard, replica) = (known.states.shard(), known.replica);
    let corrupt = |error: io::Error| Error::new(Code::CorruptData, format!("the members of shard {shard}: {error}"));
    let of_state = known.states.newest()?.map(|image| (image.at.index, image.membership));
    let is_own = |kind, of, by| kind == FrameKind::Membership && of == shard && by == replica;
    let in_log = damaged.frames().iter().rev().find(|frame| is_own(frame.kind, frame.shard, writer(frame)));
    match (in_log, of_state) {
        (Some(frame), state) if state.as_ref().is_none_or(|(at, _)| frame.index > *at) => {
            decode_membership(damaged.payload(frame)?).map(Some).map_err(corrupt)
        }
        (_, Some((_, membership))) => {
            let stored = decode_stored_membership(membership).map_err(corrupt)?;
            Ok(Some(stored.membership().clone()))
        }
        _ => Ok(None),
    }
}
