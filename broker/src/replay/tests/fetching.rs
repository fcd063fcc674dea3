//! Segments that other replicas have, and this one does not.

use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use stratalog_proto::SegmentId;

use super::*;

/// The segments of another replica, in a directory.
pub(super) struct Directory {
    dir: TempDir,
    /// So many files more come damaged.
    damaged: AtomicUsize,
    /// Segments of which no byte ever comes.
    hanging: Mutex<Vec<SegmentId>>,
    /// How many chunks come of each file before the connection is lost.
    chunks: AtomicUsize,
    /// From where each fetch began.
    offsets: Mutex<Vec<u64>>,
}

impl Directory {
    /// Has the files that `of` had; they are gone there.
    pub(super) fn of(of: &TempDir) -> Arc<Self> {
        let peer = Self::copy_of(of);
        files(of, ".rec").iter().for_each(|name| std::fs::remove_file(of.path().join("segments").join(name)).unwrap());
        peer
    }

    /// Has the files that `of` has.
    pub(super) fn copy_of(of: &TempDir) -> Arc<Self> {
        let dir = tempfile::tempdir().unwrap();
        for name in files(of, ".rec") {
            std::fs::copy(of.path().join("segments").join(&name), dir.path().join(&name)).unwrap();
        }
        Arc::new(Self {
            dir,
            damaged: AtomicUsize::default(),
            hanging: Mutex::default(),
            chunks: AtomicUsize::new(usize::MAX),
            offsets: Mutex::default(),
        })
    }

    /// Has none of its files, or has them again.
    pub(super) fn hide(&self, hidden: bool) {
        let (dir, away) = (self.dir.path(), self.dir.path().join("away"));
        std::fs::create_dir_all(&away).unwrap();
        let (from, to) = if hidden { (dir, away.as_path()) } else { (away.as_path(), dir) };
        for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap).filter(|entry| entry.path().is_file()) {
            std::fs::rename(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

#[async_trait]
impl PeerSegments for Directory {
    async fn fetch(&self, _: ShardId, meta: &RecMeta, offset: u64) -> Result<SegmentBytes, Error> {
        self.offsets.lock().push(offset);
        if self.hanging.lock().contains(&meta.id) {
            return Ok(stream::pending().boxed());
        }
        let read = std::fs::read(self.dir.path().join(rec_file_name(meta.id)));
        let mut bytes = read.map_err(|error| Error::new(Code::Unavailable, error.to_string()))?;
        if self.damaged.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok() {
            bytes[1_000] ^= 1;
        }
        let chunks = bytes[offset as usize..].chunks(5_000).map(|chunk| Ok(Bytes::copy_from_slice(chunk)));
        let mut chunks: Vec<_> = chunks.take(self.chunks.load(Ordering::SeqCst)).collect();
        if self.chunks.load(Ordering::SeqCst) < usize::MAX {
            chunks.push(Err(Error::new(Code::Unavailable, "the connection is lost")));
        }
        Ok(stream::iter(chunks).boxed())
    }

    fn may_have(&self, _: ShardId) -> bool {
        true
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_lost_its_segments_fetches_them_and_checks_what_comes() {
    let dir = tempfile::tempdir().unwrap();
    let topic = saved(&dir).await;
    let peer = Directory::of(&dir);
    peer.damaged.store(1, Ordering::SeqCst);

    let node = Node::start_with(&dir, Arc::clone(&peer) as _).await;
    let recs = node.recs();
    let error = node.shard.recs().get(&recs[0]).unwrap_err();
    assert!(error.code == Code::Unavailable && error.message.contains("offsets 0.."), "{error}");
    eventually("it is here", || node.shard.recs().has(recs[0].id)).await;
    assert_eq!(*peer.offsets.lock(), [0, 0], "what came first was damaged, and nothing of it is kept");
    assert_eq!(files(&dir, ".part"), [""; 0]);
    node.check(topic, 100);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fetch_that_breaks_off_goes_on_where_it_was_after_a_restart_too() {
    let dir = tempfile::tempdir().unwrap();
    let topic = saved(&dir).await;
    let peer = Directory::of(&dir);
    peer.chunks.store(2, Ordering::SeqCst);
    let node = Node::start_with(&dir, Arc::clone(&peer) as _).await;
    eventually("it has broken off twice", || peer.offsets.lock().len() > 2).await;
    node.stop().await;

    peer.chunks.store(usize::MAX, Ordering::SeqCst);
    let node = Node::start_with(&dir, Arc::clone(&peer) as _).await;
    eventually("it is here", || node.shard.recs().has(node.recs()[0].id)).await;
    let offsets = peer.offsets.lock().clone();
    assert!(offsets.iter().enumerate().all(|(n, offset)| *offset == 10_000 * n as u64), "{offsets:?}");
    node.check(topic, 100);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_never_answers_holds_up_neither_the_roller_nor_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let topic = saved(&dir).await;
    let peer = Directory::of(&dir);
    let mut node = Node::start_with(&dir, Arc::clone(&peer) as _).await;
    let missing = node.recs()[0].id;
    *peer.hanging.lock() = vec![missing];
    eventually("it is asked for", || !peer.offsets.lock().is_empty()).await;
    node.append(topic, 100).await;
    let rolled = async {
        // On a busy machine it does not lead all the time.
        while node.recs().len() < 2 {
            node.worker.round().await;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), rolled)
        .await
        .expect("the roller waits for nobody, and rolls meanwhile");
    assert!(!node.shard.recs().has(missing));
    tokio::time::timeout(Duration::from_secs(5), node.worker.leave(ID)).await.expect("nor does its end");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l4_what_the_own_log_cannot_make_is_fetched_and_the_log_stays_until_then() {
    let dir = tempfile::tempdir().unwrap();
    let topic = rolled(&dir).await;
    let peer = Directory::of(&dir);
    peer.hide(true);
    let mut node = Node::start_with(&dir, Arc::clone(&peer) as _).await;
    let log = dir.path().join("lane/00000000000000000001.log");
    super::trouble::flip_in(&log, 5 * 4096 + 1_000);
    let recs = node.recs();
    node.worker.round().await;
    // A failure is followed by a pause.
    tokio::time::sleep(Duration::from_millis(600)).await;
    node.worker.round().await;
    assert!(node.shard.recs().is_waiting() && node.worker.snapshot(0).await.is_err(), "L4");
    assert!(!node.shard.recs().has(recs[0].id) && node.shard.recs().has(recs[1].id), "the others are made");
    peer.hide(false);
    eventually("it is here", || node.shard.recs().has(recs[0].id)).await;
    assert!(!node.shard.recs().is_waiting());
    node.worker.snapshot(0).await.unwrap();
    node.check(topic, 100);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_segment_that_leaves_the_manifest_while_it_is_fetched_leaves_no_file() {
    use stratalog_proto::entry::Command;
    use stratalog_proto::internal;

    let dir = tempfile::tempdir().unwrap();
    let topic = saved(&dir).await;
    let peer = Directory::of(&dir);
    peer.chunks.store(2, Ordering::SeqCst);
    let mut node = Node::start_with(&dir, Arc::clone(&peer) as _).await;
    let missing: Vec<SegmentId> = node.recs().iter().map(|meta| meta.id).collect();
    eventually("a part is here", || !files(&dir, ".part").is_empty()).await;
    *peer.hanging.lock() = missing;
    node.shard.propose(Command::RemoveTopic(internal::RemoveTopic { topic: topic.to_bytes() })).await.unwrap();
    node.worker.round().await;
    eventually("nothing of it is left", || files(&dir, ".part").is_empty()).await;
    node.stop().await;
}
