use std::collections::BTreeSet;

use super::*;
use crate::io::{suite, write_durably};

const A: &str = "/a";

fn path() -> &'static Path {
    Path::new(A)
}

/// A disk with a file whose first four sectors are durable, each filled with its number, from 1.
fn with_four_sectors(seed: u64) -> (SimDisk, Arc<dyn File>) {
    let disk = SimDisk::seeded(seed);
    let file = disk.open(path(), OpenMode::CreateNew).unwrap();
    file.write_at(0, &(1..=4u8).flat_map(|n| [n; 512]).collect::<Vec<_>>()).unwrap();
    file.sync_all().unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    (disk, file)
}

fn bytes_of(disk: &SimDisk) -> Vec<u8> {
    disk.edit(path(), |bytes| bytes.clone())
}

/// The first byte of each sector.
fn heads(disk: &SimDisk) -> Vec<u8> {
    bytes_of(disk).chunks(512).map(|sector| sector[0]).collect()
}

#[test]
fn simulated_disk_passes_the_suite() {
    suite::run(Arc::new(SimDisk::new()), Path::new("/"));
    suite::run(Arc::new(SimDisk::seeded(1)), Path::new("/"));
}

#[test]
fn a_power_cut_loses_what_was_not_synced() {
    let disk = SimDisk::new();
    let file = disk.open(path(), OpenMode::CreateNew).unwrap();
    file.write_at(0, b"synced").unwrap();
    file.sync_data().unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    file.write_at(0, b"x").unwrap();
    disk.open(Path::new("/b"), OpenMode::CreateNew).unwrap();
    let after = disk.after_power_cut(|| false);
    assert_eq!(after.list(Path::new("/")).unwrap(), ["a"]);
    assert_eq!(bytes_of(&after), b"synced");
    assert_eq!(bytes_of(&disk.after_kill()), b"xynced");
    assert_eq!(bytes_of(&disk.after_kill().after_power_cut(|| false)), b"synced", "a kill makes nothing durable");
}

#[test]
fn write_durably_is_all_or_nothing_at_every_power_cut() {
    for fail_at in 0..5 {
        for kept in [false, true] {
            let disk = SimDisk::new();
            write_durably(&disk, path(), &[b"old"]).unwrap();
            let calls = Mutex::new(0);
            disk.set_fault(move |op, _| {
                let mut calls = calls.lock();
                *calls += u32::from(op != Op::View);
                if *calls > fail_at { Err(ErrorKind::Other.into()) } else { Ok(()) }
            });
            write_durably(&disk, path(), &[b"new!"]).unwrap_err();
            let found = bytes_of(&disk.after_power_cut(|| kept));
            assert!(found == b"old" || found == b"new!", "{found:?}");
        }
    }
}

#[test]
fn a_power_cut_keeps_loses_and_reorders_sectors() {
    let mut seen = BTreeSet::new();
    for seed in 0..400 {
        let (disk, file) = with_four_sectors(seed);
        file.write_at(0, &[10; 1024]).unwrap();
        file.write_at(512, &[20; 1024]).unwrap();
        seen.insert(heads(&disk.after_power_cut_by_seed()));
    }
    for expected in [
        [1, 2, 3, 4],    // all lost
        [10, 20, 20, 4], // all kept
        [10, 2, 3, 4],   // the first write torn
        [1, 20, 3, 4],   // the second torn, the first lost
        [1, 2, 20, 4],   // in another order
        [10, 10, 3, 4],  // the first kept, the second lost
    ] {
        assert!(seen.contains(&expected[..]), "{expected:?} is a possible outcome: {seen:?}");
    }
    assert!(seen.iter().all(|heads| heads[3] == 4), "what was synced stays");
}

#[test]
fn the_same_seed_brings_the_same_outcome() {
    let outcome = |seed| {
        let (disk, file) = with_four_sectors(seed);
        disk.set_rates(FaultRates { writes: 2, ..FaultRates::default() });
        let failed: Vec<bool> = (0..20).map(|n| file.write_at(n * 100, &[n as u8 + 30; 700]).is_err()).collect();
        (failed, bytes_of(&disk.after_power_cut_by_seed()))
    };
    assert_eq!(outcome(5), outcome(5));
    assert_ne!(outcome(5), outcome(6));
}

#[test]
fn a_rename_happens_whole_or_not_at_all() {
    let mut seen = BTreeSet::new();
    for seed in 0..50 {
        let (disk, _) = with_four_sectors(seed);
        disk.rename(path(), Path::new("/b")).unwrap();
        disk.open(Path::new("/c"), OpenMode::CreateNew).unwrap();
        seen.insert(disk.after_power_cut_by_seed().list(Path::new("/")).unwrap().join(" "));
    }
    assert_eq!(seen.iter().collect::<Vec<_>>(), ["a", "a c", "b", "b c"]);
}

#[test]
fn what_a_failed_sync_left_open_no_later_sync_settles() {
    let (disk, file) = with_four_sectors(1);
    file.write_at(0, &[10; 512]).unwrap();
    disk.fail_next(Op::Sync, "/a", ErrorKind::Other);
    file.sync_data().unwrap_err();
    file.sync_data().unwrap();
    assert_eq!(file.view(0..1).unwrap(), [10][..], "the page is clean in memory");
    assert_eq!(heads(&disk.after_power_cut(|| false))[0], 1);
    assert_eq!(heads(&disk.after_power_cut(|| true))[0], 10);
    file.write_at(0, &[11; 512]).unwrap();
    file.sync_data().unwrap();
    assert_eq!(heads(&disk.after_power_cut(|| false))[0], 11, "written again, it is synced");
}

#[test]
fn a_write_that_fails_may_leave_a_part_of_itself() {
    let mut seen = BTreeSet::new();
    for seed in 0..50 {
        let (disk, file) = with_four_sectors(seed);
        disk.fail_next(Op::Write, "/a", ErrorKind::Other);
        file.write_at(0, &[10; 1024]).unwrap_err();
        seen.insert(heads(&disk));
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), [[1, 2, 3, 4], [10, 2, 3, 4], [10, 10, 3, 4]]);
}

#[test]
fn lost_and_misdirected_writes_are_found_after_a_restart() {
    let (disk, file) = with_four_sectors(3);
    disk.lose_next_write("/a");
    file.write_at(0, &[10; 512]).unwrap();
    file.sync_all().unwrap();
    assert_eq!(file.view(0..1).unwrap(), [10][..]);
    assert_eq!(heads(&disk.after_kill()), [1, 2, 3, 4]);
    assert_eq!(heads(&disk.after_power_cut(|| true)), [1, 2, 3, 4]);

    let mut places = BTreeSet::new();
    for seed in 0..50 {
        let (disk, file) = with_four_sectors(seed);
        disk.misdirect_next_write("/a");
        file.write_at(0, &[10; 512]).unwrap();
        file.sync_all().unwrap();
        places.insert(heads(&disk.after_kill()));
    }
    assert!(places.contains(&vec![1, 10, 3, 4]) && places.contains(&vec![1, 2, 3, 10]), "{places:?}");
}

#[test]
fn rot_changes_durable_sectors_of_the_range_only() {
    for seed in 0..100 {
        for kind in Rot::ALL {
            let (disk, file) = with_four_sectors(seed);
            file.write_at(512, &[7; 512]).unwrap();
            file.sync_all().unwrap();
            let before = bytes_of(&disk);
            let hurt = disk.rot(path(), kind, 512..1536);
            let after = bytes_of(&disk.after_power_cut(|| false));
            assert_eq!(hurt.is_some(), before != after, "{kind:?}");
            assert_eq!((&before[..512], &before[1536..]), (&after[..512], &after[1536..]), "{kind:?}");
            match (kind, hurt) {
                (Rot::Flip | Rot::Zero, hurt) => assert!(hurt.is_some()),
                (Rot::Stale, hurt) => {
                    assert_eq!(hurt, Some(512..1024), "only this sector was written twice");
                    assert_eq!(after[512..1024], [2; 512]);
                }
                (Rot::Swap, hurt) => assert!(hurt.is_none() || after[512] == 3),
            }
        }
    }
}

#[test]
fn a_device_that_is_full_refuses_growth_and_takes_overwrites() {
    let (disk, file) = with_four_sectors(1);
    assert_eq!(disk.used_bytes(), 2048);
    disk.set_capacity(3000);
    file.write_at(2048, &[1; 952]).unwrap();
    for refused in [file.write_at(2990, &[1; 11]), file.allocate(3001), file.truncate(3001)] {
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::StorageFull);
    }
    assert_eq!(disk.open(Path::new("/b"), OpenMode::CreateNew).unwrap_err().kind(), ErrorKind::StorageFull);
    file.write_at(0, &[9; 3000]).unwrap();
    drop(file);
    disk.remove(path()).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    assert_eq!(disk.used_bytes(), 0, "nobody can reach it any more");
    disk.open(Path::new("/b"), OpenMode::CreateNew).unwrap().allocate(3000).unwrap();
}

#[test]
fn faults_come_as_often_as_they_are_ordered() {
    let (disk, file) = with_four_sectors(9);
    disk.set_rates(FaultRates { reads: 4, ..FaultRates::default() });
    let failed = (0..1000).filter(|_| file.view(0..1).is_err()).count();
    assert!((150..350).contains(&failed), "{failed} of 1000 calls failed, one in four was to");
    file.sync_all().unwrap();
    let reader = disk.after_kill().open(path(), OpenMode::Read).unwrap();
    assert!((0..100).all(|_| reader.view(0..1).is_ok()), "faults do not outlive a restart");
}
