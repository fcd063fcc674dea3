//! Rows follow leadership.

use stratalog_proto::Code;

use super::*;
use crate::rows::testing::{FakeCopies, rows_with};

#[tokio::test]
async fn only_who_leads_has_rows_and_each_term_begins_with_all_of_them() {
    let dir = tempfile::tempdir().unwrap();
    let (log, logs) = (MemLog::new(dir.path()), topic("logs", 1, TopicConfig::default()));
    log.create(&logs);
    log.produce(&logs, 0, &[&at_hour(0)]);
    let rows = start(&log, std::slice::from_ref(&logs), quiet()).await;
    rows.seal_now(&logs).await.unwrap();
    log.produce(&logs, 0, &[&at_hour(1), &at_hour(2)]);
    assert_eq!(rows_of(&rows, &logs).await.len(), 3);

    log.lead(2, false);
    eventually("the rows are forgotten", || !rows.leads(ShardId(1)) && rows.stats().tail_bytes == 0).await;
    let refused = rows.snapshot(&logs, &[], soon()).await.unwrap_err();
    assert_eq!(refused.code, Code::NotLeader);
    assert_eq!(rows.seal_now(&logs).await.unwrap_err().code, Code::NotLeader);
    assert_eq!(rows.segments(&logs).len(), 1, "what is sealed is known all the same");
    rows.admit(ShardId(1), logs.id).await.unwrap();

    log.produce(&logs, 0, &[&at_hour(3)]);
    for term in [3, 4] {
        log.lead(term, true);
        eventually("the next term begins", || rows.shards_of(&logs).next().is_some_and(|shard| shard.term.0 == term))
            .await;
        assert_eq!(rows_of(&rows, &logs).await, [(0, 0), (0, 1), (0, 2), (0, 3)]);
    }
    rows.check_rebuilt().unwrap();
    eventually("tails of before are gone", || rows.stats().tail_rows == 3).await;
    assert!(rows.coverage(&logs)[0].1.holds());
    rows.stop().await;
}

#[tokio::test]
async fn a_replica_that_is_removed_leaves_nothing_at_work() {
    let dir = tempfile::tempdir().unwrap();
    let (log, logs) = (MemLog::new(dir.path()), topic("logs", 1, TopicConfig::default()));
    log.create(&logs);
    log.produce(&logs, 0, &[&at_hour(0)]);
    let rows = start(&log, std::slice::from_ref(&logs), quiet()).await;
    rows.remove(ShardId(1)).await;
    assert!(!rows.leads(ShardId(1)) && rows.segments(&logs).is_empty());
    eventually("its tail is gone", || rows.stats().tail_bytes == 0).await;
    rows.add(log.clone()).await.unwrap();
    assert_eq!(rows_of(&rows, &logs).await, [(0, 0)]);
    rows.stop().await;
}

#[tokio::test]
async fn s1_a_seal_of_somebody_else_may_end_inside_a_chunk() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let (log, logs) = (MemLog::new(dirs[0].path()), topic("logs", 2, TopicConfig::default()));
    log.create(&logs);
    log.produce(&logs, 0, &[&at_hour(0), &at_hour(1)]);
    log.produce(&logs, 1, &[&at_hour(0), "no JSON"]);
    let rows = start(&log, std::slice::from_ref(&logs), quiet()).await;
    let shard = rows.shards_of(&logs).next().unwrap();
    // While this is held, files that no manifest names are not collected.
    let merging = shard.merging.lock().await;
    let seals = sealed_elsewhere(&log, &logs, [dirs[1].path(), dirs[0].path()]).await;
    log.produce(&logs, 0, &[&at_hour(2), &at_hour(3), &at_hour(4), &at_hour(5)]);
    let all = [(0, 0), (0, 1), (0, 2), (0, 3), (0, 4), (0, 5), (1, 0), (1, 1)];
    assert_eq!(rows_of(&rows, &logs).await, all);
    assert_eq!(shard.tail.read(logs.id, |tail| tail.chunks.len()), 1, "what is sealed elsewhere is part of a chunk");

    log.apply(&seals).into_iter().for_each(|sealed| drop(sealed.unwrap()));
    drop(merging);
    assert_eq!(rows_of(&rows, &logs).await, all, "S1: each once");
    log.produce(&logs, 1, &[&at_hour(6)]);
    caught_up(&rows).await;
    rows.seal_now(&logs).await.unwrap();
    assert_eq!(rows_of(&rows, &logs).await.len(), 9);
    assert!(rows.coverage(&logs)[0].1.holds());
    assert_eq!(rows.stats().tail_bytes, 0);
    rows.stop().await;
}

/// The commands by which another replica, which leads as far as it knows, would seal what is there. It builds the files in
/// one directory, and the other gets them.
async fn sealed_elsewhere(log: &MemLog, logs: &Arc<TopicInfo>, [from, to]: [&Path; 2]) -> Vec<Command> {
    let other = log.follower(from);
    other.lead(1, true);
    let rows = start(&other, std::slice::from_ref(logs), quiet()).await;
    *other.fate.lock() = SealFate::Late;
    let shard = rows.shards_of(logs).next().unwrap();
    let merging = shard.merging.lock().await;
    rows.seal_now(logs).await.unwrap_err();
    let seals = other.take_late();
    for file in std::fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
    drop(merging);
    rows.stop().await;
    seals
}

#[tokio::test]
async fn nothing_is_proposed_that_no_majority_holds() {
    let dir = tempfile::tempdir().unwrap();
    let (log, logs) = (MemLog::new(dir.path()), topic("logs", 1, TopicConfig::default()));
    log.create(&logs);
    let copies = FakeCopies::of(dir.path());
    let rows = rows_with([log.clone()], copies.clone(), Arc::new(FixedTopics(vec![logs.clone()])), quiet()).await;
    log.produce(&logs, 0, &[&at_hour(0)]);
    *copies.holds.lock() = Err(Error::new(Code::Unavailable, "the others are away"));
    assert_eq!(rows.seal_now(&logs).await.unwrap_err().code, Code::Unavailable);
    assert_eq!(*copies.held.lock(), *copies.released.lock(), "they are told not to wait for it");
    assert_eq!((rows.segments(&logs).len(), segment_files(dir.path())), (0, 0));

    *copies.holds.lock() = Ok(());
    for hour in 0..2 {
        log.produce(&logs, 0, &[&at_hour(hour)]);
        rows.seal_now(&logs).await.unwrap();
    }
    let sealed = rows.segments(&logs).len();
    *copies.holds.lock() = Err(Error::new(Code::Unavailable, "the others are away"));
    assert_eq!(rows.merge_now(&logs).await.unwrap_err().code, Code::Unavailable);
    assert_eq!((rows.segments(&logs).len(), segment_files(dir.path())), (sealed, sealed));
    assert_eq!(rows_of(&rows, &logs).await, [(0, 0), (0, 1), (0, 2)]);
    rows.stop().await;
}

#[tokio::test]
async fn q1_a_query_that_waits_for_a_token_hears_that_this_node_leads_no_longer() {
    let dir = tempfile::tempdir().unwrap();
    let (log, logs) = (MemLog::new(dir.path()), topic("logs", 1, TopicConfig::default()));
    log.create(&logs);
    let rows = start(&log, std::slice::from_ref(&logs), quiet()).await;
    let (waiting, of) = (rows.clone(), logs.clone());
    let token = Token { shard: ShardId(1), index: RaftIndex(1_000) };
    let snapshot = tokio::spawn(async move { waiting.snapshot(&of, &[token], soon()).await.map(drop) });
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!snapshot.is_finished(), "the token is not there yet");
    log.lead(2, false);
    assert_eq!(snapshot.await.unwrap().unwrap_err().code, Code::NotLeader);
    rows.stop().await;
}

#[tokio::test]
async fn s2_a_leadership_that_has_ended_proposes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (log, logs) = (MemLog::new(dir.path()), topic("logs", 1, TopicConfig::default()));
    log.create(&logs);
    let rows = start(&log, std::slice::from_ref(&logs), quiet()).await;
    let before = rows.shards_of(&logs).next().unwrap();
    before.check_leads().unwrap();
    log.lead(2, true);
    assert_eq!(before.check_leads().unwrap_err().code, Code::NotLeader, "before anybody has told it");
    let barrier = Command::Barrier(stratalog_proto::internal::Barrier {});
    assert_eq!(before.propose(barrier).await.unwrap_err().code, Code::NotLeader);
    rows.stop().await;
}
