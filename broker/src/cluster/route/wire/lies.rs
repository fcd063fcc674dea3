//! X1: what nodes ask each other, and what they answer, mutated.

use std::time::Duration;

use stratalog_mutation::{Decoder, Pieces, piece};
use stratalog_proto::entry::Command;
use stratalog_proto::fuzzing::commands;
use stratalog_proto::{Offset, PartitionId, ProducerId, RaftIndex, ShardId, Term};
use stratalog_storage::SegmentMeta;

use super::*;
use crate::fetch::{FetchedBatches, FetchedPartition};
use crate::offsets::OffsetAt;
use crate::outcome::CommandResult;
use crate::rows::Gone;

const SHARD: ShardId = ShardId(3);
const TOPIC: TopicId = TopicId(uuid::Uuid::from_u128(7));

/// Which reader (u8), the number of buffers (u8), each with its length, and the head.
const ROUTED: Decoder = Decoder { name: "routed", samples: frames, run: read_frame, words: &[], memory_bytes: 1 << 20 };

fn written(reader: u8, Frame { head, parts }: &Frame) -> Vec<u8> {
    let pieces: Vec<u8> = parts.iter().flat_map(|part| piece(part)).collect();
    [&[reader, parts.len() as u8], &pieces[..], head].concat()
}

fn segments() -> Vec<std::sync::Arc<SegmentMeta>> {
    let sealed = commands().into_iter().find_map(|command| match command {
        Command::Seal(seal) => Some(seal.segments),
        _ => None,
    });
    proposal::from_wire(&sealed.unwrap()).unwrap()
}

fn frames() -> Vec<Vec<u8>> {
    let command = commands().into_iter().find(|command| matches!(command, Command::Seal(_))).unwrap();
    let batch = Batch { shard: SHARD, topic: TOPIC, partition: PartitionId(1), bytes: Bytes::from_static(b"a batch") };
    let not_leader = || Error::new(Code::NotLeader, "not me");
    let wanted = [(PartitionId(1), Offset(5)), (PartitionId(2), Offset(0))];
    let mut frames = vec![
        written(0, &proposal(SHARD, &command)),
        written(1, &batch_frame(7, &batch, Some(3))),
        written(2, &batch_answer(7, Ok((RaftIndex(1), Offset(2))), None)),
        written(3, &fetch_frame(TOPIC, &wanted, true, 1_000, Duration::from_millis(9))),
        written(4, &Question::EpochEnd(PartitionId(4), Term(9)).frame(SHARD, TOPIC)),
        written(4, &Question::Offsets(OffsetAt::Time(-5)).frame(SHARD, TOPIC)),
        written(5, &Task::DropBefore { before_ns: -7, dry_run: true }.frame(SHARD, TOPIC)),
        written(6, &fetch_answer(fetched_partitions())),
        written(7, &Found::Segments(segments()).frame()),
        written(8, &Done::Gone(gone()).frame()),
        written(10, &groups_of(SHARD, Some("readers"))),
        written(11, &groups_answer(&[tests::group()])),
    ];
    frames.extend(results().map(|result| written(9, &proposal_answer(RaftIndex(9), result))));
    // A refusal is an answer, too, and not one that any of these accepts.
    assert!(!read_frame(&written(9, &refusal(not_leader(), Some(NodeId(3))))));
    frames
}

fn fetched_partitions() -> Vec<FetchedPartition> {
    let large = FetchedBatches { head: Bytes::from_static(b"head"), body: Bytes::from(vec![9; 5_000]) };
    let partition = |partition, result| FetchedPartition {
        partition: PartitionId(partition),
        log_start: Offset(1),
        high_watermark: Offset(9),
        result,
    };
    vec![partition(0, Ok(vec![large])), partition(1, Err(Error::new(Code::OffsetOutOfRange, "gone")))]
}

fn gone() -> Gone {
    let segments = segments().into_iter().map(|meta| (SHARD, meta)).collect();
    Gone { segments, log_starts: [(PartitionId(2), Offset(8))].into(), log_bytes: 5, ..Gone::default() }
}

fn results() -> [CommandResult; 6] {
    [
        CommandResult::Done,
        CommandResult::Appended { base_offset: Offset(5), duplicate: true },
        CommandResult::Dropped(segments()),
        CommandResult::RecordsDeleted { log_starts: vec![(PartitionId(1), Offset(9))], dropped: segments() },
        CommandResult::ProducerIds(ProducerId(1_000)),
        CommandResult::Shards { first: ShardId(9), count: 3 },
    ]
}

fn read_frame(bytes: &[u8]) -> bool {
    let mut pieces = Pieces(bytes);
    let (reader, parts) = (pieces.byte(), pieces.byte());
    let parts = (0..parts).map(|_| Bytes::copy_from_slice(pieces.piece())).collect();
    let frame = Frame { head: Bytes::copy_from_slice(pieces.rest()), parts };
    match reader {
        0 => read_proposal(frame).is_ok(),
        1 => read_batch(frame).is_ok(),
        2 => read_batch_answer(frame).is_ok(),
        3 => read_fetch(frame).is_ok(),
        4 => read_question(frame).is_ok(),
        5 => read_maintain(frame).is_ok(),
        10 => read_groups_of(frame).is_ok(),
        _ => read_answer(frame).is_ok_and(|asked| read_asked(reader, asked)),
    }
}

/// Reads an answer as what was asked for.
fn read_asked(reader: u8, asked: Asked) -> bool {
    let others =
        [Question::Partitions, Question::Rows, Question::Verify(PartitionId(0)), Question::Offsets(OffsetAt::Latest)];
    for question in others {
        let _ = Found::read(&question, SHARD, asked.body.clone());
    }
    match reader {
        6 => fetched(asked).is_ok(),
        7 => Found::read(&Question::Segments, SHARD, asked.body).is_ok(),
        11 => read_groups(asked.body).is_ok(),
        8 => Done::read(&Task::ApplyRetention { dry_run: true }, SHARD, asked.body).is_ok(),
        _ => super::super::decode(asked.body).and_then(proposed).is_ok(),
    }
}

#[test]
fn x1_frames_of_other_nodes_that_lie() {
    ROUTED.check();
}
