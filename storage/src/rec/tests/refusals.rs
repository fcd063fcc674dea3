//! What cannot be a segment.

use super::*;

/// Tries to write the sample with a change, which has to be refused and to leave nothing.
fn refused(change: impl FnOnce(&mut RecSpec, &mut Vec<RecBatch>)) -> String {
    let (disk, mut spec, mut batches) = (disk(), spec(), sample().sorted());
    change(&mut spec, &mut batches);
    let error = write_rec(&disk, Path::new(DIR), &spec, &batches).unwrap_err();
    assert!(matches!(error, RecError::Refused { .. }) && error.code() == Code::Internal, "{error}");
    assert!(disk.list(Path::new(DIR)).unwrap().is_empty());
    error.to_string()
}

#[test]
fn l2_a_gap_between_offsets_is_refused() {
    let text = refused(|_, batches| drop(batches.remove(1)));
    assert!(text.contains("L2: offset"), "{text}");
    refused(|_, batches| batches[1].base_offset.0 += 1);
    refused(|_, batches| batches[1].base_offset.0 -= 1);
    refused(|_, batches| batches[0].base_offset.0 = u64::MAX);
    refused(|_, batches| batches[0].base_offset.0 = i64::MAX as u64);
}

#[test]
fn batches_out_of_order_are_refused() {
    refused(|_, batches| batches.swap(0, 1));
    refused(|_, batches| batches.reverse());
    refused(|_, batches| batches.push(batches[0].clone()));
    let text = refused(|_, batches| {
        let (first, later) = (batches[0].index, batches[2].index);
        (batches[0].index, batches[2].index) = (later, first);
    });
    assert!(text.contains("L2: a batch of entry"), "{text}");
    refused(|_, batches| batches[1].leader_epoch = 3);
}

#[test]
fn entries_that_are_not_the_segments_are_refused() {
    refused(|spec, _| spec.after = RaftIndex(103));
    refused(|spec, _| spec.through = RaftIndex(120));
    refused(|spec, _| spec.through = spec.after);
    refused(|_, batches| batches.clear());
}

#[test]
fn two_batches_in_one_place_of_the_log_are_refused() {
    refused(|_, batches| {
        let other = batches.iter().position(|batch| batch.topic != batches[0].topic).unwrap();
        let (index, at) = (batches[0].index, batches[0].at);
        (batches[other].index, batches[other].at) = (index, at);
    });
    refused(|_, batches| {
        let other = batches.iter().rposition(|batch| batch.index == batches[0].index).unwrap();
        batches[other].entry_time_ns += 1;
    });
}

#[test]
fn l4_a_batch_that_was_damaged_before_is_refused() {
    for at in [8, 16, 17, 23, 57, 61, 70] {
        let text = refused(|_, batches| {
            let mut bytes = batches[3].batch.to_vec();
            bytes[at] ^= 0x40;
            batches[3].batch = bytes.into();
        });
        assert!(text.contains("batch at offset"), "byte {at}: {text}");
    }
    refused(|_, batches| batches[3].batch = batches[3].batch.slice(..40));
    refused(|_, batches| batches[3].batch = [&batches[3].batch[..], b"x"].concat().into());
}
