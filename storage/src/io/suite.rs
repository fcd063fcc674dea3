//! What every implementation of [`Io`] has to do; each runs this suite in a test of its own.

use std::io::{ErrorKind, IoSlice};
use std::path::Path;
use std::sync::Arc;
use std::thread;

use super::{Io, OpenMode, write_durably};

type Case = fn(&dyn Io, &Path);

/// Runs all cases, each in its own directory below `root`, which exists and is empty.
pub(crate) fn run(io: Arc<dyn Io>, root: &Path) {
    let cases: [(&str, Case); 14] = [
        ("names", names_come_and_go),
        ("modes", open_modes_say_what_has_to_exist),
        ("write", writes_beyond_the_end_leave_zeroes),
        ("vectored", vectored_writes_are_whole),
        ("view", views_beyond_the_end_are_an_error),
        ("allocate", allocated_space_reads_as_zeroes),
        ("zeroed", a_zeroed_range_reads_as_zeroes),
        ("finished", what_is_finished_is_written_as_it_was),
        ("space", a_device_has_no_more_free_than_it_holds),
        ("truncate", truncate_cuts_and_extends),
        ("removed", a_removed_file_stays_readable_while_open),
        ("rename", rename_replaces),
        ("durable", write_durably_replaces_the_whole_file),
        ("parallel", ranges_are_written_in_parallel),
    ];
    for (name, case) in cases {
        let dir = root.join(name);
        io.create_dir_all(&dir).unwrap();
        case(&*io, &dir);
    }
}

fn names_come_and_go(io: &dyn Io, dir: &Path) {
    let deep = dir.join("a/b");
    io.create_dir_all(&deep).unwrap();
    io.create_dir_all(&deep).unwrap();
    assert!(io.exists(&deep).unwrap());
    for name in ["z", "b", "a1"] {
        io.open(&deep.join(name), OpenMode::CreateNew).unwrap();
    }
    io.sync_dir(&deep).unwrap();
    assert_eq!(io.list(&deep).unwrap(), ["a1", "b", "z"]);
    assert_eq!(io.list(dir).unwrap(), ["a"]);
    io.remove(&deep.join("b")).unwrap();
    assert!(!io.exists(&deep.join("b")).unwrap());
    assert_eq!(io.list(&deep).unwrap(), ["a1", "z"]);
    assert_eq!(io.remove(&deep.join("b")).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(io.list(&dir.join("none")).unwrap_err().kind(), ErrorKind::NotFound);
}

fn open_modes_say_what_has_to_exist(io: &dyn Io, dir: &Path) {
    let path = dir.join("file");
    for mode in [OpenMode::Read, OpenMode::Write] {
        let error = io.open(&path, mode).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.to_string().contains("file"), "an error names its file: {error}");
    }
    io.open(&path, OpenMode::CreateNew).unwrap().write_at(0, b"abc").unwrap();
    assert_eq!(io.open(&path, OpenMode::CreateNew).unwrap_err().kind(), ErrorKind::AlreadyExists);
    let reader = io.open(&path, OpenMode::Read).unwrap();
    assert!(reader.write_at(0, b"x").is_err());
    assert_eq!(reader.view(0..3).unwrap(), "abc");
    assert_eq!(io.open(&path, OpenMode::Write).unwrap().len().unwrap(), 3);
    assert!(io.open(&path, OpenMode::CreateOrTruncate).unwrap().is_empty().unwrap());
}

fn writes_beyond_the_end_leave_zeroes(io: &dyn Io, dir: &Path) {
    let file = io.open(&dir.join("file"), OpenMode::CreateNew).unwrap();
    file.write_at(4, b"xy").unwrap();
    file.write_at(0, b"a").unwrap();
    file.sync_data().unwrap();
    assert_eq!(file.view(0..6).unwrap(), &b"a\0\0\0xy"[..]);
}

fn vectored_writes_are_whole(io: &dyn Io, dir: &Path) {
    let file = io.open(&dir.join("file"), OpenMode::CreateNew).unwrap();
    // More parts than one system call takes, some of them empty, also at both ends.
    let parts: Vec<Vec<u8>> = (0..3_000u32).map(|n| vec![n as u8; n as usize % 5]).collect();
    let mut slices: Vec<_> = parts.iter().map(|part| IoSlice::new(part)).collect();
    file.write_vectored_at(7, &mut slices).unwrap();
    let whole = parts.concat();
    assert_eq!(file.view(7..7 + whole.len() as u64).unwrap(), whole);
    file.write_vectored_at(0, &mut []).unwrap();
    file.write_vectored_at(0, &mut [IoSlice::new(&[])]).unwrap();
    assert_eq!(file.len().unwrap(), 7 + whole.len() as u64);
}

fn views_beyond_the_end_are_an_error(io: &dyn Io, dir: &Path) {
    let file = io.open(&dir.join("file"), OpenMode::CreateNew).unwrap();
    file.write_at(0, b"abc").unwrap();
    assert_eq!(file.view(1..1).unwrap(), "");
    // X1: a range from a damaged file takes no memory before it is known to be there.
    for range in [0..4, 3..4, 0..1 << 40, u64::MAX - 1..u64::MAX] {
        let error = file.view(range.clone()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnexpectedEof, "{range:?}: {error}");
        assert!(error.to_string().contains("file"), "an error names its file: {error}");
    }
}

fn allocated_space_reads_as_zeroes(io: &dyn Io, dir: &Path) {
    let file = io.open(&dir.join("file"), OpenMode::CreateNew).unwrap();
    file.write_at(0, b"abc").unwrap();
    file.allocate(8192).unwrap();
    assert_eq!(file.len().unwrap(), 8192);
    let bytes = file.view(0..8192).unwrap();
    assert!(bytes.starts_with(b"abc") && bytes[3..].iter().all(|byte| *byte == 0));
    file.allocate(10).unwrap();
    assert_eq!(file.len().unwrap(), 8192);
}

fn a_zeroed_range_reads_as_zeroes(io: &dyn Io, dir: &Path) {
    let file = io.open(&dir.join("file"), OpenMode::CreateNew).unwrap();
    file.write_at(0, &[7; 10_000]).unwrap();
    match file.zero_range(100..9_000) {
        Err(error) if error.kind() == ErrorKind::Unsupported => return,
        zeroed => zeroed.unwrap(),
    }
    file.sync_all().unwrap();
    let bytes = file.view(0..10_000).unwrap();
    assert!(bytes.iter().enumerate().all(|(at, byte)| (*byte == 0) == (100..9_000).contains(&at)));
    file.zero_range(9_000..10_001).unwrap_err();
    assert_eq!(file.len().unwrap(), 10_000);
}

fn what_is_finished_is_written_as_it_was(io: &dyn Io, dir: &Path) {
    let file = io.open(&dir.join("file"), OpenMode::CreateNew).unwrap();
    for part in 0..4u64 {
        let range = part * 5_000..(part + 1) * 5_000;
        file.write_at(range.start, &[part as u8; 5_000]).unwrap();
        file.start_writing(range.clone());
        file.finish_writing(0..range.start).unwrap();
    }
    file.finish_writing(0..30_000).unwrap();
    file.sync_all().unwrap();
    let bytes = file.view(0..20_000).unwrap();
    assert!(bytes.iter().enumerate().all(|(at, byte)| *byte as usize == at / 5_000));
}

fn a_device_has_no_more_free_than_it_holds(io: &dyn Io, dir: &Path) {
    let space = io.space(dir).unwrap();
    assert!(space.free <= space.total && space.total > 0, "{space:?}");
}

fn truncate_cuts_and_extends(io: &dyn Io, dir: &Path) {
    let file = io.open(&dir.join("file"), OpenMode::CreateNew).unwrap();
    file.write_at(0, b"abcdef").unwrap();
    file.truncate(2).unwrap();
    file.truncate(4).unwrap();
    file.sync_all().unwrap();
    assert_eq!(file.view(0..4).unwrap(), &b"ab\0\0"[..]);
}

fn a_removed_file_stays_readable_while_open(io: &dyn Io, dir: &Path) {
    let path = dir.join("file");
    let file = io.open(&path, OpenMode::CreateNew).unwrap();
    file.write_at(0, b"abc").unwrap();
    io.remove(&path).unwrap();
    io.open(&path, OpenMode::CreateNew).unwrap().write_at(0, b"new").unwrap();
    assert_eq!(file.view(0..3).unwrap(), "abc");
}

fn rename_replaces(io: &dyn Io, dir: &Path) {
    let (from, to) = (dir.join("from"), dir.join("to"));
    io.open(&from, OpenMode::CreateNew).unwrap().write_at(0, b"new").unwrap();
    let old = io.open(&to, OpenMode::CreateNew).unwrap();
    old.write_at(0, b"old").unwrap();
    io.rename(&from, &to).unwrap();
    assert_eq!(io.list(dir).unwrap(), ["to"]);
    assert_eq!(io.open(&to, OpenMode::Read).unwrap().view(0..3).unwrap(), "new");
    assert_eq!(old.view(0..3).unwrap(), "old");
    assert_eq!(io.rename(&from, &to).unwrap_err().kind(), ErrorKind::NotFound);
}

fn write_durably_replaces_the_whole_file(io: &dyn Io, dir: &Path) {
    let path = dir.join("file");
    write_durably(io, &path, &[b"a longer first text"]).unwrap();
    write_durably(io, &path, &[b"second", b"", b" text"]).unwrap();
    let file = io.open(&path, OpenMode::Read).unwrap();
    assert_eq!(file.view(0..file.len().unwrap()).unwrap(), "second text");
    assert_eq!(io.list(dir).unwrap(), ["file"]);
}

fn ranges_are_written_in_parallel(io: &dyn Io, dir: &Path) {
    let file = io.open(&dir.join("file"), OpenMode::CreateNew).unwrap();
    thread::scope(|scope| {
        for n in 0..4u8 {
            let file = &file;
            scope.spawn(move || {
                for at in 0..100u64 {
                    let offset = at * 40 + u64::from(n) * 10;
                    file.write_at(offset, &[n + 1; 10]).unwrap();
                    assert_eq!(file.view(offset..offset + 10).unwrap(), [n + 1; 10][..]);
                }
            });
        }
    });
    let bytes = file.view(0..4000).unwrap();
    assert!(bytes.chunks(10).enumerate().all(|(n, chunk)| *chunk == [n as u8 % 4 + 1; 10]));
}
