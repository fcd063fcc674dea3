//! State files through crashes and damage.

use stratalog_proto::{Code, Error};

use super::*;
use crate::io::sim::SimDisk;

const SHARD: ShardId = ShardId(7);

fn point(term: u64, index: u64) -> LogPoint {
    LogPoint { term: Term(term), index: RaftIndex(index) }
}

fn image(index: u64) -> StateImage {
    let state = Bytes::from(format!("state at {index}"));
    StateImage { at: point(5, index), frontier: point(4, index / 2), membership: "members".into(), state }
}

fn dir() -> PathBuf {
    PathBuf::from("/shards/0007/state")
}

fn open(disk: &SimDisk) -> StateFiles {
    StateFiles::open(Arc::new(disk.clone()), &dir(), SHARD).unwrap()
}

fn names(disk: &SimDisk) -> Vec<String> {
    disk.list(&dir()).unwrap()
}

#[test]
fn the_newest_state_is_read_and_the_older_ones_go() {
    let disk = SimDisk::new();
    assert_eq!(open(&disk).newest().unwrap(), None);
    for index in [0, 9, 1_000] {
        let bytes = open(&disk).save(&image(index)).unwrap();
        assert_eq!(open(&disk).newest().unwrap(), Some(image(index)));
        assert_eq!(names(&disk), [file_name(RaftIndex(index))]);
        let written = disk.edit(&dir().join(file_name(RaftIndex(index))), |bytes| bytes.len() as u64);
        assert_eq!(bytes, written);
    }
}

#[test]
fn l5_a_power_cut_at_any_step_of_a_save_leaves_the_old_state_or_the_new_one() {
    let mut outcomes = std::collections::BTreeSet::new();
    for steps in 0..24 {
        let disk = SimDisk::new();
        open(&disk).save(&image(3)).unwrap();
        let left = std::sync::atomic::AtomicUsize::new(steps);
        disk.set_fault(move |_, _| {
            let step =
                left.fetch_update(std::sync::atomic::Ordering::SeqCst, std::sync::atomic::Ordering::SeqCst, |left| {
                    left.checked_sub(1)
                });
            step.map(|_| ()).map_err(|_| io::Error::other("the power is gone"))
        });
        let saved = open_with(&disk).and_then(|files| files.save(&image(8)));
        for seed in 0..8u32 {
            let mut bits = seed.wrapping_mul(2_654_435_761);
            let after = disk.after_power_cut(|| {
                bits = bits.rotate_left(7).wrapping_mul(0x9e37_79b9).wrapping_add(1);
                bits & 1 == 1
            });
            let found = open(&after).newest().unwrap().expect("a state was saved").at.index.0;
            assert!(found == 8 || found == 3 && saved.is_err(), "L5: {found} after {saved:?}");
            outcomes.insert(found);
            open(&after).save(&image(20)).unwrap();
            assert_eq!(names(&after), [file_name(RaftIndex(20))]);
        }
    }
    assert_eq!(outcomes.into_iter().collect::<Vec<_>>(), [3, 8], "both ends were seen");
}

#[test]
fn a_save_that_a_full_disk_refused_gives_its_space_back() {
    let disk = SimDisk::new();
    let files = open(&disk);
    files.save(&image(3)).unwrap();
    let used = disk.used_bytes();
    disk.set_capacity(used + 100);
    for index in 4..40 {
        assert_eq!(Error::from(files.save(&image(index)).unwrap_err()).code, Code::StorageFull);
        assert_eq!((names(&disk), disk.used_bytes()), (vec![file_name(RaftIndex(3))], used));
    }
    disk.set_capacity(2 * used + 100);
    files.save(&image(40)).unwrap();
    assert_eq!(open(&disk).newest().unwrap(), Some(image(40)));
}

#[test]
fn a_save_removes_what_an_earlier_one_left_and_nothing_else() {
    let disk = SimDisk::new();
    let files = open(&disk);
    let left = [format!("{}.tmp", file_name(RaftIndex(7))), "incoming-1.tmp".to_owned()];
    left.iter().for_each(|name| drop(disk.open(&dir().join(name), OpenMode::CreateNew).unwrap()));
    files.save(&image(8)).unwrap();
    assert_eq!(names(&disk), [file_name(RaftIndex(8)), left[1].clone()], "the staged entries are being installed");
}

#[test]
fn l5_a_state_that_was_read_survives_a_power_cut_even_if_saving_it_was_cut_short() {
    let disk = SimDisk::new();
    let files = open(&disk);
    files.save(&image(3)).unwrap();
    disk.set_fault(|op, path| match op {
        crate::io::sim::Op::Sync if path == dir() => Err(io::ErrorKind::Other.into()),
        _ => Ok(()),
    });
    files.save(&image(8)).unwrap_err();
    let disk = disk.after_kill();
    let read = open(&disk).newest().unwrap();
    assert_eq!(open(&disk.after_power_cut(|| false)).newest().unwrap(), read);
}

fn open_with(disk: &SimDisk) -> Result<StateFiles, StateError> {
    StateFiles::open(Arc::new(disk.clone()), &dir(), SHARD)
}

#[test]
fn l5_a_state_that_was_altered_is_an_error_and_never_an_older_one() {
    let disk = SimDisk::new();
    open(&disk).save(&image(3)).unwrap();
    let older = disk.edit(&dir().join(file_name(RaftIndex(3))), |bytes| bytes.clone());
    open(&disk).save(&image(8)).unwrap();
    let path = dir().join(file_name(RaftIndex(8)));
    write_durably(&disk, &dir().join(file_name(RaftIndex(3))), &[&older]).unwrap();
    let whole = disk.edit(&path, |bytes| bytes.clone());
    for at in 0..whole.len() {
        disk.edit(&path, |bytes| bytes[at] ^= 0x10);
        open(&disk).newest().unwrap_err();
        disk.edit(&path, |bytes| {
            bytes[at] ^= 0x10;
            bytes.truncate(at);
        });
        assert!(matches!(open(&disk).newest(), Err(StateError::Corrupt { .. })), "cut at {at}");
        disk.edit(&path, |bytes| bytes.clone_from(&whole));
    }
    disk.edit(&path, |bytes| bytes.push(0));
    let error = Error::from(open(&disk).newest().unwrap_err());
    assert_eq!(error.code, Code::CorruptData);
    assert!(error.message.contains("00000000000000000008.state"), "{error}");
}

#[test]
fn a_state_of_another_shard_or_index_is_an_error() {
    let disk = SimDisk::new();
    open(&disk).save(&image(8)).unwrap();
    let other = StateFiles::open(Arc::new(disk.clone()), &dir(), ShardId(8)).unwrap();
    assert!(matches!(other.newest(), Err(StateError::Corrupt { .. })));
    disk.rename(&dir().join(file_name(RaftIndex(8))), &dir().join(file_name(RaftIndex(9)))).unwrap();
    assert!(matches!(open(&disk).newest(), Err(StateError::Corrupt { .. })));
}

#[test]
fn a_newer_version_says_so() {
    let disk = SimDisk::new();
    open(&disk).save(&image(8)).unwrap();
    disk.edit(&dir().join(file_name(RaftIndex(8))), |bytes| {
        bytes[8] = 2;
        let hashed = bytes.len() - HASH_BYTES;
        let hash = blake3::hash(&bytes[..hashed]);
        bytes[hashed..].copy_from_slice(hash.as_bytes());
    });
    assert!(matches!(open(&disk).newest(), Err(StateError::NewerVersion { version: 2, .. })));
}

#[test]
#[should_panic(expected = "L4")]
fn l4_a_frontier_above_the_state_is_refused() {
    let disk = SimDisk::new();
    let _ = open(&disk).save(&StateImage { frontier: point(5, 9), ..image(8) });
}

#[test]
fn a_file_of_version_1_is_read_for_ever() {
    let disk = SimDisk::new();
    let files = open(&disk);
    let fixture = include_bytes!("../../tests/fixtures/state-v1.state");
    write_durably(&disk, &files.path(RaftIndex(8)), &[fixture]).unwrap();
    assert_eq!(files.newest().unwrap(), Some(image(8)));
}

proptest::proptest! {
    #[test]
    fn x1_garbage_never_panics(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300), own in proptest::bool::ANY) {
        let mut bytes = bytes;
        if own && bytes.len() >= HEADER_BYTES + HASH_BYTES {
            bytes[..8].copy_from_slice(&MAGIC);
            bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
            bytes[12..16].copy_from_slice(&SHARD.0.to_le_bytes());
            let hashed = bytes.len() - HASH_BYTES;
            let hash = blake3::hash(&bytes[..hashed]);
            bytes[hashed..].copy_from_slice(hash.as_bytes());
        }
        let _ = decode(SHARD, Path::new("x"), &Bytes::from(bytes));
    }
}
