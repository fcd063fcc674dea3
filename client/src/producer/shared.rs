//! What callers and the sender share.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use stratalog_proto::batch::partition_for_key;
use stratalog_proto::{Code, PartitionId, RaftIndex, ShardId, Token};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::delivery::{Delivery, OutcomeFuture};
use super::queue::{Identity, Limits, Queue};
use super::record::OutRecord;
use super::sticky::Sticky;
use crate::SendError;

/// What callers and the sender share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) topic: String,
    pub(super) partitions: u32,
    pub(super) limits: Limits,
    pub(super) buffer_bytes: usize,
    /// Bytes that are free in the buffer.
    pub(super) room: Arc<Semaphore>,
    /// Something for the sender to do.
    pub(super) wake: Notify,
    state: Mutex<State>,
}

/// Behind the lock.
#[derive(Debug)]
pub(super) struct State {
    pub(super) queues: BTreeMap<PartitionId, Queue>,
    pub(super) closing: bool,
    identity: Option<Identity>,
    sticky: Sticky,
    tokens: BTreeMap<ShardId, RaftIndex>,
}

impl Shared {
    pub(super) fn new(
        topic: &str,
        partitions: u32,
        limits: Limits,
        buffer_bytes: usize,
        identity: Option<Identity>,
    ) -> Self {
        let state = State {
            queues: BTreeMap::new(),
            closing: false,
            identity,
            sticky: Sticky::new(partitions),
            tokens: BTreeMap::new(),
        };
        Self {
            topic: topic.to_owned(),
            partitions,
            limits,
            buffer_bytes,
            room: Arc::new(Semaphore::new(buffer_bytes)),
            wake: Notify::new(),
            state: Mutex::new(state),
        }
    }

    pub(super) fn lock(&self) -> parking_lot::MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Puts a record into its partition's batch.
    pub(super) fn push(
        &self,
        record: &OutRecord,
        bytes: usize,
        room: OwnedSemaphorePermit,
        now: Instant,
    ) -> Result<Delivery, SendError> {
        let timestamp_ms = record.timestamp_ms.unwrap_or_else(|| chrono::Utc::now().timestamp_millis());
        let mut state = self.lock();
        if state.closing {
            return Err(SendError::failed(Code::InvalidRequest, "the producer is closed"));
        }
        let partition = self.partition(record, &state)?;
        let pushed = state.queue(partition, self.limits).push(record, bytes, timestamp_ms, room, now);
        if pushed.closed {
            state.sticky.batch_closed(partition);
        }
        drop(state);
        if pushed.opened || pushed.closed {
            self.wake.notify_one();
        }
        Ok(pushed.delivery)
    }

    fn partition(&self, record: &OutRecord, state: &State) -> Result<PartitionId, SendError> {
        match (record.partition, &record.key) {
            (Some(partition), _) if partition.0 >= self.partitions => {
                let (topic, count) = (&self.topic, self.partitions);
                let message = format!("topic {topic} has no partition {partition}; it has {count}, numbered from 0");
                Err(SendError::failed(Code::UnknownPartition, message))
            }
            (Some(partition), _) => Ok(partition),
            (None, Some(key)) => Ok(partition_for_key(key, self.partitions)),
            (None, None) => Ok(state.sticky.current()),
        }
    }

    /// Sends what lingers.
    pub(super) fn end_linger(&self) {
        self.lock().queues.values_mut().for_each(Queue::close_open);
        self.wake.notify_one();
    }

    /// The outcomes of all that is on its way.
    pub(super) fn outcomes(&self) -> Vec<OutcomeFuture> {
        self.lock().queues.values().flat_map(Queue::outcomes).collect()
    }

    /// Takes no more records; the sender ends once all are delivered or given up.
    pub(super) fn close(&self) {
        self.lock().closing = true;
        self.end_linger();
    }

    /// The highest position acknowledged in each shard.
    pub(super) fn tokens(&self) -> Vec<Token> {
        self.lock().tokens.iter().map(|(shard, index)| Token { shard: *shard, index: *index }).collect()
    }
}

impl State {
    fn queue(&mut self, partition: PartitionId, limits: Limits) -> &mut Queue {
        let identity = self.identity;
        self.queues.entry(partition).or_insert_with(|| Queue::new(partition, limits, identity))
    }

    /// Remembers an acknowledged position.
    pub(super) fn acked(&mut self, token: Token) {
        let highest = self.tokens.entry(token.shard).or_insert(token.index);
        *highest = (*highest).max(token.index);
    }

    /// A batch left: records without a key go to the next partition.
    pub(super) fn departed(&mut self, partition: PartitionId) {
        self.sticky.batch_closed(partition);
    }

    /// Whether nothing is on its way.
    pub(super) fn is_empty(&self) -> bool {
        self.queues.values().all(Queue::is_empty)
    }
}
