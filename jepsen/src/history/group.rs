//! Operations of consumer groups, as they stand in a line.

use serde::{Deserialize, Serialize};

use super::{Outcome, When};

/// A member joins, or one of its number that was started again: it has no partitions yet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SubscribeOp {
    pub(crate) process: u32,
    pub(crate) at: When,
    pub(crate) group: String,
}

/// A member has these partitions, too, or has them no more. It asks where the group is in those that it gained after the beginning of
/// `at`, and is given none of those that it lost after the end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RebalanceOp {
    pub(crate) process: u32,
    pub(crate) at: When,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) gained: Vec<u32>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) lost: Vec<u32>,
}

/// Offsets of partitions, each one past what the member was given.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CommitOp {
    pub(crate) process: u32,
    pub(crate) at: When,
    pub(crate) group: String,
    pub(crate) offsets: Vec<(u32, u64)>,
    pub(crate) outcome: Outcome<()>,
}

/// What a group has committed: an offset of each partition that was told of, or that there is none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CommittedOp {
    pub(crate) process: u32,
    pub(crate) at: When,
    pub(crate) group: String,
    pub(crate) outcome: Outcome<Vec<(u32, Option<u64>)>>,
}
