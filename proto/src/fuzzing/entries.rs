//! Entries of the log, which come from a disk, a leader, or a node that proposes.

use bytes::Bytes;
use stratalog_mutation::Decoder;

use crate::entry::{Append, Command, Entry, EntryBuilder};
use crate::internal::{
    AllocateProducerIds, AlterTopic, AssignSlots, Barrier, ChangeReplicas, CheckState, Column, CommitOffsets,
    CommittedOffset, CreateShards, CreateTopic, DeleteGroup, DeleteOffsets, DeleteRecords, DeleteTopic, Drop, Erase,
    EraseDone, ErasedOffsets, ExpireOffsets, GroupMember, GroupProtocol, GroupState, InitCluster, KafkaListener, Merge,
    Node, NodeList, OffsetPlace, OffsetRange, PartitionCount, PutNode, PutTopic, RaiseLevel, RecMeta, RecRange,
    RecTopic, RemoveNode, RemoveTopic, Repack, ReplicaChanged, Roll, Seal, SegmentMeta, SetNodeState, TopicConfig,
};
use crate::{PartitionId, TopicId};

/// An entry with all its commands.
pub const ENTRY: Decoder =
    Decoder { name: "entry", samples: entries, run: read_entry, words: &[], memory_bytes: 4 << 20 };

/// The topic of all sample commands.
pub const TOPIC: [u8; 16] = [7; 16];

/// A command of each kind, with something in every field.
pub fn commands() -> Vec<Command> {
    [for_partitions(), for_segments(), for_groups(), for_topics(), for_the_cluster()].concat()
}

fn topic() -> Bytes {
    Bytes::from_static(&TOPIC)
}

fn id(number: u8) -> Bytes {
    Bytes::from(vec![number; 16])
}

fn config() -> Option<TopicConfig> {
    let columns = vec![Column { name: "status".into(), r#type: 2, required: true }];
    Some(TopicConfig {
        format: 1,
        time_field: "time".into(),
        bucket_ns: 3_600_000_000_000,
        retention_ns: 1 << 50,
        max_message_bytes: 1 << 20,
        retention_bytes: 1 << 30,
        pattern: "%{IP:client}".into(),
        multiline: "^\\d".into(),
        columns,
        replication: 3,
    })
}

fn node() -> Option<Node> {
    let text = |text: &str| text.to_owned();
    Some(Node {
        node: 2,
        incarnation: id(2),
        peer_address: text("10.0.0.2:7071"),
        grpc_address: text("10.0.0.2:7070"),
        http_address: text("10.0.0.2:8080"),
        kafka_address: text("10.0.0.2:9092"),
        kafka_listeners: vec![KafkaListener { name: text("outside"), address: text("node2.example:9093") }],
        zone: text("a"),
        version: text("0.2.0"),
        feature_level: 1,
        state: 1,
    })
}

fn column_segment(number: u8) -> SegmentMeta {
    SegmentMeta {
        id: id(number),
        topic: topic(),
        kind: 1,
        bucket_end_ns: 10,
        min_time_ns: 1,
        max_time_ns: 2,
        max_ingested_ns: 3,
        rows: 4,
        dead_rows: 1,
        bytes: 100,
        ranges: vec![OffsetRange { partition: 0, first: u64::from(number) * 10, next: u64::from(number) * 10 + 4 }],
        blake3: vec![number; 32].into(),
        analyzer_version: 1,
        ..SegmentMeta::default()
    }
}

fn replay_segment(number: u8, after: u64, through: u64) -> RecMeta {
    let (first, next) = (after * 10, through * 10);
    let range = |partition| RecRange { partition, first, next, bytes: 100, max_timestamp_ms: 5 };
    RecMeta {
        id: id(number),
        after,
        through,
        bytes: 10_000,
        blake3: vec![number; 32].into(),
        topics: vec![RecTopic { topic: topic(), ranges: vec![range(0), range(1)] }],
        max_entry_time_ns: 9,
        ..RecMeta::default()
    }
}

fn count(value: u64) -> Vec<PartitionCount> {
    vec![PartitionCount { partition: 0, value }]
}

fn for_partitions() -> Vec<Command> {
    let batch = Bytes::from_static(b"as the client sent it");
    vec![
        Command::PutTopic(PutTopic { topic: topic(), partitions: vec![0, 1], config: config() }),
        Command::Append(Append { topic: TopicId(uuid::Uuid::from_bytes(TOPIC)), partition: PartitionId(1), batch }),
        Command::DeleteRecords(DeleteRecords { topic: topic(), before: count(3) }),
        Command::CheckState(CheckState { index: 4_096, hash: vec![5; 32].into(), digest: 1 }),
        Command::Barrier(Barrier {}),
        Command::RemoveTopic(RemoveTopic { topic: topic() }),
    ]
}

fn for_segments() -> Vec<Command> {
    let segments = vec![column_segment(1), column_segment(2)];
    let both = vec![OffsetRange { partition: 0, first: 10, next: 24 }];
    // An empty bitmap, as Roaring writes it.
    let erased = vec![ErasedOffsets { topic: topic(), partition: 0, offsets: vec![0; 8].into() }];
    let columns = vec![Column { name: "level".into(), r#type: 4, required: false }];
    vec![
        Command::Seal(Seal { topic: topic(), expect: 0, next: 9, segments, rowless: count(1), ends: count(24) }),
        Command::Merge(Merge {
            topic: topic(),
            remove: vec![id(1), id(2)],
            add: vec![SegmentMeta { rows: 8, ranges: both, ..column_segment(3) }],
            log_starts: count(0),
            ..Merge::default()
        }),
        Command::Drop(Drop { topic: topic(), segments: vec![id(3)] }),
        Command::Roll(Roll { expect: 0, next: 10, segments: vec![replay_segment(4, 0, 10)] }),
        Command::Repack(Repack { remove: id(4), add: Some(replay_segment(5, 0, 10)), erased }),
        Command::Erase(Erase { job: id(6), topic: topic(), predicate: "level = 'debug'".into(), columns }),
        Command::EraseDone(EraseDone { job: id(6), rows: 1, records: 2, error: "given up".into() }),
    ]
}

fn member(name: &str, instance: &str, assignment: &'static [u8]) -> GroupMember {
    let protocol = |name: &str| GroupProtocol { name: name.to_owned(), metadata: Bytes::from_static(b"topics") };
    GroupMember {
        member: name.to_owned(),
        instance: instance.to_owned(),
        client: "app".to_owned(),
        host: "10.0.0.9".to_owned(),
        session_timeout_ms: 45_000,
        rebalance_timeout_ms: 300_000,
        protocols: vec![protocol("range"), protocol("sticky")],
        assignment: Bytes::from_static(assignment),
    }
}

fn for_groups() -> Vec<Command> {
    let group = || "readers".to_owned();
    let (first, second) = (member("app-1", "", b"0"), member("app-2", "box", b"1"));
    let completing = GroupState {
        group: group(),
        expect: 0,
        generation: 1,
        phase: 2,
        protocol_type: "consumer".to_owned(),
        protocol: "range".to_owned(),
        leader: "app-1".to_owned(),
        members: vec![member("app-1", "", b""), member("app-2", "box", b"")],
    };
    let stable = GroupState { expect: 1, phase: 3, members: vec![first, second], ..completing.clone() };
    let empty = GroupState {
        expect: 2,
        generation: 2,
        phase: 1,
        protocol: String::new(),
        leader: String::new(),
        members: Vec::new(),
        ..completing.clone()
    };
    let offset = |partition, offset| CommittedOffset {
        topic: topic(),
        partition,
        offset,
        leader_epoch: Some(1),
        metadata: "half".to_owned(),
        time_ns: 0,
    };
    let commit = |generation, member: &str, instance: &str, offsets| {
        let (member, instance) = (member.to_owned(), instance.to_owned());
        Command::CommitOffsets(CommitOffsets { group: group(), generation, member, instance, offsets })
    };
    let places = || vec![OffsetPlace { topic: topic(), partition: 1 }];
    vec![
        Command::GroupState(completing),
        Command::GroupState(stable),
        commit(1, "app-2", "box", vec![offset(0, 10), offset(1, 3)]),
        Command::GroupState(empty),
        commit(-1, "", "", vec![offset(0, 11)]),
        Command::DeleteOffsets(DeleteOffsets { group: group(), offsets: places() }),
        Command::ExpireOffsets(ExpireOffsets { group: group(), before_ns: 9, offsets: places() }),
        Command::DeleteGroup(DeleteGroup { group: group() }),
    ]
}

fn for_topics() -> Vec<Command> {
    let (name, shards) = ("events".to_owned(), vec![1, 2]);
    vec![
        Command::CreateTopic(CreateTopic { topic: topic(), tenant: 0, name, config: config(), shards }),
        Command::AlterTopic(AlterTopic { topic: topic(), config: config(), expect: config(), shards: vec![1, 2, 1] }),
        Command::DeleteTopic(DeleteTopic { topic: topic() }),
        Command::AllocateProducerIds(AllocateProducerIds { count: 1_000 }),
    ]
}

fn for_the_cluster() -> Vec<Command> {
    let nodes = vec![NodeList { nodes: vec![1, 2, 3] }];
    vec![
        Command::InitCluster(InitCluster { cluster: id(1), node: node(), shards: 8, replication: 3 }),
        Command::PutNode(PutNode { node: node(), joins: true, known_address: "10.0.0.2:7071".into() }),
        Command::SetNodeState(SetNodeState { node: 2, state: 2 }),
        Command::RemoveNode(RemoveNode { node: 2, force: true }),
        Command::CreateShards(CreateShards { replication: 3, nodes, if_none: true }),
        Command::ChangeReplicas(ChangeReplicas { shard: 1, expect: vec![1, 2], add: vec![3], remove: vec![1] }),
        Command::ReplicaChanged(ReplicaChanged { shard: 1, replica: 3, role: 2 }),
        Command::RaiseLevel(RaiseLevel { level: 1 }),
        Command::AssignSlots(AssignSlots { shards: vec![1; 1_024] }),
    ]
}

fn entry(commands: &[Command]) -> Vec<u8> {
    let mut builder = EntryBuilder::with_capacity(commands.iter().map(Command::encoded_len).sum());
    commands.iter().for_each(|command| builder.push(command));
    builder.finish(1_700_000_000_000_000_000).to_vec()
}

fn entries() -> Vec<Vec<u8>> {
    let kinds = [Vec::new(), for_partitions(), for_segments(), for_groups(), for_topics(), for_the_cluster()];
    kinds.iter().map(|commands| entry(commands)).collect()
}

fn read_entry(bytes: &[u8]) -> bool {
    let Ok(entry) = Entry::parse(Bytes::copy_from_slice(bytes)) else { return false };
    let mut read = entry.commands();
    let mut commands = Vec::new();
    for command in &mut read {
        let Ok(command) = command else { return false };
        commands.push(command);
    }
    assert_eq!(commands.len(), entry.len());
    assert!(read.position() <= bytes.len());
    comes_back(&entry, &commands);
    true
}

/// What was read is read again from what it is written as.
fn comes_back(entry: &Entry, commands: &[Command]) {
    let mut builder = EntryBuilder::with_capacity(0);
    commands.iter().for_each(|command| builder.push(command));
    let again = Entry::parse(builder.finish(entry.time_ns())).unwrap();
    assert_eq!(again.time_ns(), entry.time_ns());
    assert_eq!(again.commands().collect::<Result<Vec<_>, _>>().unwrap(), commands);
}
