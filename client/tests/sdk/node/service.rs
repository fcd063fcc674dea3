//! The gRPC services of the node in memory.

use std::pin::Pin;
use std::time::Duration;

use futures::Stream;
use stratalog_proto::v1::list_offsets_request::At;
use stratalog_proto::v1::log_server::Log;
use stratalog_proto::v1::query_server::Query;
use stratalog_proto::v1::topics_server::Topics;
use stratalog_proto::{Code, Error, v1};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{Fault, Shared, TOPIC};

type Answer<T> = Result<Response<T>, Status>;
type Verified = Pin<Box<dyn Stream<Item = Result<v1::VerifiedPartition, Status>> + Send>>;
type Chunks = Pin<Box<dyn Stream<Item = Result<v1::QueryChunk, Status>> + Send>>;

impl Shared {
    fn topic(&self, name: &str) -> Result<v1::Topic, Status> {
        let mut state = self.state.lock();
        state.topic_calls += 1;
        if let Some(code) = state.topic_failures.pop_front() {
            return Err(Error::new(code, format!("refused with {code}")).into());
        }
        if name != TOPIC {
            return Err(Error::new(Code::UnknownTopic, format!("no topic `{name}`")).into());
        }
        let config = v1::TopicConfig { max_message_bytes: self.max_message_bytes, ..v1::TopicConfig::default() };
        let (name, partitions) = (name.to_owned(), self.partitions);
        Ok(v1::Topic { name, partitions, config: Some(config), ..v1::Topic::default() })
    }

    /// Appends a request's batches, or says why not.
    fn append(&self, request: &v1::ProduceRequest, refusal: Option<Code>) -> v1::ProduceResponse {
        let results = request.batches.iter().map(|batch| {
            let appended = match refusal {
                Some(code) => Err(code),
                None => self.state.lock().log.append(batch.partition, batch.batch.clone()),
            };
            let partition = batch.partition;
            match appended {
                Ok(base_offset) => {
                    let token = Some(v1::Token { shard: partition, index: base_offset + 1 });
                    v1::PartitionResult { partition, base_offset, token, ..v1::PartitionResult::default() }
                }
                Err(code) => {
                    let (code, message) = (code as u32, format!("refused with {code}"));
                    v1::PartitionResult { partition, code, message, ..v1::PartitionResult::default() }
                }
            }
        });
        v1::ProduceResponse { request_id: request.request_id, results: results.collect() }
    }

    fn said(mut response: v1::ProduceResponse, code: Code) -> v1::ProduceResponse {
        for result in &mut response.results {
            (result.code, result.message) = (code as u32, format!("refused with {code}"));
        }
        response
    }

    /// Handles one request; the answers to send now, or `None` to hang up.
    fn produced(
        &self,
        request: &v1::ProduceRequest,
        late: &mut Vec<v1::ProduceResponse>,
    ) -> Option<Vec<v1::ProduceResponse>> {
        let fault = {
            let mut state = self.state.lock();
            state.produce_requests += 1;
            state.faults.pop_front().unwrap_or(Fault::Pass)
        };
        let answer = match fault {
            Fault::Refuse(code) => self.append(request, Some(code)),
            Fault::HangUp => return None,
            _ => self.append(request, None),
        };
        let mut now = match fault {
            Fault::AppendAndHangUp => return None,
            Fault::AppendAndKeepSilent => Vec::new(),
            Fault::AppendAndSay(code) => vec![Self::said(answer, code)],
            Fault::AnswerLate => {
                late.push(answer);
                return Some(Vec::new());
            }
            Fault::Pass | Fault::Refuse(_) | Fault::HangUp => vec![answer],
        };
        now.append(late);
        Some(now)
    }

    async fn released(&self) {
        while self.state.lock().hold {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

#[tonic::async_trait]
impl Topics for Shared {
    type VerifyTopicStream = Verified;

    async fn create_topic(&self, request: Request<v1::CreateTopicRequest>) -> Answer<v1::Topic> {
        let request = request.into_inner();
        let config = v1::TopicConfig { format: request.config["format"].clone(), ..v1::TopicConfig::default() };
        let (name, partitions) = (request.name, request.partitions);
        Ok(Response::new(v1::Topic { name, partitions, config: Some(config), ..v1::Topic::default() }))
    }

    async fn list_topics(&self, _: Request<v1::ListTopicsRequest>) -> Answer<v1::ListTopicsResponse> {
        Ok(Response::new(v1::ListTopicsResponse { topics: vec![self.topic(TOPIC)?] }))
    }

    async fn describe_topic(&self, request: Request<v1::DescribeTopicRequest>) -> Answer<v1::DescribeTopicResponse> {
        let topic = Some(self.topic(&request.into_inner().name)?);
        Ok(Response::new(v1::DescribeTopicResponse { topic, ..v1::DescribeTopicResponse::default() }))
    }

    async fn alter_topic(&self, request: Request<v1::AlterTopicRequest>) -> Answer<v1::Topic> {
        Ok(Response::new(self.topic(&request.into_inner().name)?))
    }

    async fn delete_topic(&self, request: Request<v1::DeleteTopicRequest>) -> Answer<v1::DeleteTopicResponse> {
        self.topic(&request.into_inner().name)?;
        Ok(Response::new(v1::DeleteTopicResponse {}))
    }

    async fn list_segments(&self, request: Request<v1::ListSegmentsRequest>) -> Answer<v1::ListSegmentsResponse> {
        self.topic(&request.into_inner().topic)?;
        Ok(Response::new(v1::ListSegmentsResponse { segments: vec![v1::Segment::default()] }))
    }

    async fn verify_topic(&self, request: Request<v1::VerifyTopicRequest>) -> Answer<Verified> {
        self.topic(&request.into_inner().topic)?;
        let whole = |partition| Ok(v1::VerifiedPartition { partition, ..v1::VerifiedPartition::default() });
        Ok(Response::new(Box::pin(futures::stream::iter((0..self.partitions).map(whole)))))
    }

    async fn drop_before(&self, request: Request<v1::DropBeforeRequest>) -> Answer<v1::DropBeforeResponse> {
        let rows = u64::from(request.into_inner().dry_run);
        Ok(Response::new(v1::DropBeforeResponse { rows, ..v1::DropBeforeResponse::default() }))
    }

    async fn delete_records(&self, request: Request<v1::DeleteRecordsRequest>) -> Answer<v1::DeleteRecordsResponse> {
        self.topic(&request.into_inner().topic)?;
        Ok(Response::new(v1::DeleteRecordsResponse::default()))
    }

    async fn apply_retention(&self, request: Request<v1::ApplyRetentionRequest>) -> Answer<v1::DropBeforeResponse> {
        self.topic(&request.into_inner().topic)?;
        Ok(Response::new(v1::DropBeforeResponse::default()))
    }

    async fn seal_topic(&self, request: Request<v1::SealTopicRequest>) -> Answer<v1::SealTopicResponse> {
        self.topic(&request.into_inner().topic)?;
        Ok(Response::new(v1::SealTopicResponse::default()))
    }

    async fn merge_topic(&self, request: Request<v1::MergeTopicRequest>) -> Answer<v1::MergeTopicResponse> {
        self.topic(&request.into_inner().topic)?;
        Ok(Response::new(v1::MergeTopicResponse::default()))
    }

    async fn retry_dead_letters(
        &self,
        request: Request<v1::RetryDeadLettersRequest>,
    ) -> Answer<v1::RetryDeadLettersResponse> {
        self.topic(&request.into_inner().topic)?;
        Ok(Response::new(v1::RetryDeadLettersResponse::default()))
    }
}

#[tonic::async_trait]
impl Log for Shared {
    type ProduceStream = ReceiverStream<Result<v1::ProduceResponse, Status>>;

    async fn init_producer(&self, _: Request<v1::InitProducerRequest>) -> Answer<v1::InitProducerResponse> {
        let mut state = self.state.lock();
        state.next_producer += 1;
        Ok(Response::new(v1::InitProducerResponse { producer_id: state.next_producer, producer_epoch: 0 }))
    }

    async fn produce(&self, request: Request<Streaming<v1::ProduceRequest>>) -> Answer<Self::ProduceStream> {
        let (sender, receiver) = mpsc::channel(64);
        let (shared, mut requests) = (self.clone(), request.into_inner());
        tokio::spawn(async move {
            let mut late = Vec::new();
            while let Ok(Some(request)) = requests.message().await {
                let Some(answers) = shared.produced(&request, &mut late) else {
                    let _ = sender.send(Err(Status::unavailable("going away"))).await;
                    return;
                };
                shared.released().await;
                for answer in answers {
                    let _ = sender.send(Ok(answer)).await;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn fetch(&self, request: Request<v1::FetchRequest>) -> Answer<v1::FetchResponse> {
        let request = request.into_inner();
        let mut answer = v1::FetchResponse::default();
        let mut waits = true;
        {
            let mut state = self.state.lock();
            state.fetches += 1;
            state.fetched_at.push((self.node, request.from_zone));
            if let Some(code) = state.fetch_failures.pop_front() {
                return Err(Error::new(code, format!("refused with {code}")).into());
            }
            for asked in &request.partitions {
                let (log_start, high_watermark) = (state.log.start(asked.partition), state.log.end(asked.partition));
                let mut fetched = v1::FetchedPartition {
                    partition: asked.partition,
                    log_start,
                    high_watermark,
                    ..Default::default()
                };
                if !(log_start..=high_watermark).contains(&asked.offset) {
                    fetched.code = Code::OffsetOutOfRange as u32;
                    fetched.message = format!("offset {} is not in the log", asked.offset);
                }
                let batches = state.log.batches(asked.partition).iter();
                let wanted = batches.filter(|batch| batch.base + batch.count > asked.offset).take(2);
                fetched.batches = wanted.map(|batch| batch.bytes.clone()).collect();
                if self.joins_batches && !fetched.batches.is_empty() {
                    fetched.batches = vec![fetched.batches.concat().into()];
                }
                waits &= fetched.batches.is_empty() && fetched.code == 0;
                answer.partitions.push(fetched);
            }
        }
        if waits {
            tokio::time::sleep(Duration::from_millis(u64::from(request.max_wait_ms.min(20)))).await;
        }
        Ok(Response::new(answer))
    }

    async fn list_offsets(&self, request: Request<v1::ListOffsetsRequest>) -> Answer<v1::ListOffsetsResponse> {
        let at = request.into_inner().at.unwrap();
        let state = self.state.lock();
        let offset = |partition| match at {
            At::Earliest(_) => state.log.start(partition),
            At::Latest(_) => state.log.end(partition),
            At::TimeNs(ns) => state.log.at_time(partition, ns / 1_000_000),
        };
        let offsets =
            (0..self.partitions).map(|partition| v1::PartitionOffset { partition, offset: offset(partition) });
        Ok(Response::new(v1::ListOffsetsResponse { offsets: offsets.collect() }))
    }
}

#[tonic::async_trait]
impl Query for Shared {
    type SqlStream = Chunks;
    type SearchStream = Chunks;

    async fn sql(&self, request: Request<v1::SqlRequest>) -> Answer<Chunks> {
        let mut state = self.state.lock();
        state.sql.push(request.into_inner());
        let chunks = state.answers.pop_front().unwrap_or_default();
        Ok(Response::new(Box::pin(futures::stream::iter(chunks))))
    }

    async fn search(&self, request: Request<v1::SearchRequest>) -> Answer<Chunks> {
        self.topic(&request.into_inner().topic)?;
        let chunks = self.state.lock().answers.pop_front().unwrap_or_default();
        Ok(Response::new(Box::pin(futures::stream::iter(chunks))))
    }
}
