//! Files of earlier releases stay readable.

use std::path::PathBuf;

use super::*;

const TEXT: &[u8] = b"stands for a text index";

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

#[test]
fn a_file_of_version_1_still_opens() {
    let reader = ColReader::open(disk(), &fixtures().join("v1.col")).unwrap();
    assert_eq!(read_all(&reader).unwrap(), sample(500));
    let text = reader.text().unwrap();
    assert_eq!(text.view(0..text.len()).unwrap(), TEXT);
    reader.verify().unwrap();
}

/// Run this once for each new version of the format, and rename the file: `cargo test -p stratalog-storage --lib
/// write_the_fixture -- --ignored`.
#[test]
#[ignore = "writes a fixture"]
fn write_the_fixture() {
    let meta = write(&fixtures(), &sample(500), Some(TEXT));
    let name = fixtures().join(segment_file_name(meta.id));
    std::fs::rename(name, fixtures().join(format!("v{FORMAT_VERSION}.col"))).unwrap();
}
