//! A log that goes on in a new file, so that what came before can be given up.

use super::*;

/// Goes on in a new file, durably; its number.
fn rotate(lane: &Lane) -> u64 {
    for _ in 0..10_000 {
        let (sender, receiver) = mpsc::channel();
        let rotated = lane.rotate(Box::new(move |result| sender.send(result).unwrap_or(()))).unwrap();
        if let Some(number) = rotated {
            receiver.recv().unwrap().unwrap();
            return number;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("the next file is never there");
}

fn discarded(lane: &Lane, below: u64) {
    for _ in 0..10_000 {
        if lane.discard_below(below).unwrap() {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("old files never go");
}

#[test]
fn frames_from_a_rotation_on_are_in_another_file() {
    let disk = SimDisk::new();
    let (lane, _) = open(&disk).unwrap();
    let before = append_durably(&lane, vec![frame(1, 100)])[0];
    let number = rotate(&lane);
    let after = append_durably(&lane, vec![frame(2, 100)])[0];
    assert_eq!((before.file, number, after.file), (1, 2, 2));
    assert_eq!(lane.read(before).unwrap(), frame(1, 100).payload);
    for disk in [disk.after_kill(), disk.after_power_cut(|| false)] {
        let (lane, recovery) = open(&disk).unwrap();
        assert_recovered(&lane, &recovery, &[frame(1, 100), frame(2, 100)]);
        assert_eq!(recovery.torn_tail, None);
    }
}

#[test]
fn a_rotated_log_without_further_frames_is_recovered() {
    let disk = SimDisk::new();
    let (lane, _) = open(&disk).unwrap();
    append_durably(&lane, vec![frame(1, 100)]);
    let number = rotate(&lane);
    lane.release(number);
    discarded(&lane, number);
    let (lane, recovery) = open(&disk.after_power_cut(|| false)).unwrap();
    assert_recovered(&lane, &recovery, &[]);
    assert_eq!(recovery.torn_tail, None);
    append_durably(&lane, vec![frame(2, 100)]);
}

#[test]
fn a_power_cut_at_any_write_of_a_rotation_loses_no_frame() {
    for writes in 0..6 {
        let disk = SimDisk::new();
        let (lane, _) = open(&disk).unwrap();
        append_durably(&lane, vec![frame(1, 100)]);
        let (left, stopped) = (std::sync::atomic::AtomicI32::new(writes), std::io::ErrorKind::Other);
        disk.set_fault(move |op, _| {
            let counted = matches!(op, Op::Write | Op::Sync | Op::Rename);
            let fails = counted && left.fetch_sub(1, std::sync::atomic::Ordering::SeqCst) <= 0;
            if fails { Err(stopped.into()) } else { Ok(()) }
        });
        for _ in 0..50 {
            if !matches!(lane.rotate(Box::new(|_| {})), Ok(None)) {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        drop(lane);
        disk.clear_fault();
        let (lane, recovery) = open(&disk.after_power_cut(|| false)).unwrap();
        assert_recovered(&lane, &recovery, &[frame(1, 100)]);
        append_durably(&lane, vec![frame(2, 100)]);
    }
}

#[test]
fn rotating_twice_moves_on_once_more() {
    let disk = SimDisk::new();
    let (lane, _) = open(&disk).unwrap();
    assert_eq!([rotate(&lane), rotate(&lane)], [1, 2], "a file without groups is as good as a new one");
    assert_eq!(append_durably(&lane, vec![frame(1, 10)])[0].file, 2);
}

#[test]
fn the_bytes_of_discarded_files_are_nowhere() {
    let disk = SimDisk::new();
    let (lane, _) = open(&disk).unwrap();
    let secret = frame(7, 64);
    append_durably(&lane, vec![secret.clone(), frame(8, 4_000)]);
    append_durably(&lane, vec![frame(9, 4_000)]);
    let number = rotate(&lane);
    assert!(!lane.discard_below(number).unwrap(), "they are not released");
    let held = |disk: &SimDisk| {
        let names = disk.list(Path::new(DIR)).unwrap();
        let mut files = names.iter().filter(|name| name.ends_with(".log") || name.ends_with(".tmp"));
        files.any(|name| {
            disk.edit(&Path::new(DIR).join(name), |bytes| bytes.windows(64).any(|at| at == &secret.payload[..]))
        })
    };
    assert!(held(&disk));
    lane.release(number);
    discarded(&lane, number);
    assert!(!held(&disk) && !held(&disk.after_power_cut(|| false)));
    append_durably(&lane, vec![frame(10, 4_000)]);
}

#[test]
fn a_closed_lane_is_not_rotated() {
    let (lane, _) = open(&SimDisk::new()).unwrap();
    append_durably(&lane, vec![frame(1, 10)]);
    while !matches!(lane.rotate(Box::new(|_| {})), Ok(Some(_))) {
        std::thread::sleep(Duration::from_millis(1));
    }
    lane.close();
    let refused = lane.rotate(Box::new(|_| panic!("it is not called")));
    assert!(matches!(refused, Err(LaneError::Closed) | Ok(None)), "{refused:?}");
}
