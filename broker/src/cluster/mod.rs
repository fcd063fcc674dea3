//! This node among others: who they are, what this one leads, and what it answers them.

mod absent;
mod announce;
mod balance;
mod book;
mod copies;
mod forming;
mod gone;
mod greet;
mod heard;
mod hosts;
mod keeper;
mod lacking;
mod leave;
mod loops;
mod members;
mod nodes;
mod operate;
mod options;
mod peering;
mod peers;
mod readiness;
mod recs;
pub(crate) mod route;
mod serve;
mod sources;
mod states;
mod workers;

pub(crate) use announce::node_message;
pub(crate) use book::{Book, read as read_book};
pub(crate) use copies::NodeCopies;
pub(crate) use forming::Ground;
pub(crate) use loops::run_loops;
pub(crate) use nodes::Nodes;
pub(crate) use peering::{Peering, who};
pub(crate) use peers::NodePeers;
pub(crate) use readiness::{Readiness, check_heard};
pub(crate) use recs::NodeSegments;
pub(crate) use serve::{Intake, Server};
pub(crate) use workers::NodeWorkers;

pub use forming::Forming;
pub use operate::{ClusterStatus, Move, NodeState, NodeStatus, ReplicaRole, ReplicaStatus, ShardStatus};
pub use options::ClusterOptions;
