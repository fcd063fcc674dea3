use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const FILE_BYTES: u64 = 1_000;

fn options() -> ReplayOptions {
    ReplayOptions { roll_bytes: 500, lane_bytes: 4 * FILE_BYTES, ..ReplayOptions::default() }
}

/// A log and its groups, as far as the policy acts on them: an entry is its file and its bytes.
#[derive(Default)]
struct Model {
    groups: BTreeMap<ShardId, Group>,
    /// Bytes in the files, by number; the last one is written to.
    files: BTreeMap<u64, u64>,
    starved: bool,
}

#[derive(Default)]
struct Group {
    /// Above the frontier of the newest snapshot, oldest first.
    entries: Vec<(u64, u64)>,
    /// How many of them are rolled.
    rolled: usize,
    snapshot_bytes: u64,
    follower: bool,
    /// No snapshot can be taken of it.
    blocked: bool,
}

impl Group {
    fn bytes(entries: &[(u64, u64)]) -> u64 {
        entries.iter().map(|(_, bytes)| bytes).sum()
    }
}

impl Model {
    fn new(groups: u32) -> Self {
        let groups = (0..groups).map(|id| (ShardId(id), Group::default())).collect();
        Self { groups, files: BTreeMap::from([(1, 0)]), starved: false }
    }

    fn write(&mut self, group: ShardId, bytes: u64) {
        let (mut file, filled) = self.files.last_key_value().map(|(file, filled)| (*file, *filled)).unwrap();
        if filled + bytes > FILE_BYTES {
            file += 1;
        }
        *self.files.entry(file).or_default() += bytes;
        self.groups.get_mut(&group).unwrap().entries.push((file, bytes));
    }

    fn lane(&self) -> LaneView {
        let last_file = *self.files.last_key_value().unwrap().0;
        LaneView { bytes: self.files.len() as u64 * FILE_BYTES, last_file, starved: self.starved }
    }

    fn views(&self) -> Vec<GroupView> {
        let view = |(id, group): (&ShardId, &Group)| GroupView {
            group: *id,
            rolls: !group.follower,
            unrolled_bytes: Group::bytes(&group.entries[group.rolled..]),
            oldest_file: group.entries.first().map(|(file, _)| *file),
            oldest_after_snapshot: group.entries.get(group.rolled).map(|(file, _)| *file),
            unsnapped_bytes: Group::bytes(&group.entries[..group.rolled]),
            snapshot_bytes: group.snapshot_bytes,
            snapshot_floor: options().roll_bytes,
            may_snapshot: !group.blocked,
            may_release: false,
        };
        self.groups.iter().map(view).collect()
    }

    /// Does what the policy says until it has nothing more to say.
    fn settle(&mut self) -> usize {
        for steps in 0..10_000 {
            match next_action(self.lane(), &self.views(), &options()) {
                Some(Action::Roll(id)) => self.roll(id),
                Some(Action::Snapshot(id)) => self.snapshot(id),
                Some(Action::Release(id)) => panic!("a snapshot of {id} let go of its log"),
                None => return steps,
            }
        }
        panic!("the policy never rests");
    }

    fn roll(&mut self, id: ShardId) {
        let group = self.groups.get_mut(&id).unwrap();
        let mut bytes = 0;
        let within = |(_, entry): &&(u64, u64)| {
            let first = bytes == 0;
            bytes += entry;
            first || bytes <= options().roll_bytes
        };
        let taken = group.entries[group.rolled..].iter().take_while(within).count();
        assert!(taken > 0, "a roll of nothing");
        group.rolled += taken;
        // The Roll itself.
        self.write(id, 10);
    }

    fn snapshot(&mut self, id: ShardId) {
        let group = self.groups.get_mut(&id).unwrap();
        assert!(group.rolled > 0, "a snapshot that lets nothing go");
        assert!(!group.blocked, "a snapshot that cannot be taken");
        group.entries.drain(..group.rolled);
        group.rolled = 0;
        group.snapshot_bytes = 20 + group.entries.len() as u64;
        let needed = self.groups.values().filter_map(|group| group.entries.first()).map(|(file, _)| *file).min();
        let last = *self.files.last_key_value().unwrap().0;
        self.files.retain(|file, _| *file >= needed.unwrap_or(last).min(last));
    }
}

proptest! {
    /// Whatever was written: the policy comes to rest, the log is within its budget (or all that is left of it is the file
    /// that is written to), and no shard has a roll's worth of entries left.
    #[test]
    fn the_log_comes_within_its_budget(writes in prop::collection::vec((0u32..5, 1u64..400), 1..300), starved: bool) {
        let mut model = Model::new(5);
        model.starved = starved;
        for (at, (group, bytes)) in writes.into_iter().enumerate() {
            model.write(ShardId(group), bytes);
            if at % 7 == 0 {
                model.settle();
            }
        }
        model.settle();
        let lane = model.lane();
        let only_last = model.views().iter().all(|group| group.oldest_file.is_none_or(|file| file == lane.last_file));
        prop_assert!(lane.bytes <= options().lane_bytes || only_last);
        prop_assert!(!starved || only_last);
        prop_assert!(model.views().iter().all(|group| group.unrolled_bytes < options().roll_bytes));
    }

    /// While no snapshot can be taken of some groups, they are rolled no more often than it takes to roll what was written
    /// and to leave each file once: Rolls alone never fill the log. Once all can be, the log comes within its budget.
    #[test]
    fn the_log_does_not_grow_by_itself_while_no_snapshot_can_be_taken(
        writes in prop::collection::vec((0u32..5, 1u64..400, any::<bool>()), 1..200),
        starved: bool,
    ) {
        let mut model = Model::new(5);
        model.starved = starved;
        let mut actions = 0;
        for (at, (group, bytes, blocked)) in writes.iter().enumerate() {
            model.write(ShardId(*group), *bytes);
            model.groups.get_mut(&ShardId(*group)).unwrap().blocked = *blocked;
            actions += model.settle();
            prop_assert_eq!(model.settle(), 0);
            let files = *model.files.last_key_value().unwrap().0 as usize;
            prop_assert!(actions <= 2 * (at + 1) + 10 * files, "{} actions after {} writes", actions, at + 1);
        }
        model.groups.values_mut().for_each(|group| group.blocked = false);
        model.settle();
        let lane = model.lane();
        let only_last = model.views().iter().all(|group| group.oldest_file.is_none_or(|file| file == lane.last_file));
        prop_assert!(only_last || !starved && lane.bytes <= options().lane_bytes);
    }

    /// A group that cannot roll here keeps its files, and does not keep the others from rolling.
    #[test]
    fn a_group_that_cannot_act_does_not_stop_the_others(writes in prop::collection::vec((0u32..3, 1u64..400), 1..300)) {
        let mut model = Model::new(3);
        model.groups.get_mut(&ShardId(0)).unwrap().follower = true;
        writes.into_iter().for_each(|(group, bytes)| model.write(ShardId(group), bytes));
        model.settle();
        prop_assert_eq!(model.groups[&ShardId(0)].rolled, 0);
        prop_assert!(model.views()[1..].iter().all(|group| group.unrolled_bytes < options().roll_bytes));
    }
}

fn full(group: u32) -> GroupView {
    GroupView {
        group: ShardId(group),
        rolls: true,
        unrolled_bytes: 600,
        oldest_file: Some(1),
        oldest_after_snapshot: Some(1),
        unsnapped_bytes: 0,
        snapshot_bytes: 0,
        snapshot_floor: 500,
        may_snapshot: true,
        may_release: false,
    }
}

const ROOMY: LaneView = LaneView { bytes: 2 * FILE_BYTES, last_file: 2, starved: false };

#[test]
fn under_pressure_the_oldest_entries_come_first_and_else_the_most() {
    let (old, large) = (full(1), GroupView { oldest_file: Some(2), unrolled_bytes: 900, ..full(2) });
    let pressed = LaneView { bytes: 9 * FILE_BYTES, last_file: 9, starved: false };
    assert_eq!(next_action(ROOMY, &[old, large], &options()), Some(Action::Roll(ShardId(2))));
    assert_eq!(next_action(pressed, &[old, large], &options()), Some(Action::Roll(ShardId(1))));
}

#[test]
fn a_group_that_failed_a_moment_ago_is_left_alone() {
    let resting = GroupView { rolls: false, may_snapshot: false, unrolled_bytes: 9_000, ..full(1) };
    assert_eq!(next_action(ROOMY, &[resting, full(2)], &options()), Some(Action::Roll(ShardId(2))));
    assert_eq!(next_action(ROOMY, &[resting], &options()), None);
}

#[test]
fn l4_no_snapshot_is_taken_while_a_rolled_segment_is_not_here() {
    let waiting = GroupView { unrolled_bytes: 0, unsnapped_bytes: 9_000, may_snapshot: false, ..full(1) };
    assert_eq!(next_action(LaneView { starved: true, ..ROOMY }, &[waiting], &options()), None);
    let here = GroupView { may_snapshot: true, ..waiting };
    assert_eq!(next_action(ROOMY, &[here], &options()), Some(Action::Snapshot(ShardId(1))));
}

#[test]
fn a_large_snapshot_is_taken_seldom_unless_the_device_is_full() {
    let backlog = GroupView { unsnapped_bytes: 700, snapshot_bytes: 400, oldest_after_snapshot: Some(2), ..full(1) };
    let pressed = LaneView { bytes: 9 * FILE_BYTES, last_file: 9, starved: false };
    assert_eq!(next_action(pressed, &[backlog], &options()), Some(Action::Roll(ShardId(1))));
    let starved = LaneView { starved: true, ..pressed };
    assert_eq!(next_action(starved, &[backlog], &options()), Some(Action::Snapshot(ShardId(1))));
    let due = GroupView { unsnapped_bytes: 1_600, ..backlog };
    assert_eq!(next_action(pressed, &[due], &options()), Some(Action::Snapshot(ShardId(1))));
}

#[test]
fn what_only_waits_for_a_snapshot_is_not_rolled_meanwhile() {
    let starved = LaneView { bytes: 9 * FILE_BYTES, last_file: 9, starved: true };
    let idle = GroupView { unrolled_bytes: 60, oldest_after_snapshot: Some(9), unsnapped_bytes: 400, ..full(1) };
    assert_eq!(next_action(starved, &[idle], &options()), Some(Action::Snapshot(ShardId(1))));
    let blocked = GroupView { may_snapshot: false, ..idle };
    assert_eq!(next_action(starved, &[blocked], &options()), None);
    let younger = GroupView { oldest_file: Some(4), oldest_after_snapshot: Some(4), unrolled_bytes: 60, ..full(2) };
    assert_eq!(next_action(starved, &[blocked, younger], &options()), Some(Action::Roll(ShardId(2))), "others go on");
}

#[test]
fn log_that_a_snapshot_covers_already_goes_first() {
    let left = GroupView { unrolled_bytes: 0, may_snapshot: false, may_release: true, ..full(1) };
    assert_eq!(next_action(ROOMY, &[full(2), left], &options()), Some(Action::Release(ShardId(1))));
}
