//! A check names everything that a restore would fail at.

use bytes::Bytes;

use super::store::World;
use super::{Fake, memory};
use crate::upload::PART_BYTES;
use crate::{Fault, Stored, check};

#[tokio::test]
async fn l5_a_check_names_each_object_that_is_missing_or_damaged() {
    let world = World::new();
    let made = Fake::of(&[&["one segment", "shared"], &["shared"]]).backup(&world.target()).await.unwrap();
    let stored = Stored::open(world.target(), None).await.unwrap();
    let clean = check(&stored, &|_| ()).await.unwrap();
    // Three states, three logs, and two segments.
    assert_eq!((clean.is_clean(), clean.objects), (true, 8), "{clean:?}");
    let read = parking_lot::Mutex::new(0);
    check(&stored, &|bytes| *read.lock() += bytes).await.unwrap();
    assert_eq!(*read.lock(), clean.bytes, "each object is read once");

    let objects: Vec<String> = world.objects().await.into_iter().filter(|name| !name.ends_with('t')).collect();
    let named = objects.iter().filter(|name| !name.ends_with(".json"));
    for (n, name) in named.enumerate() {
        match n % 3 {
            0 => world.flip(name).await,
            1 => world.delete(name).await,
            _ => world.put(name, "short").await,
        }
        let found = check(&stored, &|_| ()).await.unwrap();
        let expected = if n % 3 == 1 { Fault::Missing } else { Fault::Damaged };
        assert_eq!(found.findings.len(), n + 1, "{found:?}");
        assert!(found.findings.iter().any(|one| one.object == *name && one.fault == expected), "{name}: {found:?}");
    }
    assert_eq!(made.manifest.id, stored.manifest().id);
}

#[tokio::test]
async fn a_store_that_gives_nothing_is_no_damage() {
    let world = World::new();
    Fake::of(&[&["one", "two", "three", "four"], &["five", "six", "seven"]]).backup(&world.target()).await.unwrap();
    let process = world.process();
    let stored = Stored::open(process.target(), None).await.unwrap();
    let dead = process.clone().dies_at(process.requests());
    let refused = check(&stored, &|_| ()).await.unwrap_err();
    assert!(refused.message.contains("the process died"), "{refused} {dead}");
}

#[tokio::test]
async fn what_does_not_fit_into_one_part_comes_back_from_several() {
    let (_, target) = memory();
    let fake = Fake::of(&[&[]]);
    let large: Bytes = (0..2 * PART_BYTES + 12_345).map(|n| ((n * n) >> 7) as u8).collect();
    let exact = large.slice(..PART_BYTES);
    {
        let mut world = fake.0.lock();
        world.piece = 1_000_003;
        world.shards = vec![vec![large.clone(), exact.clone()]];
    }
    let made = fake.backup(&target).await.unwrap();
    assert_eq!((made.sent_segments, made.sent_segment_bytes), (2, (large.len() + exact.len()) as u64));
    let stored = Stored::open(target, None).await.unwrap();
    let segments = &stored.manifest().shards[0].segments;
    for (segment, bytes) in segments.iter().zip([large, exact]) {
        assert!(super::read(stored.segment(segment).await.unwrap()).await.unwrap() == bytes);
    }
    assert!(check(&stored, &|_| ()).await.unwrap().is_clean());
}
