//! Files while somebody needs them.

use super::*;

fn handle(disk: &SimDisk, meta: &RecMeta) -> RecHandle {
    RecHandle::new(Arc::new(disk.clone()), Path::new(DIR), ShardId(7), Arc::new(meta.clone()))
}

#[test]
fn all_users_share_one_reader_until_it_is_closed() {
    let (disk, meta, _) = written(&sample());
    let handle = handle(&disk, &meta);
    let reader = handle.reader().unwrap();
    assert!(Arc::ptr_eq(&reader, &handle.reader().unwrap()));
    handle.close();
    assert!(!Arc::ptr_eq(&reader, &handle.reader().unwrap()));
    handle.verify().unwrap();
}

#[test]
fn a_condemned_file_is_unlinked_when_its_last_user_lets_go() {
    let (disk, meta, reader) = written(&sample());
    drop(reader);
    let handle = handle(&disk, &meta);
    let mut cursor = handle.reader().unwrap().ordered(RaftIndex(0)).unwrap();
    handle.condemn();
    drop(handle);
    assert!(disk.exists(&path_of(meta.id)).unwrap());
    assert!(cursor.next().unwrap().is_ok());
    drop(cursor);
    assert!(!disk.exists(&path_of(meta.id)).unwrap());
}

#[test]
fn a_file_that_is_missing_says_so_and_may_come_back() {
    let (disk, meta, _) = written(&sample());
    let handle = handle(&disk, &meta);
    let away = Path::new(DIR).join("away");
    disk.rename(handle.path(), &away).unwrap();
    let error = handle.reader().unwrap_err();
    assert!(error.is_missing() && error.code() == Code::Io, "{error}");
    disk.rename(&away, handle.path()).unwrap();
    handle.reader().unwrap();
}

#[test]
fn another_file_under_the_segments_name_is_found() {
    let (disk, meta, _) = written(&sample());
    let part = History { log: sample().log[..4].to_vec() };
    let other = write_rec(&disk, Path::new(DIR), &spec(), &part.sorted()).unwrap();
    assert_eq!(handle(&disk, &meta).reader().unwrap_err().code(), Code::CorruptData);
    handle(&disk, &other).verify().unwrap();
    let other_hash = RecMeta { blake3: [0; 32], ..other.clone() };
    assert_eq!(handle(&disk, &other_hash).verify().unwrap_err().code(), Code::CorruptData);
    let other_shard = RecHandle::new(Arc::new(disk.clone()), Path::new(DIR), ShardId(8), Arc::new(other));
    assert_eq!(other_shard.reader().unwrap_err().code(), Code::CorruptData);
}
