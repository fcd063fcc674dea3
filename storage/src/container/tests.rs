use std::path::Path;
use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::io::Io;
use crate::io::sim::SimDisk;
use crate::segment::Lease;

static KIND: FileKind =
    FileKind { name: "test file", header_magic: *b"HEADHEAD", trailer_magic: *b"TAILTAIL", version: 3 };

/// A file of these writes, and what a reader finds in its footer.
fn written(writes: &[Vec<u8>], footer: &[u8]) -> (SimDisk, Written, BlockFile, Vec<u8>) {
    let disk = SimDisk::new();
    let written = write_named::<_, FileError>(&disk, Path::new("/"), "file", |mut out| {
        for bytes in writes {
            out.write(bytes)?;
        }
        Ok(out.finish(&KIND, footer.to_vec())?.unwrap())
    });
    let lease = Arc::new(Lease::new(Arc::new(disk.clone()), "/file".into()));
    let (file, footer) = BlockFile::open(lease, &KIND, |footer, _| Ok(footer.to_vec())).unwrap();
    (disk, written.unwrap(), file, footer)
}

/// Small writes, and some that are handed on as they are.
fn writes() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let len = prop_oneof![8 => 0..5_000_usize, 2 => 60_000..70_000_usize, 1 => 100_000..1_200_000_usize];
    let write = (len, any::<u8>()).prop_map(|(len, seed)| (0..len).map(|i| (i / 251) as u8 ^ seed).collect());
    vec(write, 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// However the bytes are cut into writes: they are in the file, under the checksums of their blocks and the hash.
    #[test]
    fn what_is_written_is_read(writes in writes(), footer in vec(any::<u8>(), 0..100), picks in vec(any::<(u32, u32)>(), 8)) {
        let mut writes = writes;
        writes.insert(0, vec![7; HEADER_BYTES]);
        let content = writes.concat();
        let (disk, written, file, found) = written(&writes, &footer);
        let bytes = disk.edit(Path::new("/file"), |bytes| bytes.clone());
        prop_assert_eq!(found, footer);
        prop_assert_eq!(&bytes[..content.len()], &content[..]);
        prop_assert_eq!(written, Written { bytes: bytes.len() as u64, blake3: *blake3::hash(&bytes).as_bytes() });
        prop_assert_eq!((file.len(), file.footer().start), (written.bytes, content.len() as u64));
        for (start, len) in picks {
            let start = start as usize % content.len();
            let end = content.len().min(start + len as usize % 200_000);
            prop_assert_eq!(&file.view(start as u64..end as u64).unwrap()[..], &content[start..end]);
        }
        prop_assert_eq!(file.verify().unwrap(), written.blake3);
        prop_assert!(file.view(0..content.len() as u64 + 1).is_err());
    }
}

#[test]
fn a_small_part_does_not_keep_its_block_in_memory() {
    let block = bytes::Bytes::from(vec![1; BLOCK_BYTES as usize]);
    let (small, large) = (part_of(&block, 10..20), part_of(&block, 10..40_000));
    let within = |part: &bytes::Bytes| block.as_ptr_range().contains(&part.as_ptr());
    assert!(!within(&small) && within(&large));
    assert_eq!((&small[..], large.len()), (&[1; 10][..], 39_990));
}

#[test]
fn sections_that_overlap_or_lie_outside_are_refused() {
    let decoded = |sections: &[(u32, std::ops::Range<u64>)]| {
        let mut bytes = Vec::new();
        Sections::new(sections.to_vec()).encode(&mut bytes);
        Sections::decode(&mut Cursor::new(&bytes), 1_000)
    };
    let sections = decoded(&[(1, 64..100), (77, 100..100), (2, 200..1_000)]).unwrap();
    assert_eq!((sections.get(2), sections.get(3)), (Some(200..1_000), None));
    assert!(decoded(&[(1, 63..100)]).is_err());
    assert!(decoded(&[(1, 64..1_001)]).is_err());
    assert!(decoded(&[(1, 64..100), (2, 99..200)]).is_err());
    assert!(Sections::decode(&mut Cursor::new(&[65, 0, 0, 0]), 1_000).is_err());
}

#[test]
fn a_write_that_fails_leaves_no_file() {
    let disk = SimDisk::new();
    let written = write_named::<(), FileError>(&disk, Path::new("/"), "file", |mut out| {
        out.write(b"some")?;
        Err(FileError::corrupt(Path::new("other"), 0..1, "it was not to be"))
    });
    assert!(matches!(written, Err(FileError::Corrupt { .. })));
    assert!(disk.list(Path::new("/")).unwrap().is_empty());
}
