//! Long polls.

use stratalog_proto::entry::Command;
use stratalog_proto::internal;

use super::*;
use crate::shard::testing::append;

const LONG: Duration = Duration::from_secs(60);

/// A fetch at the high watermark of a partition, under way.
fn poll(
    node: &Arc<Hosted>,
    partition: u32,
    offset: u64,
    max_wait: Duration,
) -> tokio::task::JoinHandle<FetchedPartition> {
    let node = node.clone();
    let partitions = vec![(PartitionId(partition), Offset(offset))];
    let request = FetchRequest { partitions, max_wait, ..request(&[], 1 << 20) };
    tokio::spawn(async move { node.fetch(&request).await.remove(0) })
}

async fn until_listed(node: &Hosted, places: usize) {
    while node.shard().waiters().taken() != places {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn started(dir: &tempfile::TempDir, partitions: u32) -> Arc<Hosted> {
    Arc::new(Hosted::on(&MeteredDisk::default(), dir, partitions).await)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_append_ends_the_wait_of_its_partition_only() {
    let dir = tempfile::tempdir().unwrap();
    let node = started(&dir, 3).await;
    let (quiet, busy) = (poll(&node, 0, 0, LONG), poll(&node, 1, 0, LONG));
    until_listed(&node, 2).await;
    append(node.shard(), node.tp(1), batch()).await.unwrap();
    assert_eq!(offsets(&busy.await.unwrap()), [0]);
    until_listed(&node, 1).await;
    assert!(!quiet.is_finished());
    assert_eq!(node.deadlines.waiting(), 1);
    quiet.abort();
    assert!(quiet.await.unwrap_err().is_cancelled());
    until_listed(&node, 0).await;
    assert_eq!(node.deadlines.waiting(), 0, "who leaves gives all its places back");
    node.shard().stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wait_ends_at_its_deadline_with_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let node = started(&dir, 2).await;
    let waits = [0, 5, 30, 31, 60].map(Duration::from_millis);
    let polls = waits.map(|wait| (Instant::now(), wait, poll(&node, 0, 0, wait)));
    for (since, wait, poll) in polls {
        let fetched = poll.await.unwrap();
        assert!(since.elapsed() >= wait, "not before");
        assert_eq!((fetched.high_watermark, offsets(&fetched)), (Offset(0), vec![]));
    }
    assert_eq!(node.deadlines.waiting(), 0);
    node.shard().stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_is_removed_ends_the_wait_with_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let node = started(&dir, 1).await;
    let waiting = poll(&node, 0, 0, LONG);
    until_listed(&node, 1).await;
    let remove = internal::RemoveTopic { topic: node.topic.id.to_bytes() };
    node.shard().propose(Command::RemoveTopic(remove)).await.unwrap();
    assert_eq!(waiting.await.unwrap().result.unwrap_err().code, Code::UnknownTopic);
    node.shard().stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_waits_cost_one_timer_and_end_one_by_one() {
    let dir = tempfile::tempdir().unwrap();
    let node = started(&dir, 100).await;
    let polls: Vec<_> = (0..3_000).map(|n| poll(&node, n % 100, 0, LONG)).collect();
    until_listed(&node, 3_000).await;
    for n in 1..=10 {
        append(node.shard(), node.tp(n - 1), batch()).await.unwrap();
        until_listed(&node, 3_000 - 30 * n as usize).await;
    }
    assert_eq!(node.deadlines.waiting(), 2_700);
    polls.into_iter().for_each(|poll| poll.abort());
    until_listed(&node, 0).await;
    node.shard().stop().await;
}
