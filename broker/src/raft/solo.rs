//! A group of one voter, driven step by step and without Raft: an entry counts as soon as it is durable. Over the log, the
//! state files and the machine that [`Group`](super::Group) runs on.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use openraft::vote::{RaftLeaderId, RaftVote};
use parking_lot::Mutex;
use stratalog_proto::entry::Entry as Commands;
use stratalog_proto::{Code, Error, RaftIndex, Term};
use stratalog_storage::{FrameKind, StateFiles};

use super::codec::encode_membership;
use super::group_state::Snapshot;
use super::log::{GroupLog, NewEntry};
use super::machine::Machine;
use super::snapshots::Snapshots;
use super::types::{LeaderId, Membership, StoredMembership, Vote, log_id};
use crate::outcome::Results;

/// The group.
pub(crate) struct Solo {
    log: GroupLog,
    machine: Arc<dyn Machine>,
    snapshots: Arc<Snapshots>,
    term: u64,
    /// The index after the last entry that is applied.
    next: u64,
    /// The index after the last entry that is durable.
    durable: Arc<Mutex<u64>>,
}

impl Solo {
    /// Starts over a recovered log, with the machine as the newest state file has it. All that was recovered is durable.
    pub(crate) fn start(log: GroupLog, machine: Arc<dyn Machine>, states: Arc<StateFiles>) -> Result<Self, Error> {
        let snapshots = Snapshots::start(states, &log, &*machine)?;
        let next = snapshots.newest().and_then(|meta| meta.last_log_id).map_or(0, |id| id.index + 1);
        let durable = Arc::new(Mutex::new(log.last_index().map_or(0, |last| last + 1)));
        let term = log.vote().map_or(0, |vote| vote.leader_id.term);
        Ok(Self { log, machine, snapshots, term, next, durable })
    }

    /// Leads in a higher term: its vote is durable, and its first entry is on its way. Everything that was appended has to
    /// be durable already.
    pub(crate) async fn lead(&mut self) -> Result<(), Error> {
        let last = self.log.ends()[1];
        self.term = self.term.max(last.map_or(0, |(term, _)| term)) + 1;
        for committed in [false, true] {
            let vote = Vote::from_leader_id(LeaderId::new(self.term, self.log.replica().0), committed);
            self.log.save_vote(vote).await.map_err(|error| self.failed(&error))?;
        }
        if last.is_none() {
            let members = Membership::new_with_defaults(vec![BTreeSet::from([self.log.replica().0])], []);
            self.push(0, FrameKind::Membership, encode_membership(&members))?;
        }
        self.push(self.term, FrameKind::Blank, Bytes::new())
    }

    /// Hands an entry to the log.
    pub(crate) fn append(&mut self, entry: Bytes) -> Result<(RaftIndex, Term), Error> {
        self.push(self.term, FrameKind::Normal, entry)?;
        Ok((RaftIndex(self.log.last_index().unwrap_or(0)), Term(self.term)))
    }

    fn push(&mut self, term: u64, kind: FrameKind, payload: Bytes) -> Result<(), Error> {
        let index = self.log.last_index().map_or(0, |last| last + 1);
        let durable = Arc::clone(&self.durable);
        let flushed = move || *durable.lock() = index + 1;
        let entry = NewEntry { index, term, kind, payload, promises: Arc::from([]) };
        self.log.append(vec![entry], flushed).map_err(|error| self.failed(&error))
    }

    /// Applies the next entry, if it is durable: its index, and the answers of its commands.
    pub(crate) fn apply_next(&mut self) -> Result<Option<(RaftIndex, Results)>, Error> {
        if self.next >= *self.durable.lock() {
            return Ok(None);
        }
        let index = RaftIndex(self.next);
        let results = match self.log.payload(index)? {
            Some(payload) => self.machine.apply(index, self.log.term_of(index), &Commands::parse(payload)?)?,
            None => Results::new(),
        };
        self.next += 1;
        self.machine.advance(index);
        Ok(Some((index, results)))
    }

    /// The index after the last entry that is applied.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// The index after the last entry.
    pub(crate) fn end(&self) -> u64 {
        self.log.last_index().map_or(0, |last| last + 1)
    }

    /// Entries that are handed to the log and not durable.
    pub(crate) fn in_flight(&self) -> u64 {
        self.end() - *self.durable.lock()
    }

    /// Saves the state as it is, and has the log begin behind its frontier.
    pub(crate) async fn snapshot(&self) -> Result<Snapshot, Error> {
        let nothing = || Error::new(Code::Unavailable, "nothing is applied");
        let at = self.next.checked_sub(1).ok_or_else(nothing)?;
        let at = log_id(self.log.term_of(RaftIndex(at)).0, at);
        let captured = self.machine.capture()?;
        let members = Membership::new_with_defaults(vec![BTreeSet::from([self.log.replica().0])], []);
        let members = StoredMembership::new(Some(log_id(0, 0)), members);
        let (frontier, state) = (captured.frontier, (captured.encode)());
        let (frontier, bytes) = self.snapshots.save_applied(at, frontier, &members, state).await?;
        self.log.purge(frontier.term.0, frontier.index.0).map_err(|error| self.failed(&error))?;
        Ok(Snapshot { at: RaftIndex(at.index), frontier: frontier.index, bytes })
    }

    pub(crate) fn log(&self) -> &GroupLog {
        &self.log
    }

    /// The term of the vote that is kept.
    pub(crate) fn voted(&self) -> Term {
        Term(self.log.vote().map_or(0, |vote| vote.leader_id().term))
    }

    fn failed(&self, error: &std::io::Error) -> Error {
        Error::new(Code::Io, format!("the log of shard {}: {error}", self.log.shard()))
    }
}
