//! Consumer groups: how far they have read, and changes of that.

use stratalog_proto::v1;
use stratalog_proto::v1::reset_offsets_request::To;

use crate::retry::ask;
use crate::{Client, ClientError};

impl Client {
    /// All groups, in the order of ids.
    ///
    /// # Errors
    /// `NotLeader`, `Unavailable` if a shard that has groups has no leader that answers.
    pub async fn groups(&self) -> Result<Vec<v1::ListedGroup>, ClientError> {
        Ok(ask!(reading, self, groups.list_groups(v1::ListGroupsRequest {}))?.groups)
    }

    /// A group with its members, and how far it has read.
    ///
    /// # Errors
    /// `UnknownGroup`; as [`groups`](Self::groups).
    pub async fn describe_group(&self, group: &str) -> Result<v1::DescribeGroupResponse, ClientError> {
        ask!(reading, self, groups.describe_group(v1::DescribeGroupRequest { group: group.to_owned() }))
    }

    /// Sets how far a group without members has read: of all partitions of a topic, or of those that it has committed. With
    /// `dry_run` only says how far that would be.
    ///
    /// # Errors
    /// `GroupNotEmpty`, `UnknownGroup`, `UnknownTopic`; as [`groups`](Self::groups).
    pub async fn reset_offsets(
        &self,
        group: &str,
        topic: Option<&str>,
        to: To,
        dry_run: bool,
    ) -> Result<Vec<v1::ResetPartition>, ClientError> {
        let (group, topic) = (group.to_owned(), topic.unwrap_or_default().to_owned());
        let request = v1::ResetOffsetsRequest { group, topic, to: Some(to), dry_run };
        Ok(ask!(changing, self, groups.reset_offsets(request))?.partitions)
    }

    /// Deletes a group without members, with what it committed.
    ///
    /// # Errors
    /// `GroupNotEmpty`, `UnknownGroup`; as [`groups`](Self::groups).
    pub async fn delete_group(&self, group: &str) -> Result<(), ClientError> {
        ask!(changing, self, groups.delete_group(v1::DeleteGroupRequest { group: group.to_owned() }))?;
        Ok(())
    }
}
