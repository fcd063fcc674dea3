//! A cluster is copied shard by shard while it serves, and begins again as another one.

use std::collections::BTreeMap;

use futures::stream::{self, StreamExt};
use stratalog_broker::{CopyAnswers, RestoreOptions, Restored, Restoring};
use stratalog_proto::v1::copy_ask::Ask;
use stratalog_proto::v1::{CopyAnswer, CopyAsk, CopyHead, CopyPiece};
use stratalog_proto::{RaftIndex, ShardId, Term};
use stratalog_storage::LogPoint;
use tokio::sync::mpsc;

use super::cluster::{cluster_of, settled, three};
use super::rolling::{self, Model};
use super::*;

const META: u32 = 0;

/// A shard that is open.
struct Open {
    asks: mpsc::Sender<CopyAsk>,
    answers: CopyAnswers,
}

/// All of a shard, in memory.
#[derive(Clone, Default)]
struct Copied {
    head: CopyHead,
    state: Bytes,
    log: Bytes,
    segments: BTreeMap<String, Bytes>,
}

impl Open {
    fn new(broker: &Arc<Broker>) -> Self {
        let (asks, asked) = mpsc::channel(1);
        let asked = stream::unfold(asked, |mut asked| async move { Some((Ok(asked.recv().await?), asked)) });
        Self { asks, answers: broker.copy_shard(asked.boxed()) }
    }

    async fn ask(&mut self, ask: Ask) -> Result<CopyAnswer, Error> {
        self.asks.send(CopyAsk { ask: Some(ask) }).await.unwrap();
        self.answers.next().await.expect("an answer to each question")
    }

    async fn all(&mut self, bytes: u64, ask: impl Fn(u64) -> Ask) -> Result<Bytes, Error> {
        let mut all = BytesMut::new();
        while (all.len() as u64) < bytes {
            all.extend_from_slice(&self.ask(ask(all.len() as u64)).await?.bytes);
        }
        Ok(all.freeze())
    }
}

/// Opens a shard, and then copies all of it.
async fn open(broker: &Arc<Broker>, shard: u32) -> (Open, CopyHead) {
    let mut open = Open::new(broker);
    let head = open.ask(Ask::Open(shard)).await.unwrap().head.unwrap();
    (open, head)
}

async fn copy(broker: &Arc<Broker>, shard: u32) -> Copied {
    let (open, head) = open(broker, shard).await;
    finish(open, head).await.unwrap()
}

async fn finish(mut open: Open, head: CopyHead) -> Result<Copied, Error> {
    let state = open.all(head.state_bytes, Ask::StateFrom).await?;
    assert_eq!(blake3::hash(&state).as_bytes(), &head.state_blake3[..]);
    let (mut log, mut next) = (BytesMut::new(), head.frontier_index + 1);
    while next <= head.at_index {
        let answer = open.ask(Ask::EntriesFrom(next)).await?;
        log.extend_from_slice(&answer.bytes);
        next = answer.next_entry;
    }
    let (mut listed, mut segments) = (Vec::new(), BTreeMap::new());
    while (listed.len() as u64) < head.segments {
        listed.extend(open.ask(Ask::SegmentsFrom(listed.len() as u64)).await?.segments);
    }
    for (segment, meta) in (0..).zip(listed) {
        let bytes = open.all(meta.bytes, |offset| Ask::Piece(CopyPiece { segment, offset })).await?;
        assert_eq!(blake3::hash(&bytes).as_bytes(), &meta.blake3[..], "L5");
        segments.insert(meta.name, bytes);
    }
    Ok(Copied { head, state, log: log.freeze(), segments })
}

/// The metadata, and the shards from 1 on.
async fn copy_all(broker: &Arc<Broker>) -> Vec<Copied> {
    let shards = open(broker, META).await.1.shards;
    let mut copied = Vec::new();
    for shard in shards {
        copied.push(copy(broker, shard).await);
    }
    copied.insert(0, copy(broker, META).await);
    copied
}

fn point(term: u64, index: u64) -> LogPoint {
    LogPoint { term: Term(term), index: RaftIndex(index) }
}

async fn restore(options: RestoreOptions, copied: &[Copied]) -> Result<Restored, Error> {
    let [meta, shards @ ..] = copied else { panic!("there is the metadata") };
    let at = |head: &CopyHead| point(head.at_term, head.at_index);
    let mut restoring = Restoring::begin(options, at(&meta.head), meta.state.clone()).await?;
    for (id, shard) in (1..).zip(shards) {
        let frontier = point(shard.head.frontier_term, shard.head.frontier_index);
        let mut one = restoring.begin_shard(ShardId(id), at(&shard.head), frontier, shard.state.clone()).await?;
        for wanted in one.segments().to_vec() {
            let mut sink = one.segment(&wanted).await?;
            let bytes = shard.segments.get(&wanted.name).cloned().unwrap_or_default();
            for piece in bytes.chunks(70_001) {
                sink.push(Bytes::copy_from_slice(piece)).await?;
            }
            one.take(sink).await?;
        }
        for piece in shard.log.chunks(1_009) {
            one.entries(Bytes::copy_from_slice(piece)).await?;
        }
        restoring.end_shard(one).await?;
    }
    restoring.finish().await
}

/// A node with rolled log, column segments and a tail, and what is in it.
async fn filled(dir: &TempDir) -> (Arc<Broker>, Model) {
    let broker = Broker::start(rolling::options(dir.path())).await.unwrap();
    broker.create_topic("raw", 3, rolling::raw()).await.unwrap();
    broker.create_topic("rows", 2, TopicConfig::default()).await.unwrap();
    let mut model = Model::new();
    rolling::produce(&broker, &mut model, "raw", 3, 200).await;
    broker.produce("rows", P0, batch(0, 40, None)).await.unwrap();
    broker.seal_topic("rows").await.unwrap();
    rolling::until("replay segments", || !rolling::files(dir.path(), ".rec").is_empty()).await;
    rolling::produce(&broker, &mut model, "raw", 3, 5).await;
    let last = broker.produce("rows", PartitionId(1), batch(40, 2, None)).await.unwrap();
    assert_eq!(count_in(&broker, "rows", vec![last.token]).await, 42);
    (broker, model)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_of_a_node_begins_as_another_cluster_with_every_record_and_row_in_its_place() {
    let (dir, restored) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (broker, model) = filled(&dir).await;
    let (producer, _) = broker.init_producer().await.unwrap();
    for sequence in 0..3 {
        broker.produce("rows", P0, batch(0, 1, Some((producer, sequence)))).await.unwrap();
    }
    let copied = copy_all(&broker).await;
    assert!(copied.iter().any(|shard| shard.segments.keys().any(|name| name.ends_with(".col"))));
    // What comes afterwards is not in it.
    broker.produce("rows", P0, batch(0, 1, None)).await.unwrap();
    let was = broker.cluster_status().await.unwrap().cluster.unwrap();
    broker.stop().await;

    let made = restore(RestoreOptions::new(restored.path()), &copied).await.unwrap();
    assert_eq!((made.topics, made.shards), (2, 2));
    let again = Broker::start(rolling::options(restored.path())).await.unwrap();
    assert_eq!(again.cluster_status().await.unwrap().cluster, Some(made.cluster));
    assert_ne!(was, made.cluster);
    rolling::check(&again, &model).await;
    let ends = again.list_offsets("rows", OffsetAt::Latest).await.unwrap();
    assert_eq!(ends, [(P0, Offset(43)), (PartitionId(1), Offset(2))]);
    let repeated = again.produce("rows", P0, batch(0, 1, Some((producer, 2)))).await.unwrap();
    assert_eq!(repeated.base_offset, Offset(42), "a producer is known, and its retry is one");
    let next = again.produce("rows", P0, batch(0, 1, Some((producer, 3)))).await.unwrap();
    assert_eq!(next.base_offset, Offset(43), "L2");
    assert_eq!(count_in(&again, "rows", vec![next.token]).await, 46);
    let next_producer = again.init_producer().await.unwrap().0;
    assert!(next_producer.0 > producer.0 + (1 << 40), "L2: nor one that was given out after the copy was made");
    again.stop().await;
    drop(again);

    let again = start_after_kill_with(|| rolling::options(restored.path())).await;
    rolling::check(&again, &model).await;
    again.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l1_what_three_nodes_acknowledged_is_in_a_copy_that_one_of_them_gives_and_grows_again() {
    let nodes = three();
    let brokers = cluster_of(&nodes).await;
    brokers[0].create_topic("t", 4, TopicConfig::default()).await.unwrap();
    let mut acknowledged = vec![Vec::new(); 4];
    for number in 0..200 {
        let partition = number % 4;
        cluster::produce(&brokers[0], partition as u32, number).await;
        acknowledged[partition as usize].push(sent(&batch(number, 1, None)));
    }
    let writes = tokio::spawn({
        let broker = Arc::clone(&brokers[1]);
        async move {
            for number in 1_000.. {
                cluster::produce(&broker, (number % 4) as u32, number).await;
            }
        }
    });
    let copied = copy_all(&brokers[2]).await;
    writes.abort();
    futures::future::join_all(brokers.iter().map(|broker| broker.stop())).await;

    let first = cluster::Node::new(&[]);
    restore(RestoreOptions::new(first.dir.path()), &copied).await.unwrap();
    let broker = first.start().await;
    for (partition, expected) in acknowledged.iter().enumerate() {
        let found = cluster::replica_of(&broker, partition as u32).await;
        assert!(found.starts_with(expected), "partition {partition}: {} of {}", found.len(), expected.len());
    }
    let further = [cluster::Node::new(&[&first]), cluster::Node::new(&[&first])];
    let [second, third] = [further[0].start().await, further[1].start().await];
    cluster::until("three voters of each shard", || async { settled(&broker.cluster_status().await.unwrap(), 3) })
        .await;
    cluster::check_replicas(&[&broker, &second, &third], &acknowledged).await;
    let offset = cluster::produce(&third, 0, 5_000).await;
    assert!(offset.0 >= acknowledged[0].len() as u64, "L2");
    futures::future::join_all([&third, &second, &broker].map(|broker| broker.stop())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_of_a_copy_stay_while_it_is_open() {
    let dir = tempfile::tempdir().unwrap();
    let (broker, _) = filled(&dir).await;
    let mut open_shards = Vec::new();
    for shard in [1, 2] {
        open_shards.push(open(&broker, shard).await);
    }
    broker.delete_topic("raw").await.unwrap();
    broker.delete_topic("rows").await.unwrap();
    for (open, head) in open_shards {
        let named = head.segments;
        assert_eq!(finish(open, head).await.unwrap().segments.len() as u64, named);
    }
    rolling::until("no segment once nobody copies it", || {
        rolling::files(dir.path(), ".rec").is_empty() && rolling::files(dir.path(), ".col").is_empty()
    })
    .await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l5_a_segment_that_is_damaged_where_its_shard_is_led_is_repaired_and_then_copied() {
    let nodes = three();
    let mut brokers = Vec::new();
    for node in &nodes {
        let replay = rolling::options(node.dir.path()).replay;
        brokers.push(Broker::start(BrokerOptions { replay, ..node.options() }).await.unwrap());
    }
    let status = || async { brokers[0].cluster_status().await.unwrap() };
    cluster::until("three voters of each shard", || async { settled(&status().await, 3) }).await;
    brokers[0].create_topic("raw", 1, rolling::raw()).await.unwrap();
    rolling::produce(&brokers[0], &mut Model::new(), "raw", 1, 300).await;
    let files = |node: usize| rolling::files(nodes[node].dir.path(), ".rec");
    rolling::until("replay segments everywhere", || (0..3).all(|node| !files(node).is_empty())).await;

    let shard = brokers[0].find_topic("raw").await.unwrap().shards[0];
    let led = status().await.shards.into_iter().find(|found| found.shard == shard).unwrap();
    let leader = led.leader.unwrap();
    let mut asked = Vec::new();
    for broker in &brokers {
        asked.push(broker.cluster_status().await.unwrap().answered_by);
    }
    let of_leader = asked.iter().position(|node| *node == leader).unwrap();
    for path in files(of_leader) {
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&path, bytes).unwrap();
    }
    let mut failures = Vec::new();
    let copied = loop {
        let (open, head) = open(&brokers[(of_leader + 1) % 3], shard.0).await;
        match finish(open, head).await {
            Ok(copied) => break copied,
            Err(error) => failures.push(error),
        }
        assert!(failures.len() < 100, "{failures:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert!(!copied.segments.is_empty());
    let told =
        failures.iter().all(|error| error.code == Code::Unavailable && error.message.contains("is damaged on node"));
    assert!(told && !failures.is_empty(), "{failures:?}");
    futures::future::join_all(brokers.iter().map(|broker| broker.stop())).await;
}

fn with_segments(all: &mut [Copied]) -> &mut Copied {
    all.iter_mut().find(|shard| !shard.segments.is_empty()).expect("there are segments")
}

fn with_log(all: &mut [Copied]) -> &mut Copied {
    all.iter_mut().find(|shard| shard.log.len() > 100).expect("there is log")
}

fn flip(bytes: &mut Bytes, at: usize) {
    let mut other = bytes.to_vec();
    other[at] ^= 1;
    *bytes = other.into();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l5_nothing_starts_from_a_backup_that_lies_or_lacks_something() {
    let dir = tempfile::tempdir().unwrap();
    let (broker, _) = filled(&dir).await;
    let copied = copy_all(&broker).await;
    broker.stop().await;
    type Damage = fn(&mut Vec<Copied>);
    let damages: [(&str, Damage); 9] = [
        ("a segment is missing", |all| with_segments(all).segments.clear()),
        ("a segment is another one", |all| with_segments(all).segments.values_mut().for_each(|file| flip(file, 9))),
        ("the log is cut short", |all| {
            let log = &mut with_log(all).log;
            log.truncate(log.len() - 1);
        }),
        ("the log has a flipped bit", |all| {
            let log = &mut with_log(all).log;
            let last = log.len() - 1;
            flip(log, last);
        }),
        ("X1: an entry is longer than any can be", |all| {
            let log = &mut with_log(all).log;
            *log = [&log[..16], &[0xff; 4], &log[20..]].concat().into();
        }),
        ("two shards are mixed up", |all| all.swap(1, 2)),
        ("a shard is missing", |all| drop(all.pop())),
        ("the state says another frontier", |all| all[1].head.frontier_index += 1),
        ("the state is cut short", |all| {
            let state = &mut all[1].state;
            state.truncate(state.len() - 1);
        }),
    ];
    for (name, damage) in damages {
        let target = tempfile::tempdir().unwrap();
        let mut bad = copied.clone();
        damage(&mut bad);
        let refused = restore(RestoreOptions::new(target.path()), &bad).await.unwrap_err();
        assert_eq!(refused.code, Code::CorruptData, "{name}: {refused}");
        let started = Broker::start(options(&target)).await.err().unwrap_or_else(|| panic!("{name}: a node starts"));
        assert!(started.message.contains("its restore was cut short"), "{name}: {started}");
        let again = restore(RestoreOptions::new(target.path()), &copied).await.unwrap_err();
        assert!(again.message.contains("is not empty"), "{name}: {again}");
    }
    let taken = tempfile::tempdir().unwrap();
    std::fs::write(taken.path().join("x"), "x").unwrap();
    let refused = restore(RestoreOptions::new(taken.path()), &copied).await.unwrap_err();
    assert!(refused.code == Code::InvalidRequest && refused.message.contains("is not empty"), "{refused}");
    assert!(!taken.path().join("LOCK").exists(), "a directory of somebody else is left as it was");

    let untouched = tempfile::tempdir().unwrap();
    let mut bad = copied.clone();
    bad[0].state = Bytes::from_static(b"no metadata");
    let refused = restore(RestoreOptions::new(untouched.path()), &bad).await.unwrap_err();
    assert_eq!(refused.code, Code::CorruptData);
    restore(RestoreOptions::new(untouched.path()), &copied).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x1_questions_that_make_no_sense_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(&dir).await;
    let mut unopened = Open::new(&broker);
    assert_eq!(code(unopened.ask(Ask::StateFrom(0)).await), Code::InvalidRequest);
    let piece = |segment, offset| Ask::Piece(CopyPiece { segment, offset });
    for ask in [Ask::Open(1), piece(0, 0), piece(u64::MAX, u64::MAX)] {
        let (mut open, _) = open(&broker, 1).await;
        assert_eq!(code(open.ask(ask).await), Code::InvalidRequest);
    }
    let (mut open, head) = open(&broker, 1).await;
    assert!(open.ask(Ask::SegmentsFrom(u64::MAX)).await.unwrap().segments.is_empty());
    assert!(open.ask(Ask::EntriesFrom(head.at_index + 1)).await.unwrap().bytes.is_empty());
    assert!(open.ask(Ask::StateFrom(u64::MAX)).await.unwrap().bytes.is_empty());
    assert_eq!(code(open.ask(Ask::StateFrom(0)).await), Code::InvalidRequest, "it was read to its end");
    broker.stop().await;
}
