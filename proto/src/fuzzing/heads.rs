//! Heads of frames between nodes: what they ask each other, and what they answer.

use std::fmt::Debug;

use bytes::Bytes;
use prost::Message;
use stratalog_mutation::Decoder;

use super::entries::commands;
use crate::bounded;
use crate::entry::Command;
use crate::internal::{
    Cluster, DropAnswer, FetchBatches, FetchFrom, FetchSegment, FetchedBatches, FetchedFrom, HoldSegments, JoinAnswer,
    Maintain, Node, OpenPart, PartFrame, PartOpened, PartScan, Placement, ProduceBatch, ProducedBatch, Propose,
    Proposed, Read, RecordsDeleted, Replica, ReplicaState, ReplicaStates, Routed, RowsAnswer, RunPart, SegmentMeta,
    VerifyAnswer,
};
use crate::v1::{CopyAnswer, CopyAsk};

/// Of which kind (u8), how much may be in it (u8), and the head. Each is held twice, to be compared.
pub const HEADS: Decoder =
    Decoder { name: "heads", samples: heads, run: read_head, words: &[], memory_bytes: 16 << 20 };

/// By kind.
const READERS: &[fn(&[u8], usize) -> bool] = &[
    read::<Routed>,
    read::<FetchBatches>,
    read::<FetchedBatches>,
    read::<HoldSegments>,
    read::<ReplicaStates>,
    read::<JoinAnswer>,
    read::<RecordsDeleted>,
    read::<Propose>,
    read::<Proposed>,
    read::<ProduceBatch>,
    read::<ProducedBatch>,
    read::<Read>,
    read::<Maintain>,
    read::<FetchSegment>,
    read::<OpenPart>,
    read::<PartOpened>,
    read::<RunPart>,
    read::<PartFrame>,
    read::<PartScan>,
    read::<RowsAnswer>,
    read::<VerifyAnswer>,
    read::<DropAnswer>,
    read::<CopyAsk>,
    read::<CopyAnswer>,
];

fn segments() -> Vec<SegmentMeta> {
    let of_seal = |command| match command {
        Command::Seal(seal) => Some(seal.segments),
        _ => None,
    };
    commands().into_iter().find_map(of_seal).expect("one of them is a Seal")
}

fn heads() -> Vec<Vec<u8>> {
    let topic = Bytes::from_static(&super::TOPIC);
    let partitions = vec![FetchFrom { partition: 1, offset: 5 }, FetchFrom::default()];
    let fetched = FetchedFrom { partition: 1, message: "gone".into(), pairs: 2, ..FetchedFrom::default() };
    let state = ReplicaState { shard: 3, missing_replays: Some(0), ..ReplicaState::default() };
    let placement = Placement { shard: 1, replication: 3, replicas: vec![Replica::default(); 2] };
    let cluster = Cluster { nodes: vec![Node::default(); 2], placements: vec![placement], ..Cluster::default() };
    let bodies = [
        Routed { code: 3, message: "not me".into(), leader: 2, body: topic.clone() }.encode_to_vec(),
        FetchBatches { topic, partitions, max_bytes: 1 << 20, ..FetchBatches::default() }.encode_to_vec(),
        FetchedBatches { partitions: vec![fetched] }.encode_to_vec(),
        HoldSegments { shard: 1, segments: segments(), ..HoldSegments::default() }.encode_to_vec(),
        ReplicaStates { replicas: vec![state], clock_ns: -1 }.encode_to_vec(),
        JoinAnswer { node: 2, cluster: Some(cluster), ..JoinAnswer::default() }.encode_to_vec(),
        RecordsDeleted { dropped: segments(), ..RecordsDeleted::default() }.encode_to_vec(),
    ];
    bodies.iter().zip(0..).map(|(body, kind)| [&[kind, 200], &body[..]].concat()).collect()
}

fn read_head(bytes: &[u8]) -> bool {
    let [kind, most, head @ ..] = bytes else { return false };
    READERS[usize::from(*kind) % READERS.len()](head, usize::from(*most))
}

/// Whether it is a message of this kind. With a bound it is the same or none.
fn read<M: Message + Default + PartialEq + Debug>(head: &[u8], most: usize) -> bool {
    let whole = M::decode(head).ok();
    assert_eq!(bounded::decode::<M>(head, usize::MAX).ok(), whole, "what is not bounded is read as ever");
    if let Ok(bounded) = bounded::decode::<M>(head, most) {
        assert_eq!(Some(&bounded), whole.as_ref(), "X1: what is within the bound is whole");
    }
    whole.is_some_and(|whole| M::decode(&whole.encode_to_vec()[..]) == Ok(whole))
}
