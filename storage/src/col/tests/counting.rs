//! How often a reader goes to the disk.

use super::*;
use crate::container::counted;

#[test]
fn opening_is_one_view_and_each_granule_is_one_more() {
    let dir = tempfile::tempdir().unwrap();
    let rows = sample(20_000);
    let meta = write(dir.path(), &rows, None);
    let counting = counted(disk());
    let reader = ColReader::open(Arc::new(counting.clone()), &dir.path().join(segment_file_name(meta.id))).unwrap();
    assert_eq!(counting.take(), (1, BLOCK_BYTES));

    let message = reader.schema().index_of("message").unwrap();
    let chunk = reader.stored_bytes(message, 1);
    reader.read(message, 1).unwrap();
    let (views, bytes) = counting.take();
    assert_eq!(views, 1);
    assert!(bytes.is_multiple_of(BLOCK_BYTES) && bytes >= chunk, "the first touch reads whole blocks, to verify them");
    reader.read(message, 1).unwrap();
    assert_eq!(counting.take(), (1, chunk), "verified blocks are not read beyond what is needed");

    let level = reader.schema().index_of("level").unwrap();
    reader.read(level, 0).unwrap();
    assert_eq!(counting.take().0, 2, "the first read of a column also reads its dictionary");
    reader.read(level, 1).unwrap();
    assert_eq!(counting.take().0, 1);
}
