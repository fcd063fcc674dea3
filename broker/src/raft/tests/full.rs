//! Replicas on full disks.

use std::time::Duration;

use openraft::raft::{AppendEntriesRequest, VoteRequest};
use stratalog_proto::Code;
use tokio::time::{sleep, timeout};

use super::cluster::{ALL, Cluster, simulate};
use crate::raft::types::{Vote, log_id};
use crate::raft::wire::{Answer, Request};

/// Batches that take more than two log files.
const MANY: usize = 400;

/// A cluster with a replica whose disk is full, and that has no room for what was written since.
async fn full(seed: u64) -> (Cluster, u64) {
    let (mut cluster, leader) = Cluster::agreed(seed, 3).await;
    let full = ALL.into_iter().find(|id| *id != leader).unwrap();
    let disk = &cluster.at(full).disk;
    disk.set_capacity(disk.used_bytes());
    cluster.produce_some(MANY).await;
    sleep(Duration::from_secs(5)).await;
    assert_eq!(cluster.leader(), Some(leader), "heartbeats pass");
    assert!(cluster.at(full).machine.applied() < cluster.at(leader).machine.applied(), "it had no room for all");
    (cluster, full)
}

#[test]
fn a_follower_on_a_full_disk_refuses_what_its_log_has_no_room_for_and_takes_it_once_there_is_some() {
    simulate(async {
        let (mut cluster, full) = full(11).await;
        let durable = timeout(Duration::from_secs(1), cluster.at(full).log().all_durable()).await;
        durable.expect("nothing waits in the lane, where it would hold up all groups").unwrap();
        cluster.at(full).disk.set_capacity(u64::MAX);
        cluster.settle().await;
        cluster.check();
    });
}

#[test]
fn a_follower_on_a_full_disk_answers_heartbeats_and_votes_and_tells_why_it_takes_no_entries() {
    simulate(async {
        let (cluster, full) = full(12).await;
        let leader = cluster.leader().unwrap();
        let (sender, group) = (cluster.at(leader).log(), &cluster.at(full).group);
        let last = cluster.at(full).log().ends()[1].map(|(term, index)| log_id(term, index)).unwrap();
        let mut missing = sender.clone();
        let entries = openraft::storage::RaftLogReader::limited_get_log_entries(&mut missing, last.index + 1, u64::MAX);
        let vote = sender.vote().unwrap();
        let append = |entries| AppendEntriesRequest { vote, prev_log_id: Some(last), entries, leader_commit: None };
        let heartbeat = group.answer(Request::Append(append(vec![])).encode()).await.unwrap();
        assert_eq!(Answer::decode(heartbeat).unwrap(), Answer::Appended(Some(last)));
        let refused = group.answer(Request::Append(append(entries.await.unwrap())).encode()).await;
        assert_eq!(refused.unwrap_err().code, Code::StorageFull);
        let rival = Vote::new(vote.leader_id.term + 1, leader);
        let vote = Request::Vote(VoteRequest::new(rival, sender.ends()[1].map(|(term, index)| log_id(term, index))));
        assert!(matches!(Answer::decode(group.answer(vote.encode()).await.unwrap()).unwrap(), Answer::Vote(_)));
    });
}

#[test]
fn a_vote_waits_for_room_and_is_told_to_nobody_before() {
    simulate(async {
        let (cluster, leader) = Cluster::agreed(13, 3).await;
        let full = ALL.into_iter().find(|id| *id != leader).unwrap();
        let log = cluster.at(full).log().clone();
        let disk = cluster.at(full).disk.clone();
        let before = log.vote().unwrap();
        // Not even the space that is kept for a vote is there.
        stratalog_storage::Io::remove(&disk, std::path::Path::new("/votes/reserve")).unwrap();
        disk.set_capacity(0);
        let next = Vote::new(before.leader_id.term + 1, full);
        let saving = tokio::spawn({
            let log = log.clone();
            async move { log.save_vote(next).await }
        });
        sleep(Duration::from_secs(10)).await;
        assert!(!saving.is_finished() && log.vote() == Some(before));
        disk.set_capacity(u64::MAX);
        saving.await.unwrap().unwrap();
        assert_eq!(log.vote(), Some(next));
    });
}
