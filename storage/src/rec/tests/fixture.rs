//! Files of earlier releases stay readable, and the same batches stay the same file.

use super::super::format::FORMAT_VERSION;
use super::*;
use crate::io::RealDisk;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

#[test]
fn a_file_of_version_1_still_opens() {
    let reader = RecReader::open(Arc::new(RealDisk), &fixtures().join("v1.rec")).map(Arc::new).unwrap();
    let found: Vec<Bytes> = reader.ordered(RaftIndex(0)).unwrap().map(|batch| batch.unwrap().batch).collect();
    assert_eq!(found, sample().log.iter().map(patched).collect::<Vec<_>>());
    reader.verify().unwrap();
}

/// Replicas of different releases build the same segment, or fetch it from each other for nothing.
#[test]
fn the_same_batches_are_the_same_file_in_every_release_of_version_1() {
    let (disk, meta, _) = written(&sample());
    assert_eq!(file_of(&disk, meta.id), std::fs::read(fixtures().join("v1.rec")).unwrap());
}

/// Run this once for each new version of the format: `cargo test -p stratalog-storage --lib rec::tests::fixture --
/// --ignored`.
#[test]
#[ignore = "writes a fixture"]
fn write_the_fixture() {
    let (disk, meta, _) = written(&sample());
    std::fs::write(fixtures().join(format!("v{FORMAT_VERSION}.rec")), file_of(&disk, meta.id)).unwrap();
}
