//! Produce: what is checked before a record batch is proposed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use stratalog_proto::batch::{Batch as RecordBatch, BatchHeader};
use stratalog_proto::config::TopicConfig;
use stratalog_proto::entry::Append;
use stratalog_proto::{Code, Error, Offset, PartitionId, RaftIndex, ShardId, Token, TopicPartition};
use stratalog_query::TopicInfo;

use super::Broker;
use super::read::shard_of;
use crate::cluster::route::{Batch, Flight};
use crate::outcome::CommandResult;
use crate::pipeline::{Pipeline, Place};
use crate::raft::Reign;
use crate::shard::Shard;

/// How long a batch waits until its shard hosts its topic.
const HOST_WAIT: Duration = Duration::from_secs(2);

/// An acknowledged record batch: fsynced on a majority (L1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Produced {
    /// Offset of its first record. A batch that was sent before has the offset that it got then.
    pub base_offset: Offset,
    /// A query that is given this waits until it sees the batch.
    pub token: Token,
}

impl Broker {
    /// Appends one record batch, whole and unchanged, and returns once it is durable.
    ///
    /// # Errors
    /// The batch is refused: [`Code::UnknownTopic`], [`Code::UnknownPartition`], [`Code::MessageTooLarge`],
    /// [`Code::CorruptBatch`], [`Code::InvalidRequest`], [`Code::NotBuilt`] for transactions,
    /// [`Code::OutOfOrderSequence`], [`Code::ProducerFenced`], [`Code::ProducerLimit`]. It was not written, and may be
    /// sent again: [`Code::Overloaded`], [`Code::StorageFull`], [`Code::NotLeader`], [`Code::Unavailable`]. Its outcome
    /// is unknown: [`Code::Timeout`].
    pub async fn produce(&self, topic: &str, partition: PartitionId, batch: Bytes) -> Result<Produced, Error> {
        self.produce_at(None, topic, partition, batch).await
    }

    /// As [`produce`](Self::produce), for a batch that came with this request of a client that sends ahead: if one before it
    /// has to be sent again, it is refused, too.
    ///
    /// # Errors
    /// As [`produce`](Self::produce); [`Code::Overloaded`] also for a batch that would overtake another.
    pub async fn produce_in(
        &self,
        request: (&Arc<Pipeline>, u64),
        topic: &str,
        partition: PartitionId,
        batch: Bytes,
    ) -> Result<Produced, Error> {
        self.produce_at(Some(request), topic, partition, batch).await
    }

    async fn produce_at(
        &self,
        request: Option<(&Arc<Pipeline>, u64)>,
        topic: &str,
        partition: PartitionId,
        batch: Bytes,
    ) -> Result<Produced, Error> {
        let started = Instant::now();
        let bytes = batch.len();
        let produced = self.append(request, topic, partition, batch).await;
        let outcome = produced.as_ref().map(|(_, records)| *records);
        self.metrics.produced(started.elapsed(), bytes, outcome);
        produced.map(|(produced, _)| produced)
    }

    async fn append(
        &self,
        request: Option<(&Arc<Pipeline>, u64)>,
        topic: &str,
        partition: PartitionId,
        batch: Bytes,
    ) -> Result<(Produced, u32), Error> {
        let topic = self.find_topic(topic).await?;
        let shard = shard_of(&topic, partition)?;
        let batch = check(batch, &topic.config)?;
        let records = batch.record_count();
        let at = TopicPartition { topic: topic.id, partition };
        let place = request.map(|(pipeline, request)| Place::new(pipeline, request, at, batch.header()));
        let bytes = batch.bytes().clone();
        drop(batch);
        let batch = Batch { shard, topic: topic.id, partition, bytes };
        let appended = self.append_anywhere(&topic, batch, place.clone()).await;
        let judged = appended.map_err(|error| unless_behind(error, place.as_ref()));
        let (index, base_offset) = judged.inspect_err(|error| {
            if place.is_some() && error.code == Code::OutOfOrderSequence {
                // Kafka's producers take it for a loss: whoever looks into one finds it here, too.
                tracing::info!(topic = topic.name, %partition, %error, "a record batch out of order was refused");
            }
        })?;
        Ok((Produced { base_offset, token: Token { shard, index } }, records))
    }

    /// Appends a checked batch where its shard is led. None overtakes an earlier one of its partition.
    async fn append_anywhere(
        &self,
        topic: &TopicInfo,
        batch: Batch,
        place: Option<Place>,
    ) -> Result<(RaftIndex, Offset), Error> {
        let ticket = self.outboxes.ticket();
        let Some((shard, flight)) = self.board(batch.shard) else {
            return self.outboxes.send(ticket, batch, place).await;
        };
        // With one node there is nobody else to append it, and its buffer goes as soon as it is in the log.
        let again = (!self.router.is_alone()).then(|| batch.clone());
        let order = Order::new(place.as_ref());
        let appended = self.append_here(&shard, topic, batch, flight.reign(), order.check()).await;
        match (appended, again) {
            (Err(error), Some(batch)) if matches!(error.code, Code::NotLeader) => {
                self.outboxes.send_on(ticket, batch, place, flight).await
            }
            (appended, _) => {
                // Before its flight ends, and what is behind it goes on.
                order.settle(appended.as_ref().err());
                appended
            }
        }
    }

    /// The shard, if this node leads it and appends what comes now itself.
    fn board(&self, id: ShardId) -> Option<(Arc<Shard>, Flight<'_>)> {
        let shard = self.shard(id)?;
        let role = *shard.watch_role().borrow();
        let flight = if role.leads { self.outboxes.fly(id, role.reign()) } else { None };
        flight.map(|flight| (shard, flight))
    }

    /// Appends a batch that another node passed on, as the leader in this reign. It is checked as if a client had sent it: a peer
    /// may lie (X1).
    ///
    /// # Errors
    /// As [`Broker::produce`], without looking for another leader; those of `order`, which is asked when it is the batch's
    /// turn.
    pub(crate) async fn append_routed(
        &self,
        topic: &TopicInfo,
        batch: Batch,
        reign: Reign,
        order: Option<impl FnOnce() -> Result<(), Error>>,
    ) -> Result<(RaftIndex, Offset), Error> {
        if shard_of(topic, batch.partition)? != batch.shard {
            let message =
                format!("partition {} of topic `{}` is not in shard {}", batch.partition, topic.name, batch.shard);
            return Err(Error::new(Code::InvalidRequest, message));
        }
        let bytes = check(batch.bytes, &topic.config)?.bytes().clone();
        let missing = || Error::new(Code::NotLeader, format!("shard {} has no replica on this node", batch.shard));
        let shard = self.shard(batch.shard).ok_or_else(missing)?;
        self.append_here(&shard, topic, Batch { bytes, ..batch }, reign, order).await
    }

    async fn append_here(
        &self,
        shard: &Shard,
        topic: &TopicInfo,
        batch: Batch,
        reign: Reign,
        order: Option<impl FnOnce() -> Result<(), Error>>,
    ) -> Result<(RaftIndex, Offset), Error> {
        let partition = batch.partition;
        let append = Append { topic: topic.id, partition, batch: batch.bytes };
        let gate = async {
            if let Some(order) = order {
                order()?;
                self.hosted(shard, topic, partition).await?;
            }
            self.rows.admit(shard.id(), topic.id).await
        };
        match shard.append(append, reign, gate).await {
            Ok((index, CommandResult::Appended { base_offset, .. })) => Ok((index, base_offset)),
            Ok((_, other)) => Err(Error::new(Code::Internal, format!("an append was answered with {other:?}"))),
            Err(error)
                if matches!(error.code, Code::UnknownTopic | Code::UnknownPartition)
                    && self.topics.by_id(topic.id).is_some() =>
            {
                Err(not_hosted(shard, topic))
            }
            Err(error) => Err(error),
        }
    }

    /// Waits a while until the shard has heard of a new topic, which it does a moment after the metadata: if the shard refused
    /// the first batch itself, what is in the log behind that would overtake it.
    async fn hosted(&self, shard: &Shard, topic: &TopicInfo, partition: PartitionId) -> Result<(), Error> {
        let is_hosted = || shard.read(|state| state.partition(topic.id, partition).is_some());
        if is_hosted() {
            return Ok(());
        }
        let mut applied = shard.watch_applied();
        let hosted = async {
            while !is_hosted() {
                applied.changed().await.map_err(|_| not_hosted(shard, topic))?;
            }
            Ok(())
        };
        tokio::time::timeout(HOST_WAIT, hosted).await.unwrap_or_else(|_| Err(not_hosted(shard, topic)))
    }
}

/// A batch that went on before the one before it was known to be refused is out of order for that alone: it is to come again, too.
fn unless_behind(error: Error, place: Option<&Place>) -> Error {
    let refused = place.filter(|_| error.code == Code::OutOfOrderSequence).and_then(|place| place.check().err());
    refused.unwrap_or(error)
}

fn not_hosted(shard: &Shard, topic: &TopicInfo) -> Error {
    let message = format!("shard {} does not host topic `{}` yet; send it again", shard.id(), topic.name);
    // Not NotLeader: that would hold up what other topics send to the shard.
    Error::new(Code::Overloaded, message)
}

/// Has a batch refused that would overtake another, and what is behind one that is refused otherwise.
struct Order<'a> {
    place: Option<&'a Place>,
    is_behind: AtomicBool,
}

impl<'a> Order<'a> {
    fn new(place: Option<&'a Place>) -> Self {
        Self { place, is_behind: AtomicBool::new(false) }
    }

    /// What to ask when it is the batch's turn.
    fn check(&self) -> Option<impl FnOnce() -> Result<(), Error>> {
        let place = self.place?;
        Some(|| place.check().inspect_err(|_| self.is_behind.store(true, Ordering::Relaxed)))
    }

    fn settle(&self, error: Option<&Error>) {
        if error.is_some_and(|error| error.code.is_retriable()) && !self.is_behind.load(Ordering::Relaxed) {
            self.place.iter().for_each(|place| place.refuse());
        }
    }
}

/// Checks what a client sent: its size before anything else, then that it is one whole batch with a record for each of
/// its offsets, then its flags.
fn check(batch: Bytes, config: &TopicConfig) -> Result<RecordBatch, Error> {
    if batch.len() > config.max_message_bytes as usize {
        let message = format!(
            "a record batch of {} bytes is over the topic's max.message.bytes of {}; send smaller batches",
            batch.len(),
            config.max_message_bytes
        );
        return Err(Error::new(Code::MessageTooLarge, message));
    }
    let batch = RecordBatch::parse(batch)?;
    batch.check_dense()?;
    check_flags(batch.header())?;
    Ok(batch)
}

fn check_flags(header: &BatchHeader) -> Result<(), Error> {
    if header.is_control() {
        return Err(Error::new(Code::InvalidRequest, "a client cannot write control batches"));
    }
    if header.is_transactional() {
        return Err(Error::new(Code::NotBuilt, "transactions are not built yet; produce without transactional.id"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use stratalog_proto::ProducerId;
    use stratalog_proto::batch::{BatchBuilder, Compression, without};

    use super::*;

    fn batch(producer: Option<(i64, i16, i32)>) -> Vec<u8> {
        let mut builder = BatchBuilder::new(Compression::None);
        if let Some((id, epoch, sequence)) = producer {
            builder = builder.producer(ProducerId(id), epoch, sequence);
        }
        builder.push(1, None, Some(b"x"), &[]);
        builder.finish().to_vec()
    }

    /// Sets attribute bits, and the checksum that goes with them.
    fn with_attributes(mut bytes: Vec<u8>, bits: u8) -> Vec<u8> {
        bytes[22] |= bits;
        let crc = crc32c_of(&bytes[21..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        bytes
    }

    /// CRC32C, bit by bit: enough for a test.
    fn crc32c_of(bytes: &[u8]) -> u32 {
        let fold = |crc: u32, byte: &u8| {
            (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0x82F6_3B78 & 0u32.wrapping_sub(crc & 1)))
        };
        !bytes.iter().fold(!0, fold)
    }

    fn code(bytes: Vec<u8>) -> Option<Code> {
        check(bytes.into(), &TopicConfig::default()).err().map(|error| error.code)
    }

    #[test]
    fn plain_and_idempotent_batches_pass() {
        assert_eq!(code(batch(None)), None);
        assert_eq!(code(batch(Some((7, 0, 0)))), None);
    }

    #[test]
    fn control_and_transactional_batches_are_refused() {
        assert_eq!(code(with_attributes(batch(None), 0x20)), Some(Code::InvalidRequest));
        assert_eq!(code(with_attributes(batch(None), 0x10)), Some(Code::NotBuilt));
    }

    #[test]
    fn a_producer_without_epoch_or_sequence_is_refused() {
        for producer in [(7, -1, 0), (7, 0, -1)] {
            assert_eq!(code(batch(Some(producer))), Some(Code::CorruptBatch), "{producer:?}");
        }
    }

    #[test]
    fn a_batch_with_gaps_is_refused() {
        let mut builder = BatchBuilder::new(Compression::None);
        (0..3).for_each(|n| builder.push(n, None, Some(b"x"), &[]));
        let whole = RecordBatch::parse(builder.finish()).unwrap();
        for left in [0, 2] {
            let gaps = without(&whole, |delta| delta >= left, 1 << 20);
            assert_eq!(code(gaps.to_vec()), Some(Code::CorruptBatch));
        }
    }

    #[test]
    fn damaged_and_oversized_batches_are_refused() {
        let mut damaged = batch(None);
        *damaged.last_mut().unwrap() ^= 1;
        assert_eq!(code(damaged), Some(Code::CorruptBatch));
        assert_eq!(code(vec![0; 2 << 20]), Some(Code::MessageTooLarge));
        assert_eq!(code(vec![]), Some(Code::CorruptBatch));
    }
}
