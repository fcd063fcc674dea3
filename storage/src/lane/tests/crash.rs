//! L1 under crashes: whatever was acknowledged is there after any power cut, in order and whole.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

use proptest::prelude::*;

use super::*;

/// Runs one life of a lane on a disk whose sync number `cut_at` never ends, then cuts the power. Returns the disk that is
/// left, and how many of the frames were acknowledged. Every quiet moment leaves a mark.
fn life(disk: &SimDisk, appends: &[&[Frame]], cut_at: u32, keep: &mut impl FnMut() -> bool) -> (SimDisk, usize) {
    let options = LaneOptions { mark_after: Duration::ZERO, ..options() };
    let (lane, _) = Lane::open(Arc::new(disk.clone()), Path::new(DIR), options).unwrap();
    let (release, released) = mpsc::channel::<()>();
    let at_cut = hang_at_sync(disk, cut_at, released);
    let acked = Arc::new(AtomicUsize::new(0));
    for (number, frames) in appends.iter().enumerate() {
        let (told, answer) = mpsc::channel();
        let (count, len) = (acked.clone(), frames.len());
        let done = Box::new(move |result: Result<(), LaneError>| {
            count.fetch_add(result.map_or(0, |()| len), Ordering::SeqCst);
            told.send(()).unwrap_or(());
        });
        lane.append(frames.to_vec(), done).unwrap();
        // Every other append waits for its own sync, so that groups are of one and of many appends.
        let waits = number % 2 == 1;
        while waits && answer.try_recv().is_err() && !at_cut.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
        if at_cut.load(Ordering::SeqCst) {
            break;
        }
    }
    let promised = acked.load(Ordering::SeqCst);
    let after = disk.after_power_cut(keep);
    drop(release);
    (after, promised)
}

/// Makes sync number `cut_at` of the lane's files wait for `released`; the flag says that it has come.
fn hang_at_sync(disk: &SimDisk, cut_at: u32, released: Receiver<()>) -> Arc<AtomicBool> {
    let (syncs, released) = (AtomicU32::new(0), Mutex::new(released));
    let at_cut = Arc::new(AtomicBool::new(false));
    let flag = at_cut.clone();
    disk.set_fault(move |op, path| {
        let of_log = path.extension().is_some_and(|extension| extension == "log");
        if op == Op::Sync && of_log && syncs.fetch_add(1, Ordering::SeqCst) == cut_at {
            flag.store(true, Ordering::SeqCst);
            released.lock().recv().ok();
        }
        Ok(())
    });
    at_cut
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn l1_acknowledged_frames_survive_every_power_cut(
        sizes in proptest::collection::vec(prop_oneof![0usize..600, 2000usize..4000], 1..25),
        per_append in 1usize..4,
        cuts in proptest::collection::vec((0u32..12, any::<u64>(), 0u64..=8), 1..4),
    ) {
        let mut disk = SimDisk::new();
        let mut survived: Vec<Frame> = Vec::new();
        let mut index = 0;
        for (cut_at, seed, eighths) in cuts {
            let new: Vec<_> = sizes.iter().map(|bytes| { index += 1; frame(index, *bytes) }).collect();
            let mut random = seed | 1;
            let mut keep = move || {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                random % 8 < eighths
            };
            let appends: Vec<_> = new.chunks(per_append).collect();
            let (after, acked) = life(&disk, &appends, cut_at, &mut keep);
            let (lane, recovery) = open(&after).unwrap();
            let found = recovery.frames.len();
            prop_assert!(found >= survived.len() + acked, "L1: {acked} of {} acknowledged", new.len());
            survived.extend_from_slice(&new[..found - survived.len()]);
            assert_recovered(&lane, &recovery, &survived);
            drop(lane);
            disk = after.after_kill();
        }
    }
}

/// One life of a lane that gives up all but the last two files while it goes on. Returns the disk after a power cut, the
/// last index that was acknowledged, and the lowest one that was not released.
fn life_with_releases(
    disk: &SimDisk,
    sizes: &[usize],
    cut_at: u32,
    keep: &mut impl FnMut() -> bool,
) -> (SimDisk, u64, u64) {
    let options = LaneOptions { mark_after: Duration::ZERO, ..options() };
    let (lane, recovery) = Lane::open(Arc::new(disk.clone()), Path::new(DIR), options).unwrap();
    let mut files: Vec<(u64, u64)> = recovery.frames.iter().map(|frame| (frame.index.0, frame.pos.file)).collect();
    let mut next = files.last().map_or(1, |(index, _)| index + 1);
    let mut from = files.first().map_or(1, |(index, _)| *index);
    let acked = Arc::new(AtomicU32::new(next as u32 - 1));
    let (release, released) = mpsc::channel::<()>();
    let at_cut = hang_at_sync(disk, cut_at, released);
    for (number, bytes) in sizes.iter().enumerate() {
        let count = acked.clone();
        let done = Box::new(move |result: Result<(), LaneError>| {
            if result.is_ok() {
                count.fetch_add(1, Ordering::SeqCst);
            }
        });
        files.push((next, lane.append(vec![frame(next, *bytes)], done).unwrap()[0].file));
        next += 1;
        let waits = number % 3 == 2;
        while waits && u64::from(acked.load(Ordering::SeqCst)) + 1 < next && !at_cut.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
        if at_cut.load(Ordering::SeqCst) {
            break;
        }
        let first_needed = lane.usage().last_file.saturating_sub(1);
        from = from.max(files.iter().find(|(_, file)| *file >= first_needed).map_or(1, |(index, _)| *index));
        lane.release(first_needed);
    }
    let promised = u64::from(acked.load(Ordering::SeqCst));
    let after = disk.after_power_cut(keep);
    drop(release);
    (after, promised, from)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn l4_only_what_was_released_is_ever_missing(
        sizes in proptest::collection::vec(prop_oneof![0usize..600, 2000usize..6000], 1..40),
        cuts in proptest::collection::vec((0u32..30, any::<u64>()), 1..4),
    ) {
        let mut disk = SimDisk::new();
        let mut index = 0;
        let mut written = Vec::new();
        for (cut_at, seed) in cuts {
            written.truncate(index as usize);
            written.extend(&sizes);
            let mut random = seed | 1;
            let mut keep = move || {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                random % 2 == 0
            };
            let (after, acked, from) = life_with_releases(&disk, &sizes, cut_at, &mut keep);
            let (lane, recovery) = open(&after).unwrap();
            let found: Vec<u64> = recovery.frames.iter().map(|frame| frame.index.0).collect();
            let (first, last) = (found.first().copied().unwrap_or(1), found.last().copied().unwrap_or(0));
            prop_assert!(found.iter().copied().eq(first..=last), "without gaps: {found:?}");
            prop_assert!(last >= acked, "L1: {acked} was acknowledged, {first}..={last} are there");
            prop_assert!(first <= from.max(1), "L4: {from} was not released, {first}..={last} are there");
            let expected: Vec<_> = (first..=last).map(|index| frame(index, written[index as usize - 1])).collect();
            assert_recovered(&lane, &recovery, &expected);
            drop(lane);
            index = last;
            disk = after.after_kill();
        }
    }
}
