//! Reading a shard whose log is rolled bit by bit: the same as from the log alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use stratalog_proto::batch::{Batch, BatchBuilder, Compression};
use stratalog_proto::entry::Command;
use stratalog_proto::{Code, Offset, PartitionId, RaftIndex, TopicId, TopicPartition, internal};
use stratalog_storage::{RealDisk, RecMeta, rec_file_name};

use crate::replay::testing::{release, roll};
use crate::shard::testing::{ALL, append, append_in_one_entry, host, start_on};
use crate::shard::{Applied, AppliedBatch, Shard, Unreadable, Wanted};

/// Batches of one entry: (topic, partition, records).
type EntryOf = Vec<(usize, u32, u64)>;

#[derive(Clone, Debug)]
enum Step {
    Append(EntryOf),
    Roll,
    /// The entries that are rolled leave the log.
    Release,
}

fn step() -> impl Strategy<Value = Step> {
    let batch = (0usize..2, 0u32..3, 1u64..4);
    prop_oneof![
        6 => prop::collection::vec(batch, 1..5).prop_map(Step::Append),
        2 => Just(Step::Roll),
        1 => Just(Step::Release),
    ]
}

/// What was appended: batches in the order of the log, and values by partition and offset.
#[derive(Default)]
struct Model {
    batches: Vec<(RaftIndex, TopicPartition, u64, u64)>,
    ends: BTreeMap<TopicPartition, u64>,
}

fn value(tp: TopicPartition, offset: u64) -> Bytes {
    format!("{}/{offset}", tp.partition).into()
}

fn batch(tp: TopicPartition, first: u64, records: u64) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::Lz4);
    (first..first + records).for_each(|n| builder.push(n as i64, None, Some(&value(tp, n)), &[]));
    builder.finish()
}

impl Model {
    async fn append(&mut self, shard: &Shard, topics: &[TopicId], entry: EntryOf) {
        for (at, topic) in topics.iter().enumerate() {
            let of_topic = entry.iter().filter(|(of, ..)| *of == at);
            let batches: Vec<_> =
                of_topic.map(|(_, partition, records)| self.next(*topic, *partition, *records)).collect();
            if batches.is_empty() {
                continue;
            }
            let sent = batches.iter().map(|(tp, first, records)| (tp.partition.0, batch(*tp, *first, *records)));
            let index = append_in_one_entry(shard, *topic, sent).await;
            self.batches.extend(batches.into_iter().map(|(tp, first, records)| (index, tp, first, records)));
        }
    }

    fn next(&mut self, topic: TopicId, partition: u32, records: u64) -> (TopicPartition, u64, u64) {
        let tp = TopicPartition { topic, partition: PartitionId(partition) };
        let end = self.ends.entry(tp).or_default();
        let first = *end;
        *end += records;
        (tp, first, records)
    }
}

fn as_in_model(found: &AppliedBatch) -> (RaftIndex, TopicPartition, u64, u64) {
    let parsed = Batch::parse(found.batch.clone()).unwrap();
    let tp = TopicPartition { topic: found.topic, partition: found.partition };
    for record in parsed.records(1 << 20).unwrap() {
        let record = record.unwrap();
        assert_eq!(record.value, Some(value(tp, found.base_offset.0 + record.offset_delta as u64)));
    }
    (found.index, tp, found.base_offset.0, u64::from(parsed.record_count()))
}

/// Pulls of so many bytes, one after the other.
fn pulled(shard: &Shard, max_bytes: usize) -> Vec<(RaftIndex, TopicPartition, u64, u64)> {
    let (mut after, mut all) = (RaftIndex(0), Vec::new());
    while after < shard.applied() {
        let applied = shard.batches_after(after, ALL, max_bytes);
        assert!(applied.through > after, "a pull goes on");
        assert!(applied.batches.iter().all(|batch| after < batch.index && batch.index <= applied.through));
        after = applied.through;
        all.extend(applied.batches.iter().map(as_in_model));
    }
    all
}

async fn check(steps: Vec<Step>) {
    let dir = tempfile::tempdir().unwrap();
    let shard = start_on(Arc::new(RealDisk), &dir, 0).await;
    let topics = [host(&shard, 3).await, host(&shard, 3).await];
    let mut model = Model::default();
    for step in steps {
        match step {
            Step::Append(entry) => model.append(&shard, &topics, entry).await,
            Step::Roll => _ = roll(&shard).await,
            Step::Release => release(&shard).await,
        }
    }
    for max_bytes in [1, 200, 1 << 20] {
        assert_eq!(pulled(&shard, max_bytes), model.batches, "{max_bytes}");
    }
    for topic in topics {
        let of_topic = || model.ends.iter().filter(|(tp, _)| tp.topic == topic);
        let mut rows: Vec<_> =
            of_topic().flat_map(|(tp, end)| (0..end + 2).map(|n| (tp.partition, Offset(n)))).collect();
        rows.reverse();
        let expected = rows.iter().map(|(partition, offset)| {
            let tp = TopicPartition { topic, partition: *partition };
            (offset.0 < model.ends[&tp]).then(|| value(tp, offset.0))
        });
        assert_eq!(shard.values(topic, &rows).unwrap(), expected.collect::<Vec<_>>());
    }
    shard.stop().await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn s1_pulls_and_values_are_the_same_whatever_was_rolled(steps in prop::collection::vec(step(), 1..14)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(check(steps));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s1_pulls_while_rolls_apply_bring_each_batch_once() {
    let dir = tempfile::tempdir().unwrap();
    let shard = start_on(Arc::new(RealDisk), &dir, 0).await;
    let tp = TopicPartition { topic: host(&shard, 1).await, partition: PartitionId(0) };
    const BATCHES: u64 = 600;
    let roller = tokio::spawn({
        let shard = shard.clone();
        async move {
            while shard.read(|state| state.partition(tp.topic, tp.partition).unwrap().high_watermark().0) < BATCHES {
                roll(&shard).await;
                release(&shard).await;
                tokio::task::yield_now().await;
            }
        }
    });
    let puller = std::thread::spawn({
        let shard = shard.clone();
        move || {
            let (mut after, mut next) = (RaftIndex(0), 0);
            while next < BATCHES {
                let applied = shard.batches_after(after, ALL, 500);
                for batch in &applied.batches {
                    assert_eq!(as_in_model(batch).2, next);
                    next += 1;
                }
                after = applied.through;
            }
        }
    });
    for n in 0..BATCHES {
        append(&shard, tp, batch(tp, n, 1)).await.unwrap();
    }
    roller.await.unwrap();
    tokio::task::spawn_blocking(|| puller.join().unwrap()).await.unwrap();
    shard.stop().await;
}

#[tokio::test]
async fn batches_of_a_topic_that_is_gone_are_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let shard = start_on(Arc::new(RealDisk), &dir, 0).await;
    let topics = [host(&shard, 1).await, host(&shard, 1).await];
    let tps = topics.map(|topic| TopicPartition { topic, partition: PartitionId(0) });
    for tp in tps {
        append(&shard, tp, batch(tp, 0, 2)).await.unwrap();
    }
    roll(&shard).await;
    let remove = internal::RemoveTopic { topic: topics[0].to_bytes() };
    shard.propose(Command::RemoveTopic(remove)).await.unwrap();
    let left: Vec<_> = pulled(&shard, 1 << 20).into_iter().map(|(_, tp, ..)| tp).collect();
    assert_eq!(left, [tps[1]]);
    assert_eq!(shard.values(topics[0], &[(PartitionId(0), Offset(0))]).unwrap(), [None]);
    shard.stop().await;
}

/// A record of so many bytes that nothing shrinks.
fn large(bytes: usize) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.push(0, None, Some(&vec![b'x'; bytes]), &[]);
    builder.finish()
}

/// Two topics in the order in which a packed segment has them.
async fn two_topics(shard: &Shard) -> [TopicPartition; 2] {
    let mut topics = [host(shard, 1).await, host(shard, 1).await];
    topics.sort_unstable();
    topics.map(|topic| TopicPartition { topic, partition: PartitionId(0) })
}

fn only_rec(shard: &Shard) -> Arc<RecMeta> {
    shard.read(|state| state.manifest().recs().last().cloned()).unwrap()
}

fn places(applied: &Applied) -> Vec<(RaftIndex, TopicPartition)> {
    let place = |found: &AppliedBatch| (found.index, TopicPartition { topic: found.topic, partition: found.partition });
    applied.batches.iter().map(place).collect()
}

#[tokio::test]
async fn l5_a_damaged_block_is_the_end_of_its_topic_alone() {
    let dir = tempfile::tempdir().unwrap();
    let shard = start_on(Arc::new(RealDisk), &dir, 0).await;
    let [hurt, whole] = two_topics(&shard).await;
    let mut indexes = Vec::new();
    for bytes in [10_000, 300_000, 10_000] {
        let (first, _) = append(&shard, hurt, large(bytes)).await.unwrap();
        let (second, _) = append(&shard, whole, large(100_000)).await.unwrap();
        indexes.push([first, second]);
    }
    roll(&shard).await;
    let path = shard.recs().dir().join(rec_file_name(only_rec(&shard).id));
    let mut file = std::fs::read(&path).unwrap();
    file[150_000] ^= 1;
    std::fs::write(&path, &file).unwrap();

    for max_bytes in [1, 150_000, usize::MAX] {
        let (mut after, mut found, mut lost) = (RaftIndex(0), Vec::new(), Vec::new());
        while after < shard.applied() {
            let except = lost.iter().map(|lost: &Unreadable| lost.topic).collect();
            let applied = shard.batches_after(after, Wanted::AllBut(&except), max_bytes);
            after = applied.through;
            found.extend(places(&applied));
            lost.extend(applied.unreadable);
        }
        let [first, second, third] = [0, 1, 2].map(|n: usize| indexes[n]);
        let readable = [(first[0], hurt), (first[1], whole), (second[1], whole), (third[1], whole)];
        assert_eq!(found, readable, "{max_bytes}");
        assert_eq!(lost.iter().map(|lost| (lost.topic, lost.index)).collect::<Vec<_>>(), [(hurt.topic, second[0])]);
        let error = &lost[0].error;
        assert!(error.code == Code::CorruptData && error.message.contains("offsets 1..2 of partition 0"), "{error}");
    }

    file[150_000] ^= 1;
    std::fs::write(&path, &file).unwrap();
    let again = shard.batches_after(indexes[0][0], Wanted::Only(hurt.topic), usize::MAX);
    assert_eq!(places(&again), [(indexes[1][0], hurt), (indexes[2][0], hurt)]);
    assert!(again.unreadable.is_empty());
    shard.stop().await;
}

#[tokio::test]
async fn l5_a_missing_segment_is_the_end_of_the_topics_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let shard = start_on(Arc::new(RealDisk), &dir, 0).await;
    let [hurt, whole] = two_topics(&shard).await;
    append(&shard, hurt, batch(hurt, 0, 1)).await.unwrap();
    roll(&shard).await;
    shard.recs().discard(&only_rec(&shard));
    let (index, _) = append(&shard, whole, batch(whole, 0, 1)).await.unwrap();
    for rolled in [false, true] {
        if rolled {
            roll(&shard).await;
        }
        let applied = shard.batches_after(RaftIndex(0), ALL, usize::MAX);
        assert_eq!((places(&applied), applied.through), (vec![(index, whole)], shard.applied()));
        let lost: Vec<_> = applied.unreadable.iter().map(|lost| lost.topic).collect();
        assert_eq!(lost, [hurt.topic]);
        assert!(applied.unreadable[0].error.message.contains("offsets 0..1"), "{:?}", applied.unreadable);
    }
    shard.stop().await;
}

#[tokio::test]
async fn replay_segments_of_which_everything_is_sealed_are_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let shard = start_on(Arc::new(RealDisk), &dir, 0).await;
    let [sealed, other] = two_topics(&shard).await;
    append(&shard, sealed, batch(sealed, 0, 2)).await.unwrap();
    let next = roll(&shard).await;
    let rowless = vec![internal::PartitionCount { partition: 0, value: 2 }];
    let expect = shard.read(|state| state.manifest().topic(sealed.topic).unwrap().row_frontier.0);
    let (topic, ends) = (sealed.topic.to_bytes(), rowless.clone());
    let seal = internal::Seal { topic, expect, next: next.0, segments: Vec::new(), rowless, ends };
    shard.propose(Command::Seal(seal)).await.unwrap();
    shard.recs().discard(&only_rec(&shard));
    let (index, _) = append(&shard, other, batch(other, 0, 1)).await.unwrap();
    roll(&shard).await;
    let applied = shard.batches_after(RaftIndex(0), ALL, usize::MAX);
    assert_eq!((places(&applied), applied.through), (vec![(index, other)], shard.applied()));
    assert!(applied.unreadable.is_empty(), "{:?}", applied.unreadable);
    shard.stop().await;
}
