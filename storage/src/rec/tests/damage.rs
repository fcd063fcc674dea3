//! L5: every damaged bit is found. X1: no file makes a reader panic, or go on for ever.

use proptest::prelude::*;

use super::super::format::KIND;
use super::*;
use crate::container::{BLOCK_BYTES, TRAILER_BYTES, Trailer};

struct Intact {
    history: History,
    meta: RecMeta,
    file: Vec<u8>,
}

impl Intact {
    fn new(history: History) -> Self {
        let (disk, meta, _) = written(&history);
        let file = file_of(&disk, meta.id);
        Self { history, meta, file }
    }

    /// Puts another file in its place.
    fn open(&self, file: &[u8]) -> Result<Arc<RecReader>, RecError> {
        let disk = disk();
        disk.open(&path_of(self.meta.id), crate::io::OpenMode::CreateNew).unwrap().write_at(0, file).unwrap();
        open(&disk, self.meta.id)
    }

    /// Reads everything there is to read; what does not fail has to be right. Gives the first error.
    fn first_error(&self, file: &[u8]) -> Option<RecError> {
        let reader = match self.open(file) {
            Ok(reader) => reader,
            Err(error) => return Some(error),
        };
        let mut errors = Vec::new();
        for batch in &self.history.log {
            match reader.read(batch.topic, batch.partition, batch.base_offset, 1) {
                Ok(slice) => assert_eq!(slice.unwrap().bytes, patched(batch), "a wrong answer"),
                Err(error) => errors.push(error),
            }
        }
        let log = reader.ordered(RaftIndex(0)).map(|batches| batches.zip(&self.history.log));
        for (found, batch) in log.into_iter().flatten() {
            match found {
                Ok(found) => assert_eq!((found.index, found.batch), (batch.index, patched(batch)), "a wrong answer"),
                Err(error) => errors.push(error),
            }
        }
        match reader.verify() {
            Ok(meta) => assert!(meta != self.meta || errors.is_empty(), "damage that verify did not find"),
            Err(error) => errors.push(error),
        }
        errors.into_iter().next()
    }

    fn check_flip(&self, at: usize, bit: u32) {
        let mut file = self.file.clone();
        file[at] ^= 1 << bit;
        match self.first_error(&file) {
            Some(RecError::Corrupt { path, block, .. }) => {
                assert_eq!(path, path_of(self.meta.id));
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

    /// The file after a change before its trailer, with checksums and hashes that are right for it.
    fn resealed(&self, change: impl FnOnce(&mut [u8])) -> Vec<u8> {
        let mut file = self.file.clone();
        let (start, end) = (self.footer_start(), file.len() - TRAILER_BYTES);
        change(&mut file[..end]);
        let checksums: Vec<u32> = file[..start].chunks(BLOCK_BYTES as usize).map(crc32fast::hash).collect();
        let table = end - 4 * checksums.len();
        for (at, checksum) in (table..end).step_by(4).zip(checksums) {
            file[at..at + 4].copy_from_slice(&checksum.to_le_bytes());
        }
        let footer_crc = crc32fast::hash(&file[start..end]);
        let blake3 = *blake3::hash(&file[..end]).as_bytes();
        let trailer = Trailer { footer_crc, blake3, ..self.trailer() };
        file[end..].copy_from_slice(&trailer.encode(KIND.trailer_magic));
        file
    }
}

/// Reads all that a file offers, and only wants no panic.
fn use_up(reader: &Arc<RecReader>) {
    for of in reader.topics() {
        for range in of.ranges {
            let middle = Offset(range.first.0 + (range.next.0 - range.first.0) / 2);
            for (from, max_bytes) in [(range.first, 0), (middle, 1 << 16), (Offset(range.next.0 - 1), usize::MAX)] {
                let _ = reader.read(of.topic, range.partition, from, max_bytes);
                let _ = reader.offset_at_time(of.topic, range.partition, from, range.max_timestamp_ms);
            }
        }
    }
    let _ = reader.ordered(RaftIndex(0)).map(|batches| batches.take(1_000).count());
    let _ = reader.verify();
}

#[test]
fn l5_a_flipped_bit_in_any_byte_is_found() {
    let intact = Intact::new(sample());
    assert!(intact.first_error(&intact.file).is_none());
    for at in 0..intact.file.len() {
        intact.check_flip(at, (at % 8) as u32);
    }
}

#[test]
fn l5_a_flipped_bit_in_a_file_of_many_blocks_names_its_block() {
    let intact = Intact::new(large_sample());
    assert!(intact.file.len() as u64 > 6 * BLOCK_BYTES);
    for at in (0..intact.file.len()).step_by(intact.file.len() / 23) {
        intact.check_flip(at, (at % 8) as u32);
    }
}

#[test]
fn l5_damage_names_the_offsets_that_cannot_be_read() {
    let intact = Intact::new(large_sample());
    let mut file = intact.file.clone();
    file[100] ^= 1;
    let reader = intact.open(&file).unwrap();
    let text = reader.read(topic(0), PartitionId(0), Offset(0), 1).unwrap_err().to_string();
    assert!(text.contains("block 0") && text.contains("it concerns offsets 0..") && text.contains(".rec"), "{text}");
    let range = intact.meta.range(topic(0), PartitionId(1)).unwrap();
    assert!(reader.read(topic(0), PartitionId(1), Offset(range.next.0 - 1), 1).is_ok(), "other blocks stay readable");
}

#[test]
fn l5_a_file_that_was_cut_is_found() {
    let intact = Intact::new(sample());
    for len in 0..intact.file.len() {
        let error = intact.open(&intact.file[..len]).unwrap_err();
        assert_eq!(error.code(), Code::CorruptData, "cut to {len} bytes");
    }
    assert!(intact.open(&[&intact.file[..], b"x"].concat()).is_err());
}

#[test]
fn l5_blocks_that_changed_places_are_found() {
    let intact = Intact::new(large_sample());
    let block = BLOCK_BYTES as usize;
    let mut file = intact.file.clone();
    let (left, right) = file.split_at_mut(3 * block);
    left[block..2 * block].swap_with_slice(&mut right[..block]);
    assert_eq!(intact.first_error(&file).unwrap().code(), Code::CorruptData);
}

#[test]
fn l5_a_batch_that_changed_before_its_block_was_sealed_is_found_by_verify() {
    let intact = Intact::new(sample());
    let start = crate::container::HEADER_BYTES;
    let len = intact.history.sorted()[0].batch.len();
    for at in start..start + len {
        let reader = intact.open(&intact.resealed(|file| file[at] ^= 1)).unwrap();
        assert_eq!(reader.verify().unwrap_err().code(), Code::CorruptData, "byte {at}");
    }
}

#[test]
fn a_file_of_a_later_version_says_so() {
    let intact = Intact::new(sample());
    let mut file = intact.file.clone();
    let end = file.len() - TRAILER_BYTES;
    file[end..].copy_from_slice(&Trailer { version: 2, ..intact.trailer() }.encode(KIND.trailer_magic));
    assert!(matches!(intact.open(&file).unwrap_err(), RecError::NewerVersion { version: 2, .. }));
}

#[test]
fn a_column_segment_is_no_replay_segment() {
    let file = include_bytes!("../../../tests/fixtures/v1.col");
    assert_eq!(Intact::new(sample()).open(file).unwrap_err().code(), Code::CorruptData);
}

#[test]
fn x1_a_file_with_lying_fields_never_panics() {
    let intact = Intact::new(History { log: sample().log[..6].to_vec() });
    for at in 0..intact.file.len() - TRAILER_BYTES {
        for value in [0, 1, 0x7F, 0xFF] {
            let file = intact.resealed(|file| file[at] = value);
            let _ = intact.open(&file).map(|reader| use_up(&reader));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn x1_a_file_of_garbage_never_panics(garbage in proptest::collection::vec(any::<u8>(), 1..64), at in any::<u32>()) {
        let intact = Intact::new(sample());
        let file = intact.resealed(|file| {
            let at = at as usize % file.len();
            let end = file.len().min(at + garbage.len());
            file[at..end].copy_from_slice(&garbage[..end - at]);
        });
        let _ = intact.open(&file).map(|reader| use_up(&reader));
    }

    /// Whatever happens to a part of the file, in a history of any shape: no answer is wrong, and verify finds it.
    #[test]
    fn l5_any_damage_is_found(history in histories(), kind in 0..4_u8, at in any::<u32>(), len in 1..100_000_usize) {
        let intact = Intact::new(history);
        let mut file = intact.file.clone();
        let start = at as usize % file.len();
        let end = file.len().min(start + len);
        match kind {
            0 => file[start..end].fill(0),
            1 => file[start..end].reverse(),
            2 => file.truncate(start),
            _ => file.copy_within(start..end, (start + len / 2) % (intact.file.len() - (end - start) + 1)),
        }
        if file == intact.file {
            prop_assert!(intact.first_error(&file).is_none());
        } else {
            prop_assert_eq!(intact.first_error(&file).map(|error| error.code()), Some(Code::CorruptData));
        }
    }
}
