//! What can be asked of a peer.

/// A call or a stream between nodes. The name is part of the path on the wire; a number is never needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    /// Who are you: the answer is a `Hello`.
    Hello,
    /// A node without a cluster asks to join.
    Join,
    /// An operator's node asks a node without a cluster to join.
    Invite,
    /// A node without a cluster is about to begin one, and asks another one without whether it may.
    Begin,
    /// Raft: one message, one answer (votes, heartbeats).
    RaftAsk,
    /// Raft: entries, as a stream in both directions.
    RaftReplicate,
    /// Raft: a snapshot, a stream with one answer.
    RaftState,
    /// Raft: an index from which a linearizable read may be served.
    ReadIndex,
    /// What a replica has: applied, missing segments, leadership.
    ReplicaState,
    /// Asks a leader to hand leadership over.
    TransferLeader,
    /// A command for a group that the peer leads.
    Propose,
    /// A record batch for a partition that the peer leads.
    Produce,
    /// Record batches of partitions that the peer leads.
    Fetch,
    /// Offsets, figures and checks of partitions that the peer leads.
    Read,
    /// Work on a topic in the shards that the peer leads: seal, merge, retention, dead letters.
    Maintain,
    /// The consumer groups of a shard that the peer leads.
    Groups,
    /// The bytes of a segment's file, a stream.
    FetchSegment,
    /// A shard at one moment, for a backup, a stream.
    CopyShard,
    /// Get these column segments from me, they are about to be sealed.
    HoldSegments,
    /// A snapshot of rows for a query.
    OpenPart,
    /// Runs a part of a plan over such a snapshot, a stream.
    RunPart,
    /// The query is done.
    ClosePart,
}

/// Which of the connections to a peer a method uses, so that none waits behind bulk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Votes, heartbeats, small questions.
    Control,
    /// Entries and records.
    Data,
    /// Files, snapshots, query results.
    Bulk,
}

impl Method {
    /// Every method.
    pub const ALL: &[Method] = &[
        Method::Hello,
        Method::Join,
        Method::Invite,
        Method::Begin,
        Method::RaftAsk,
        Method::RaftReplicate,
        Method::RaftState,
        Method::ReadIndex,
        Method::ReplicaState,
        Method::TransferLeader,
        Method::Propose,
        Method::Produce,
        Method::Fetch,
        Method::Read,
        Method::Maintain,
        Method::Groups,
        Method::FetchSegment,
        Method::CopyShard,
        Method::HoldSegments,
        Method::OpenPart,
        Method::RunPart,
        Method::ClosePart,
    ];

    /// As in the path.
    pub fn name(self) -> &'static str {
        match self {
            Method::Hello => "Hello",
            Method::Join => "Join",
            Method::Invite => "Invite",
            Method::Begin => "Begin",
            Method::RaftAsk => "RaftAsk",
            Method::RaftReplicate => "RaftReplicate",
            Method::RaftState => "RaftState",
            Method::ReadIndex => "ReadIndex",
            Method::ReplicaState => "ReplicaState",
            Method::TransferLeader => "TransferLeader",
            Method::Propose => "Propose",
            Method::Produce => "Produce",
            Method::Fetch => "Fetch",
            Method::Read => "Read",
            Method::Maintain => "Maintain",
            Method::Groups => "Groups",
            Method::FetchSegment => "FetchSegment",
            Method::CopyShard => "CopyShard",
            Method::HoldSegments => "HoldSegments",
            Method::OpenPart => "OpenPart",
            Method::RunPart => "RunPart",
            Method::ClosePart => "ClosePart",
        }
    }

    /// The method of a name.
    pub fn from_name(name: &str) -> Option<Method> {
        Self::ALL.iter().copied().find(|method| method.name() == name)
    }

    /// Its connection.
    pub fn lane(self) -> Lane {
        match self {
            Method::RaftReplicate | Method::Produce | Method::Fetch => Lane::Data,
            Method::RaftState
            | Method::FetchSegment
            | Method::CopyShard
            | Method::HoldSegments
            | Method::OpenPart
            | Method::RunPart => Lane::Bulk,
            _ => Lane::Control,
        }
    }

    /// Whether nodes that are not in one cluster may use it; the secret is asked for all the same.
    pub fn is_open(self) -> bool {
        matches!(self, Method::Hello | Method::Join | Method::Invite | Method::Begin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_distinct_and_lead_back() {
        for method in Method::ALL {
            assert_eq!(Method::from_name(method.name()), Some(*method));
        }
        assert_eq!(Method::from_name("hello"), None);
    }
}
