use bytes::Bytes;
use stratalog_proto::{RaftIndex, ReplicaId, ShardId, Term};

use super::LaneDoubt;

/// What a frame is to its shard's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum FrameKind {
    /// An entry without payload.
    Blank = 1,
    /// An entry of commands.
    Normal = 2,
    /// A change of membership.
    Membership = 3,
    /// Entries above `index`, the last one kept, are void. With term 1, so is the last purge and what follows it.
    Truncate = 4,
    /// The log goes on after `index`, once the state file that comes with it is durable.
    Purge = 5,
}

/// One frame to append.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The shard whose log it belongs to.
    pub shard: ShardId,
    /// The term of the entry's log id.
    pub term: Term,
    /// The replica that writes it, so that one which left this node is told from the one that came after it.
    pub replica: ReplicaId,
    /// The index of the entry's log id; see [`FrameKind`] for the others.
    pub index: RaftIndex,
    /// What it is.
    pub kind: FrameKind,
    /// Opaque bytes; held, not copied.
    pub payload: Bytes,
}

/// Where a frame lies in the lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LanePos {
    /// The file's number, from 1.
    pub file: u64,
    /// Where the frame's header starts in it, in bytes.
    pub offset: u64,
    /// The payload's length, in bytes.
    pub len: u32,
}

/// What [`Lane::open`](super::Lane::open) found.
#[derive(Clone, Debug, Default)]
pub struct Recovery {
    /// All frames, in the order of the log, of all shards.
    pub frames: Vec<RecoveredFrame>,
    /// What was discarded at the end, if anything.
    pub torn_tail: Option<TornTail>,
    /// Something was discarded, now or at an earlier start, and nobody has ended the doubt since.
    pub doubt: Option<LaneDoubt>,
}

/// A frame found in the log: its header and where it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecoveredFrame {
    /// The shard whose log it belongs to.
    pub shard: ShardId,
    /// The term of the entry's log id.
    pub term: Term,
    /// The replica that writes it, so that one which left this node is told from the one that came after it.
    pub replica: ReplicaId,
    /// The index of the entry's log id.
    pub index: RaftIndex,
    /// What it is.
    pub kind: FrameKind,
    /// Where it lies, for [`Lane::read`](super::Lane::read).
    pub pos: LanePos,
}

/// A write that a crash cut short: never acknowledged, discarded at open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TornTail {
    /// The file's number.
    pub file: u64,
    /// Where the discarded bytes start.
    pub offset: u64,
    /// How many there were.
    pub bytes: u64,
}
