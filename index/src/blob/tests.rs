use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::{IndexError, Leaf, MIN_BUDGET_BYTES, TextIndex, TextIndexWriter};

fn index() -> Vec<u8> {
    let mut writer = TextIndexWriter::new(&["message".into(), "host".into()], MIN_BUDGET_BYTES).unwrap();
    for row in 0..700 {
        let message = format!("request {row} took {} ms on /api/v1/users", row % 7);
        let host = format!("web-{}", row % 3);
        writer.add_row(&mut [(0, message.as_str()), (1, host.as_str())].into_iter()).unwrap();
    }
    writer.finish().unwrap()
}

fn open(bytes: Vec<u8>) -> Result<TextIndex, IndexError> {
    TextIndex::open(Arc::new(Bytes::from(bytes)))
}

/// Asks for a term, a phrase and a prefix; any answer and any error will do, as long as there is one.
fn exercise(bytes: Vec<u8>) {
    let Ok(index) = open(bytes) else { return };
    for leaf in [Leaf::Term("took".into()), Leaf::Phrase("api v1".into()), Leaf::Prefix("web-".into())] {
        if let Ok(hits) = index.leaf(None, &leaf) {
            assert!(hits.sure.is_subset(&hits.maybe));
            assert!(hits.maybe.max().is_none_or(|row| row < index.rows()));
        }
    }
}

#[test]
fn header_round_trips() {
    let columns = ["".to_owned(), "größe".to_owned()];
    let blob = write(7, &columns, &[b"abc", b"", b"d", b"ef", b""]);
    let container = Container::read(&Bytes::from(blob.clone())).unwrap();
    assert_eq!((container.rows, container.analyzer_version), (7, crate::ANALYZER_VERSION));
    assert_eq!(container.columns, columns);
    let range = container.file(Component::FastFields);
    assert_eq!(&blob[range.start as usize..range.end as usize], b"ef");
}

#[test]
fn every_flipped_bit_of_the_header_is_an_error() {
    let blob = index();
    let container = Container::read(&Bytes::from(blob.clone())).unwrap();
    let header_bits = container.file(Component::Terms).start as usize * 8;
    for bit in 0..header_bits {
        let mut flipped = blob.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let error = open(flipped).expect_err("a flipped bit went unnoticed");
        assert!(matches!(error, IndexError::Corrupt(_) | IndexError::NewerVersion { .. }), "bit {bit}: {error}");
    }
}

#[test]
fn a_later_format_asks_for_an_upgrade() {
    let mut blob = index();
    blob[8] = 2;
    assert!(matches!(open(blob), Err(IndexError::NewerVersion { found: 2, known: 1 })));
}

/// Written by version 1 of the container with version 1 of the analyzer; later versions have to go on reading it.
#[test]
fn a_file_of_the_first_version_still_answers() {
    let index = open(include_bytes!("fixtures/v1.text").to_vec()).unwrap();
    assert_eq!((index.rows(), index.analyzer_version()), (700, 1));
    assert_eq!(index.fields(), ["message", "host"]);
    let hits = index.leaf(Some("host"), &Leaf::Term("web-2".into())).unwrap();
    assert_eq!(hits.sure.len(), 233);
    let hits = index.leaf(None, &Leaf::Phrase("request 77 took".into())).unwrap();
    assert_eq!((hits.sure.len(), hits.maybe.iter().collect::<Vec<_>>()), (0, vec![77]));
    assert!(index.leaf(None, &Leaf::Prefix("api/v1/us".into())).unwrap().is_exact());
}

#[test]
#[ignore = "writes the fixture of the present version"]
fn write_fixture() {
    std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/src/blob/fixtures/v1.text"), index()).unwrap();
}

#[test]
fn a_cut_file_is_an_error() {
    let blob = index();
    for length in (0..blob.len()).step_by(97) {
        assert!(open(blob[..length].to_vec()).is_err(), "{length} of {} bytes opened", blob.len());
    }
}

#[test]
fn a_failing_medium_is_an_io_error() {
    struct Failing(Bytes);
    impl Source for Failing {
        fn len(&self) -> u64 {
            Source::len(&self.0)
        }
        fn view(&self, range: std::ops::Range<u64>) -> std::io::Result<Bytes> {
            match range.start < 64 {
                true => self.0.view(range),
                false => Err(std::io::Error::other("the disk is gone")),
            }
        }
    }
    let error = TextIndex::open(Arc::new(Failing(index().into()))).unwrap_err();
    assert!(matches!(error, IndexError::Io(_)), "{error:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn garbage_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(open(bytes).is_err());
    }

    /// The storage underneath verifies blocks, so this is the second line: wrong answers are possible, panics are not.
    #[test]
    fn damage_below_the_header_never_panics(seeds in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        static BLOB: LazyLock<Vec<u8>> = LazyLock::new(index);
        let mut blob = BLOB.clone();
        let start = Container::read(&Bytes::from(blob.clone())).unwrap().file(Component::Terms).start as usize;
        let room = blob.len() - start;
        for (at, value) in seeds {
            blob[start + at.index(room)] ^= value | 1;
        }
        exercise(blob);
    }
}
