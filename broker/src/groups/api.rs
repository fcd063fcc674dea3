//! What is asked of groups, and what they answer.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use stratalog_proto::{Code, Error, Offset, PartitionId, TopicId};

/// Why a group did not do what was asked. Each is one error code of Kafka's, but for [`Other`](Refusal::Other).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Another node coordinates the group, or none at the moment: look for it again.
    NotCoordinator,
    /// This node is about to coordinate the group: ask again.
    Loading,
    /// The group does not have this member: join without a member id.
    UnknownMember,
    /// Of another generation than the group's: join again.
    IllegalGeneration,
    /// Join again.
    RebalanceInProgress,
    /// Another process has the instance id.
    FencedInstance,
    /// The protocols are none, or no member of the group shares one with all others.
    InconsistentProtocol,
    /// Out of the bounds of [`GroupOptions`](super::GroupOptions).
    InvalidSessionTimeout,
    /// The group's id is empty or too long.
    InvalidGroup,
    /// Join again with this member id.
    MemberIdRequired(String),
    /// The group has as many members as it may have, or what they say of themselves is too much.
    GroupFull,
    /// The group has members.
    NonEmpty,
    /// There is no such group.
    NotFound,
    /// What a consumer says beside an offset is too long.
    MetadataTooLarge,
    /// There is no such partition.
    UnknownTopicOrPartition,
    /// A member reads the topic.
    SubscribedToTopic,
    /// None of the others.
    Other(Error),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Refusal::NotCoordinator => "this node does not coordinate the group; look for its coordinator again",
            Refusal::Loading => "the group's coordinator is starting; ask again",
            Refusal::UnknownMember => "the group does not have this member; join it without a member id",
            Refusal::IllegalGeneration => "the group is in another generation by now; join it again",
            Refusal::RebalanceInProgress => "the group's members are joining it anew; join it again",
            Refusal::FencedInstance => "another process has joined the group with this instance id",
            Refusal::InconsistentProtocol => "no protocol of the member is one that all members of the group know",
            Refusal::InvalidSessionTimeout => "the session timeout is out of bounds",
            Refusal::InvalidGroup => "a group id has 1 to 1,024 bytes",
            Refusal::MemberIdRequired(_) => "join again with the member id that is given",
            Refusal::GroupFull => "the group has as many members as it may have",
            Refusal::NonEmpty => "the group has members",
            Refusal::NotFound => "there is no such group",
            Refusal::MetadataTooLarge => "the metadata of an offset is too long",
            Refusal::UnknownTopicOrPartition => "there is no such partition",
            Refusal::SubscribedToTopic => "a member of the group reads the topic",
            Refusal::Other(error) => return error.fmt(f),
        };
        f.write_str(text)
    }
}

impl std::error::Error for Refusal {}

impl From<Error> for Refusal {
    /// Of a command that was not applied, or refused when it was.
    fn from(error: Error) -> Self {
        match error.code {
            Code::NotLeader => Refusal::NotCoordinator,
            Code::UnknownMember => Refusal::UnknownMember,
            Code::IllegalGeneration => Refusal::IllegalGeneration,
            Code::RebalanceInProgress => Refusal::RebalanceInProgress,
            Code::FencedInstance => Refusal::FencedInstance,
            Code::GroupNotEmpty => Refusal::NonEmpty,
            Code::UnknownGroup => Refusal::NotFound,
            _ => Refusal::Other(error),
        }
    }
}

/// A member wants to be in the next generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Join {
    /// The group.
    pub group: String,
    /// Empty for one that is not known yet.
    pub member_id: String,
    /// A static member's `group.instance.id`.
    pub instance: Option<String>,
    /// What the client calls itself.
    pub client_id: String,
    /// Where it is.
    pub host: String,
    /// `consumer`, or another kind of group.
    pub protocol_type: String,
    /// Ways of assignment, the best first, each with what its leader is to know of this member.
    pub protocols: Vec<(String, Bytes)>,
    /// How long the member may be silent.
    pub session_timeout: Duration,
    /// How long the member may take to join again.
    pub rebalance_timeout: Duration,
    /// The client joins twice to have a member id: from version 4 of the request on.
    pub needs_member_id: bool,
    /// The client knows that a leader may have to skip the assignment: from version 9 of the request on.
    pub knows_skipping: bool,
}

/// A member is in a generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// The generation.
    pub generation: i32,
    /// Of the group.
    pub protocol_type: String,
    /// The way of assignment that was chosen.
    pub protocol: String,
    /// Who assigns.
    pub leader: String,
    /// Who joined.
    pub member_id: String,
    /// The leader is not to assign anything: what is assigned goes on to hold.
    pub skip_assignment: bool,
    /// For the leader alone: every member, with what it says for the chosen way.
    pub members: Vec<JoinedMember>,
}

/// A member, as its leader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinedMember {
    /// Its id.
    pub member_id: String,
    /// Of a static member.
    pub instance: Option<String>,
    /// What it says for the chosen way of assignment.
    pub metadata: Bytes,
}

/// A member asks for what is assigned to it; the leader says what is assigned to whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sync {
    /// The group.
    pub group: String,
    /// The generation that it joined.
    pub generation: i32,
    /// Who asks.
    pub member_id: String,
    /// Of a static member.
    pub instance: Option<String>,
    /// What it takes the group for, if it says so.
    pub protocol_type: Option<String>,
    /// What it takes for the chosen way of assignment, if it says so.
    pub protocol: Option<String>,
    /// Of the leader: what is assigned to which member.
    pub assignments: Vec<(String, Bytes)>,
}

/// What is assigned to a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Synced {
    /// Of the group.
    pub protocol_type: String,
    /// The way of assignment that was chosen.
    pub protocol: String,
    /// As the leader wrote it.
    pub assignment: Bytes,
}

/// Who lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// The group.
    pub group: String,
    /// The generation that it takes for the group's.
    pub generation: i32,
    /// Who lives.
    pub member_id: String,
    /// Of a static member.
    pub instance: Option<String>,
}

/// Who leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaving {
    /// Empty: the static member of this instance, whoever it is.
    pub member_id: String,
    /// Of a static member.
    pub instance: Option<String>,
}

/// Offsets up to which a group has read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// The group. One that is not there yet comes to be with a commit of nobody.
    pub group: String,
    /// -1, with an empty member id, for who is no member: allowed while the group has none.
    pub generation: i32,
    /// Who commits.
    pub member_id: String,
    /// Of a static member.
    pub instance: Option<String>,
    /// What is committed.
    pub offsets: Vec<CommitOffset>,
}

/// An offset to commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitOffset {
    /// The topic.
    pub topic: TopicId,
    /// The partition.
    pub partition: PartitionId,
    /// The next offset to read.
    pub offset: Offset,
    /// Of the last record that was read, if that is known.
    pub leader_epoch: Option<u32>,
    /// What the consumer wants to remember beside it.
    pub metadata: String,
}

/// What a group is at the moment. Its text is Kafka's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupState {
    /// No members.
    Empty,
    /// Members are joining.
    PreparingRebalance,
    /// The leader assigns.
    CompletingRebalance,
    /// Every member has its assignment.
    Stable,
    /// There is no such group.
    Dead,
}

impl fmt::Display for GroupState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The names are Kafka's.
        fmt::Debug::fmt(self, f)
    }
}

/// A group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// What it is at the moment.
    pub state: GroupState,
    /// `consumer`, or another kind of group; empty for one that never had a member.
    pub protocol_type: String,
    /// The way of assignment that was chosen; empty without one.
    pub protocol: String,
    /// The generation; 0 before the first.
    pub generation: i32,
    /// In the order of ids.
    pub members: Vec<DescribedMember>,
}

/// A member of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedMember {
    /// Its id.
    pub member_id: String,
    /// Of a static member.
    pub instance: Option<String>,
    /// What the client calls itself.
    pub client_id: String,
    /// Where it is.
    pub host: String,
    /// What it says for the chosen way of assignment; empty without one.
    pub metadata: Bytes,
    /// What is assigned to it; empty unless the group is stable.
    pub assignment: Bytes,
}

/// A group among others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its id.
    pub group: String,
    /// As in [`Described`].
    pub protocol_type: String,
    /// What it is at the moment.
    pub state: GroupState,
}
