//! A group as the roller sees it, and what it has to remember of it between two looks.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use stratalog_proto::{Code, Error, RaftIndex, SegmentId, ShardId, Term};
use stratalog_storage::RecMeta;

use super::ReplayOptions;
use super::policy::GroupView;
use super::pull::Pulling;
use crate::outcome::is_overtaken;
use crate::raft::{Group, GroupLog};
use crate::shard::Shard;

/// The least log of the metadata group that is worth a snapshot.
const META_SNAPSHOT_BYTES: u64 = 4 << 20;
/// What happens now and then, as leadership moves, is said once it has failed so often in a row.
const SAID_AFTER: u32 = 4;
/// How long a group is left alone after a failure, at first and at most.
const REST: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(30)];

/// A group whose log is to be kept short.
#[derive(Clone)]
pub(crate) enum Member {
    /// One that hosts batches.
    Shard(Arc<Shard>),
    /// The metadata group: all of it is in its snapshot.
    Meta(Arc<Group>),
}

/// A group under the roller's care.
pub(super) struct Care {
    pub(super) member: Member,
    /// The size of the newest snapshot, as far as it was taken since the start.
    snapshot_bytes: u64,
    counted: Counted,
    rests: [Rest; Step::COUNT],
    /// Built for a command whose outcome is not known, each with a term in which it was not proposed any more, or the one
    /// in which it was.
    pub(super) doubtful: Vec<(Term, Arc<RecMeta>)>,
    /// The version of the manifest in which nothing was found to repack.
    pub(super) searched: Option<u64>,
    /// Packed segments that could not be rewritten; the others come before they are tried again.
    pub(super) unreadable: HashSet<SegmentId>,
    looked: Looked,
    /// Gets what the shard misses from other replicas.
    pulling: Option<Pulling>,
}

/// What a look at a shard's segments found, and what of it has to stay as it was for that to be true still.
#[derive(Debug, Default)]
struct Looked {
    /// The version of the manifest, and the changes of the store.
    at: Option<(u64, u64)>,
    /// Segments that are not here.
    missing: Vec<Arc<RecMeta>>,
    /// Whether the log may have to stay for the sake of one of them (L4).
    owed: bool,
}

/// What a roller does for a group. One step that fails rests; the others go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Rolls a range of the log.
    Roll,
    /// Saves the state.
    Snapshot,
    /// Makes a segment that was rolled elsewhere.
    Make,
    /// Rewrites a packed segment.
    Repack,
    /// Lets go of the log.
    Release,
}

impl Step {
    const COUNT: usize = 5;

    fn name(self) -> &'static str {
        match self {
            Step::Roll => "rolling the log",
            Step::Snapshot => "saving the state",
            Step::Make => "making a rolled segment",
            Step::Repack => "rewriting a packed segment",
            Step::Release => "letting go of the log",
        }
    }
}

/// Bytes of a shard's log, counted as it grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counted {
    frontier: RaftIndex,
    through: RaftIndex,
    /// Of the entries above `frontier`, up to `through`.
    pub(super) unrolled: u64,
    /// Rolled since the newest snapshot.
    pub(super) unsnapped: u64,
}

/// Whether a step is left alone for a while, because it failed when it was tried last.
#[derive(Debug, Default)]
struct Rest {
    until: Option<Instant>,
    pause: Option<Duration>,
    failures: u32,
    /// Why it failed last.
    code: Option<Code>,
}

impl Member {
    pub(super) fn id(&self) -> ShardId {
        self.log().shard()
    }

    pub(super) fn group(&self) -> &Arc<Group> {
        match self {
            Member::Shard(shard) => shard.group(),
            Member::Meta(group) => group,
        }
    }

    pub(super) fn log(&self) -> &GroupLog {
        self.group().log()
    }

    pub(super) fn shard(&self) -> Option<&Arc<Shard>> {
        match self {
            Member::Shard(shard) => Some(shard),
            Member::Meta(_) => None,
        }
    }
}

impl Care {
    pub(super) fn new(member: Member, pulling: Option<Pulling>) -> Self {
        let frontier = member.log().snapshot_frontier();
        let counted = Counted { frontier, through: frontier, ..Counted::default() };
        Self {
            member,
            snapshot_bytes: 0,
            counted,
            rests: Default::default(),
            doubtful: Vec::new(),
            searched: None,
            unreadable: HashSet::new(),
            looked: Looked::default(),
            pulling,
        }
    }

    /// Ends what works for the group beside the roller.
    pub(super) async fn end(self) {
        if let Some(pulling) = self.pulling {
            pulling.stop().await;
        }
    }

    /// Whether a step failed a moment ago.
    pub(super) fn rests(&self, step: Step, now: Instant) -> bool {
        self.rests[step as usize].is_on(now)
    }

    /// How a step ended.
    pub(super) fn ended(&mut self, step: Step, done: &Result<(), Error>) {
        let rest = &mut self.rests[step as usize];
        match done {
            Ok(()) => *rest = Rest::default(),
            Err(error) => rest.begin(Instant::now(), self.member.id(), step.name(), error),
        }
    }

    /// A snapshot is durable; 0 bytes were written of one that was there before.
    pub(super) fn snapshot_taken(&mut self, bytes: u64) {
        if bytes > 0 {
            self.snapshot_bytes = bytes;
        }
        self.counted.unsnapped = 0;
    }

    /// The segments of the manifest that are not here.
    pub(super) fn missing(&mut self) -> Vec<Arc<RecMeta>> {
        self.look();
        self.looked.missing.clone()
    }

    /// Whether every segment of the manifest is here, as far as the log may have to stay for it (L4).
    fn is_whole(&mut self) -> bool {
        self.look();
        !self.looked.owed && self.member.shard().is_none_or(|shard| !shard.recs().is_waiting())
    }

    /// Looks for what is missing, unless nothing has changed since the last look.
    fn look(&mut self) {
        let Some(shard) = self.member.shard() else { return };
        let recs = shard.recs();
        self.looked = shard.read(|state| {
            let manifest = state.manifest();
            let at = Some((manifest.version(), recs.changes()));
            if at == self.looked.at {
                return std::mem::take(&mut self.looked);
            }
            let owed = recs.first_owed(manifest.recs()).is_some();
            Looked { at, missing: recs.missing(manifest.recs()), owed }
        });
    }

    /// The frontier of the newest snapshot, if that covers log that is still held, and what replaces it is here (L4).
    pub(super) fn releasable(&mut self) -> Option<RaftIndex> {
        let log = self.member.log();
        let (frontier, retained) = (log.snapshot_frontier(), log.retained());
        let entries = retained.first <= frontier && retained.last >= Some(retained.first);
        let older = holds_older(log);
        // A snapshot that is being installed is durable before the state says which segments it needs.
        let reached = self.member.shard().is_none_or(|shard| shard.read(|state| state.replay_frontier()) >= frontier);
        (frontier > RaftIndex(0) && (entries || older) && reached && self.is_whole()).then_some(frontier)
    }

    /// The numbers that the policy needs.
    pub(super) fn view(&mut self, options: &ReplayOptions, now: Instant) -> GroupView {
        let log = self.member.log().clone();
        let may_snapshot = !self.rests(Step::Snapshot, now) && self.is_whole();
        let may_release = !self.rests(Step::Release, now) && self.releasable().is_some();
        let oldest_file = log.retained().oldest_file;
        let Some(shard) = self.member.shard() else {
            return GroupView {
                group: log.shard(),
                rolls: false,
                unrolled_bytes: 0,
                oldest_file,
                oldest_after_snapshot: None,
                unsnapped_bytes: log.retained().bytes,
                snapshot_bytes: self.snapshot_bytes,
                snapshot_floor: META_SNAPSHOT_BYTES.min(options.roll_bytes),
                may_snapshot,
                may_release,
            };
        };
        let frontier = shard.read(|state| state.replay_frontier());
        self.counted.update(frontier, shard.applied(), |after, through| log.bytes_between(after, through));
        GroupView {
            group: shard.id(),
            rolls: shard.is_leader() && !self.rests(Step::Roll, now),
            unrolled_bytes: self.counted.unrolled,
            oldest_file,
            oldest_after_snapshot: log.file_of(RaftIndex(frontier.0 + 1)),
            unsnapped_bytes: self.counted.unsnapped,
            snapshot_bytes: self.snapshot_bytes,
            snapshot_floor: options.roll_bytes,
            may_snapshot: may_snapshot && frontier > log.snapshot_frontier(),
            may_release,
        }
    }
}

/// Whether a log holds files of before an install, and of no entry that it has.
pub(super) fn holds_older(log: &GroupLog) -> bool {
    let retained = log.retained();
    retained.oldest_file.is_some() && retained.oldest_file != log.file_of(retained.first)
}

impl Counted {
    /// Brings the counts up to a replay frontier and an applied index; `bytes` counts the entries above one index, up to
    /// another.
    fn update(&mut self, frontier: RaftIndex, applied: RaftIndex, bytes: impl Fn(RaftIndex, RaftIndex) -> u64) {
        if frontier > self.through {
            // It jumped over what was counted: a snapshot was installed, or the log was rolled between two looks.
            self.unrolled += bytes(self.through, frontier);
            self.through = frontier;
        }
        if frontier > self.frontier {
            // Counted above it: what is below may have been let go of since the last look, and would stay unrolled for ever.
            let left = bytes(frontier, self.through);
            self.unsnapped += self.unrolled.saturating_sub(left);
            self.unrolled = left;
            self.frontier = frontier;
        }
        if applied > self.through {
            self.unrolled += bytes(self.through, applied);
            self.through = applied;
        }
    }
}

impl Rest {
    fn is_on(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    /// What was tried did not work: it is tried again after an ever longer pause, and said ever more seldom, unless it
    /// fails for another reason than before.
    fn begin(&mut self, now: Instant, group: ShardId, what: &str, error: &Error) {
        self.failures = self.failures.saturating_add(1);
        let (code, failures) = (error.code, self.failures);
        if self.is_news(error) {
            tracing::warn!(shard = %group, %code, %error, failures, "{what} failed; the node goes on and tries again");
        } else {
            tracing::debug!(shard = %group, %code, %error, failures, "{what} failed again");
        }
        let pause = self.pause.map_or(REST[0], |pause| (pause * 2).min(REST[1]));
        (self.pause, self.code, self.until) = (Some(pause), Some(code), Some(now + pause));
    }

    /// Whether its latest failure is to be said.
    fn is_news(&self, error: &Error) -> bool {
        match is_overtaken(error) {
            true => self.failures >= SAID_AFTER && self.failures.is_power_of_two(),
            false => self.failures.is_power_of_two() || self.code != Some(error.code),
        }
    }
}

#[cfg(test)]
mod tests {
    use stratalog_proto::Code;

    use super::*;

    /// Each entry has its index in bytes.
    fn bytes(after: RaftIndex, through: RaftIndex) -> u64 {
        (after.0 + 1..=through.0).sum()
    }

    #[test]
    fn bytes_are_counted_once_as_the_log_grows_and_is_rolled() {
        let mut counted = Counted::default();
        counted.update(RaftIndex(0), RaftIndex(4), bytes);
        assert_eq!((counted.unrolled, counted.unsnapped), (10, 0));
        counted.update(RaftIndex(0), RaftIndex(4), bytes);
        counted.update(RaftIndex(2), RaftIndex(5), bytes);
        assert_eq!((counted.unrolled, counted.unsnapped), (12, 3));
        counted.update(RaftIndex(7), RaftIndex(8), bytes);
        assert_eq!((counted.unrolled, counted.unsnapped), (8, 28));
    }

    #[test]
    fn what_was_rolled_and_let_go_of_between_two_looks_is_not_unrolled_for_ever() {
        let mut counted = Counted::default();
        counted.update(RaftIndex(0), RaftIndex(10), bytes);
        let let_go_through_8 =
            |after: RaftIndex, through: RaftIndex| bytes(after.max(RaftIndex(8)), through.max(RaftIndex(8)));
        counted.update(RaftIndex(8), RaftIndex(11), let_go_through_8);
        assert_eq!((counted.unrolled, counted.unsnapped), (9 + 10 + 11, (1..=8).sum()));
        counted.update(RaftIndex(11), RaftIndex(11), let_go_through_8);
        assert_eq!(counted.unrolled, 0);
    }

    #[test]
    fn pauses_grow_up_to_a_bound() {
        let (error, mut rest, mut now) = (Error::new(Code::StorageFull, "full"), Rest::default(), Instant::now());
        for _ in 0..10 {
            rest.begin(now, ShardId(1), "a roll", &error);
            assert!(rest.is_on(now));
            now += REST[1];
            assert!(!rest.is_on(now));
        }
    }

    #[test]
    fn a_failure_is_said_ever_more_seldom_and_one_of_a_change_of_leaders_not_at_once() {
        let said = |codes: &[Code]| {
            let mut rest = Rest::default();
            let news = codes.iter().enumerate().map(|(failures, code)| {
                rest.failures = failures as u32 + 1;
                let is_news = rest.is_news(&Error::new(*code, "it failed"));
                rest.code = Some(*code);
                is_news
            });
            news.collect::<Vec<_>>()
        };
        let (full, overtaken) = (Code::StorageFull, Code::Conflict);
        assert_eq!(said(&[full; 5]), [true, true, false, true, false]);
        assert_eq!(said(&[full, full, Code::Io]), [true; 3], "another reason is news");
        assert_eq!(said(&[overtaken; 5]), [false, false, false, true, false]);
        assert_eq!(said(&[overtaken, Code::NotLeader, full]), [false, false, true]);
    }
}
