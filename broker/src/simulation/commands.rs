//! What clients ask of a shard.

use bytes::Bytes;
use stratalog_proto::config::TopicConfig;
use stratalog_proto::entry::{Append, Command, EntryBuilder};
use stratalog_proto::{Error, PartitionId, ProducerId, RaftIndex, SegmentId, TopicId, TopicPartition, internal};

use super::Client;
use super::run::Run;
use crate::shard::PartitionState;

/// Partitions of each topic.
const PARTITIONS: u32 = 2;
/// Entries are built up to about this many bytes.
const ENTRY_BYTES: usize = 4 << 10;
/// No more is produced while so many entries wait for their flush.
const MAX_IN_FLIGHT: u64 = 24;

impl Run {
    /// Hands an entry of these commands to the log. Its time never goes back, whatever the clock does.
    pub(super) fn submit(&mut self, at: usize, commands: &[Command]) -> Result<RaftIndex, Error> {
        self.clock_ns += 1_000_000;
        self.time_ns = self.time_ns.max(self.clock_ns);
        let mut entry = EntryBuilder::with_capacity(0);
        commands.iter().for_each(|command| entry.push(command));
        let entry = entry.finish(self.time_ns);
        let (index, term) = self.node.replicas[at].solo.append(entry.clone())?;
        self.models[at].submitted(index, term, entry);
        Ok(index)
    }

    pub(super) fn produce(&mut self, at: usize) -> Result<(), Error> {
        if self.node.replicas[at].solo.in_flight() > MAX_IN_FLIGHT {
            return Ok(());
        }
        let (mut commands, mut bytes) = (Vec::new(), 0);
        for _ in 0..=self.dice.below(4) {
            let client = self.dice.below(self.clients[at].len() as u64) as usize;
            self.numbers += 1;
            let client = &mut self.clients[at][client];
            let batch = client.send(&mut self.dice, self.numbers);
            bytes += batch.len();
            commands.push(Command::Append(Append { topic: client.tp.topic, partition: client.tp.partition, batch }));
            if bytes > ENTRY_BYTES {
                break;
            }
        }
        let index = self.submit(at, &commands)?;
        self.note(format_args!("shard {at}, entry {index}, {} batches", commands.len()));
        Ok(())
    }

    /// Seals all rows that are applied: one segment, of which only the manifest is to know.
    pub(super) fn seal(&mut self, at: usize) -> Result<(), Error> {
        let topic = self.pick_topic(at);
        let state = self.models[at].state();
        let (Some(hosted), Some(live)) = (state.topic(topic), state.manifest().topic(topic)) else { return Ok(()) };
        let next = self.models[at].next() - 1;
        let unsealed = |(id, state): (PartitionId, &PartitionState)| {
            let (first, next) = (state.sealed().0, state.high_watermark().0);
            (first < next).then_some(internal::OffsetRange { partition: id.0, first, next })
        };
        let ranges: Vec<_> = hosted.partitions().filter_map(unsealed).collect();
        let ends =
            ranges.iter().map(|range| internal::PartitionCount { partition: range.partition, value: range.next });
        let seal = internal::Seal {
            topic: topic.to_bytes(),
            expect: live.row_frontier.0,
            next,
            ends: ends.collect(),
            segments: if ranges.is_empty() { Vec::new() } else { vec![segment(topic, ranges)] },
            rowless: Vec::new(),
        };
        if next <= live.row_frontier.0 {
            return Ok(());
        }
        self.submit(at, &[Command::Seal(seal)])?;
        self.note(format_args!("shard {at} up to {next}"));
        Ok(())
    }

    pub(super) fn drop(&mut self, at: usize) -> Result<(), Error> {
        let topic = self.pick_topic(at);
        let state = self.models[at].state();
        let live: Vec<SegmentId> =
            state.manifest().topic(topic).map(|live| live.segments.keys().copied().collect()).unwrap_or_default();
        let Some(id) = live.first() else { return Ok(()) };
        let drop = internal::Drop { topic: topic.to_bytes(), segments: vec![id.to_bytes()] };
        self.submit(at, &[Command::Drop(drop)])?;
        self.note(format_args!("shard {at}, topic {topic}"));
        Ok(())
    }

    /// Removes a topic with all its records, and makes another one. The old one's producers write on until they are told.
    pub(super) fn remake(&mut self, at: usize) -> Result<(), Error> {
        let gone = self.pick_topic(at);
        self.numbers += 1;
        let topic = topic_id(at, self.numbers);
        let remove = Command::RemoveTopic(internal::RemoveTopic { topic: gone.to_bytes() });
        self.submit(at, &[remove, put_topic(topic)])?;
        self.topics[at].retain(|topic| *topic != gone);
        self.topics[at].push(topic);
        self.clients[at].extend(clients_of(topic));
        self.note(format_args!("{gone}, now {topic}"));
        Ok(())
    }
}

/// The id of a topic: no two topics ever have the same.
pub(super) fn topic_id(shard: usize, number: u64) -> TopicId {
    let mut bytes = [shard as u8 + 1; 16];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    TopicId::from_slice(&bytes).expect("16 bytes")
}

pub(super) fn put_topic(topic: TopicId) -> Command {
    let config = Some(TopicConfig::default().to_internal());
    Command::PutTopic(internal::PutTopic { topic: topic.to_bytes(), partitions: (0..PARTITIONS).collect(), config })
}

/// Two producers with numbers and one without, for each partition of a topic.
pub(super) fn clients_of(topic: TopicId) -> impl Iterator<Item = Client> {
    (0..PARTITIONS).flat_map(move |partition| {
        let tp = TopicPartition { topic, partition: PartitionId(partition) };
        [Some(1), Some(2), None].map(|producer| Client::new(tp, producer.map(ProducerId)))
    })
}

/// A segment as a manifest names it. There is no file of it: nothing here reads rows.
fn segment(topic: TopicId, ranges: Vec<internal::OffsetRange>) -> internal::SegmentMeta {
    internal::SegmentMeta {
        id: SegmentId::new().to_bytes(),
        topic: topic.to_bytes(),
        kind: 1,
        bucket_end_ns: 10,
        min_time_ns: 1,
        max_time_ns: 2,
        rows: ranges.iter().map(|range| range.next - range.first).sum(),
        bytes: 1_000,
        ranges,
        blake3: Bytes::from_static(&[7; 32]),
        ..internal::SegmentMeta::default()
    }
}
