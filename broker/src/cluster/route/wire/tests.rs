//! What is written is read back, and whatever a peer sends is read without a panic.

use std::time::Duration;

use proptest::prelude::*;
use stratalog_proto::entry::{Append, Command};
use stratalog_proto::{Offset, PartitionId, ProducerId, RaftIndex, ShardId, Term, internal};
use stratalog_query::PartitionInfo;

use super::*;
use crate::fetch::{FetchedBatches, FetchedPartition};
use crate::groups::{Committed, Described, DescribedMember, GroupState, GroupStatus};
use crate::offsets::{OffsetAt, OffsetFound};
use crate::outcome::CommandResult;
use crate::rows::{Gone, Merged, Retried};
use crate::shard::ProducerInfo;

fn asked(frame: Frame) -> Asked {
    read_answer(frame).unwrap()
}

#[test]
fn a_refusal_says_why_and_who_leads() {
    let not_leader = refusal(Error::new(Code::NotLeader, "not me"), Some(NodeId(3)));
    let missed = Missed::NotDone { why: "not me".to_owned(), leader: Some(NodeId(3)) };
    assert_eq!(read_answer(not_leader), Err(missed));
    let unknown_topic = Error::new(Code::UnknownTopic, "no such");
    assert_eq!(read_answer(refusal(unknown_topic.clone(), None)), Err(Missed::Refused(unknown_topic)));
    let timeout = read_answer(refusal(Error::new(Code::Timeout, "late"), None)).unwrap_err();
    assert_eq!(timeout.into_error(ShardId(1)).code, Code::Timeout);
}

#[test]
fn a_command_and_its_answer_are_read_back() {
    let command = Command::RemoveTopic(internal::RemoveTopic { topic: TopicId::new().to_bytes() });
    assert_eq!(read_proposal(proposal(ShardId(7), &command)), Ok((ShardId(7), command)));
    let results = [
        CommandResult::Done,
        CommandResult::Appended { base_offset: Offset(5), duplicate: true },
        CommandResult::Dropped(Vec::new()),
        CommandResult::RecordsDeleted { log_starts: vec![(PartitionId(1), Offset(9))], dropped: Vec::new() },
        CommandResult::ProducerIds(ProducerId(1_000)),
        CommandResult::Node(NodeId(4)),
        CommandResult::Shards { first: ShardId(9), count: 3 },
    ];
    for result in results {
        let answer = asked(proposal_answer(RaftIndex(11), result.clone()));
        assert_eq!(proposed(super::super::decode(answer.body).unwrap()), Ok((RaftIndex(11), result)));
    }
}

#[test]
fn x1_a_record_batch_cannot_be_proposed_past_its_checks() {
    let append = Append { topic: TopicId::new(), partition: PartitionId(0), batch: Bytes::from_static(b"anything") };
    let refused = read_proposal(proposal(ShardId(1), &Command::Append(append)));
    assert_eq!(refused.unwrap_err().code, Code::InvalidRequest);
}

#[test]
fn a_batch_travels_as_the_buffer_that_it_is() {
    let bytes = Bytes::from(vec![7; 10_000]);
    let batch = Batch { shard: ShardId(2), topic: TopicId::new(), partition: PartitionId(3), bytes: bytes.clone() };
    assert_eq!(read_batch(batch_frame(42, &batch, None)).unwrap().2, None);
    let (number, read, heard) = read_batch(batch_frame(42, &batch, Some(7))).unwrap();
    assert_eq!((number, &read, heard), (42, &batch, Some(7)));
    assert_eq!(read.bytes.as_ptr(), bytes.as_ptr());
    let done = batch_answer(42, Ok((RaftIndex(1), Offset(2))), None);
    assert_eq!(read_batch_answer(done), Ok((42, Ok((RaftIndex(1), Offset(2))))));
    let refused = batch_answer(43, Err(Error::new(Code::NotLeader, "no")), Some(NodeId(2)));
    let missed = Missed::NotDone { why: "no".to_owned(), leader: Some(NodeId(2)) };
    assert_eq!(read_batch_answer(refused), Ok((43, Err(missed))));
}

/// Nothing of it is as it is by default.
pub(super) fn group() -> GroupStatus {
    let member = DescribedMember {
        member_id: "reader-1".to_owned(),
        instance: Some("one".to_owned()),
        client_id: "reader".to_owned(),
        host: "10.0.0.7".to_owned(),
        metadata: Bytes::from_static(b"metadata"),
        assignment: Bytes::from_static(b"assignment"),
    };
    let offset = Committed {
        topic: TopicId(uuid::Uuid::from_u128(7)),
        partition: PartitionId(3),
        offset: Offset(9),
        leader_epoch: Some(0),
        metadata: "beside".into(),
    };
    let described = Described {
        state: GroupState::Stable,
        protocol_type: "consumer".to_owned(),
        protocol: "range".to_owned(),
        generation: 4,
        members: vec![member.clone(), DescribedMember { instance: None, ..member }],
    };
    GroupStatus {
        group: "readers".to_owned(),
        described,
        offsets: vec![offset.clone(), Committed { leader_epoch: None, ..offset }],
    }
}

#[test]
fn groups_are_read_back() {
    for name in [None, Some("readers".to_owned())] {
        assert_eq!(read_groups_of(groups_of(ShardId(3), name.as_deref())), Ok((ShardId(3), name)));
    }
    let mut groups = vec![group()];
    for state in [GroupState::Dead, GroupState::Empty, GroupState::PreparingRebalance, GroupState::CompletingRebalance]
    {
        let described = Described { state, members: Vec::new(), ..group().described };
        groups.push(GroupStatus { described, ..group() });
    }
    assert_eq!(read_groups(asked(groups_answer(&groups)).body), Ok(groups));
    let newer = internal::GroupsAnswer { groups: vec![internal::GroupAnswer { state: 5, ..<_>::default() }] };
    assert!(read_groups(newer.encode_to_vec().into()).is_err());
}

fn fetched_of(partition: u32, batches: Vec<FetchedBatches>) -> FetchedPartition {
    FetchedPartition {
        partition: PartitionId(partition),
        log_start: Offset(1),
        high_watermark: Offset(9),
        result: Ok(batches),
    }
}

fn bytes_of(fetched: &FetchedPartition) -> Vec<u8> {
    let batches = fetched.result.as_ref().unwrap();
    batches.iter().flat_map(|batch| [&batch.head[..], &batch.body[..]].concat()).collect()
}

#[test]
fn fetched_batches_keep_their_bytes_and_large_ones_their_buffers() {
    let large = Bytes::from(vec![9; 100_000]);
    let small = |n: u8| FetchedBatches { head: Bytes::from(vec![n; 61]), body: Bytes::from(vec![n; 100]) };
    let whole = FetchedBatches { head: Bytes::from_static(b"head"), body: large.clone() };
    let partitions = vec![
        fetched_of(0, vec![small(1), small(2), whole.clone(), small(3)]),
        fetched_of(1, vec![]),
        FetchedPartition { result: Err(Error::new(Code::OffsetOutOfRange, "gone")), ..fetched_of(2, vec![]) },
        fetched_of(3, vec![whole]),
    ];
    let frame = fetch_answer(partitions.clone());
    assert_eq!(frame.parts.len(), 8, "small batches next to each other are one buffer");
    let read = fetched(asked(frame)).unwrap();
    for at in [0, 1, 3] {
        assert_eq!(bytes_of(&read[at]), bytes_of(&partitions[at]));
        assert_eq!((read[at].log_start, read[at].high_watermark), (Offset(1), Offset(9)));
    }
    assert_eq!(read[2].result.as_ref().unwrap_err().code, Code::OffsetOutOfRange);
    assert_eq!(read[3].result.as_ref().unwrap()[0].body.as_ptr(), large.as_ptr());
}

#[test]
fn x1_an_answer_that_claims_more_buffers_than_it_has_is_none() {
    let partition = internal::FetchedFrom { pairs: u32::MAX, ..Default::default() };
    let frame = success(&internal::FetchedBatches { partitions: vec![partition] }, vec![Bytes::new(); 4]);
    assert!(matches!(fetched(asked(frame)), Err(Missed::Unknown(_))));
}

#[test]
fn a_fetch_is_bounded_by_whoever_reads_it() {
    let topic = TopicId::new();
    let wanted = [(PartitionId(1), Offset(5))];
    let read = read_fetch(fetch_frame(topic, &wanted, true, usize::MAX, Duration::from_secs(999_999))).unwrap();
    assert_eq!((read.topic, read.partitions, read.by_replicas), (topic, wanted.to_vec(), true));
    assert_eq!((read.max_bytes, read.max_wait), (32 << 20, Duration::from_secs(60)));
    let many = vec![(PartitionId(0), Offset(0)); 10_001];
    assert_eq!(read_fetch(fetch_frame(topic, &many, false, 1, Duration::ZERO)).unwrap_err().code, Code::InvalidRequest);
}

#[test]
fn questions_and_tasks_are_read_back() {
    let (shard, topic) = (ShardId(3), TopicId::new());
    let questions = [
        Question::Partitions,
        Question::Offsets(OffsetAt::Earliest),
        Question::Offsets(OffsetAt::Latest),
        Question::Offsets(OffsetAt::Time(-5)),
        Question::Offsets(OffsetAt::LargestTime),
        Question::EpochEnd(PartitionId(4), Term(9)),
        Question::Verify(PartitionId(4)),
        Question::Segments,
        Question::Rows,
        Question::Producers(PartitionId(4)),
    ];
    for question in questions {
        assert_eq!(read_question(question.frame(shard, topic)), Ok((shard, topic, question)));
    }
    let tasks = [
        Task::Seal,
        Task::Merge,
        Task::RetryDead,
        Task::DropBefore { before_ns: -7, dry_run: true },
        Task::ApplyRetention { dry_run: false },
    ];
    for task in tasks {
        assert_eq!(read_maintain(task.frame(shard, topic)), Ok((shard, topic, task)));
    }
}

#[test]
fn answers_to_questions_are_read_back() {
    let shard = ShardId(3);
    let info =
        PartitionInfo { partition: PartitionId(1), shard, log_start: Offset(2), high_watermark: Offset(3), bytes: 4 };
    let read = |question: &Question, found: &Found| {
        format!("{:?}", Found::read(question, shard, asked(found.frame()).body).unwrap())
    };
    let producer = ProducerInfo { producer: ProducerId(7), epoch: 2, last_sequence: i32::MAX, last_time_ns: 9 };
    let found = |epoch| OffsetFound { partition: PartitionId(1), offset: Offset(u64::MAX), epoch };
    let cases = [
        (Question::Partitions, Found::Partitions(vec![info])),
        (Question::Offsets(OffsetAt::Latest), Found::Offsets(vec![found(Some(Term(0))), found(None)])),
        (Question::EpochEnd(PartitionId(1), Term(1)), Found::EpochEnd(Term(0), Offset(0))),
        (Question::Segments, Found::Segments(Vec::new())),
        (Question::Producers(PartitionId(1)), Found::Producers(vec![producer])),
    ];
    for (question, found) in cases {
        assert_eq!(read(&question, &found), format!("{found:?}"));
    }
}

#[test]
fn what_tasks_came_to_is_read_back() {
    let shard = ShardId(3);
    let merged = Merged { replaced: 4, made: 1, rows: 10, bytes: 20, left_apart: 2 };
    let gone = Gone {
        log_starts: [(PartitionId(2), Offset(8))].into(),
        log_bytes: 5,
        tail_rows: 6,
        elapsed: Duration::from_micros(7),
        ..Gone::default()
    };
    let cases = [
        (Task::Seal, Done::Sealed),
        (Task::Merge, Done::Merged(merged)),
        (Task::RetryDead, Done::Retried(Retried { tried: 5, mended: 3 })),
        (Task::ApplyRetention { dry_run: true }, Done::Gone(gone)),
    ];
    for (task, done) in cases {
        let read = Done::read(&task, shard, asked(done.frame()).body).unwrap();
        assert_eq!(format!("{read:?}"), format!("{done:?}"));
    }
}

proptest! {
    #[test]
    fn x1_arbitrary_frames_never_panic(
        head in prop::collection::vec(any::<u8>(), 0..200),
        parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..4),
    ) {
        let frame = Frame { head: head.clone().into(), parts: parts.into_iter().map(Bytes::from).collect() };
        let _ = read_proposal(frame.clone());
        let _ = read_batch(frame.clone());
        let _ = read_batch_answer(frame.clone());
        let _ = read_fetch(frame.clone());
        let _ = read_question(frame.clone());
        let _ = read_maintain(frame.clone());
        let _ = read_answer(frame.clone());
        let _ = fetched(Asked { body: head.clone().into(), parts: frame.parts });
        let _ = Found::read(&Question::Rows, ShardId(1), head.clone().into());
        let _ = Done::read(&Task::Merge, ShardId(1), head.into());
    }
}
