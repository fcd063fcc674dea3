//! The task that fetches ahead of the reader.

use std::time::{Duration, Instant};

use bytes::Bytes;
use stratalog_proto::{Code, Error, Offset, PartitionId, v1};
use tokio::sync::mpsc;

use super::decode::{Extent, decode};
use super::positions::{Position, Positions};
use super::source::{Source, Sources};
use super::{ConsumedRecord, ConsumerOptions};
use crate::nodes::MAX_MESSAGE_BYTES;
use crate::retry::backoff;
use crate::{Client, ClientError};

/// With the largest batch on top, a fetch still fits one gRPC message.
const MAX_FETCH_BYTES: u32 = (MAX_MESSAGE_BYTES / 2) as u32;

/// Records for which memory is taken on the word of headers alone (X1).
const MAX_EXPECTED: usize = 16 << 10;

/// How much longer than it was told to wait one of several nodes may take to answer.
const LATE_AFTER: Duration = Duration::from_secs(5);

pub(super) struct Fetcher {
    client: Client,
    sources: Sources,
    topic: String,
    options: ConsumerOptions,
    positions: Positions,
    answers: mpsc::Sender<Result<Vec<ConsumedRecord>, ClientError>>,
}

impl Fetcher {
    pub(super) fn new(
        client: Client,
        sources: Sources,
        topic: &str,
        options: ConsumerOptions,
        positions: Positions,
        answers: mpsc::Sender<Result<Vec<ConsumedRecord>, ClientError>>,
    ) -> Self {
        Self { client, sources, topic: topic.to_owned(), options, positions, answers }
    }

    /// Fetches until everything asked for was read, an error is final, or nobody reads any more. The node is asked for the
    /// next answer before the last one is decoded, so that neither side waits for the other.
    pub(super) async fn run(mut self) {
        let mut failing: Option<(Instant, u32)> = None;
        let mut pieces = Vec::new();
        loop {
            let wanted = self.positions.wanted();
            if wanted.is_empty() {
                self.deliver(pieces).await;
                return;
            }
            let source = self.sources.choose(Instant::now());
            let (fetched, go_on) = tokio::join!(self.fetch(&source, wanted), self.deliver(std::mem::take(&mut pieces)));
            if !go_on {
                return;
            }
            let Err(error) = fetched.and_then(|partitions| self.place(partitions, &mut pieces)) else {
                failing = None;
                continue;
            };
            // What other partitions brought is not lost over it.
            if !self.deliver(std::mem::take(&mut pieces)).await {
                return;
            }
            let (since, failures) = failing.map_or((Instant::now(), 1), |(since, failures)| (since, failures + 1));
            if !error.code().is_retriable() || since.elapsed() >= self.options.patience {
                return self.fail(error).await;
            }
            failing = Some((since, failures));
            self.sources.leave(&source, Instant::now());
            tokio::time::sleep(backoff(failures.div_ceil(self.client.node_count() as u32))).await;
        }
    }

    async fn fetch(
        &self,
        source: &Source,
        partitions: Vec<v1::FetchPartition>,
    ) -> Result<Vec<v1::FetchedPartition>, ClientError> {
        let request = v1::FetchRequest {
            topic: self.topic.clone(),
            partitions,
            max_bytes: self.options.max_bytes.min(MAX_FETCH_BYTES),
            max_wait_ms: self.options.max_wait.as_millis().try_into().unwrap_or(u32::MAX),
            from_follower: self.options.from_follower,
            from_zone: source.is_near,
        };
        let mut log = source.node.log();
        let fetched = log.fetch(request);
        if self.client.node_count() == 1 && !source.is_near {
            return Ok(fetched.await?.into_inner().partitions);
        }
        let within = self.options.max_wait + LATE_AFTER;
        let late =
            |_| ClientError::new(Code::Unavailable, format!("{} did not answer in {within:?}", source.node.address()));
        Ok(tokio::time::timeout(within, fetched).await.map_err(late)??.into_inner().partitions)
    }

    /// Moves the positions behind what was fetched and adds it to `pieces`; the first error of a partition.
    fn place(&mut self, fetched: Vec<v1::FetchedPartition>, pieces: &mut Vec<Piece>) -> Result<(), ClientError> {
        let mut first = Ok(());
        for partition in fetched {
            first = first.and(self.place_one(partition, pieces));
        }
        first
    }

    fn place_one(&mut self, fetched: v1::FetchedPartition, pieces: &mut Vec<Piece>) -> Result<(), ClientError> {
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
        let from = *position;
        let extent = fetched.batches.iter().map(Extent::of).fold(Extent::default(), Extent::and);
        position.next = position.next.max(extent.end);
        pieces.push(Piece { partition, from, records: extent.records, batches: fetched.batches });
        Ok(())
    }

    /// Hands over the records of `pieces`; false if there is nothing more to do: an error, or nobody reads any more.
    async fn deliver(&self, pieces: Vec<Piece>) -> bool {
        let expected = pieces.iter().fold(0, |sum: usize, piece| sum.saturating_add(piece.records));
        let mut records = Vec::with_capacity(expected.min(MAX_EXPECTED));
        let decoded = pieces.into_iter().try_for_each(|piece| piece.decode(&mut records));
        if !records.is_empty() && self.answers.send(Ok(records)).await.is_err() {
            return false;
        }
        match decoded {
            Ok(()) => true,
            Err(error) => {
                self.fail(error).await;
                false
            }
        }
    }

    async fn fail(&self, error: ClientError) {
        let error = error.context(&format!("cannot read topic {}", self.topic));
        // A reader that has left misses nothing.
        let _ = self.answers.send(Err(error)).await;
    }
}

/// What a fetch brought of one partition, still encoded.
struct Piece {
    partition: PartitionId,
    /// Where the reader stood before it.
    from: Position,
    /// In the batches, as their headers say.
    records: usize,
    batches: Vec<Bytes>,
}

impl Piece {
    fn decode(self, records: &mut Vec<ConsumedRecord>) -> Result<(), ClientError> {
        let Self { partition, mut from, batches, .. } = self;
        batches.into_iter().try_for_each(|several| decode(partition, several, &mut from, records))
    }
}
