use std::io;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, Int64Array, RecordBatch, TimestampNanosecondArray};
use proptest::prelude::*;

use super::*;
use crate::col::{ColSpec, system, write_segment};
use crate::io::sim::SimDisk;
use crate::io::{PooledDisk, RealDisk};

fn meta() -> SegmentMeta {
    SegmentMeta {
        id: SegmentId::new(),
        topic: TopicId::new(),
        kind: SegmentKind::Column,
        bucket: TimeBucket { start_ns: 0, end_ns: 100 },
        min_time_ns: 0,
        max_time_ns: 99,
        max_ingested_ns: -5,
        rows: 3,
        dead_rows: 1,
        bytes: 1_000,
        ranges: vec![range(0, 5, 7), range(4, 0, 1)],
        blake3: [7; 32],
        analyzer_version: 1,
    }
}

fn range(partition: u32, first: u64, next: u64) -> OffsetRange {
    OffsetRange { partition: PartitionId(partition), first: Offset(first), next: Offset(next) }
}

#[test]
fn meta_survives_replication() {
    let meta = meta();
    assert_eq!(SegmentMeta::try_from(&internal::SegmentMeta::from(&meta)).unwrap(), meta);
}

#[test]
fn meta_that_contradicts_itself_is_refused() {
    let changes: [fn(&mut internal::SegmentMeta); 11] = [
        |meta| meta.id = bytes::Bytes::from_static(b"short"),
        |meta| meta.topic = bytes::Bytes::new(),
        |meta| meta.blake3 = bytes::Bytes::from_static(&[0; 31]),
        |meta| meta.rows = 0,
        |meta| meta.dead_rows = 4,
        |meta| meta.max_time_ns = 100,
        |meta| meta.min_time_ns = -1,
        |meta| meta.bucket_end_ns = 0,
        |meta| meta.ranges.clear(),
        |meta| meta.ranges.swap(0, 1),
        |meta| meta.ranges[0].next = 5,
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let mut raw = internal::SegmentMeta::from(&meta());
        change(&mut raw);
        assert_eq!(SegmentMeta::try_from(&raw).unwrap_err().code, Code::CorruptData, "change {number}");
    }
}

#[test]
fn meta_of_a_later_release_says_so() {
    let changes: [fn(&mut internal::SegmentMeta); 3] =
        [|meta| meta.kind = 3, |meta| meta.location = 1, |meta| meta.key_id = 9];
    for change in changes {
        let mut raw = internal::SegmentMeta::from(&meta());
        change(&mut raw);
        assert_eq!(SegmentMeta::try_from(&raw).unwrap_err().code, Code::NewerVersion);
    }
}

proptest! {
    #[test]
    fn s3_a_mixed_segment_may_leave_its_bucket(min in any::<i64>(), above in 0..i64::MAX) {
        let max_time_ns = min.saturating_add(above);
        let mixed = SegmentMeta { kind: SegmentKind::Mixed, min_time_ns: min, max_time_ns, ..meta() };
        prop_assert_eq!(mixed.contradiction(), None);
        let column = SegmentMeta { kind: SegmentKind::Column, ..mixed };
        prop_assert_eq!(column.contradiction().is_none(), min >= 0 && max_time_ns < 100);
    }
}

/// A segment of one row, on disk.
fn sealed(dir: &Path, offset: i64) -> Arc<SegmentMeta> {
    sealed_on(&RealDisk, dir, offset)
}

fn sealed_on(io: &dyn Io, dir: &Path, offset: i64) -> Arc<SegmentMeta> {
    let time = || Arc::new(TimestampNanosecondArray::from(vec![5]).with_timezone("UTC")) as ArrayRef;
    let rows = RecordBatch::try_from_iter([
        (system::TIME, time()),
        (system::INGESTED_AT, time()),
        (system::PARTITION, Arc::new(Int32Array::from(vec![0])) as ArrayRef),
        (system::OFFSET, Arc::new(Int64Array::from(vec![offset])) as ArrayRef),
    ]);
    let spec = ColSpec {
        id: SegmentId::new(),
        shard: ShardId(0),
        topic: TopicId::new(),
        kind: SegmentKind::Column,
        bucket: TimeBucket { start_ns: 0, end_ns: 100 },
        analyzer_version: 0,
    };
    Arc::new(write_segment(io, dir, &spec, &rows.unwrap(), Some(b"text")).unwrap())
}

fn handle(dir: &Path, meta: &Arc<SegmentMeta>) -> SegmentHandle {
    SegmentHandle::new(Arc::new(RealDisk), dir, ShardId(0), meta.clone())
}

#[test]
fn all_users_share_one_reader() {
    let dir = tempfile::tempdir().unwrap();
    let handle = handle(dir.path(), &sealed(dir.path(), 0));
    assert!(Arc::ptr_eq(&handle.reader().unwrap(), &handle.reader().unwrap()));
    handle.verify().unwrap();
}

#[test]
fn l5_a_handle_remembers_that_its_file_was_found_damaged() {
    let disk = SimDisk::new();
    let dir = Path::new("segments");
    disk.create_dir_all(dir).unwrap();
    let on_disk = |meta: &Arc<SegmentMeta>| SegmentHandle::new(Arc::new(disk.clone()), dir, ShardId(0), meta.clone());
    let meta = sealed_on(&disk, dir, 0);
    let handle = on_disk(&meta);
    let reader = handle.reader().unwrap();
    disk.set_fault(|_, _| Err(io::Error::from_raw_os_error(libc::EMFILE)));
    assert!(handle.verify().is_err() && handle.damage().is_none(), "the file may be whole");
    disk.set_fault(|_, _| Ok(()));
    disk.edit(handle.path(), |file| file[20] ^= 1);
    reader.verify().unwrap_err();
    assert!(handle.damage().unwrap().contains("checksum"), "{:?}", handle.damage());

    let last = |file: &mut Vec<u8>| _ = file.pop();
    let faults: [&dyn Fn(&SegmentHandle); 3] =
        [&|handle| disk.edit(handle.path(), last), &|handle| disk.remove(handle.path()).unwrap(), &|_| {
            disk.set_fault(|_, _| Err(io::Error::from_raw_os_error(libc::EIO)))
        }];
    for fault in faults {
        let handle = on_disk(&sealed_on(&disk, dir, 1));
        fault(&handle);
        handle.reader().unwrap_err();
        assert!(handle.damage().is_some());
    }
}

#[test]
fn a_condemned_file_is_unlinked_when_its_last_user_lets_go() {
    let dir = tempfile::tempdir().unwrap();
    let handle = handle(dir.path(), &sealed(dir.path(), 0));
    let path = handle.path().to_owned();
    let reader = handle.reader().unwrap();
    let text = reader.text().unwrap();
    handle.condemn();
    drop(handle);
    assert!(path.exists());
    assert_eq!(reader.read(0, 0).unwrap().len(), 1);
    drop(reader);
    assert!(path.exists());
    assert_eq!(&text.view(0..4).unwrap()[..], b"text");
    drop(text);
    assert!(!path.exists());
}

#[test]
fn a_companion_is_made_once_and_does_not_keep_a_condemned_file() {
    let dir = tempfile::tempdir().unwrap();
    let handle = handle(dir.path(), &sealed(dir.path(), 0));
    let path = handle.path().to_owned();
    assert_eq!(handle.companion::<u8, &str>(|| Err("not now")), Err("not now"));
    let open = || Ok::<_, ColError>(handle.reader()?.text());
    let text = handle.companion(open).unwrap();
    assert!(Arc::ptr_eq(&text, &handle.companion(open).unwrap()));
    handle.dismiss_companion();
    assert!(!Arc::ptr_eq(&text, &handle.companion(open).unwrap()));
    handle.condemn();
    drop(text);
    assert!(path.exists());
    drop(handle);
    assert!(!path.exists());
}

#[test]
fn a_file_that_nobody_condemned_stays() {
    let dir = tempfile::tempdir().unwrap();
    let handle = handle(dir.path(), &sealed(dir.path(), 0));
    let path = handle.path().to_owned();
    handle.reader().unwrap();
    drop(handle);
    assert!(path.exists());
}

#[test]
fn another_file_under_the_segments_name_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let (meta, other) = (sealed(dir.path(), 0), sealed(dir.path(), 1));
    let handle = handle(dir.path(), &meta);
    std::fs::copy(dir.path().join(segment_file_name(other.id)), handle.path()).unwrap();
    assert_eq!(handle.reader().unwrap_err().code(), Code::CorruptData);
}

#[test]
fn a_file_that_comes_back_is_opened_after_all() {
    let dir = tempfile::tempdir().unwrap();
    let handle = handle(dir.path(), &sealed(dir.path(), 0));
    let away = dir.path().join("away");
    std::fs::rename(handle.path(), &away).unwrap();
    assert_eq!(handle.reader().unwrap_err().code(), Code::Io);
    std::fs::rename(&away, handle.path()).unwrap();
    handle.reader().unwrap();
}

#[test]
fn a_file_with_another_hash_does_not_verify() {
    let dir = tempfile::tempdir().unwrap();
    let meta = Arc::new(SegmentMeta { blake3: [0; 32], ..(*sealed(dir.path(), 0)).clone() });
    assert_eq!(handle(dir.path(), &meta).verify().unwrap_err().code(), Code::CorruptData);
}

/// Thirty segments on a disk that holds three files open at most, each with its place as its row's offset.
fn many_segments(disk: &SimDisk) -> Vec<SegmentHandle> {
    let dir = Path::new("/");
    let metas: Vec<_> = (0..30).map(|offset| sealed_on(disk, dir, offset)).collect();
    disk.limit_open_files(3);
    let pooled: Arc<dyn Io> = Arc::new(PooledDisk::with_capacity(Arc::new(disk.clone()), 2));
    metas.into_iter().map(|meta| SegmentHandle::new(pooled.clone(), dir, ShardId(0), meta)).collect()
}

fn assert_whole(reader: &ColReader, offset: i64) {
    let offsets = reader.read(reader.schema().index_of(system::OFFSET).unwrap(), 0).unwrap();
    assert_eq!(*offsets, Int64Array::from(vec![offset]));
    assert_eq!(&reader.text().unwrap().view(0..4).unwrap()[..], b"text");
}

#[test]
fn more_segments_are_read_than_may_be_open() {
    let disk = SimDisk::new();
    let handles = many_segments(&disk);
    let readers: Vec<_> = handles.iter().map(|handle| handle.reader().unwrap()).collect();
    for (offset, reader) in (0..).zip(&readers) {
        assert_whole(reader, offset);
    }
    assert!(handles.iter().all(|handle| handle.verify().is_ok()));
    drop((handles, readers));
    assert_eq!(disk.open_files(), 0);
}

#[test]
fn a_condemned_segment_is_opened_again_for_who_still_reads_it() {
    let disk = SimDisk::new();
    let handles = many_segments(&disk);
    let (path, reader) = (handles[0].path().to_owned(), handles[0].reader().unwrap());
    handles[0].condemn();
    for handle in &handles[1..] {
        handle.reader().unwrap();
    }
    drop(handles);
    assert_whole(&reader, 0);
    drop(reader);
    assert!(!disk.exists(&path).unwrap());
    assert_eq!(disk.list(Path::new("/")).unwrap().len(), 29, "no other was condemned");
}
