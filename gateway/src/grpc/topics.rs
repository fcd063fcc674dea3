//! The service `Topics`.

use std::pin::Pin;

use futures::{Stream, StreamExt, stream};
use stratalog_broker::Merged;
use stratalog_proto::config::{TopicConfig, check_topic_name};
use stratalog_proto::v1;
use stratalog_proto::v1::topics_server::Topics;
use stratalog_proto::v1::{
    AlterTopicRequest, CreateTopicRequest, DeleteTopicRequest, DeleteTopicResponse, DescribeTopicRequest,
    DescribeTopicResponse, DropBeforeRequest, DropBeforeResponse, ListSegmentsRequest, ListSegmentsResponse,
    ListTopicsRequest, ListTopicsResponse, Topic, VerifiedPartition, VerifyTopicRequest,
};
use stratalog_proto::{Code, Error, Offset, PartitionId};
use stratalog_query::TopicChange;
use tonic::{Request, Response, Status};

use super::{Service, convert, status};
use crate::segments::to_v1;

/// One answer a partition. A caller that leaves ends the check.
type Verified = Pin<Box<dyn Stream<Item = Result<VerifiedPartition, Status>> + Send>>;

impl Service {
    async fn verify(&self, topic: &str, partition: PartitionId) -> Result<VerifiedPartition, Status> {
        let verified = tokio::select! {
            verified = self.shared.broker.verify(topic, partition) => verified,
            () = self.shared.stopping.cancelled() => Err(Error::new(Code::Unavailable, "the node is stopping")),
        };
        verified.map(convert::verified).map_err(|error| status("VerifyTopic", error))
    }
}

#[tonic::async_trait]
impl Topics for Service {
    type VerifyTopicStream = Verified;

    async fn create_topic(&self, request: Request<CreateTopicRequest>) -> Result<Response<Topic>, Status> {
        let request = request.into_inner();
        self.call("CreateTopic", async {
            check_topic_name(&request.name)?;
            let mut config = TopicConfig::default();
            for (key, value) in convert::settings(request.config) {
                config.set(&key, &value)?;
            }
            let topic = self.shared.broker.create_topic(&request.name, request.partitions, config).await?;
            Ok(convert::topic(&topic))
        })
        .await
    }

    async fn list_topics(&self, _request: Request<ListTopicsRequest>) -> Result<Response<ListTopicsResponse>, Status> {
        self.call("ListTopics", async {
            let topics = self.shared.broker.list_topics().await?;
            let topics = topics.iter().map(|topic| convert::topic(topic)).collect();
            Ok(ListTopicsResponse { topics })
        })
        .await
    }

    async fn describe_topic(
        &self,
        request: Request<DescribeTopicRequest>,
    ) -> Result<Response<DescribeTopicResponse>, Status> {
        let name = request.into_inner().name;
        self.call("DescribeTopic", async {
            check_topic_name(&name)?;
            let (topic, partitions, rows) = self.shared.broker.describe_topic(&name).await?;
            let (partitions, rows) =
                (partitions.iter().map(convert::partition).collect(), rows.map(convert::topic_rows));
            Ok(DescribeTopicResponse { topic: Some(convert::topic(&topic)), partitions, rows })
        })
        .await
    }

    async fn alter_topic(&self, request: Request<AlterTopicRequest>) -> Result<Response<Topic>, Status> {
        let AlterTopicRequest { name, config, partitions } = request.into_inner();
        self.call("AlterTopic", async {
            check_topic_name(&name)?;
            let change = TopicChange { settings: convert::settings(config), partitions, ..TopicChange::default() };
            let topic = self.shared.broker.change_topic(&name, &change).await?;
            Ok(convert::topic(&topic))
        })
        .await
    }

    async fn delete_topic(
        &self,
        request: Request<DeleteTopicRequest>,
    ) -> Result<Response<DeleteTopicResponse>, Status> {
        let name = request.into_inner().name;
        self.call("DeleteTopic", async {
            check_topic_name(&name)?;
            self.shared.broker.delete_topic(&name).await?;
            Ok(DeleteTopicResponse {})
        })
        .await
    }

    async fn list_segments(
        &self,
        request: Request<ListSegmentsRequest>,
    ) -> Result<Response<ListSegmentsResponse>, Status> {
        let topic = request.into_inner().topic;
        self.call("ListSegments", async {
            check_topic_name(&topic)?;
            Ok(ListSegmentsResponse { segments: to_v1(&self.shared.broker.segments(&topic).await?) })
        })
        .await
    }

    async fn verify_topic(&self, request: Request<VerifyTopicRequest>) -> Result<Response<Verified>, Status> {
        let name = request.into_inner().topic;
        self.call("VerifyTopic", async {
            check_topic_name(&name)?;
            let partitions = self.shared.broker.find_topic(&name).await?.partitions;
            let service = self.clone();
            let verified = stream::iter(0..partitions).then(move |partition| {
                let (service, name) = (service.clone(), name.clone());
                async move { service.verify(&name, PartitionId(partition)).await }
            });
            Ok(Box::pin(verified) as Verified)
        })
        .await
    }

    async fn drop_before(&self, request: Request<DropBeforeRequest>) -> Result<Response<DropBeforeResponse>, Status> {
        let DropBeforeRequest { topic, before_ns, dry_run } = request.into_inner();
        self.call("DropBefore", async {
            check_topic_name(&topic)?;
            let dropped = self.shared.broker.drop_before(&topic, before_ns, dry_run).await?;
            Ok(convert::dropped(&dropped))
        })
        .await
    }

    async fn delete_records(
        &self,
        request: Request<v1::DeleteRecordsRequest>,
    ) -> Result<Response<v1::DeleteRecordsResponse>, Status> {
        let v1::DeleteRecordsRequest { topic, before } = request.into_inner();
        self.call("DeleteRecords", async {
            check_topic_name(&topic)?;
            let before: Vec<_> = before.iter().map(|of| (PartitionId(of.partition), Offset(of.offset))).collect();
            let log_starts = self.shared.broker.delete_records(&topic, &before).await?;
            Ok(v1::DeleteRecordsResponse { log_starts: convert::offsets(&log_starts) })
        })
        .await
    }

    async fn apply_retention(
        &self,
        request: Request<v1::ApplyRetentionRequest>,
    ) -> Result<Response<v1::DropBeforeResponse>, Status> {
        let v1::ApplyRetentionRequest { topic, dry_run } = request.into_inner();
        self.call("ApplyRetention", async {
            check_topic_name(&topic)?;
            Ok(convert::dropped(&self.shared.broker.apply_retention(&topic, dry_run).await?))
        })
        .await
    }

    async fn seal_topic(
        &self,
        request: Request<v1::SealTopicRequest>,
    ) -> Result<Response<v1::SealTopicResponse>, Status> {
        let topic = request.into_inner().topic;
        self.call("SealTopic", async {
            check_topic_name(&topic)?;
            self.shared.broker.seal_topic(&topic).await?;
            Ok(v1::SealTopicResponse {})
        })
        .await
    }

    async fn merge_topic(
        &self,
        request: Request<v1::MergeTopicRequest>,
    ) -> Result<Response<v1::MergeTopicResponse>, Status> {
        let topic = request.into_inner().topic;
        self.call("MergeTopic", async {
            check_topic_name(&topic)?;
            let Merged { replaced, made, rows, bytes, .. } = self.shared.broker.merge_topic(&topic).await?;
            Ok(v1::MergeTopicResponse { merged: replaced as u32, made: made as u32, rows, bytes })
        })
        .await
    }

    async fn retry_dead_letters(
        &self,
        request: Request<v1::RetryDeadLettersRequest>,
    ) -> Result<Response<v1::RetryDeadLettersResponse>, Status> {
        let topic = request.into_inner().topic;
        self.call("RetryDeadLetters", async {
            check_topic_name(&topic)?;
            let retried = self.shared.broker.retry_dead_letters(&topic).await?;
            let dead = retried.dead();
            Ok(v1::RetryDeadLettersResponse { tried: retried.tried, mended: retried.mended, dead })
        })
        .await
    }
}
