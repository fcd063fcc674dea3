//! A disk that fails, and power that does.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::io::sim::{Op, SimDisk};

const DIR: &str = "/segments";

fn sim() -> SimDisk {
    let disk = SimDisk::new();
    disk.create_dir_all(Path::new(DIR)).unwrap();
    disk
}

fn path() -> PathBuf {
    Path::new(DIR).join(segment_file_name(spec().id))
}

fn write_to(disk: &SimDisk) -> Result<SegmentMeta, ColError> {
    write_segment(disk, Path::new(DIR), &spec(), &sample(300), Some(b"a text index"))
}

/// A file of the segment's name has to be the whole segment.
fn check_survivor(disk: SimDisk) -> bool {
    if !disk.exists(&path()).unwrap() {
        return false;
    }
    let reader = ColReader::open(Arc::new(disk), &path()).unwrap();
    reader.verify().unwrap();
    assert_eq!(read_all(&reader).unwrap(), sample(300));
    true
}

#[test]
fn power_that_fails_leaves_a_whole_file_or_none() {
    let disk = sim();
    let (watched, seed) = (disk.clone(), AtomicU64::new(1));
    disk.set_fault(move |_, _| {
        for _ in 0..8 {
            check_survivor(watched.after_power_cut(|| {
                // An odd multiplier and an odd step: a fair coin is enough here, and the same one in every run.
                let next = seed.load(Ordering::Relaxed).wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                seed.store(next, Ordering::Relaxed);
                next >> 63 == 0
            }));
        }
        Ok(())
    });
    write_to(&disk).unwrap();
    assert!(check_survivor(disk.after_power_cut(|| false)), "a segment that was reported is durable");
}

#[test]
fn a_failed_write_or_sync_is_an_error_and_leaves_nothing() {
    for fails in [Op::Write, Op::Sync] {
        let disk = sim();
        disk.set_fault(move |op, _| match op == fails {
            true => Err(io::Error::new(io::ErrorKind::StorageFull, "no room")),
            false => Ok(()),
        });
        let error = write_to(&disk).unwrap_err();
        assert_eq!(error.code(), stratalog_proto::Code::StorageFull);
        assert!(disk.list(Path::new(DIR)).unwrap().is_empty());
    }
}

#[test]
fn l5_a_medium_error_names_file_and_block_and_may_pass() {
    let disk = sim();
    write_to(&disk).unwrap();
    let reader = ColReader::open(Arc::new(disk.clone()), &path()).unwrap();
    disk.set_fault(|op, _| if op == Op::View { Err(io::Error::other("medium error")) } else { Ok(()) });
    let error = reader.read(0, 0).unwrap_err();
    assert_eq!(error.code(), stratalog_proto::Code::Io);
    let text = error.to_string();
    assert!(text.contains(".col") && text.contains("block 0") && text.contains("medium error"), "{text}");
    disk.set_fault(|_, _| Ok(()));
    assert_eq!(read_all(&reader).unwrap(), sample(300));
}

#[test]
fn l5_blocks_that_were_verified_are_not_trusted_by_verify() {
    let disk = sim();
    write_to(&disk).unwrap();
    let reader = ColReader::open(Arc::new(disk.clone()), &path()).unwrap();
    reader.verify().unwrap();
    disk.edit(&path(), |file| file[100] ^= 1);
    assert!(matches!(reader.verify().unwrap_err(), ColError::Corrupt { block: 0, .. }));
}
