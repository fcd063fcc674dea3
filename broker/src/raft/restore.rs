//! Makes the log, the vote and the state file of a replica from a backup, before any group runs.
//!
//! It is the install of a snapshot without a leader: the log reaches the state, then the vote that belongs to it is durable,
//! then the state file says where the log begins. The replica comes to vote alone.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use openraft::vote::{RaftLeaderId, RaftVote};
use stratalog_proto::{Code, Error, ReplicaId};
use stratalog_storage::{LogPoint, StateFiles, StateImage};

use super::codec::{encode_stored_membership, invalid};
use super::logs::Logs;
use super::snapshots::blocking;
use super::staged::StagedEntries;
use super::types::{LeaderId, Membership, StoredMembership, Vote, log_id};
use super::wire::{ENTRY_HEADER_BYTES, EntryHeader};

/// The entries of a backup as they come: cut anywhere, each its header of the wire and its payload.
pub(crate) struct IncomingEntries {
    staged: StagedEntries,
    max_payload: usize,
    /// What is not a whole entry yet.
    rest: BytesMut,
}

/// A group as a backup has it.
pub(crate) struct RestoredGroup {
    pub(crate) at: LogPoint,
    pub(crate) frontier: LogPoint,
    pub(crate) state: Bytes,
    pub(crate) entries: IncomingEntries,
}

impl IncomingEntries {
    /// None yet. Blocks on the disk, as all of this does.
    ///
    /// # Errors
    /// Those of the disk.
    pub(crate) fn begin(
        states: &StateFiles,
        frontier: LogPoint,
        at: LogPoint,
        max_payload: usize,
    ) -> Result<Self, Error> {
        let staged = StagedEntries::create(states, frontier, at, max_payload).map_err(|error| refused(&error))?;
        Ok(Self { staged, max_payload, rest: BytesMut::new() })
    }

    /// Adds bytes.
    ///
    /// # Errors
    /// [`Code::CorruptData`] for what is no entry, or does not follow the one before (X1); those of the disk.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.rest.extend_from_slice(bytes);
        self.take_whole().map_err(|error| refused(&error))
    }

    fn take_whole(&mut self) -> io::Result<()> {
        while let Some(header) = self.rest.get(..ENTRY_HEADER_BYTES).map(Bytes::copy_from_slice) {
            let len = EntryHeader::take(&mut header.clone())?.len as usize;
            if len > self.max_payload {
                return Err(invalid("an entry that fits the log"));
            }
            if self.rest.len() < ENTRY_HEADER_BYTES + len {
                break;
            }
            let entry = self.rest.split_to(ENTRY_HEADER_BYTES + len).freeze();
            self.staged.push(header, &[entry.slice(ENTRY_HEADER_BYTES..)])?;
        }
        Ok(())
    }

    fn check_whole(&self) -> io::Result<()> {
        let is_whole = self.staged.is_whole() && self.rest.is_empty();
        if is_whole { Ok(()) } else { Err(invalid("all entries up to the state")) }
    }
}

impl Logs {
    /// Makes a replica of what a backup has of its group, durably. The log of the replica is new.
    ///
    /// # Errors
    /// [`Code::CorruptData`] if entries are missing; those of the disk.
    pub(crate) async fn restore(
        self: &Arc<Self>,
        replica: ReplicaId,
        states: &Arc<StateFiles>,
        group: RestoredGroup,
    ) -> Result<(), Error> {
        let RestoredGroup { at, frontier, state, entries } = group;
        entries.check_whole().map_err(|error| refused(&error))?;
        let (logs, shard) = (Arc::clone(self), states.shard());
        let log = blocking(move || logs.create(shard, replica)).await??;
        log.install(frontier, at, entries.staged).await.map_err(|error| refused(&error))?;
        let vote = Vote::from_leader_id(LeaderId::new(at.term.0, replica.0), false);
        log.save_vote(vote).await.map_err(|error| refused(&error))?;
        let alone = Membership::new_with_defaults(vec![BTreeSet::from([replica.0])], []);
        let alone = StoredMembership::new(Some(log_id(at.term.0, at.index.0)), alone);
        let image = StateImage { at, frontier, membership: encode_stored_membership(&alone), state };
        let states = Arc::clone(states);
        blocking(move || states.save(&image)).await??;
        Ok(())
    }
}

fn refused(error: &io::Error) -> Error {
    let code = match error.kind() {
        io::ErrorKind::InvalidData => Code::CorruptData,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Code::StorageFull,
        _ => Code::Io,
    };
    Error::new(code, format!("the log of a backup cannot be restored: {error}"))
}
