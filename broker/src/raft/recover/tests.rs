//! Histories of a log, and what is read back from any part of them that the lane may still have.

use proptest::prelude::*;
use stratalog_proto::Term;
use stratalog_storage::LanePos;

use super::*;

const SHARD: ShardId = ShardId(3);

/// What a replica does to its log.
#[derive(Clone, Debug)]
enum Step {
    Append(u64),
    /// Gives up at most so many entries that no state file holds; a new term follows.
    Truncate(u64),
    /// Saves the state at the last entry, its frontier so far below.
    Save(u64),
    /// A snapshot from a leader: its frontier so far from the last entry, so many entries above that, and whether a crash
    /// came before its state file.
    Install {
        from_last: i64,
        entries: u64,
        crashed: bool,
    },
}

#[derive(Default)]
struct History {
    frames: Vec<RecoveredFrame>,
    /// Term and place of each entry above the frontier.
    log: BTreeMap<u64, (u64, u64)>,
    origin: Option<Origin>,
    term: u64,
}

impl History {
    fn last(&self) -> Option<u64> {
        let frontier = self.origin.map(|origin| origin.frontier.index.0);
        self.log.keys().last().copied().or(frontier)
    }

    fn saved(&self) -> Option<u64> {
        self.origin.map(|origin| origin.at.index.0)
    }

    fn frame(&mut self, kind: FrameKind, term: u64, index: u64) -> u64 {
        let place = self.frames.len() as u64;
        let pos = LanePos { file: 1, offset: place, len: 0 };
        let (term, index) = (Term(term), RaftIndex(index));
        self.frames.push(RecoveredFrame { shard: SHARD, term, replica: ReplicaId(1), index, kind, pos });
        place
    }

    fn append(&mut self, entries: u64) {
        for _ in 0..entries {
            let index = self.last().map_or(0, |last| last + 1);
            let place = self.frame(FrameKind::Normal, self.term, index);
            self.log.insert(index, (self.term, place));
        }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Append(entries) => self.append(entries),
            Step::Truncate(entries) => {
                let Some(last) = self.last() else { return };
                let kept = last.checked_sub(entries).max(self.saved());
                self.frame(FrameKind::Truncate, 0, kept.unwrap_or(KEEP_NOTHING.0));
                self.log.retain(|index, _| Some(*index) <= kept);
                self.term += 1;
            }
            Step::Save(below) => self.save(below),
            Step::Install { from_last, entries, crashed } => self.install(from_last, entries, crashed),
        }
    }

    fn point(&self, index: u64) -> LogPoint {
        let frontier = self.origin.map(|origin| origin.frontier).filter(|frontier| frontier.index.0 == index);
        let term = self.log.get(&index).map(|(term, _)| Term(*term)).or(frontier.map(|frontier| frontier.term));
        LogPoint { term: term.unwrap(), index: RaftIndex(index) }
    }

    fn save(&mut self, below: u64) {
        let Some(last) = self.last() else { return };
        let lowest = self.origin.map_or(0, |origin| origin.frontier.index.0);
        let frontier = last.saturating_sub(below).max(lowest);
        self.origin = Some(Origin { at: self.point(last), frontier: self.point(frontier) });
        self.log.retain(|index, _| *index > frontier);
    }

    fn install(&mut self, from_last: i64, entries: u64, crashed: bool) {
        let lowest = self.saved().map_or(0, |saved| saved + 1);
        let frontier = self.last().unwrap_or(0).saturating_add_signed(from_last).max(lowest);
        self.term += 1;
        self.frame(FrameKind::Purge, self.term, frontier);
        let places: Vec<u64> = (1..=entries).map(|n| self.frame(FrameKind::Normal, self.term, frontier + n)).collect();
        if crashed {
            self.frame(FrameKind::Truncate, ABANDONED.0, self.last().unwrap_or(KEEP_NOTHING.0));
            return;
        }
        self.log = (frontier + 1..).zip(places.into_iter().map(|place| (self.term, place))).collect();
        let point = |index| LogPoint { term: Term(self.term), index: RaftIndex(index) };
        self.origin = Some(Origin { at: point(frontier + entries), frontier: point(frontier) });
    }

    /// Reads back the frames from `start` on.
    fn read_back(&self, start: usize) -> Result<Replayed, Error> {
        let mut replay = Replay::default();
        self.frames[start..].iter().try_for_each(|frame| replay.frame(frame))?;
        replay.finish(SHARD, self.origin, false)
    }

    /// Reads back a lane that was cut: the frames of `kept`.
    fn read_lost(&self, kept: std::ops::Range<usize>) -> Replayed {
        let mut replay = Replay::default();
        self.frames[kept].iter().try_for_each(|frame| replay.frame(frame)).unwrap();
        replay.finish(SHARD, self.origin, true).unwrap()
    }

    /// What a start writes and does for what it has read.
    fn go_on(&mut self, kept: std::ops::Range<usize>) {
        let rest = self.read_lost(kept.clone()).rest;
        self.frames = self.frames[kept].to_vec();
        match rest {
            Rest::Log => {}
            Rest::BeforePurge => panic!("a history has no purge that was cut short"),
            Rest::State(at) => {
                self.frame(FrameKind::Purge, at.term.0, at.index.0);
            }
            Rest::Nothing => {
                self.frame(FrameKind::Truncate, BEGINS_ANEW.0, KEEP_NOTHING.0);
                self.origin = None;
            }
        }
    }

    fn check(&self) {
        let needed = self.log.values().next().map_or(self.frames.len(), |(_, place)| *place as usize);
        // A log without a state file never let go of anything.
        let starts = if self.origin.is_some() { needed } else { 0 };
        for start in 0..=starts {
            let read = self.read_back(start).unwrap_or_else(|error| panic!("from frame {start}: {error}"));
            let held = read.index.range(0..u64::MAX, usize::MAX);
            let held: BTreeMap<u64, (u64, u64)> =
                held.into_iter().map(|entry| (entry.index, (entry.term, entry.slot.pos.offset))).collect();
            assert_eq!(held, self.log, "from frame {start}");
            assert_eq!(read.index.last().map(|(_, index)| index), self.last());
            assert_eq!(
                read.index.marker().map(|(_, index)| RaftIndex(index)),
                self.origin.map(|origin| origin.frontier.index)
            );
        }
    }
}

fn step() -> impl Strategy<Value = Step> {
    let install = (-4..6i64, 0..5u64, any::<bool>());
    prop_oneof![
        4 => (1..6u64).prop_map(Step::Append),
        2 => (1..6u64).prop_map(Step::Truncate),
        2 => (0..6u64).prop_map(Step::Save),
        2 => install.prop_map(|(from_last, entries, crashed)| Step::Install { from_last, entries, crashed }),
    ]
}

proptest! {
    #[test]
    fn l4_any_rest_of_a_history_that_holds_what_is_needed_gives_the_same_log(steps in prop::collection::vec(step(), 1..25)) {
        let mut history = History::default();
        for step in &steps {
            history.step(step);
            history.check();
        }
    }

    #[test]
    fn l1_an_install_without_its_state_file_counts_for_nothing(steps in prop::collection::vec(step(), 1..12), from in 1..6i64, entries in 0..4u64) {
        let mut history = History::default();
        steps.iter().for_each(|step| history.step(step));
        let whole = history.frames.len();
        history.install(from, entries, true);
        let mark = history.frames.pop();
        let read = history.read_back(0).unwrap();
        assert!(read.rest == Rest::BeforePurge && mark.is_some() && history.frames.len() >= whole);
        assert_eq!(read.index.last().map(|(_, index)| index), history.last());
    }

    #[test]
    fn l5_a_log_that_was_cut_anywhere_goes_on_and_is_read_back_as_it_went_on(
        steps in prop::collection::vec(step(), 1..20),
        cut in (0..100usize, 0..100usize),
        entries in 1..5u64,
    ) {
        let mut history = History::default();
        // A purge that was taken back by its start may lose the frame that says so: that is another start's work.
        let is_whole = |step: &&Step| !matches!(step, Step::Install { crashed: true, .. });
        steps.iter().filter(is_whole).for_each(|step| history.step(step));
        let whole = history.frames.len();
        let (from, to) = (cut.0.min(cut.1) * (whole + 1) / 100, cut.0.max(cut.1) * (whole + 1) / 100);
        let ends_in_install = |history: &History| history.read_lost(from..to).rest == Rest::BeforePurge;
        prop_assume!(to <= whole && !ends_in_install(&history));
        history.go_on(from..to);
        let kept = history.read_back(0).unwrap();
        let next = kept.index.last().map_or(0, |(_, last)| last + 1);
        let term = history.term + 1;
        (next..next + entries).for_each(|index| { history.frame(FrameKind::Normal, term, index); });
        let read = history.read_back(0).unwrap();
        assert_eq!(read.index.next(), next + entries);
        let held = |log: &LogIndex| -> Vec<_> {
            let held = log.range(0..next, usize::MAX);
            held.into_iter().map(|entry| (entry.index, entry.term, entry.slot)).collect()
        };
        assert_eq!(held(&read.index), held(&kept.index), "what was kept is read back");
    }

    #[test]
    fn x1_frames_in_any_order_are_a_log_or_an_error(frames in prop::collection::vec((1..6u8, 0..4u64, 0..12u64), 0..30), at in 0..8u64, frontier in 0..8u64) {
        let mut history = History::default();
        for (kind, term, index) in frames {
            let kind = [FrameKind::Blank, FrameKind::Normal, FrameKind::Membership, FrameKind::Truncate, FrameKind::Purge][usize::from(kind) - 1];
            history.frame(kind, term, if index == 11 { KEEP_NOTHING.0 } else { index });
        }
        let point = |index| LogPoint { term: Term(1), index: RaftIndex(index) };
        let _ = history.read_back(0);
        history.origin = (frontier <= at).then(|| Origin { at: point(at), frontier: point(frontier) });
        let _ = history.read_back(0);
    }
}

#[test]
fn l5_a_log_that_does_not_reach_its_state_file_is_an_error() {
    let mut history = History::default();
    history.append(6);
    history.save(3);
    for lost in [3, 5] {
        let mut cut = History { frames: history.frames.clone(), origin: history.origin, ..History::default() };
        cut.frames.truncate(lost);
        let error = cut.read_back(0).map(|_| ()).unwrap_err();
        assert_eq!(error.code, Code::CorruptData);
        assert!(error.message.contains("shard 3") && error.message.contains("entry 5"), "{error}");
    }
    assert!(history.read_back(4).is_err(), "entry 3 is needed");
}

#[test]
fn l5_what_is_left_of_a_log_that_was_cut_counts_if_its_state_file_reaches_no_further() {
    let mut history = History::default();
    history.append(6);
    history.save(3);
    history.append(2);
    let cut = |through: usize| history.read_lost(0..through);
    assert_eq!((cut(7).rest, cut(7).index.next()), (Rest::Log, 7));
    assert_eq!((cut(4).rest, cut(4).index.next()), (Rest::Nothing, 0), "the state needs entries 3 to 5");
    history.save(0);
    let at = history.point(7);
    let rest = history.read_lost(0..4).rest;
    assert_eq!(rest, Rest::State(at), "it needs nothing of the log");
}

#[test]
fn l5_a_log_that_begins_late_without_a_state_file_is_an_error() {
    let mut history = History::default();
    history.append(6);
    assert_eq!(history.read_back(2).map(|_| ()).unwrap_err().code, Code::CorruptData);
}
