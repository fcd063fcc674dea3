//! Files that come in part, late, or not at all.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, StreamExt};
use stratalog_proto::{Code, Error};
use stratalog_storage::Io;
use stratalog_storage::simulation::SimDisk;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Arriving, SegmentBytes, Wanted, Way, fetch};

const DIR: &str = "/segments";

#[derive(Clone, Default)]
struct Waiting {
    given_up: CancellationToken,
    arrived: Arc<AtomicBool>,
}

impl Arriving for Waiting {
    fn given_up(&self) -> &CancellationToken {
        &self.given_up
    }

    fn arrived(&self) -> Result<(), Error> {
        self.arrived.store(true, Ordering::SeqCst);
        Ok(())
    }
}

fn disk() -> SimDisk {
    let disk = SimDisk::seeded(1);
    disk.create_dir_all(Path::new(DIR)).unwrap();
    disk
}

/// A file of these bytes.
fn wanted(disk: &SimDisk, bytes: &[u8]) -> Wanted {
    Wanted {
        what: "a segment".to_owned(),
        io: Arc::new(disk.clone()),
        dir: DIR.into(),
        name: "a.rec".to_owned(),
        bytes: bytes.len() as u64,
        blake3: *blake3::hash(bytes).as_bytes(),
    }
}

fn listed(disk: &SimDisk) -> Vec<String> {
    disk.list(Path::new(DIR)).unwrap()
}

/// These chunks, and then nothing, for ever.
fn hanging(chunks: &[&'static [u8]]) -> SegmentBytes {
    let chunks: Vec<_> = chunks.iter().map(|chunk| Ok(Bytes::from_static(chunk))).collect();
    stream::iter(chunks).chain(stream::pending()).boxed()
}

#[tokio::test(start_paused = true)]
async fn a_source_that_falls_silent_is_given_up_and_what_came_of_it_stays() {
    let (disk, waiting, tasks) = (disk(), Waiting::default(), TaskTracker::new());
    let asked = Arc::new(AtomicBool::new(false));
    let fetching = tokio::spawn({
        let (wanted, waiting, tasks, asked) =
            (wanted(&disk, b"one two"), Box::new(waiting.clone()), tasks.clone(), Arc::clone(&asked));
        async move {
            let source = |_| async move {
                asked.store(true, Ordering::SeqCst);
                Ok(hanging(&[b"one "]))
            };
            fetch(wanted, waiting, &Way::new(0), &tasks, source).await
        }
    });
    while !asked.load(Ordering::SeqCst) || listed(&disk).is_empty() {
        tokio::task::yield_now().await;
    }
    while !fetching.is_finished() {
        tokio::time::advance(Duration::from_secs(1)).await;
        tokio::task::yield_now().await;
    }
    let error = fetching.await.unwrap().unwrap_err();
    assert!(error.code == Code::Unavailable && error.message.contains("nothing has come"), "{error}");
    assert_eq!(listed(&disk), ["a.rec.part"]);

    let rest = |offset| async move {
        assert_eq!(offset, 4);
        Ok(stream::iter([Ok(Bytes::from_static(b"two"))]).boxed())
    };
    fetch(wanted(&disk, b"one two"), Box::new(waiting.clone()), &Way::new(0), &tasks, rest).await.unwrap();
    assert!(waiting.arrived.load(Ordering::SeqCst));
    assert_eq!(listed(&disk), ["a.rec"]);
}

#[tokio::test]
async fn nothing_is_left_of_a_file_that_nobody_needs_any_more() {
    let (disk, waiting, tasks) = (disk(), Waiting::default(), TaskTracker::new());
    let give_up = waiting.given_up.clone();
    let source = |_| async move {
        give_up.cancel();
        Ok(hanging(&[b"one "]))
    };
    let ended = fetch(wanted(&disk, b"one two"), Box::new(waiting.clone()), &Way::new(0), &tasks, source).await;
    assert_eq!(ended.unwrap_err().code, Code::Unavailable);
    tasks.close();
    tasks.wait().await;
    assert!(listed(&disk).is_empty() && !waiting.arrived.load(Ordering::SeqCst));
}

#[tokio::test]
async fn x1_more_bytes_than_were_promised_are_not_kept() {
    let (disk, tasks) = (disk(), TaskTracker::new());
    let source = |_| async { Ok(stream::iter([Ok(Bytes::from_static(b"one two three"))]).boxed()) };
    let refused = fetch(wanted(&disk, b"one two"), Box::new(Waiting::default()), &Way::new(0), &tasks, source).await;
    assert_eq!(refused.unwrap_err().code, Code::CorruptData);
    assert!(listed(&disk).is_empty());
}
