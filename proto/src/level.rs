//! Feature levels: which commands a cluster of several versions may write to its logs.
//!
//! A node stops at a command that it does not know, so that no command of a new version may be proposed while a node of an
//! older one is in the cluster. Each version knows all commands up to its level; the level of the cluster is raised, by a
//! command, only when every node knows the next one.

use crate::entry::Command;

/// The highest level that this version knows.
pub const FEATURE_LEVEL: u32 = 2;

/// From this level on a node tells where Kafka clients reach it, on each of its listeners: older versions would forget it, and
/// their metadata differ.
pub const KAFKA_ADDRESS_LEVEL: u32 = 2;

/// From this level on there are consumer groups.
pub const GROUPS_LEVEL: u32 = 2;

/// From this level on topics get more partitions.
const PARTITIONS_LEVEL: u32 = 2;

impl Command {
    /// The cluster has to be at this level, or above, before the command may be proposed. 0: as in release 0.1.
    pub fn level(&self) -> u32 {
        match self {
            Command::AssignSlots(_)
            | Command::GroupState(_)
            | Command::CommitOffsets(_)
            | Command::DeleteGroup(_)
            | Command::DeleteOffsets(_)
            | Command::ExpireOffsets(_) => GROUPS_LEVEL,
            Command::SetNodeState(_)
            | Command::RemoveNode(_)
            | Command::CreateShards(_)
            | Command::ChangeReplicas(_)
            | Command::ReplicaChanged(_)
            | Command::RaiseLevel(_) => 1,
            // Older versions would not see the partitions that it adds.
            Command::AlterTopic(alter) if !alter.shards.is_empty() => PARTITIONS_LEVEL,
            // With these two a cluster begins, and hears what a node knows.
            Command::InitCluster(_) | Command::PutNode(_) => 0,
            Command::Append(_)
            | Command::Roll(_)
            | Command::Repack(_)
            | Command::CheckState(_)
            | Command::Seal(_)
            | Command::Merge(_)
            | Command::Drop(_)
            | Command::PutTopic(_)
            | Command::RemoveTopic(_)
            | Command::DeleteRecords(_)
            | Command::Erase(_)
            | Command::EraseDone(_)
            | Command::Barrier(_)
            | Command::CreateTopic(_)
            | Command::AlterTopic(_)
            | Command::DeleteTopic(_)
            | Command::AllocateProducerIds(_) => 0,
        }
    }
}
