//! openraft's own suite over the real lane, and what it does not cover: restarts.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, TryStreamExt};
use openraft::entry::RaftEntry;
use openraft::raft::AppendEntriesRequest;
use openraft::storage::{
    EntryResponder, IOFlushed, RaftLogReader, RaftLogStorage, RaftSnapshotBuilder, RaftStateMachine,
};
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::type_config::TypeConfigExt;
use openraft::type_config::alias::{SnapshotMetaOf, SnapshotOf};
use openraft::{EntryPayload, OptionalSend, StorageError};
use parking_lot::Mutex;
use stratalog_proto::{Code, Error, RaftIndex, ReplicaId, ShardId};
use stratalog_storage::{FrameKind, Lane, LaneOptions, RealDisk, StateFiles, Votes};
use tempfile::TempDir;

use crate::raft::log::{GroupLog, NewEntry};
use crate::raft::types::{Answers, Entry, EntryBytes, LogId, StoredMembership, TypeConfig, Vote, log_id};
use crate::raft::{Known, Logs, LogsOptions, NoPromise};

const SHARD: ShardId = ShardId(3);

struct OnDisk;

impl StoreBuilder<TypeConfig, GroupLog, MemoryMachine, TempDir> for OnDisk {
    async fn build(&self) -> Result<(TempDir, GroupLog, MemoryMachine), StorageError<TypeConfig>> {
        let dir = tempfile::tempdir().unwrap();
        let log = open(&dir, 0).1;
        Ok((dir, log, MemoryMachine::default()))
    }
}

fn open(dir: &TempDir, cache_bytes: usize) -> (Arc<Lane>, GroupLog) {
    let options = LaneOptions { file_bytes: 1 << 20, ..LaneOptions::default() };
    let (lane, recovery) = Lane::open(Arc::new(RealDisk), dir.path(), options).unwrap();
    let votes = Arc::new(Votes::open(Arc::new(RealDisk), &dir.path().join("votes")).unwrap());
    let keep = Arc::new(()) as Arc<dyn Send + Sync>;
    let known = [Known { replica: ReplicaId(1), states: states(dir.path(), SHARD) }];
    let logs = LogsOptions { lane: lane.clone(), votes, cache_bytes, keep };
    let logs = Logs::recover(logs, &known, &BTreeMap::new(), &recovery).unwrap();
    (lane, logs.get(SHARD).unwrap())
}

fn states(dir: &Path, shard: ShardId) -> Arc<StateFiles> {
    Arc::new(StateFiles::open(Arc::new(RealDisk), &dir.join("state"), shard).unwrap())
}

#[test]
fn openraft_suite_passes_over_the_lane() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(Suite::test_all(OnDisk)).unwrap();
}

fn entry(term: u64, index: u64, payload: &[u8]) -> Entry {
    let bytes = EntryBytes::from(Bytes::copy_from_slice(payload));
    Entry { log_id: log_id(term, index), payload: EntryPayload::Normal(bytes) }
}

async fn append(log: &mut GroupLog, entries: Vec<Entry>) {
    let (flushed, wait) = TypeConfig::oneshot();
    RaftLogStorage::append(log, entries, IOFlushed::signal(flushed)).await.unwrap();
    wait.await.unwrap().unwrap();
}

#[tokio::test]
async fn log_and_vote_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (lane, mut log) = open(&dir, 0);
    append(&mut log, (0..=5).map(|index| entry(1, index, &[index as u8; 100])).collect()).await;
    RaftLogStorage::truncate_after(&mut log, Some(log_id(1, 3))).await.unwrap();
    append(&mut log, vec![entry(2, 4, b"new")]).await;
    let vote = Vote::new(2, 1);
    RaftLogStorage::save_vote(&mut log, &vote).await.unwrap();
    lane.close();
    drop((lane, log));

    let (_lane, mut log) = open(&dir, 0);
    let state = log.get_log_state().await.unwrap();
    assert_eq!((state.last_purged_log_id, state.last_log_id), (None, Some(log_id(2, 4))));
    assert_eq!(log.read_vote().await.unwrap(), Some(vote));
    assert_eq!(log.payload(RaftIndex(4)).unwrap().unwrap(), "new");
    assert_eq!(log.term_of(RaftIndex(3)).0, 1);
    let entries: Vec<Entry> = log.entries_stream(0..=4).await.try_collect().await.unwrap();
    assert_eq!(entries.iter().map(|entry| entry.log_id.index).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
}

#[tokio::test]
async fn an_entry_is_readable_before_it_is_durable() {
    let dir = tempfile::tempdir().unwrap();
    let (_lane, mut log) = open(&dir, 0);
    RaftLogStorage::append(&mut log, vec![entry(1, 1, b"x")], IOFlushed::noop()).await.unwrap();
    assert_eq!(log.try_get_log_entries(..).await.unwrap().len(), 1);
    assert_eq!(log.payload(RaftIndex(1)).unwrap().unwrap(), "x");
}

#[tokio::test]
async fn a_limited_read_is_cut_by_bytes_and_never_empty() {
    let dir = tempfile::tempdir().unwrap();
    let (_lane, mut log) = open(&dir, 1 << 30);
    let large = vec![7u8; 900 << 10];
    append(&mut log, (1..=8).map(|index| entry(1, index, &large)).collect()).await;
    assert_eq!(log.limited_get_log_entries(1, 9).await.unwrap().len(), 4);
    assert_eq!(log.limited_get_log_entries(8, 9).await.unwrap().len(), 1);
    let all: Vec<Entry> = log.entries_stream(1..9).await.try_collect().await.unwrap();
    assert_eq!(all.len(), 8);
}

#[tokio::test]
async fn frames_of_an_unknown_group_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (lane, mut log) = open(&dir, 0);
    append(&mut log, vec![entry(1, 1, b"x")]).await;
    lane.close();
    drop((lane, log));
    let (lane, recovery) = Lane::open(Arc::new(RealDisk), dir.path(), LaneOptions::default()).unwrap();
    let votes = Arc::new(Votes::open(Arc::new(RealDisk), &dir.path().join("votes")).unwrap());
    let keep = Arc::new(()) as Arc<dyn Send + Sync>;
    let known = [Known { replica: ReplicaId(1), states: states(dir.path(), ShardId(9)) }];
    let logs = LogsOptions { lane, votes, cache_bytes: 0, keep };
    let recovered = Logs::recover(logs, &known, &BTreeMap::new(), &recovery).map(|_| ());
    assert_eq!(recovered.unwrap_err().code, Code::CorruptData);
}

/// Recovers the logs of these replicas from what is on disk.
fn recover(dir: &TempDir, known: &[(ShardId, u64)], gone: &[(ShardId, u64)]) -> Result<(Arc<Lane>, Arc<Logs>), Error> {
    let options = LaneOptions { file_bytes: 1 << 20, ..LaneOptions::default() };
    let (lane, recovery) = Lane::open(Arc::new(RealDisk), dir.path(), options).unwrap();
    let votes = Arc::new(Votes::open(Arc::new(RealDisk), &dir.path().join("votes")).unwrap());
    let known: Vec<Known> = known
        .iter()
        .map(|(shard, id)| Known { replica: ReplicaId(*id), states: states(&dir.path().join(format!("{id}")), *shard) })
        .collect();
    let gone = gone.iter().map(|(shard, id)| (*shard, ReplicaId(*id))).collect();
    let options = LogsOptions { lane: lane.clone(), votes, cache_bytes: 0, keep: Arc::new(()) };
    let logs = Logs::recover(options, &known, &gone, &recovery)?;
    Ok((lane, logs))
}

#[tokio::test]
async fn l2_a_replica_finds_nothing_of_those_that_were_here_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let (lane, logs) = recover(&dir, &[(SHARD, 1)], &[]).unwrap();
    let mut first = logs.get(SHARD).unwrap();
    first.save_vote(Vote::new(4, 2)).await.unwrap();
    append(&mut first, vec![entry(1, 0, b"first"), entry(1, 1, b"more")]).await;
    assert_eq!(
        logs.create(SHARD, ReplicaId(7)).map(|_| ()).unwrap_err().code,
        Code::Internal,
        "the first is still here"
    );
    logs.forget(SHARD).unwrap();
    assert_eq!(logs.oldest_files(), [], "nothing needs its entries");
    let mut second = logs.create(SHARD, ReplicaId(7)).unwrap();
    assert_eq!((second.vote(), second.last_index()), (None, None));
    append(&mut second, vec![entry(2, 0, b"second")]).await;
    assert!(logs.oldest_files()[0].is_some());
    lane.close();
    drop((lane, logs, first, second));

    let (lane, logs) = recover(&dir, &[(SHARD, 7)], &[]).unwrap();
    let second = logs.get(SHARD).unwrap();
    assert_eq!((second.vote(), second.last_index()), (None, Some(0)));
    assert_eq!(second.payload(RaftIndex(0)).unwrap().unwrap(), "second");
    lane.close();
    drop((lane, logs, second));
    let strange = recover(&dir, &[(SHARD, 5)], &[]).map(|_| ()).unwrap_err();
    assert!(strange.code == Code::CorruptData && strange.message.contains("replica 7"), "{strange}");
}

#[tokio::test]
async fn frames_of_a_replica_that_has_left_are_passed_over_and_those_of_a_later_one_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let (lane, logs) = recover(&dir, &[], &[]).unwrap();
    let mut log = logs.create(SHARD, ReplicaId(5)).unwrap();
    append(&mut log, vec![entry(1, 0, b"x")]).await;
    lane.close();
    drop((lane, logs, log));
    for (gone, is_error) in [(4, true), (5, false), (6, false)] {
        let recovered = recover(&dir, &[], &[(SHARD, gone)]);
        assert_eq!(recovered.as_ref().err().map(|error| error.code), is_error.then_some(Code::CorruptData));
        if let Ok((lane, logs)) = recovered {
            assert!(logs.get(SHARD).is_none() && logs.oldest_files().is_empty());
            lane.close();
        }
    }
}

#[test]
fn l4_the_file_of_an_entry_that_the_lane_has_and_the_index_not_yet_does_not_look_free() {
    let dir = tempfile::tempdir().unwrap();
    let (lane, log) = open(&dir, 0);
    assert_eq!(log.retained().oldest_file, None);
    let nobody_writes = log.0.index.read();
    let appending = std::thread::spawn({
        let log = log.clone();
        let entry = NewEntry {
            index: 0,
            term: 1,
            kind: FrameKind::Normal,
            payload: Bytes::from_static(b"x"),
            promises: Arc::from([]),
        };
        move || log.append(vec![entry], || ())
    });
    while lane.stats().frames == 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(log.0.appends.try_lock().is_none(), "L4: nobody may ask yet");
    let asking = std::thread::spawn({
        let log = log.clone();
        move || log.retained().oldest_file
    });
    drop(nobody_writes);
    appending.join().unwrap().unwrap();
    assert_eq!(asking.join().unwrap(), Some(1), "L4: it holds an entry");
}

#[tokio::test]
async fn l4_a_release_during_an_install_keeps_what_a_crash_would_go_back_to() {
    let dir = tempfile::tempdir().unwrap();
    let (_lane, mut log) = open(&dir, 0);
    append(&mut log, (0..=6).map(|index| entry(1, index, b"x")).collect()).await;
    log.state_saved(RaftIndex(3));
    GroupLog::purge(&log, 1, 3).unwrap();
    log.jump(2, 20).unwrap();
    log.release(RaftIndex(3));
    assert_eq!(log.retained().oldest_file, Some(1), "L4: the newest state file needs entries 4 to 6");
    log.state_saved(RaftIndex(20));
    log.release(RaftIndex(20));
    assert_eq!(log.retained().oldest_file, None);
}

#[tokio::test]
async fn l4_a_jump_of_a_log_without_entries_stays_until_its_state_file_is_durable() {
    let dir = tempfile::tempdir().unwrap();
    let (_lane, mut log) = open(&dir, 0);
    append(&mut log, (0..=6).map(|index| entry(1, index, b"x")).collect()).await;
    log.state_saved(RaftIndex(6));
    GroupLog::purge(&log, 1, 6).unwrap();
    log.release(RaftIndex(6));
    assert_eq!(log.retained().oldest_file, None);
    log.jump(2, 20).unwrap();
    assert_eq!(log.retained().oldest_file, Some(1), "L4: without it the entries that follow have a hole before them");
}

#[tokio::test]
async fn a_start_looks_at_all_entries_and_reads_none() {
    let dir = tempfile::tempdir().unwrap();
    let (lane, mut log) = open(&dir, 0);
    let membership = openraft::Membership::new_with_defaults(vec![[1].into()], []);
    let first = Entry { log_id: log_id(1, 0), payload: EntryPayload::Membership(membership) };
    append(&mut log, vec![first.clone(), entry(1, 1, &[7; 1_000]), entry(2, 2, &[7; 1_000])]).await;
    lane.close();
    drop((lane, log));

    let (_lane, mut log) = open(&dir, 0);
    let whole = log.try_get_log_entries(..).await.unwrap();
    log.set_starting(true);
    let seen = log.try_get_log_entries(..).await.unwrap();
    assert_eq!(
        seen.iter().map(|entry| entry.log_id).collect::<Vec<_>>(),
        whole.iter().map(|e| e.log_id).collect::<Vec<_>>()
    );
    assert_eq!(seen[0], first);
    let empty = EntryPayload::Normal(EntryBytes::from(Bytes::new()));
    assert!(seen[1].payload == empty && seen[2].payload == empty && whole[1].payload != empty);
    assert_eq!(log.get_key_log_ids(log_id(1, 0)..=log_id(2, 2)).await.unwrap(), [log_id(1, 1), log_id(2, 2)]);
}

/// A state machine for the suite: it remembers what was applied last, and a snapshot is that.
#[derive(Clone, Default)]
struct MemoryMachine(Arc<Mutex<Memory>>);

#[derive(Clone, Default)]
struct Memory {
    applied: Option<LogId>,
    membership: StoredMembership,
    snapshot: Option<SnapshotMetaOf<TypeConfig>>,
}

impl RaftSnapshotBuilder<TypeConfig> for MemoryMachine {
    type SnapshotData = ();

    async fn build_snapshot(&mut self) -> std::io::Result<SnapshotOf<TypeConfig, ()>> {
        let mut memory = self.0.lock();
        let meta =
            SnapshotMetaOf::<TypeConfig> { last_log_id: memory.applied, last_membership: memory.membership.clone() };
        memory.snapshot = Some(meta.clone());
        Ok(SnapshotOf::<TypeConfig, ()> { meta, snapshot: () })
    }
}

impl RaftStateMachine<TypeConfig> for MemoryMachine {
    type SnapshotData = ();
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> std::io::Result<(Option<LogId>, StoredMembership)> {
        let memory = self.0.lock();
        Ok((memory.applied, memory.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> std::io::Result<()>
    where
        S: Stream<Item = std::io::Result<EntryResponder<TypeConfig>>> + Unpin + OptionalSend,
    {
        while let Some((entry, responder)) = entries.try_next().await? {
            let mut memory = self.0.lock();
            memory.applied = Some(entry.log_id());
            if let EntryPayload::Membership(membership) = entry.payload {
                memory.membership = StoredMembership::new(memory.applied, membership);
            }
            if let Some(responder) = responder {
                responder.send(Answers::default());
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMetaOf<TypeConfig>, _snapshot: ()) -> std::io::Result<()> {
        let (applied, membership) = (meta.last_log_id, meta.last_membership.clone());
        *self.0.lock() = Memory { applied, membership, snapshot: Some(meta.clone()) };
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> std::io::Result<Option<SnapshotOf<TypeConfig, ()>>> {
        let meta = self.0.lock().snapshot.clone();
        Ok(meta.map(|meta| SnapshotOf::<TypeConfig, ()> { meta, snapshot: () }))
    }
}

/// Else two nodes that lead and follow each other would wait for each other for ever.
#[tokio::test]
async fn batches_that_wait_for_their_entry_leave_room_for_what_another_leader_sends() {
    let dir = tempfile::tempdir().unwrap();
    let (_lane, log) = open(&dir, 0);
    let waiting: Vec<_> = std::iter::from_fn(|| log.promise_waiting(10_000, 0).ok()).collect();
    assert!(!waiting.is_empty());
    assert_eq!(log.promise_waiting(10_000, 0).err(), Some(NoPromise::Waiting));
    let (vote, entries) = (Vote::new(1, 2), vec![entry(1, 1, &[0; 400 << 10])]);
    let mut append = AppendEntriesRequest { vote, prev_log_id: None, entries, leader_commit: None };
    log.make_room(&mut append).await.unwrap();
    drop(waiting);
    log.promise_waiting(500_000, 0).expect("a large batch may wait, if it is the only one");
}

#[test]
fn the_next_file_is_made_once_room_is_lacking() {
    let dir = tempfile::tempdir().unwrap();
    let (_lane, log) = open(&dir, 0);
    let first = log.promise(700_000, 0).unwrap_or_else(|_| panic!("an empty file has room"));
    while let Err(NoPromise::Room(_)) = log.promise(700_000, 0).map(drop) {
        std::thread::yield_now();
    }
    drop(first);
}
