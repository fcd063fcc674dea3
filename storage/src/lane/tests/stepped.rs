//! L1 and L4 at every step: a script of a lane without threads is cut, by a kill or by the power, before each call of the
//! disk that it makes.

use std::collections::BTreeSet;
use std::io::{Error, ErrorKind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use proptest::prelude::*;

use super::*;

/// What a scheduler may have a lane do.
#[derive(Clone, Copy, Debug)]
enum Step {
    Append(usize),
    Flush,
    Mark,
    /// Release all but the last so many files.
    Release(u64),
    MakeSpare,
    Reopen,
}

/// What was promised so far.
#[derive(Clone, Copy, Debug, Default)]
struct Promised {
    /// Frames up to this index were acknowledged.
    acked: u64,
    /// Frames below this index were released.
    from: u64,
}

/// A run of steps on one disk.
struct Run {
    lane: SteppedLane,
    disk: SimDisk,
    promised: Arc<Mutex<Promised>>,
    /// By index - 1: in which file each frame is.
    files: Vec<u64>,
}

fn open_stepped(disk: &SimDisk) -> Result<(SteppedLane, Recovery), LaneError> {
    SteppedLane::open(Arc::new(disk.clone()), Path::new(DIR), options())
}

impl Run {
    fn new(disk: SimDisk) -> Self {
        let (lane, _) = open_stepped(&disk).unwrap();
        Self { lane, disk, promised: Arc::default(), files: Vec::new() }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Append(bytes) => self.append(bytes),
            Step::Flush => {
                self.lane.flush();
            }
            Step::Mark => {
                self.lane.mark();
            }
            Step::MakeSpare => {
                self.lane.make_spare();
            }
            Step::Release(kept) => self.release(kept),
            Step::Reopen => {
                while self.lane.flush() {}
                self.lane = open_stepped(&self.disk).unwrap().0;
            }
        }
    }

    fn release(&mut self, kept: u64) {
        let first_needed = self.lane.lane().usage().last_file.saturating_sub(kept);
        let from = self.files.iter().position(|file| *file >= first_needed).unwrap_or(self.files.len());
        {
            let mut promised = self.promised.lock();
            promised.from = promised.from.max(from as u64 + 1);
        }
        self.lane.lane().release(first_needed);
    }

    fn append(&mut self, bytes: usize) {
        let index = self.files.len() as u64 + 1;
        let promised = self.promised.clone();
        let done = Box::new(move |result: Result<(), LaneError>| {
            if result.is_ok() {
                promised.lock().acked = index;
            }
        });
        self.files.push(self.lane.lane().append(vec![frame(index, bytes)], done).unwrap()[0].file);
    }
}

/// Opens what a crash left, and checks that all that was promised is there, and that the log goes on from it.
fn check(left: &SimDisk, promised: Promised, sizes: &[usize]) {
    let (mut lane, recovery) = open_stepped(left).unwrap_or_else(|error| panic!("{error}, with {promised:?}"));
    let found: Vec<u64> = recovery.frames.iter().map(|frame| frame.index.0).collect();
    let last = found.last().copied().unwrap_or(0);
    let first = found.first().copied().unwrap_or(1);
    assert!(found.iter().copied().eq(first..=last), "without gaps: {found:?}");
    assert!(last >= promised.acked, "L1: {promised:?}, found {first}..={last}");
    assert!(first <= promised.from.clamp(1, promised.acked.max(1)), "L4: {promised:?}, found {first}..={last}");
    let expected: Vec<_> = (first..=last).map(|index| frame(index, sizes[index as usize - 1])).collect();
    assert_recovered(lane.lane(), &recovery, &expected);

    lane.lane().release(lane.lane().usage().last_file);
    lane.lane().append(vec![frame(last + 1, 5000)], Box::new(|result| result.unwrap())).unwrap();
    lane.lane().append(vec![frame(last + 2, 3000)], Box::new(|result| result.unwrap())).unwrap();
    while lane.flush() {}
    let (_, recovery) = open_stepped(&left.after_power_cut(|| false)).unwrap();
    assert_eq!(recovery.frames.last().map(|frame| frame.index), Some(RaftIndex(last + 2)));
}

/// Plays a script; before each call of the disk, `cut` may take what a crash would leave there.
fn play(disk: SimDisk, steps: &[Step], cut: impl Fn(u64, &SimDisk) -> Vec<SimDisk> + Send + Sync + 'static) -> usize {
    let mut run = Run::new(disk);
    let sizes: Vec<usize> =
        steps.iter().filter_map(|step| if let Step::Append(bytes) = step { Some(*bytes) } else { None }).collect();
    let crashes = Arc::new(Mutex::new(Vec::new()));
    let (calls, disk, promised, taken) = (AtomicU64::new(0), run.disk.clone(), run.promised.clone(), crashes.clone());
    run.disk.set_fault(move |op, _| {
        if op != Op::View {
            let call = calls.fetch_add(1, Ordering::Relaxed);
            let promised = *promised.lock();
            taken.lock().extend(cut(call, &disk).into_iter().map(|left| (left, promised)));
        }
        Ok(())
    });
    steps.iter().for_each(|step| run.step(*step));
    run.disk.clear_fault();
    let crashes = std::mem::take(&mut *crashes.lock());
    crashes.iter().for_each(|(left, promised)| check(left, *promised, &sizes));
    crashes.len()
}

/// Four files full, then released and used again, with frames and marks between.
fn script() -> Vec<Step> {
    let mut steps = Vec::new();
    for round in 0..8 {
        steps.extend([Step::Append(3000), Step::Flush, Step::Append(2900), Step::Flush, Step::MakeSpare]);
        steps.extend([Step::Release(round % 3), Step::Append(100), Step::Flush, Step::Mark, Step::MakeSpare]);
    }
    steps
}

#[test]
fn a_power_cut_or_kill_at_every_step_of_recycling_loses_nothing() {
    let crashes = play(SimDisk::seeded(11), &script(), |_, disk| {
        let mut left = vec![disk.after_kill(), disk.after_power_cut(|| true), disk.after_power_cut(|| false)];
        left.extend((0..5).map(|_| disk.after_power_cut_by_seed()));
        left
    });
    assert!(crashes > 500, "the script makes only {crashes} crashes");
}

#[test]
fn a_file_goes_behind_a_durable_floor_and_comes_back_under_one_name_only() {
    let disk = SimDisk::new();
    let mut run = Run::new(disk.clone());
    for _ in 0..3 {
        run.step(Step::Append(5000));
        run.step(Step::MakeSpare);
        run.step(Step::Flush);
    }
    let calls = Arc::new(Mutex::new(Vec::new()));
    let told = calls.clone();
    disk.set_fault(move |op, path| {
        told.lock().push(format!("{op:?} {}", path.file_name().unwrap().to_str().unwrap().trim_start_matches('0')));
        Ok(())
    });
    [Step::Release(1), Step::Flush, Step::MakeSpare].into_iter().for_each(|step| run.step(step));
    let expected = [
        ["Write 3.log", "Sync 3.log", "Rename 1.log", "Sync lane", "Zero 4.log.tmp", "Write 4.log.tmp"].as_slice(),
        &["Sync 4.log.tmp", "Rename 4.log.tmp", "Sync lane"],
    ];
    assert_eq!(*calls.lock(), expected.concat());
}

#[test]
fn the_same_steps_give_the_same_bytes() {
    let play = || {
        let mut run = Run::new(SimDisk::new());
        script().iter().for_each(|step| run.step(*step));
        let files = run.disk.paths();
        files.iter().map(|path| run.disk.edit(path, |bytes| bytes.clone())).collect::<Vec<_>>()
    };
    assert_eq!(play(), play());
}

#[test]
fn a_medium_error_at_any_call_kills_the_lane_or_is_none_and_nothing_is_acknowledged_wrongly() {
    let mut outcomes = BTreeSet::new();
    for failing in 0.. {
        let disk = SimDisk::seeded(failing);
        let mut run = Run::new(disk.clone());
        let calls = Arc::new(AtomicU64::new(0));
        let counted = calls.clone();
        disk.set_fault(move |op, _| {
            let hit = op != Op::View && counted.fetch_add(1, Ordering::Relaxed) == failing;
            if hit { Err(Error::other("the medium is broken")) } else { Ok(()) }
        });
        let dead = script().into_iter().find(|step| {
            let refused = run.lane.lane().append(vec![], Box::new(|_| {})).is_err();
            if !refused && !matches!(step, Step::Reopen) {
                run.step(*step);
            }
            refused
        });
        outcomes.insert(dead.is_some());
        disk.clear_fault();
        // What is given up now, if anything, must not be needed.
        run.lane.make_spare();
        let sizes: Vec<usize> =
            script().iter().filter_map(|step| if let Step::Append(n) = step { Some(*n) } else { None }).collect();
        let promised = *run.promised.lock();
        check(&disk.after_kill(), promised, &sizes);
        check(&disk.after_power_cut(|| false), promised, &sizes);
        check(&disk.after_power_cut_by_seed(), promised, &sizes);
        if calls.load(Ordering::Relaxed) <= failing {
            break;
        }
    }
    assert_eq!(outcomes, BTreeSet::from([false, true]), "an error that is met is fatal");
}

#[test]
fn a_full_device_at_any_allocation_is_waited_for() {
    for full_at in 0..4 {
        let disk = SimDisk::new();
        let mut run = Run::new(disk.clone());
        let allocations = AtomicUsize::new(0);
        let full_until = Arc::new(AtomicUsize::new(full_at + 3));
        let until = full_until.clone();
        disk.set_fault(move |op, _| {
            let full = matches!(op, Op::Allocate | Op::Zero) && {
                let number = allocations.fetch_add(1, Ordering::Relaxed);
                (full_at..until.load(Ordering::Relaxed)).contains(&number)
            };
            if full { Err(ErrorKind::StorageFull.into()) } else { Ok(()) }
        });
        for step in script() {
            run.step(step);
        }
        while run.lane.flush() || run.promised.lock().acked < run.files.len() as u64 {}
        let (_, recovery) = open_stepped(&disk.after_power_cut(|| false)).unwrap();
        assert_eq!(recovery.frames.last().unwrap().index.0, run.files.len() as u64);
    }
}

#[test]
fn a_release_makes_room_for_a_group_that_waits_for_it() {
    let disk = SimDisk::new();
    let mut run = Run::new(disk.clone());
    for _ in 0..3 {
        run.step(Step::Append(5000));
        run.step(Step::Flush);
    }
    disk.set_capacity(disk.used_bytes());
    run.step(Step::Append(5000));
    assert!(!run.lane.flush() && !run.lane.flush() && !run.lane.make_spare(), "there is no room");
    run.lane.lane().release(2);
    assert!(run.lane.flush());
    assert_eq!((run.promised.lock().acked, run.lane.lane().stats().recycled_files), (4, 1));
}

#[test]
fn a_step_without_work_does_nothing() {
    let disk = SimDisk::new();
    let (mut lane, _) = open_stepped(&disk).unwrap();
    assert!(!lane.flush() && !lane.mark());
    lane.lane().append(vec![frame(1, 10)], Box::new(|_| {})).unwrap();
    assert!(lane.flush() && lane.mark());
    assert!(!lane.flush() && !lane.mark());
    assert!(lane.make_spare() && lane.make_spare());
    assert!(lane.lane().room_bytes() > 8192);
    disk.fail_next(Op::Sync, "", ErrorKind::Other);
    lane.lane().append(vec![frame(2, 10)], Box::new(|result| drop(result.unwrap_err()))).unwrap();
    assert!(!lane.flush() && !lane.flush(), "the lane is dead");
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => prop_oneof![0usize..700, 2000usize..6500].prop_map(Step::Append),
        4 => Just(Step::Flush),
        1 => Just(Step::Mark),
        2 => (0u64..4).prop_map(Step::Release),
        2 => Just(Step::MakeSpare),
        1 => Just(Step::Reopen),
    ];
    proptest::collection::vec(step, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn l1_and_l4_hold_for_every_schedule(steps in steps(), seed in any::<u64>(), every in 3u64..20) {
        play(SimDisk::seeded(seed), &steps, move |call, disk| {
            if call % every == seed % every {
                vec![disk.after_power_cut_by_seed(), disk.after_power_cut_by_seed(), disk.after_kill()]
            } else {
                Vec::new()
            }
        });
    }
}
