//! Backups of a cluster that is a few bytes in memory.

mod check;
mod removal;
mod schedule;
mod store;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parking_lot::Mutex;
use stratalog_proto::v1::copy_ask::Ask;
use stratalog_proto::v1::{CopyAnswer, CopyHead, CopySegment};
use stratalog_proto::{Code, Error};
use uuid::Uuid;

use crate::{Cluster, Copy, Made, Options, Stored, Target, make, stored_backups};

const CLUSTER: Uuid = Uuid::from_u128(7);
/// The segments of each shard, and what goes wrong.
#[derive(Clone, Default)]
struct Fake(Arc<Mutex<World>>);

/// Copies that a leader has open at most.
const MAX_OPEN: usize = 128;

#[derive(Default)]
struct World {
    shards: Vec<Vec<Bytes>>,
    /// What an answer holds at most.
    piece: usize,
    /// Questions until one fails.
    fails_after: Option<u32>,
    /// Segments that were asked for.
    pieces: usize,
    /// Other bytes are sent than were named.
    lies: bool,
    /// Copies that are open.
    open: usize,
}

struct FakeCopy {
    fake: Fake,
    shard: u32,
    segments: Vec<Bytes>,
}

impl Fake {
    fn of(shards: &[&[&'static str]]) -> Self {
        let fake = Self::default();
        fake.0.lock().piece = 5;
        fake.becomes(shards);
        fake
    }

    /// Has other segments from now on.
    fn becomes(&self, shards: &[&[&'static str]]) {
        let shards = shards.iter().map(|texts| texts.iter().map(|text| Bytes::from_static(text.as_bytes())).collect());
        self.0.lock().shards = shards.collect();
    }

    async fn backup(&self, target: &Target) -> Result<Made, Error> {
        make(self, target, &Options { bytes_per_second: 0, progress: &|_| (), notice: &|_| () }).await
    }
}

#[async_trait]
impl Cluster for Fake {
    async fn copy(&self, shard: u32) -> Result<Box<dyn Copy>, Error> {
        let segments = match shard {
            0 => Vec::new(),
            shard => self.0.lock().shards[shard as usize - 1].clone(),
        };
        let mut world = self.0.lock();
        if world.open == MAX_OPEN {
            return Err(Error::new(Code::Overloaded, "too many copies are open"));
        }
        world.open += 1;
        Ok(Box::new(FakeCopy { fake: self.clone(), shard, segments }))
    }
}

impl Drop for FakeCopy {
    fn drop(&mut self) {
        self.fake.0.lock().open -= 1;
    }
}

impl FakeCopy {
    fn state(&self) -> Bytes {
        format!("state of shard {}", self.shard).into()
    }
}

#[async_trait]
impl Copy for FakeCopy {
    async fn ask(&mut self, ask: Ask) -> Result<CopyAnswer, Error> {
        let mut world = self.fake.0.lock();
        match &mut world.fails_after {
            Some(0) => {
                world.fails_after = None;
                return Err(Error::new(Code::Unavailable, "the node is gone"));
            }
            Some(left) => *left -= 1,
            None => {}
        }
        let piece = world.piece;
        let some = |bytes: &Bytes, from: u64| bytes.slice(from as usize..bytes.len().min(from as usize + piece));
        Ok(match ask {
            Ask::Open(_) => CopyAnswer {
                head: Some(CopyHead {
                    cluster: Bytes::copy_from_slice(CLUSTER.as_bytes()),
                    feature_level: 1,
                    shards: (1..=world.shards.len() as u32).collect(),
                    at_term: 2,
                    at_index: 9,
                    frontier_term: 1,
                    frontier_index: 7,
                    state_bytes: self.state().len() as u64,
                    state_blake3: Bytes::copy_from_slice(blake3::hash(&self.state()).as_bytes()),
                    segments: self.segments.len() as u64,
                }),
                ..CopyAnswer::default()
            },
            Ask::StateFrom(from) => CopyAnswer { bytes: some(&self.state(), from), ..CopyAnswer::default() },
            Ask::EntriesFrom(from) => {
                CopyAnswer { bytes: format!("entry {from}").into(), next_entry: from + 1, ..CopyAnswer::default() }
            }
            Ask::SegmentsFrom(from) => {
                let segment = &self.segments[from as usize];
                let name = format!("{}.rec", Uuid::from_u128(u128::from(from)));
                let blake3 = Bytes::copy_from_slice(blake3::hash(segment).as_bytes());
                let segments = vec![CopySegment { name, bytes: segment.len() as u64, blake3 }];
                CopyAnswer { segments, ..CopyAnswer::default() }
            }
            Ask::Piece(piece) => {
                world.pieces += usize::from(piece.offset == 0);
                let mut bytes = some(&self.segments[piece.segment as usize], piece.offset);
                if world.lies {
                    bytes = bytes.iter().map(|byte| byte ^ 1).collect();
                }
                CopyAnswer { bytes, ..CopyAnswer::default() }
            }
        })
    }
}

fn memory() -> (Arc<InMemory>, Target) {
    let store = Arc::new(InMemory::new());
    (Arc::clone(&store), Target::of_store(store))
}

async fn read(mut pieces: crate::Pieces) -> Result<Vec<u8>, Error> {
    let mut all = Vec::new();
    while let Some(piece) = pieces.next().await? {
        all.extend_from_slice(&piece);
    }
    Ok(all)
}

#[tokio::test]
async fn a_second_backup_sends_only_segments_that_are_new() {
    let dir = tempfile::tempdir().unwrap();
    let target = Target::open(dir.path().join("made").to_str().unwrap()).unwrap();
    let fake = Fake::of(&[&["one segment", "shared"], &["shared"], &[]]);
    let first = fake.backup(&target).await.unwrap();
    assert_eq!((first.sent_segments, first.sent_segment_bytes), (2, 17), "what two shards have is sent once");
    fake.0.lock().shards[1].push(Bytes::from_static(b"new"));
    tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    let second = fake.backup(&target).await.unwrap();
    assert_eq!((second.sent_segments, second.sent_segment_bytes, fake.0.lock().pieces), (1, 3, 3));
    assert_eq!(stored_backups(&target).await.unwrap(), [first.manifest.id.clone(), second.manifest.id.clone()]);

    let stored = Stored::open(target.clone(), None).await.unwrap();
    assert_eq!(stored.manifest(), &second.manifest);
    let part = &stored.manifest().shards[1];
    assert_eq!(stored.state(part).await.unwrap(), "state of shard 2");
    assert_eq!(read(stored.log(part).await.unwrap()).await.unwrap(), b"entry 8entry 9");
    assert_eq!(read(stored.segment(&part.segments[1]).await.unwrap()).await.unwrap(), b"new");
    let old = Stored::open(target, Some(&first.manifest.id)).await.unwrap();
    assert_eq!(old.manifest().shards[1].segments.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_breaks_off_anywhere_is_begun_anew() {
    for fails_after in 0..30 {
        let (_, target) = memory();
        let fake = Fake::of(&[&["one segment", "another"], &["a third"]]);
        fake.0.lock().fails_after = Some(fails_after);
        let made = fake.backup(&target).await.unwrap();
        assert_eq!(made.sent_segments, 3, "after {fails_after} questions");
    }
}

#[tokio::test(start_paused = true)]
async fn l5_bytes_that_are_not_those_that_were_named_are_not_kept() {
    let (store, target) = memory();
    let fake = Fake::of(&[&["one segment"]]);
    fake.0.lock().lies = true;
    let refused = fake.backup(&target).await.unwrap_err();
    assert_eq!(refused.code, Code::CorruptData, "{refused}");
    assert!(target.segments().await.unwrap().is_empty());
    assert!(Stored::open(target, None).await.unwrap_err().message.contains("no backup that is whole"));
    assert!(store.head(&Path::from("cluster.json")).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_leader_of_very_many_shards_is_copied_with_the_copies_that_it_allows() {
    let (_, target) = memory();
    let fake = Fake::of(&[&[] as &[&str]; 2 * MAX_OPEN]);
    let made = fake.backup(&target).await.unwrap();
    assert_eq!((made.manifest.shards.len(), fake.0.lock().open), (2 * MAX_OPEN, 0));
}

#[tokio::test]
async fn the_place_of_another_cluster_is_refused() {
    let (_, target) = memory();
    target.claim(Uuid::from_u128(8)).await.unwrap();
    let refused = Fake::of(&[&[]]).backup(&target).await.unwrap_err();
    assert_eq!(refused.code, Code::WrongCluster);
}

#[tokio::test]
async fn l5_whatever_is_damaged_or_missing_is_named() {
    let (store, target) = memory();
    let made = Fake::of(&[&["one segment"]]).backup(&target).await.unwrap();
    let part = &made.manifest.shards[0];
    let objects: Vec<Path> = futures::TryStreamExt::try_collect::<Vec<_>>(store.list(None))
        .await
        .unwrap()
        .into_iter()
        .map(|meta| meta.location)
        .collect();
    assert_eq!(objects.len(), 7, "{objects:?}");
    for path in objects {
        let whole = store.get(&path).await.unwrap().bytes().await.unwrap();
        let mut flipped = whole.to_vec();
        *flipped.last_mut().unwrap() ^= 1;
        for damage in [Some(Bytes::from(flipped)), Some(whole.slice(1..)), None] {
            match damage {
                Some(bytes) => drop(store.put(&path, bytes.into()).await.unwrap()),
                None => store.delete(&path).await.unwrap(),
            }
            let error = read_all(&target, part).await.expect_err(path.as_ref());
            let is_named = error.message.contains(path.as_ref())
                || error.message.contains("there is no backup")
                || error.message.contains("there are no backups");
            assert!(is_named, "{path}: {error}");
        }
        store.put(&path, whole.into()).await.unwrap();
    }
    read_all(&target, part).await.unwrap();
}

async fn read_all(target: &Target, expected: &crate::Part) -> Result<(), Error> {
    let stored = Stored::open(target.clone(), None).await?;
    let parts: Vec<_> = stored.manifest().parts().cloned().collect();
    assert_eq!(parts.last(), Some(expected));
    for part in &parts {
        stored.state(part).await?;
        read(stored.log(part).await?).await?;
        for segment in &part.segments {
            read(stored.segment(segment).await?).await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn x1_a_manifest_that_lies_is_refused() {
    let (_, target) = memory();
    let made = Fake::of(&[&["one segment"], &[]]).backup(&target).await.unwrap().manifest;
    type Lie = fn(&mut crate::Manifest);
    let lies: &[(&str, Lie)] = &[
        ("a path", |m| m.shards[0].segments[0].name = "../../x.rec".into()),
        ("another name", |m| m.shards[0].segments[0].name = "x.rec".into()),
        ("a shard twice", |m| m.shards[1].shard = 1),
        ("no shards", |m| m.shards.clear()),
        ("the frontier ahead", |m| m.shards[0].frontier.index = 10),
        ("a state without end", |m| m.shards[0].state.bytes = u64::MAX),
        ("no log", |m| m.shards[0].log.bytes = 0),
        ("metadata of a shard", |m| m.metadata.shard = 1),
        ("an id that leads elsewhere", |m| m.id = "..".into()),
    ];
    for (name, lie) in lies {
        let mut manifest = made.clone();
        lie(&mut manifest);
        assert_eq!(manifest.encode().unwrap_err().code, Code::Internal, "{name}");
        let json = serde_json::to_vec(&manifest).unwrap();
        let head = format!("SLG-BACKUP 1 {}\n", blake3::hash(&json).to_hex());
        let refused = crate::Manifest::decode(&[head.as_bytes(), &json].concat()).unwrap_err();
        assert_eq!(refused.code, Code::CorruptData, "{name}");
    }
    for bytes in [&b""[..], b"SLG-BACKUP", b"SLG-BACKUP 1 00\n{}", b"\n", b"SLG-BACKUP 2 x\n{}"] {
        assert!(crate::Manifest::decode(bytes).is_err());
    }
}
