//! Topics, their segments and their retention.

use std::collections::HashMap;

use stratalog_proto::v1;
use tonic::Streaming;

use crate::retry::ask;
use crate::{Client, ClientError};

impl Client {
    /// Creates a topic; 0 partitions stands for the server's default. Settings are pairs such as
    /// `("retention", "7d")`.
    ///
    /// # Errors
    /// `TopicExists`, `InvalidTopicName`, `InvalidConfig`.
    pub async fn create_topic(
        &self,
        name: &str,
        partitions: u32,
        settings: &[(String, String)],
    ) -> Result<v1::Topic, ClientError> {
        let request = v1::CreateTopicRequest { name: name.to_owned(), partitions, config: pairs(settings) };
        ask!(changing, self, topics.create_topic(request))
    }

    /// All topics.
    ///
    /// # Errors
    /// If no node answers.
    pub async fn topics(&self) -> Result<Vec<v1::Topic>, ClientError> {
        Ok(ask!(reading, self, topics.list_topics(v1::ListTopicsRequest {}))?.topics)
    }

    /// A topic and its partitions.
    ///
    /// # Errors
    /// `UnknownTopic`, which suggests the nearest name.
    pub async fn describe_topic(&self, name: &str) -> Result<v1::DescribeTopicResponse, ClientError> {
        let request = v1::DescribeTopicRequest { name: name.to_owned() };
        ask!(reading, self, topics.describe_topic(request))
    }

    /// Changes settings of a topic; those not named stay.
    ///
    /// # Errors
    /// `UnknownTopic`, `InvalidConfig`.
    pub async fn alter_topic(&self, name: &str, settings: &[(String, String)]) -> Result<v1::Topic, ClientError> {
        self.change_topic(name, settings, None).await
    }

    /// Changes settings of a topic, and how many partitions it has, all or none. Records without a partition of their own go to
    /// other ones than before, once there are more.
    ///
    /// # Errors
    /// `UnknownTopic`, `InvalidConfig`; `InvalidRequest` for fewer partitions than there are.
    pub async fn change_topic(
        &self,
        name: &str,
        settings: &[(String, String)],
        partitions: Option<u32>,
    ) -> Result<v1::Topic, ClientError> {
        let request = v1::AlterTopicRequest { name: name.to_owned(), config: pairs(settings), partitions };
        ask!(changing, self, topics.alter_topic(request))
    }

    /// Deletes a topic with everything in it.
    ///
    /// # Errors
    /// `UnknownTopic`.
    pub async fn delete_topic(&self, name: &str) -> Result<(), ClientError> {
        let request = v1::DeleteTopicRequest { name: name.to_owned() };
        ask!(changing, self, topics.delete_topic(request))?;
        Ok(())
    }

    /// The column segments of a topic.
    ///
    /// # Errors
    /// `UnknownTopic`.
    pub async fn segments(&self, topic: &str) -> Result<Vec<v1::Segment>, ClientError> {
        let request = v1::ListSegmentsRequest { topic: topic.to_owned() };
        Ok(ask!(reading, self, topics.list_segments(request))?.segments)
    }

    /// Lets a node read every record batch of a topic, and say what cannot be read. Dropping the answer ends it.
    ///
    /// # Errors
    /// `UnknownTopic`.
    pub async fn verify_topic(&self, topic: &str) -> Result<Verification, ClientError> {
        let request = v1::VerifyTopicRequest { topic: topic.to_owned() };
        Ok(Verification { partitions: ask!(changing, self, topics.verify_topic(request))? })
    }

    /// Makes rows of a topic's dead letters once more, by its settings of now, and says what became of them.
    ///
    /// # Errors
    /// `UnknownTopic`; `InvalidRequest` for a topic without rows; those of sealing it and of reading its records. What was
    /// mended until then is mended.
    pub async fn retry_dead_letters(&self, topic: &str) -> Result<v1::RetryDeadLettersResponse, ClientError> {
        let request = v1::RetryDeadLettersRequest { topic: topic.to_owned() };
        ask!(changing, self, topics.retry_dead_letters(request))
    }

    /// Drops every column segment whose time bucket ends at or before `before_ns`, nanoseconds since the epoch, and of rows
    /// that are not in a segment yet, too. A dry run lists the segments, counts those rows, and drops nothing.
    ///
    /// # Errors
    /// `UnknownTopic`.
    pub async fn drop_before(
        &self,
        topic: &str,
        before_ns: i64,
        dry_run: bool,
    ) -> Result<v1::DropBeforeResponse, ClientError> {
        let request = v1::DropBeforeRequest { topic: topic.to_owned(), before_ns, dry_run };
        ask!(changing, self, topics.drop_before(request))
    }

    /// Drops what the `retention` and `retention.bytes` of a topic no longer keep, now instead of in a while. A dry run
    /// lists it and drops nothing.
    ///
    /// # Errors
    /// `UnknownTopic`.
    pub async fn apply_retention(&self, topic: &str, dry_run: bool) -> Result<v1::DropBeforeResponse, ClientError> {
        let request = v1::ApplyRetentionRequest { topic: topic.to_owned(), dry_run };
        ask!(changing, self, topics.apply_retention(request))
    }

    /// Moves the rows of all records of a topic that are produced by now into column segments.
    ///
    /// # Errors
    /// `UnknownTopic`, `Timeout` if rows are not made in time, `StorageFull`.
    pub async fn seal_topic(&self, topic: &str) -> Result<(), ClientError> {
        ask!(changing, self, topics.seal_topic(v1::SealTopicRequest { topic: topic.to_owned() }))?;
        Ok(())
    }

    /// Merges the column segments of a topic until each time bucket has as few as possible.
    ///
    /// # Errors
    /// `UnknownTopic`, `StorageFull`: what was merged until then stays merged.
    pub async fn merge_topic(&self, topic: &str) -> Result<v1::MergeTopicResponse, ClientError> {
        let request = v1::MergeTopicRequest { topic: topic.to_owned() };
        ask!(changing, self, topics.merge_topic(request))
    }

    /// Deletes the records of partitions below an offset of each, `(partition, offset)`, with their rows; `u64::MAX` is
    /// the end. Gives where each begins now.
    ///
    /// # Errors
    /// `UnknownTopic`, `UnknownPartition`, `OffsetOutOfRange` for an offset above the end: nothing is deleted.
    pub async fn delete_records(&self, topic: &str, before: &[(u32, u64)]) -> Result<Vec<(u32, u64)>, ClientError> {
        let before =
            before.iter().map(|(partition, offset)| v1::PartitionOffset { partition: *partition, offset: *offset });
        let request = v1::DeleteRecordsRequest { topic: topic.to_owned(), before: before.collect() };
        let response = ask!(changing, self, topics.delete_records(request))?;
        Ok(response.log_starts.iter().map(|start| (start.partition, start.offset)).collect())
    }
}

/// What a node finds while it reads a topic, partition by partition.
#[derive(Debug)]
pub struct Verification {
    partitions: Streaming<v1::VerifiedPartition>,
}

impl Verification {
    /// The next partition, once all of it was read; `None` after the last.
    ///
    /// # Errors
    /// Those of reading, but for damage: that is in the answer. `UnknownTopic` if the topic was deleted meanwhile.
    pub async fn next(&mut self) -> Result<Option<v1::VerifiedPartition>, ClientError> {
        Ok(self.partitions.message().await?)
    }
}

fn pairs(settings: &[(String, String)]) -> HashMap<String, String> {
    settings.iter().cloned().collect()
}
