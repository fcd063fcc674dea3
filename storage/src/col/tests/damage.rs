//! L5: every damaged bit is found. X1: no file makes a reader panic.

use std::path::PathBuf;

use proptest::prelude::*;

use super::super::format::KIND;
use super::*;
use crate::container::{TRAILER_BYTES, Trailer};

const TEXT: &[u8] = b"the bytes of a text index";

struct Intact {
    dir: tempfile::TempDir,
    rows: RecordBatch,
    file: Vec<u8>,
}

impl Intact {
    fn new(count: usize, text: &[u8]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let rows = sample(count);
        let meta = write(dir.path(), &rows, Some(text));
        let file = std::fs::read(dir.path().join(segment_file_name(meta.id))).unwrap();
        Self { dir, rows, file }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join(segment_file_name(spec().id))
    }

    /// Puts a changed file in the place of the intact one.
    fn open(&self, file: &[u8]) -> Result<ColReader, ColError> {
        std::fs::write(self.path(), file).unwrap();
        open(self.dir.path())
    }

    /// Reads everything there is to read; what does not fail has to be right. Gives the first error.
    fn first_error(&self, file: &[u8], text: &[u8]) -> Option<ColError> {
        let reader = match self.open(file) {
            Ok(reader) => reader,
            Err(error) => return Some(error),
        };
        assert_eq!(reader.schema(), &self.rows.schema());
        let mut errors = Vec::new();
        for granule in 0..reader.granules() {
            let rows = reader.granule_rows(granule);
            for col in 0..self.rows.num_columns() {
                let expected = self.rows.column(col).slice(rows.start as usize, rows.len());
                match reader.read(col, granule) {
                    Ok(values) => assert_eq!(&values, &expected, "a wrong answer"),
                    Err(error) => errors.push(error),
                }
            }
        }
        let section = reader.text().unwrap();
        match section.view(0..section.len()) {
            Ok(found) => assert_eq!(found, text, "a wrong answer"),
            Err(error) => errors.push(*error.into_inner().unwrap().downcast().unwrap()),
        }
        errors.into_iter().next().or(reader.verify().err())
    }

    fn check_flip(&self, at: usize, bit: u32, text: &[u8]) {
        let mut file = self.file.clone();
        file[at] ^= 1 << bit;
        match self.first_error(&file, text) {
            Some(ColError::Corrupt { path, block, .. }) => {
                assert_eq!(path, self.path());
                let footer = self.footer_start() as u64;
                assert!(at as u64 >= footer || block == at as u64 / BLOCK_BYTES, "byte {at}, block {block}");
            }
            other => panic!("bit {bit} of byte {at} of {} was flipped: {other:?}", file.len()),
        }
    }

    fn trailer(&self) -> Trailer {
        Trailer::decode(&self.file[self.file.len() - TRAILER_BYTES..], KIND.trailer_magic).unwrap()
    }

    fn footer_start(&self) -> usize {
        self.trailer().footer_start as usize
    }

    /// The file with other bytes in its footer, and checksums that are right for them.
    fn with_footer(&self, change: impl FnOnce(&mut [u8])) -> Vec<u8> {
        let mut file = self.file.clone();
        let end = file.len() - TRAILER_BYTES;
        let footer = &mut file[self.footer_start()..end];
        change(footer);
        let footer_crc = crc32fast::hash(footer);
        let blake3 = *blake3::hash(&file[..end]).as_bytes();
        let trailer = Trailer { footer_crc, blake3, ..self.trailer() };
        file[end..].copy_from_slice(&trailer.encode(KIND.trailer_magic));
        file
    }
}

/// Reads all that a file offers, and only wants no panic.
fn use_up(reader: &ColReader) {
    for granule in 0..reader.granules().min(3) {
        for col in 0..reader.schema().fields().len() {
            let _ =
                reader.read(col, granule).map(|values| assert_eq!(values.len(), reader.granule_rows(granule).len()));
        }
    }
    let _ = reader.text().map(|text| text.view(0..text.len().min(1 << 20)));
    let _ = reader.verify();
}

#[test]
fn l5_a_flipped_bit_in_any_byte_is_found() {
    let intact = Intact::new(30, TEXT);
    assert!(intact.first_error(&intact.file, TEXT).is_none());
    for at in 0..intact.file.len() {
        intact.check_flip(at, (at % 8) as u32, TEXT);
    }
}

#[test]
fn l5_a_flipped_bit_in_a_file_of_many_blocks_names_its_block() {
    let text: Vec<u8> = (0..200_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let intact = Intact::new(3_000, &text);
    assert!(intact.file.len() as u64 > 4 * BLOCK_BYTES);
    let step = intact.file.len() / 37;
    for at in (0..intact.file.len()).step_by(step) {
        intact.check_flip(at, (at % 8) as u32, &text);
    }
}

#[test]
fn l5_a_file_that_was_cut_is_found() {
    let intact = Intact::new(5, TEXT);
    for len in 0..intact.file.len() {
        let error = intact.open(&intact.file[..len]).unwrap_err();
        assert_eq!(error.code(), stratalog_proto::Code::CorruptData, "cut to {len} bytes");
    }
    let longer = [&intact.file[..], b"x"].concat();
    assert!(intact.open(&longer).is_err());
}

#[test]
fn a_file_of_a_later_version_says_so() {
    let intact = Intact::new(5, TEXT);
    let mut file = intact.file.clone();
    let end = file.len() - TRAILER_BYTES;
    file[end..].copy_from_slice(&Trailer { version: 2, ..intact.trailer() }.encode(KIND.trailer_magic));
    assert!(matches!(intact.open(&file).unwrap_err(), ColError::NewerVersion { version: 2, .. }));
}

#[test]
fn x1_a_footer_with_lying_fields_never_panics() {
    let intact = Intact::new(30, TEXT);
    let len = intact.file.len() - TRAILER_BYTES - intact.footer_start();
    for at in 0..len {
        for value in [0, 1, 0x7F, 0xFF] {
            let file = intact.with_footer(|footer| footer[at] = value);
            let _ = intact.open(&file).map(|reader| use_up(&reader));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn x1_a_footer_of_garbage_never_panics(garbage in proptest::collection::vec(any::<u8>(), 1..64), at in any::<u16>()) {
        let intact = Intact::new(3, TEXT);
        let file = intact.with_footer(|footer| {
            let at = usize::from(at) % footer.len();
            let end = footer.len().min(at + garbage.len());
            footer[at..end].copy_from_slice(&garbage[..end - at]);
        });
        let _ = intact.open(&file).map(|reader| use_up(&reader));
    }
}
