//! A disk that fails, and power that does.

use std::io;

use super::*;
use crate::io::sim::{Dice, Op};

/// A file of the segment's name has to be the whole segment.
fn check_survivor(disk: SimDisk) -> bool {
    if !disk.exists(&path_of(id(0))).unwrap() {
        return false;
    }
    assert!(open(&disk, id(0)).unwrap().verify().is_ok());
    true
}

#[test]
fn power_that_fails_leaves_a_whole_file_or_none() {
    let disk = disk();
    let (watched, dice) = (disk.clone(), parking_lot::Mutex::new(Dice::new(1)));
    disk.set_fault(move |_, _| {
        for _ in 0..8 {
            check_survivor(watched.after_power_cut(|| dice.lock().chance(1, 2)));
        }
        Ok(())
    });
    write(&disk, &sample());
    assert!(check_survivor(disk.after_power_cut(|| false)), "a segment that was reported is durable");
}

#[test]
fn a_failed_write_or_sync_is_an_error_and_leaves_nothing() {
    for fails in [Op::Write, Op::Sync] {
        let disk = disk();
        disk.set_fault(move |op, _| match op == fails {
            true => Err(io::Error::new(io::ErrorKind::StorageFull, "no room")),
            false => Ok(()),
        });
        let error = write_rec(&disk, Path::new(DIR), &spec(), &sample().sorted()).unwrap_err();
        assert_eq!(error.code(), Code::StorageFull);
        assert!(disk.list(Path::new(DIR)).unwrap().is_empty());
    }
}

#[test]
fn l5_a_medium_error_names_file_and_block_and_may_pass() {
    let (disk, _, reader) = written(&sample());
    disk.set_fault(|op, _| if op == Op::View { Err(io::Error::other("medium error")) } else { Ok(()) });
    let error = reader.read(topic(0), PartitionId(0), Offset(0), 1).unwrap_err();
    assert_eq!(error.code(), Code::Io);
    let text = error.to_string();
    assert!(text.contains(".rec") && text.contains("block 0") && text.contains("medium error"), "{text}");
    disk.clear_fault();
    assert!(reader.read(topic(0), PartitionId(0), Offset(0), 1).unwrap().is_some());
}

#[test]
fn l5_blocks_that_were_verified_are_not_trusted_by_verify() {
    let (disk, _, reader) = written(&sample());
    reader.verify().unwrap();
    disk.edit(&path_of(id(0)), |file| file[100] ^= 1);
    assert!(matches!(reader.verify().unwrap_err(), RecError::Corrupt { block: 0, .. }));
}

#[test]
fn l5_a_repack_gives_no_new_checksums_to_damage() {
    let (disk, _, reader) = written(&sample());
    reader.verify().unwrap();
    disk.edit(&path_of(id(0)), |file| file[100] ^= 1);
    let error =
        repack(&disk, Path::new(DIR), &reader, id(1), &sample().partitions(), &ErasedOffsets::default()).unwrap_err();
    assert_eq!(error.code(), Code::CorruptData);
    assert!(error.to_string().contains("partition 0 of topic"), "{error}");
    assert_eq!(disk.list(Path::new(DIR)).unwrap(), [rec_file_name(id(0))]);
}

/// The device says that it wrote, and did not, or somewhere else; no cache hides it any more.
#[test]
fn l5_a_write_that_the_device_lost_is_found_by_verify() {
    let lies: [fn(&SimDisk); 2] = [|disk| disk.lose_next_write(".rec"), |disk| disk.misdirect_next_write(".rec")];
    for lie in lies {
        let disk = disk();
        lie(&disk);
        write(&disk, &sample());
        let found = open(&disk.after_power_cut(|| true), id(0)).and_then(|reader| reader.verify());
        assert_eq!(found.unwrap_err().code(), Code::CorruptData);
    }
}
