use std::collections::BTreeMap;
use std::path::PathBuf;

use prost::Message;
use stratalog_proto::batch::{BatchBuilder, Compression};
use stratalog_proto::entry::{Append, Command, EntryBuilder};
use stratalog_proto::{Offset, PartitionId, RaftIndex, ReplicaId, SegmentId, ShardId, Term, TopicId, internal};

use super::*;
use crate::io::sim::SimDisk;
use crate::lane::SteppedLane;
use crate::{
    Frame, FrameKind, LaneError, LaneOptions, LogPoint, RecBatch, RecMeta, RecSpec, SegmentKind, StateFiles,
    StateImage, Votes, rec_file_name, write_durably, write_rec,
};

const DATA: &str = "/data";
const SHARD: ShardId = ShardId(1);

fn data() -> &'static Path {
    Path::new(DATA)
}

fn lane_dir() -> PathBuf {
    data().join("lanes/0")
}

fn log_file(number: u64) -> PathBuf {
    lane_dir().join(format!("{number:020}.log"))
}

fn segments_dir() -> PathBuf {
    data().join("shards/0001/segments")
}

fn open_lane(disk: &SimDisk) -> Result<SteppedLane, LaneError> {
    let options = LaneOptions { file_bytes: 8192, group_bytes: 4096, ..LaneOptions::default() };
    Ok(SteppedLane::open(Arc::new(disk.clone()), &lane_dir(), options)?.0)
}

fn topic() -> TopicId {
    TopicId::from_slice(&[7; 16]).unwrap()
}

fn batch() -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.push(1_700_000_000_000, None, Some(&[b'v'; 200]), &[]);
    builder.finish()
}

fn entry(command: &Command) -> Bytes {
    let mut builder = EntryBuilder::with_capacity(64);
    builder.push(command);
    builder.finish(1)
}

fn frame(index: u64, payload: Bytes) -> Frame {
    let (term, replica, index) = (Term(1), ReplicaId(1), RaftIndex(index));
    Frame { shard: SHARD, term, replica, index, kind: FrameKind::Normal, payload }
}

fn append_entry(index: u64) -> Frame {
    let append = Append { topic: topic(), partition: PartitionId(0), batch: batch() };
    frame(index, entry(&Command::Append(append)))
}

/// Appends each frame in a group of its own, and a mark behind the last.
fn write_log(lane: &mut SteppedLane, frames: impl IntoIterator<Item = Frame>) {
    for frame in frames {
        lane.lane().append(vec![frame], Box::new(|_| {})).unwrap();
        lane.make_spare();
        assert!(lane.flush());
    }
    lane.mark();
}

/// A replay segment with the batches of entries 1 to 3.
fn write_replay_segment(disk: &SimDisk) -> RecMeta {
    let id = SegmentId::from_slice(&[9; 16]).unwrap();
    let spec = RecSpec { id, shard: SHARD, after: RaftIndex(0), through: RaftIndex(3) };
    let batches: Vec<RecBatch> = (1..=3)
        .map(|index| RecBatch {
            topic: topic(),
            partition: PartitionId(0),
            base_offset: Offset(index - 1),
            index: RaftIndex(index),
            at: 44,
            leader_epoch: 1,
            entry_time_ns: 1,
            batch: batch(),
        })
        .collect();
    write_rec(disk, &segments_dir(), &spec, &batches).unwrap()
}

fn save_state(disk: &SimDisk, at: u64, frontier: u64, replay: &[&RecMeta]) {
    let replay = replay.iter().map(|meta| (*meta).into()).collect();
    save(disk, at, internal::ShardState { replay_frontier: frontier, replay, ..internal::ShardState::default() });
}

fn save(disk: &SimDisk, at: u64, state: internal::ShardState) {
    let point = |index| LogPoint { term: Term(1), index: RaftIndex(index) };
    let files = StateFiles::open(Arc::new(disk.clone()), &data().join("shards/0001/state"), SHARD).unwrap();
    let (frontier, state) = (point(state.replay_frontier), state.encode_to_vec().into());
    files.save(&StateImage { at: point(at), frontier, membership: Bytes::new(), state }).unwrap();
}

/// A directory with a log of 20 entries in three files, a vote, a state at 10 with frontier 3, and a replay segment.
fn directory() -> SimDisk {
    let disk = SimDisk::seeded(1);
    disk.create_dir_all(&segments_dir()).unwrap();
    write_log(&mut open_lane(&disk).unwrap(), (1..=20).map(append_entry));
    Votes::open(Arc::new(disk.clone()), &lane_dir().join("votes")).unwrap().save(SHARD, b"a vote").unwrap();
    let replay = write_replay_segment(&disk);
    save_state(&disk, 10, 3, &[&replay]);
    disk.after_kill()
}

fn look(disk: &SimDisk, depth: Depth) -> Report {
    let before = all_bytes(disk);
    let report = verify(&(Arc::new(disk.clone()) as _), data(), depth).unwrap();
    assert_eq!(all_bytes(disk), before, "nothing is changed");
    report
}

fn all_bytes(disk: &SimDisk) -> BTreeMap<PathBuf, Vec<u8>> {
    disk.paths().into_iter().map(|path| (path.clone(), disk.edit(&path, |bytes| bytes.clone()))).collect()
}

fn indexes(disk: &SimDisk) -> (Vec<u64>, u64) {
    let mut seen = Vec::new();
    let damaged = dump(disk, data(), &mut |dumped| {
        assert_eq!(dumped.payload().unwrap().len(), dumped.frame().pos.len as usize);
        seen.push(dumped.frame().index.0);
        ControlFlow::Continue(())
    });
    (seen, damaged.unwrap())
}

/// The only finding: its severity, the name of its file, and what it says.
fn only(report: &Report) -> (Severity, String, &str) {
    let [finding] = &report.findings[..] else { panic!("not one finding: {:#?}", report.findings) };
    let file = finding.path.file_name().unwrap().to_string_lossy().into_owned();
    (finding.severity, file, &finding.what)
}

#[test]
fn a_whole_directory_is_clean_and_counted() {
    let disk = directory();
    let report = look(&disk, Depth::Deep);
    assert!(report.is_clean() && report.findings.is_empty(), "{:#?}", report.findings);
    let counts = report.counts;
    assert_eq!((counts.frames, counts.batches, counts.groups), (20, 20, 21));
    assert_eq!((counts.votes, counts.states, counts.replay_segments), (1, 1, 1));
    let shard = report.shards[&SHARD];
    assert_eq!(shard.log, Some((RaftIndex(1), RaftIndex(20))));
    assert_eq!((shard.state, shard.frontier), (Some(RaftIndex(10)), Some(RaftIndex(3))));
    assert_eq!(indexes(&disk), ((1..=20).collect(), 0));
}

#[test]
fn a_directory_without_a_log_is_none_of_a_node() {
    let disk = SimDisk::new();
    let error = verify(&(Arc::new(disk.clone()) as _), data(), Depth::Log).unwrap_err();
    assert!(error.to_string().contains(DATA), "{error}");
    dump(&disk, data(), &mut |_| ControlFlow::Continue(())).unwrap_err();
}

#[test]
fn l5_verify_and_recovery_judge_flipped_bytes_alike() {
    let disk = directory();
    for number in 1..=2 {
        for at in (0..8192).step_by(3) {
            let hurt = disk.after_kill();
            hurt.edit(&log_file(number), |bytes| bytes[at] ^= 0x20);
            let report = look(&hurt, Depth::Log);
            match open_lane(&hurt) {
                Ok(_) => assert!(report.is_clean(), "byte {at} of file {number}: {:#?}", report.findings),
                Err(error) => assert!(!report.is_clean(), "byte {at} of file {number}: {error}"),
            }
        }
    }
}

#[test]
fn all_damage_is_told_and_what_lies_behind_it_is_dumped() {
    let disk = directory();
    let places: Vec<u64> = {
        let mut places = Vec::new();
        dump(&disk, data(), &mut |dumped| {
            places.push(dumped.frame().pos.offset);
            ControlFlow::Continue(())
        })
        .unwrap();
        places
    };
    // The payload of entry 2, the frame header of entry 4 and the group header of entry 6, all in the first file.
    for at in [places[1] as usize + 60, places[3] as usize + 20, places[5] as usize - 60] {
        disk.edit(&log_file(1), |bytes| bytes[at] ^= 1);
    }
    let report = look(&disk, Depth::Log);
    let damaged: Vec<_> = report.findings.iter().filter(|finding| !finding.what.contains("are missing")).collect();
    assert_eq!(damaged.len(), 4, "three places, and what the state misses: {damaged:#?}");
    let (seen, places) = indexes(&disk);
    assert_eq!(seen, [1, 3, 5].into_iter().chain(7..=20).collect::<Vec<_>>());
    assert_eq!(places, 3);
}

#[test]
fn a_torn_tail_is_a_note() {
    let disk = SimDisk::seeded(1);
    let mut lane = open_lane(&disk).unwrap();
    write_log(&mut lane, (1..=3).map(append_entry));
    lane.lane().append((4..=7).map(append_entry).collect(), Box::new(|_| {})).unwrap();
    lane.flush();
    let torn = disk.after_kill();
    let end = torn.edit(&log_file(1), |bytes| bytes.iter().rposition(|byte| *byte != 0).unwrap());
    torn.edit(&log_file(1), |bytes| bytes[end - 600..].fill(0));
    let report = look(&torn, Depth::Log);
    assert!(report.is_clean());
    let (severity, file, what) = only(&report);
    assert_eq!((severity, file), (Severity::Note, "00000000000000000001.log".to_owned()));
    assert!(what.contains("never acknowledged"), "{what}");
    assert_eq!(indexes(&torn), ((1..=3).collect(), 0));
}

#[test]
fn a_missing_lane_file_is_told_and_the_rest_is_read() {
    let disk = directory();
    disk.remove(&log_file(1)).unwrap();
    let report = look(&disk, Depth::Log);
    assert!(!report.is_clean());
    assert!(report.findings.iter().any(|finding| finding.path == log_file(1) && finding.what.contains("missing")));
    let needed = report.findings.iter().find(|finding| finding.what.contains("it needs entries 4"));
    assert!(needed.is_some(), "{:#?}", report.findings);
    assert!(indexes(&disk).0.ends_with(&[19, 20]));
}

#[test]
fn a_state_ahead_of_its_log_is_damage() {
    let disk = directory();
    save_state(&disk, 25, 3, &[]);
    let report = look(&disk, Depth::Log);
    let (severity, _, what) = only(&report);
    assert_eq!(severity, Severity::Damage);
    assert!(what.contains("entries 21 to 25"), "{what}");
}

#[test]
fn a_segment_that_is_named_has_to_be_there_unless_it_was_dropped_since() {
    let disk = directory();
    disk.remove(&segments_dir().join(rec_file_name(SegmentId::from_slice(&[9; 16]).unwrap()))).unwrap();
    let report = look(&disk, Depth::Log);
    assert_eq!(only(&report).0, Severity::Missing);
    assert!(!report.is_clean());

    let drop = Command::Drop(internal::Drop { topic: topic().to_bytes(), segments: vec![] });
    let delete = internal::DeleteRecords { topic: topic().to_bytes(), ..internal::DeleteRecords::default() };
    for removal in [drop, Command::DeleteRecords(delete)] {
        let disk = disk.after_kill();
        write_log(&mut open_lane(&disk).unwrap(), [frame(21, entry(&removal))]);
        let report = look(&disk, Depth::Log);
        assert!(report.is_clean(), "{:#?}", report.findings);
    }
}

#[test]
fn a_column_segment_that_was_merged_since_is_not_missed() {
    let disk = directory();
    let id = SegmentId::from_slice(&[3; 16]).unwrap();
    let segment = internal::SegmentMeta {
        id: id.to_bytes(),
        topic: topic().to_bytes(),
        kind: SegmentKind::Column.tag(),
        bucket_end_ns: 10,
        max_time_ns: 5,
        rows: 1,
        bytes: 100,
        ranges: vec![internal::OffsetRange { partition: 0, first: 0, next: 1 }],
        blake3: vec![0; 32].into(),
        ..internal::SegmentMeta::default()
    };
    let of_topic =
        internal::TopicState { topic: topic().to_bytes(), segments: vec![segment], ..internal::TopicState::default() };
    let state = internal::ShardState { replay_frontier: 3, topics: vec![of_topic], ..internal::ShardState::default() };
    save(&disk, 11, state);
    assert_eq!(only(&look(&disk, Depth::Log)).0, Severity::Missing);
    let merge = internal::Merge {
        topic: topic().to_bytes(),
        remove: vec![id.to_bytes()],
        erased: 1,
        ..internal::Merge::default()
    };
    write_log(&mut open_lane(&disk).unwrap(), [frame(21, entry(&Command::Merge(merge)))]);
    let report = look(&disk, Depth::Log);
    assert!(report.is_clean(), "{:#?}", report.findings);
}

#[test]
fn a_segment_that_was_merged_since_need_not_be_there() {
    let disk = directory();
    let id = SegmentId::from_slice(&[9; 16]).unwrap();
    disk.remove(&segments_dir().join(rec_file_name(id))).unwrap();
    let merge = internal::Merge { topic: topic().to_bytes(), remove: vec![id.to_bytes()], ..Default::default() };
    write_log(&mut open_lane(&disk).unwrap(), [frame(21, entry(&Command::Merge(merge)))]);
    let report = look(&disk, Depth::Log);
    assert!(report.is_clean(), "{:#?}", report.findings);
}

#[test]
fn damaged_votes_and_states_are_told() {
    for name in ["0000000001.vote", "00000000000000000010.state"] {
        let disk = directory();
        let path = disk.paths().into_iter().find(|path| path.ends_with(name)).unwrap();
        disk.edit(&path, |bytes| bytes[25] ^= 1);
        let report = look(&disk, Depth::Log);
        let is_told = |finding: &Finding| finding.severity == Severity::Damage && finding.path == path;
        assert!(report.findings.iter().any(is_told), "{name}: {:#?}", report.findings);
    }
}

#[test]
fn segments_are_read_whole_only_where_that_is_asked_for() {
    let disk = directory();
    write_durably(&disk, &segments_dir().join("x.col"), &[include_bytes!("../../tests/fixtures/v1.col")]).unwrap();
    assert!(look(&disk, Depth::Deep).is_clean());
    for name in ["x.col", "09090909-0909-0909-0909-090909090909.rec"] {
        let hurt = disk.after_kill();
        hurt.edit(&segments_dir().join(name), |bytes| bytes[100] ^= 1);
        assert!(look(&hurt, Depth::Log).is_clean(), "{name}");
        let report = look(&hurt, Depth::Deep);
        assert_eq!((only(&report).0, only(&report).1), (Severity::Damage, name.to_owned()));
        hurt.edit(&segments_dir().join(name), |bytes| bytes.truncate(50));
        assert!(!look(&hurt, Depth::Log).is_clean(), "{name} is cut short");
    }
}

#[test]
fn what_a_crash_leaves_is_a_note() {
    let disk = directory();
    for path in [
        lane_dir().join("00000000000000000009.log.tmp"),
        segments_dir().join("x.rec.tmp"),
        data().join("shards/0001/state/00000000000000000099.state.tmp"),
    ] {
        disk.open(&path, crate::OpenMode::CreateNew).unwrap();
    }
    let report = look(&disk, Depth::Deep);
    assert!(report.is_clean());
    assert_eq!(report.findings.len(), 3, "{:#?}", report.findings);
}

#[test]
fn an_entry_that_is_missing_or_twice_is_damage() {
    let disk = SimDisk::seeded(1);
    write_log(&mut open_lane(&disk).unwrap(), [1, 2, 5, 6, 6].map(append_entry));
    let report = look(&disk, Depth::Log);
    let what: Vec<_> = report.findings.iter().map(|finding| finding.what.as_str()).collect();
    assert_eq!(what.len(), 2, "{what:?}");
    assert!(what[0].contains("entries 3 to 4 are missing") && what[1].contains("entry 6 follows entry 6"), "{what:?}");
}

#[test]
fn a_batch_that_is_none_is_found_where_batches_are_checked() {
    let disk = SimDisk::seeded(1);
    let mut bytes = batch().to_vec();
    bytes[80] ^= 1;
    let append = Append { topic: topic(), partition: PartitionId(0), batch: bytes.into() };
    write_log(&mut open_lane(&disk).unwrap(), [frame(1, entry(&Command::Append(append)))]);
    assert!(look(&disk, Depth::Log).is_clean());
    let report = look(&disk, Depth::Deep);
    assert!(only(&report).2.contains("checksum"), "{:?}", report.findings);
}
