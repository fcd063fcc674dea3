//! Record batches of partitions that another node leads.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use prost::Message;
use stratalog_proto::internal::{self, FetchBatches, FetchFrom, FetchedFrom};
use stratalog_proto::{Code, Error, Offset, PartitionId, TopicId};
use stratalog_transport::Frame;

use super::{Asked, Missed, malformed, mismatched, request, success, topic_id};
use crate::fetch::{FetchedBatches, FetchedPartition};

/// The most bytes that are asked of another node at once: a single batch beyond it still fits a frame.
const MAX_BYTES: usize = 32 << 20;
/// The longest that another node is asked to wait.
const MAX_WAIT: Duration = Duration::from_secs(60);
/// Partitions of one request.
const MAX_PARTITIONS: usize = 10_000;
/// Batches below this are copied together: a buffer of its own for each would be more than a frame may have.
const COPY_BELOW_BYTES: usize = 4 << 10;

/// The frame of a request for one topic: partitions with the first offset wanted, whether replicas may answer, bytes of the
/// answer, longest wait.
pub(crate) fn fetch_frame(
    topic: TopicId,
    partitions: &[(PartitionId, Offset)],
    by_replicas: bool,
    max_bytes: usize,
    max_wait: Duration,
) -> Frame {
    let from = |(partition, offset): &(PartitionId, Offset)| FetchFrom { partition: partition.0, offset: offset.0 };
    let request = FetchBatches {
        topic: topic.to_bytes(),
        partitions: partitions.iter().map(from).collect(),
        max_bytes: max_bytes.min(MAX_BYTES) as u64,
        max_wait_ms: max_wait.min(MAX_WAIT).as_millis() as u64,
        by_replicas,
    };
    Frame::head(request.encode_to_vec())
}

/// What a node is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AskedFetch {
    pub(crate) topic: TopicId,
    pub(crate) partitions: Vec<(PartitionId, Offset)>,
    pub(crate) max_bytes: usize,
    pub(crate) max_wait: Duration,
    /// Replicas that are up to date may answer, though they do not lead.
    pub(crate) by_replicas: bool,
}

/// Reads such a frame.
pub(crate) fn read_fetch(frame: Frame) -> Result<AskedFetch, Error> {
    let asked: FetchBatches = request(frame.head)?;
    if asked.partitions.len() > MAX_PARTITIONS {
        return Err(malformed(format!("it names {} partitions, at most {MAX_PARTITIONS}", asked.partitions.len())));
    }
    let partitions = asked.partitions.iter().map(|from| (PartitionId(from.partition), Offset(from.offset))).collect();
    Ok(AskedFetch {
        topic: topic_id(&asked.topic)?,
        partitions,
        max_bytes: usize::try_from(asked.max_bytes).unwrap_or(usize::MAX).min(MAX_BYTES),
        max_wait: Duration::from_millis(asked.max_wait_ms).min(MAX_WAIT),
        by_replicas: asked.by_replicas,
    })
}

/// The frame of what was read. Large batches are slices of what was read from the log.
pub(crate) fn fetch_answer(fetched: Vec<FetchedPartition>) -> Frame {
    let mut pairs = Pairs::default();
    let mut answer = internal::FetchedBatches::default();
    for partition in fetched {
        let mut head = FetchedFrom {
            partition: partition.partition.0,
            log_start: partition.log_start.0,
            high_watermark: partition.high_watermark.0,
            ..FetchedFrom::default()
        };
        match partition.result {
            Ok(batches) => head.pairs = pairs.extend(batches),
            Err(error) => (head.code, head.message) = (error.code as u32, error.message),
        }
        answer.partitions.push(head);
    }
    success(&answer, pairs.parts)
}

/// Buffers of a frame, two and two.
#[derive(Default)]
struct Pairs {
    parts: Vec<Bytes>,
}

impl Pairs {
    /// Adds the batches of a partition; how many pairs they are.
    fn extend(&mut self, batches: Vec<FetchedBatches>) -> u32 {
        let before = self.parts.len();
        let mut small = BytesMut::new();
        for batch in batches {
            if batch.bytes() < COPY_BELOW_BYTES {
                small.extend_from_slice(&batch.head);
                small.extend_from_slice(&batch.body);
                continue;
            }
            self.end(&mut small);
            self.parts.extend([batch.head, batch.body]);
        }
        self.end(&mut small);
        ((self.parts.len() - before) / 2) as u32
    }

    fn end(&mut self, small: &mut BytesMut) {
        if !small.is_empty() {
            self.parts.extend([Bytes::new(), small.split().freeze()]);
        }
    }
}

/// Reads such an answer. The buffers are handed on as they came.
pub(crate) fn fetched(asked: Asked) -> Result<Vec<FetchedPartition>, Missed> {
    let answer: internal::FetchedBatches = super::super::decode(asked.body)?;
    let mut parts = asked.parts.into_iter();
    let partitions = answer.partitions.into_iter().map(|head| {
        // A peer may claim more than it sent.
        if head.pairs as usize > parts.len() / 2 {
            return Err(mismatched());
        }
        let mut pair = || Some(FetchedBatches { head: parts.next()?, body: parts.next()? });
        let batches = (0..head.pairs).map_while(|_| pair()).collect();
        Ok(FetchedPartition {
            partition: PartitionId(head.partition),
            log_start: Offset(head.log_start),
            high_watermark: Offset(head.high_watermark),
            result: match head.code {
                0 => Ok(batches),
                code => Err(Error::new(Code::from_number(code).unwrap_or(Code::Internal), head.message)),
            },
        })
    });
    partitions.collect()
}
