//! A group's state at one moment with the log that belongs to it, for a backup. Nothing is saved here.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use stratalog_proto::{Code, Error, RaftIndex, ReplicaId};
use stratalog_storage::{FrameKind, LogPoint};

use super::group::{Group, stopped};
use super::log::GroupLog;
use super::reader::READ_BYTES;
use super::sending::OnItsWay;
use super::snapshots::{blocking, point};
use super::wire::EntryHeader;

/// No replica has this id: the log stays for a copy as it does for a replica that gets a snapshot.
const COPY: ReplicaId = ReplicaId(0);

/// The log above `frontier` stays while this is held, as long as there is log to spare.
pub(crate) struct GroupCopy {
    /// The last entry that is applied in the state.
    pub(crate) at: LogPoint,
    /// The state needs the entries above this one.
    pub(crate) frontier: LogPoint,
    pub(crate) state: Bytes,
    pub(crate) log: LogCopy,
}

/// The entries that belong to a state.
pub(crate) struct LogCopy {
    log: GroupLog,
    last: RaftIndex,
    _stays: Arc<OnItsWay>,
}

impl Group {
    /// The applied state as it is now, with the log that it needs.
    ///
    /// # Errors
    /// [`Code::Unavailable`]: nothing is applied yet, a rolled segment is not here yet, or the group has stopped.
    pub(crate) async fn copy(&self) -> Result<GroupCopy, Error> {
        let shard = self.log.shard();
        let stays = self.snapshots.sending().begin(COPY);
        stays.reach();
        let captured = self.raft.with_state_machine(|machine| Box::pin(async move { machine.capture() })).await;
        let nothing = || Error::new(Code::Unavailable, format!("shard {shard} has applied nothing yet"));
        let (at, _, captured) = captured.map_err(|error| stopped(shard, &error))?.ok_or_else(nothing)?;
        let captured = captured?;
        let frontier = LogPoint { term: self.log.term_of(captured.frontier), index: captured.frontier };
        let state = blocking(captured.encode).await?.into();
        let log = LogCopy { log: self.log.clone(), last: RaftIndex(at.index), _stays: stays };
        Ok(GroupCopy { at: point(at), frontier, state, log })
    }
}

impl LogCopy {
    /// Some entries from `from` on, at least one, each its header of the wire and its payload, and the index to go on with;
    /// no bytes behind the last one. An entry that says who belongs to the group comes as a blank one: in another cluster the
    /// ids mean others. Blocks on the disk.
    ///
    /// # Errors
    /// [`Code::Unavailable`] if they have left the log meanwhile; those of reading.
    pub(crate) fn entries(&self, from: u64) -> Result<(Bytes, u64), Error> {
        let end = self.last.0 + 1;
        if from >= end {
            return Ok((Bytes::new(), from));
        }
        let read = self.log.window(from..end, READ_BYTES)?;
        let last = read.first().filter(|(first, _)| first.index == from).and(read.last());
        let shard = self.log.shard();
        let gone =
            || Error::new(Code::Unavailable, format!("entry {from} of shard {shard} has left the log meanwhile"));
        let next = last.ok_or_else(gone)?.0.index + 1;
        let mut out = BytesMut::new();
        for (entry, payload) in read {
            let (kind, payload) = match entry.slot.kind {
                FrameKind::Membership => (FrameKind::Blank, Bytes::new()),
                kind => (kind, payload),
            };
            EntryHeader::new(entry.term, entry.index, kind, &payload).put(&mut out);
            out.extend_from_slice(&payload);
        }
        Ok((out.freeze(), next))
    }
}
