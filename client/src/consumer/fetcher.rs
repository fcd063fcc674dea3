//! The task that fetches ahead of the reader.

use std::time::Instant;

use stratalog_proto::{Code, Error, Offset, PartitionId, v1};
use tokio::sync::mpsc;

use super::decode::decode;
use super::positions::Positions;
use super::{ConsumedRecord, ConsumerOptions};
use crate::client::MAX_MESSAGE_BYTES;
use crate::retry::backoff;
use crate::{Client, ClientError};

/// With the largest batch on top, a fetch still fits one gRPC message.
const MAX_FETCH_BYTES: u32 = (MAX_MESSAGE_BYTES / 2) as u32;

pub(super) struct Fetcher {
    client: Client,
    topic: String,
    options: ConsumerOptions,
    positions: Positions,
    answers: mpsc::Sender<Result<Vec<ConsumedRecord>, ClientError>>,
}

impl Fetcher {
    pub(super) fn new(
        client: Client,
        topic: &str,
        options: ConsumerOptions,
        positions: Positions,
        answers: mpsc::Sender<Result<Vec<ConsumedRecord>, ClientError>>,
    ) -> Self {
        Self { client, topic: topic.to_owned(), options, positions, answers }
    }

    /// Fetches until everything asked for was read, an error is final, or nobody reads any more.
    pub(super) async fn run(mut self) {
        let mut failing: Option<(Instant, u32)> = None;
        loop {
            let wanted = self.positions.wanted();
            if wanted.is_empty() {
                return;
            }
            let mut records = Vec::new();
            let fetched = self.fetch(wanted, &mut records).await;
            if !records.is_empty() && self.answers.send(Ok(records)).await.is_err() {
                return;
            }
            let Err(error) = fetched else {
                failing = None;
                continue;
            };
            let (since, failures) = failing.map_or((Instant::now(), 1), |(since, failures)| (since, failures + 1));
            if !error.code().is_retriable() || since.elapsed() >= self.options.patience {
                let error = error.context(&format!("cannot read topic {}", self.topic));
                // A reader that has left misses nothing.
                let _ = self.answers.send(Err(error)).await;
                return;
            }
            failing = Some((since, failures));
            tokio::time::sleep(backoff(failures)).await;
        }
    }

    /// Appends what one fetch brings to `records`, and returns the first error of a partition: the others' records are
    /// not lost over it.
    async fn fetch(
        &mut self,
        partitions: Vec<v1::FetchPartition>,
        records: &mut Vec<ConsumedRecord>,
    ) -> Result<(), ClientError> {
        let request = v1::FetchRequest {
            topic: self.topic.clone(),
            partitions,
            max_bytes: self.options.max_bytes.min(MAX_FETCH_BYTES),
            max_wait_ms: self.options.max_wait.as_millis().try_into().unwrap_or(u32::MAX),
        };
        let response = self.client.log_service().fetch(request).await?.into_inner();
        let mut first = Ok(());
        for fetched in response.partitions {
            first = first.and(self.take_in(fetched, records));
        }
        first
    }

    fn take_in(&mut self, fetched: v1::FetchedPartition, records: &mut Vec<ConsumedRecord>) -> Result<(), ClientError> {
        let partition = PartitionId(fetched.partition);
        let Some(position) = self.positions.get_mut(partition) else { return Ok(()) };
        let log_start = Offset(fetched.log_start);
        if fetched.code == Code::OffsetOutOfRange as u32 && position.next < log_start {
            tracing::warn!(
                topic = self.topic, %partition, from = %position.next, to = %log_start,
                "retention has dropped the offsets to read next; going on at the log start"
            );
            position.next = log_start;
            return Ok(());
        }
        if fetched.code != 0 {
            let code = Code::from_number(fetched.code).unwrap_or(Code::Internal);
            return Err(Error::new(code, fetched.message).into());
        }
        fetched.batches.into_iter().try_for_each(|batch| decode(partition, batch, position, records))
    }
}
