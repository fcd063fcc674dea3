use std::io::{Error, ErrorKind};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::*;

#[test]
fn a_failed_sync_kills_the_lane_and_reaches_every_waiter() {
    for failing in [Op::Sync, Op::Write] {
        let disk = SimDisk::new();
        let (lane, _) = open(&disk).unwrap();
        append_durably(&lane, vec![frame(1, 100)]);
        let (gate, queued) = mpsc::channel::<()>();
        let queued = Mutex::new(queued);
        let calls = Arc::new(AtomicU32::new(0));
        let counted = calls.clone();
        disk.set_fault(move |op, _| {
            if op != failing {
                return Ok(());
            }
            counted.fetch_add(1, Ordering::Relaxed);
            queued.lock().recv().ok();
            Err(Error::other("the medium is broken"))
        });
        let waiting: Vec<_> = (2..10).map(|index| append(&lane, vec![frame(index, 3000)]).1).collect();
        drop(gate);
        for done in waiting {
            let error = done.recv().unwrap().unwrap_err();
            assert!(error.to_string().contains("the medium is broken"), "{error}");
        }
        let error = lane.append(vec![frame(10, 1)], Box::new(|_| {})).unwrap_err();
        assert!(matches!(error, LaneError::Dead(_)) && error.to_string().contains("the medium is broken"), "{error}");
        assert_eq!(calls.load(Ordering::Relaxed), 1, "it is not tried again");
    }
}

/// Watches a lane: the error that it fails with.
fn watch(lane: &Lane) -> Receiver<LaneError> {
    let (sender, receiver) = mpsc::channel();
    lane.on_failure(Box::new(move |error| sender.send(error).unwrap_or(())));
    receiver
}

#[test]
fn a_disk_that_fails_under_an_idle_lane_is_told_at_once() {
    // What fails, and after an append of how many bytes: of a whole file's half, the next file is made.
    for (failing, bytes) in [(Op::Sync, 100), (Op::Write, 100), (Op::Allocate, 5000), (Op::Rename, 5000)] {
        let disk = SimDisk::new();
        let options = LaneOptions { mark_after: Duration::from_millis(50), ..options() };
        let (lane, _) = Lane::open(Arc::new(disk.clone()), Path::new(DIR), options).unwrap();
        let failed = watch(&lane);
        let acknowledged = Arc::new(AtomicBool::new(false));
        let (last, armed) = (acknowledged.clone(), disk.clone());
        let done = Box::new(move |result: Result<(), LaneError>| {
            last.store(result.is_ok(), Ordering::SeqCst);
            // Nobody waits any more, and only the lane's own threads use the disk.
            armed
                .set_fault(move |op, _| if op == failing { Err(Error::other("the medium is broken")) } else { Ok(()) });
        });
        disk.fail_next(Op::Allocate, "", ErrorKind::StorageFull);
        lane.append(vec![frame(1, bytes)], done).unwrap();
        let error = failed.recv().unwrap();
        assert!(acknowledged.load(Ordering::SeqCst) && error.to_string().contains("the medium is broken"), "{error}");
        assert!(matches!(lane.append(vec![], Box::new(|_| {})), Err(LaneError::Dead(_))), "{failing:?}");
        let later = watch(&lane).recv().unwrap().to_string();
        assert!(later.contains("the medium is broken"), "{later}");
    }
}

#[test]
fn a_device_that_is_full_and_a_lane_that_closes_are_no_failures() {
    let disk = SimDisk::new();
    let (lane, _) = open(&disk).unwrap();
    let failed = watch(&lane);
    disk.set_fault(|op, _| if op == Op::Allocate { Err(ErrorKind::StorageFull.into()) } else { Ok(()) });
    append_durably(&lane, vec![frame(1, 5000)]);
    assert!(failed.recv_timeout(Duration::from_millis(50)).is_err(), "it may get room");
    lane.close();
    assert!(watch(&lane).recv().is_err() && failed.recv().is_err(), "nothing was wrong");
}

#[test]
fn a_waiter_that_panics_does_not_take_the_others_with_it() {
    let (lane, _) = open(&SimDisk::new()).unwrap();
    lane.append(vec![frame(1, 10)], Box::new(|_| panic!("a waiter's defect, on purpose"))).unwrap();
    append_durably(&lane, vec![frame(2, 10)]);
}

#[test]
fn a_done_may_drop_the_last_reference_to_the_lane() {
    let (lane, _) = open(&SimDisk::new()).unwrap();
    let (sender, receiver) = mpsc::channel();
    let held = lane.clone();
    let done = Box::new(move |_| {
        // Waits until the test has let go of its own.
        while Arc::strong_count(&held) > 1 {
            std::thread::yield_now();
        }
        drop(held);
        sender.send(()).unwrap();
    });
    lane.append(vec![frame(1, 10)], done).unwrap();
    drop(lane);
    receiver.recv().unwrap();
}

#[test]
fn a_full_device_is_waited_for_when_the_next_file_is_made() {
    let disk = SimDisk::new();
    let (lane, _) = open(&disk).unwrap();
    let full = Arc::new(AtomicBool::new(true));
    let is_full = full.clone();
    disk.set_fault(move |op, _| match op {
        Op::Allocate if is_full.load(Ordering::Relaxed) => Err(ErrorKind::StorageFull.into()),
        _ => Ok(()),
    });
    append_durably(&lane, vec![frame(1, 5000)]);
    assert!(lane.room_bytes() < 4096);
    let (_, done) = append(&lane, vec![frame(2, 5000)]);
    assert!(done.recv_timeout(Duration::from_millis(50)).is_err(), "there is no room yet");
    assert_eq!(lane.room_bytes(), 0, "the file in which the log goes on is not there");
    full.store(false, Ordering::Relaxed);
    done.recv().unwrap().unwrap();
    lane.close();
    let names = disk.list(Path::new(DIR)).unwrap();
    assert!(names.iter().all(|name| name.ends_with(".log")), "no unfinished file is left: {names:?}");
}

#[test]
fn closing_does_not_wait_for_a_full_device() {
    let disk = SimDisk::new();
    let (lane, _) = open(&disk).unwrap();
    disk.set_fault(|op, _| if op == Op::Allocate { Err(ErrorKind::StorageFull.into()) } else { Ok(()) });
    append_durably(&lane, vec![frame(1, 5000)]);
    let (_, done) = append(&lane, vec![frame(2, 5000)]);
    lane.close();
    assert!(done.recv().unwrap().unwrap_err().is_full());
}

#[test]
fn an_unreadable_sector_is_an_error_that_names_the_file() {
    let disk = SimDisk::new();
    let (lane, _) = open(&disk).unwrap();
    let pos = append_durably(&lane, vec![frame(1, 100)])[0];
    disk.set_fault(|op, path| match op {
        Op::View => Err(Error::other(format!("cannot read {}", path.display()))),
        _ => Ok(()),
    });
    assert!(lane.read(pos).unwrap_err().to_string().contains(&file_name(1)));
    drop(lane);
    assert!(matches!(open(&disk), Err(LaneError::Io(_))));
}
