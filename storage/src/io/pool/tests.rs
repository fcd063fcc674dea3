use std::thread;

use super::*;
use crate::io::sim::SimDisk;
use crate::io::{RealDisk, suite};

/// A disk that holds `open` files open at most, and on it files 0 to 19, each with its number in it.
fn limited(open: usize) -> SimDisk {
    let disk = SimDisk::new();
    for number in 0..20u8 {
        disk.open(&path(number), OpenMode::CreateNew).unwrap().write_at(0, &[number]).unwrap();
    }
    disk.limit_open_files(open);
    disk
}

fn path(number: u8) -> PathBuf {
    PathBuf::from(format!("/{number}"))
}

fn open_all(disk: &PooledDisk) -> Vec<Arc<dyn File>> {
    (0..20).map(|number| disk.open(&path(number), OpenMode::Read).unwrap()).collect()
}

#[test]
fn pooled_disk_passes_the_suite() {
    for capacity in [1, 512] {
        let dir = tempfile::tempdir().unwrap();
        suite::run(Arc::new(PooledDisk::with_capacity(Arc::new(RealDisk), capacity)), dir.path());
    }
}

#[test]
fn more_files_are_read_than_may_be_open() {
    let sim = limited(3);
    let files = open_all(&PooledDisk::with_capacity(Arc::new(sim.clone()), 2));
    for _ in 0..2 {
        for (number, file) in files.iter().enumerate() {
            assert_eq!(file.view(0..1).unwrap(), [number as u8][..]);
        }
    }
    assert_eq!(sim.open_files(), 2);
    drop(files);
    assert_eq!(sim.open_files(), 0, "a file that nobody has any more is closed");
}

#[test]
fn the_file_that_was_not_read_for_longest_is_closed() {
    let sim = limited(20);
    let disk = PooledDisk::with_capacity(Arc::new(sim.clone()), 2);
    let files: Vec<_> = (0..3).map(|number| disk.open(&path(number), OpenMode::Read).unwrap()).collect();
    files[1].view(0..1).unwrap();
    files[0].view(0..1).unwrap();
    for number in 0..3 {
        sim.remove(&path(number)).unwrap();
    }
    assert!(files[0].view(0..1).is_ok() && files[1].view(0..1).is_ok());
    assert_eq!(files[2].view(0..1).unwrap_err().kind(), io::ErrorKind::NotFound);
}

#[test]
fn cold_descriptors_are_given_up_for_what_needs_one() {
    let sim = limited(4);
    let disk = PooledDisk::with_capacity(Arc::new(sim.clone()), 100);
    let files = open_all(&disk);
    assert_eq!(sim.open_files(), 4);
    let writers: Vec<_> = (0..4).map(|number| disk.open(&path(number), OpenMode::Write).unwrap()).collect();
    assert!(lacks_descriptor(&files[9].view(0..1).unwrap_err()), "nothing is left to give up");
    drop(writers);
    assert_eq!(files[9].view(0..1).unwrap(), [9][..], "the error is not kept");
}

#[test]
fn many_readers_share_the_pool() {
    let sim = limited(8);
    let files = open_all(&PooledDisk::with_capacity(Arc::new(sim.clone()), 4));
    thread::scope(|scope| {
        for first in 0..4 {
            let files = &files;
            scope.spawn(move || {
                for at in 0..1000 {
                    let number = (first * 7 + at * 3) % files.len();
                    assert_eq!(files[number].view(0..1).unwrap(), [number as u8][..]);
                }
            });
        }
    });
    assert!(sim.open_files() <= 4);
}
