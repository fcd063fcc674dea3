//! What the roller does next: a pure function of a few numbers.
//!
//! Four things are due at times: to let go of log that a snapshot covers already, a snapshot once enough was rolled behind the last one, the oldest log file while the
//! log takes more than its budget, and a roll once a shard has enough to roll. Log files are freed from the oldest one on,
//! so under pressure the shards with the oldest entries come first.

use stratalog_proto::ShardId;

use super::ReplayOptions;

/// A snapshot is worth taking when this many times its own size was rolled since the last one.
const SNAPSHOT_SHARE: u64 = 4;

/// The log files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LaneView {
    /// That they take.
    pub(super) bytes: u64,
    /// The number of the one that is written to.
    pub(super) last_file: u64,
    /// The device has no room for a further one.
    pub(super) starved: bool,
}

/// One group, at one moment. Bytes are bytes of its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct GroupView {
    pub(super) group: ShardId,
    /// Whether this replica may propose a Roll now.
    pub(super) rolls: bool,
    /// Applied and above the replay frontier.
    pub(super) unrolled_bytes: u64,
    /// The log file with the oldest entry that a start would need, if it would need any.
    pub(super) oldest_file: Option<u64>,
    /// The same if a snapshot were taken now.
    pub(super) oldest_after_snapshot: Option<u64>,
    /// Below the replay frontier, and above that of the newest snapshot.
    pub(super) unsnapped_bytes: u64,
    /// The size of the newest snapshot.
    pub(super) snapshot_bytes: u64,
    /// The least `unsnapped_bytes` that a snapshot is taken for.
    pub(super) snapshot_floor: u64,
    /// Whether nothing stands against a snapshot now.
    pub(super) may_snapshot: bool,
    /// Whether the newest snapshot covers log that was not let go of, and nothing stands against that now.
    pub(super) may_release: bool,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Move the replay frontier of a shard.
    Roll(ShardId),
    /// Save the state of a group, and let go of the log that this makes free.
    Snapshot(ShardId),
    /// Let go of the log that the newest snapshot made free, where that did not come with it.
    Release(ShardId),
}

/// The next thing to do, if anything is due. Once done, it is not due again before more was written.
pub(super) fn next_action(lane: LaneView, groups: &[GroupView], options: &ReplayOptions) -> Option<Action> {
    let pressed = lane.starved || lane.bytes > options.lane_bytes;
    let left = groups.iter().find(|group| group.may_release).map(|group| Action::Release(group.group));
    let due = || groups.iter().find(|group| snapshot_is_due(group)).map(|group| Action::Snapshot(group.group));
    left.or_else(due)
        .or_else(|| pressed.then(|| free_oldest(lane, groups, options)).flatten())
        .or_else(|| roll_fullest(groups, options))
}

fn snapshot_is_due(group: &GroupView) -> bool {
    let enough = group.snapshot_floor.max(group.snapshot_bytes.saturating_mul(SNAPSHOT_SHARE));
    group.may_snapshot && group.unsnapped_bytes >= enough.max(1)
}

/// What brings the oldest log file nearer to being free. The file that is written to is never worth it, and neither is a
/// Roll where all that the file still waits for is a snapshot: it would add an entry to the log, and that one the next Roll,
/// for as long as no snapshot can be taken.
fn free_oldest(lane: LaneView, groups: &[GroupView], options: &ReplayOptions) -> Option<Action> {
    let mut holders: Vec<_> =
        groups.iter().filter(|group| group.oldest_file.is_some_and(|file| file < lane.last_file)).collect();
    holders.sort_by_key(|group| (group.oldest_file, group.group));
    holders.into_iter().find_map(|group| {
        let can_roll = group.rolls && group.unrolled_bytes > 0;
        // A snapshot amid a long backlog would be written again and again.
        let backlog = can_roll && group.unrolled_bytes >= options.roll_bytes && !lane.starved;
        let rolled = snapshot_frees_a_file(group);
        if rolled && group.may_snapshot && !backlog {
            return Some(Action::Snapshot(group.group));
        }
        (can_roll && (backlog || !rolled)).then_some(Action::Roll(group.group))
    })
}

fn snapshot_frees_a_file(group: &GroupView) -> bool {
    match (group.oldest_file, group.oldest_after_snapshot) {
        (Some(now), Some(then)) => now < then,
        (Some(_), None) => true,
        (None, _) => false,
    }
}

fn roll_fullest(groups: &[GroupView], options: &ReplayOptions) -> Option<Action> {
    let full = groups.iter().filter(|group| group.rolls && group.unrolled_bytes >= options.roll_bytes.max(1));
    full.max_by_key(|group| group.unrolled_bytes).map(|group| Action::Roll(group.group))
}

#[cfg(test)]
mod tests;
