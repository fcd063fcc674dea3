//! Consumer groups: what they committed never goes back, below it every record was given to a member, and a member begins where its
//! group is.
//!
//! A commit that was answered took effect before its answer, a read of what is committed shows a moment between its invocation and
//! its answer. So whatever was committed, or read as committed, before a read began is the least that it may show. One whose outcome
//! is not known may take effect late, but only as long as the member that made it has what it has: afterwards it is refused.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::findings::{Findings, Kind, Subject};
use super::log::{Log, MAX_PARTITIONS};
use super::paged::Bits;
use crate::history::{
    CommitOp, CommittedOp, CopyEnd, CrashOp, Header, Micros, Outcome, PollOp, RebalanceOp, Role, Source, SubscribeOp,
    When,
};

/// So many beginnings, and things that look like going back, are looked at in the end; a history with more is wrong beyond counting.
const MAX_DOUBTS: usize = 1 << 20;

/// A member, between two rebalances.
type Tenure = (u32, u64);

/// Something that is committed at least, from a moment on.
#[derive(Clone, Copy, Debug)]
struct Step {
    at: Micros,
    offset: u64,
    /// Who committed it; `None`: it was read.
    by: Option<Tenure>,
}

/// What is known of a partition of a group.
#[derive(Debug, Default)]
struct Partition {
    /// Offsets of records that members were given.
    given: Bits,
    /// Offsets that were committed, or may be, and that were read as committed.
    committed: Bits,
    seen: Bits,
    /// Ascending, by time and by offset.
    steps: Vec<Step>,
    /// Commits whose outcome is not known.
    unknown: BTreeSet<(u64, Tenure)>,
    /// What was read last; `None`: nothing is committed.
    last: Option<u64>,
}

/// Less than what was committed before.
#[derive(Debug)]
struct Back {
    group: String,
    partition: u32,
    /// What it may have been at least.
    floor: Step,
    found: u64,
    what: Found,
    by: Moment,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    Read,
    Committed,
    Begun,
}

#[derive(Clone, Copy, Debug)]
struct Moment {
    process: u32,
    at: Micros,
}

/// A member that begins to read a partition.
#[derive(Debug)]
struct Beginning {
    group: String,
    partition: u32,
    floor: Option<Step>,
    first: u64,
    by: Moment,
}

#[derive(Debug, Default)]
struct Member {
    group: String,
    tenure: u64,
    /// Partitions that it gained and was given nothing of yet: what is committed at least.
    gained: HashMap<u32, Option<Step>>,
}

#[derive(Debug)]
pub(super) struct Groups {
    partitions: u32,
    /// Whether the run has a group at all.
    is_there: bool,
    groups: BTreeMap<String, Vec<Partition>>,
    members: HashMap<u32, Member>,
    beginnings: Vec<Beginning>,
    backs: Vec<Back>,
    /// Where replicas ended when all was over.
    ends: BTreeMap<u32, u64>,
    /// Whether what is committed was read after that.
    was_read_last: bool,
}

impl Groups {
    pub(super) fn new(header: &Header) -> Self {
        Self {
            partitions: header.partitions.min(MAX_PARTITIONS),
            is_there: header.processes.iter().any(|process| process.role == Role::Member),
            groups: BTreeMap::new(),
            members: HashMap::new(),
            beginnings: Vec::new(),
            backs: Vec::new(),
            ends: BTreeMap::new(),
            was_read_last: false,
        }
    }

    fn partition(&mut self, group: &str, partition: u32) -> Option<&mut Partition> {
        if !self.groups.contains_key(group) {
            let empty = (0..self.partitions).map(|_| Partition::default()).collect();
            self.groups.insert(group.to_owned(), empty);
        }
        self.groups.get_mut(group)?.get_mut(partition as usize)
    }

    pub(super) fn see_subscribe(&mut self, subscribe: &SubscribeOp) {
        let member = self.members.entry(subscribe.process).or_default();
        let (group, tenure) = (subscribe.group.clone(), member.tenure + 1);
        *member = Member { group, tenure, gained: HashMap::new() };
    }

    pub(super) fn see_crash(&mut self, crash: &CrashOp) {
        if let Some(member) = self.members.get_mut(&crash.process) {
            member.gained.clear();
            member.tenure += 1;
        }
    }

    pub(super) fn see_rebalance(&mut self, rebalance: &RebalanceOp) {
        let Some(member) = self.members.get_mut(&rebalance.process) else { return };
        member.tenure += 1;
        member.gained.retain(|partition, _| !rebalance.lost.contains(partition));
        let group = member.group.clone();
        for partition in &rebalance.gained {
            let floor = self.partition(&group, *partition).and_then(|found| found.floor(rebalance.at.0));
            self.members.entry(rebalance.process).or_default().gained.insert(*partition, floor);
        }
    }

    pub(super) fn see_poll(&mut self, poll: &PollOp) {
        let Some(member) = self.members.get_mut(&poll.process) else { return };
        let group = member.group.clone();
        let by = Moment { process: poll.process, at: poll.at.1 };
        for run in poll.outcome.ok().into_iter().flatten() {
            let gained = self.members.get_mut(&poll.process).and_then(|member| member.gained.remove(&run.partition));
            if let Some(floor) = gained.filter(|_| self.beginnings.len() < MAX_DOUBTS) {
                let (group, partition, first) = (group.clone(), run.partition, run.first);
                self.beginnings.push(Beginning { group, partition, floor, first, by });
            }
            let Some(found) = self.partition(&group, run.partition) else { continue };
            for at in 0..run.values.len() as u64 {
                found.given.insert(run.first.saturating_add(at));
            }
        }
    }

    pub(super) fn see_commit(&mut self, commit: &CommitOp) {
        if matches!(commit.outcome, Outcome::Fail(_)) {
            return;
        }
        let tenure = (commit.process, self.members.get(&commit.process).map_or(0, |member| member.tenure));
        for (partition, offset) in &commit.offsets {
            let Some(found) = self.partition(&commit.group, *partition) else { continue };
            found.committed.insert(*offset);
            if commit.outcome.ok().is_none() {
                found.unknown.insert((*offset, tenure));
                continue;
            }
            let back = found.check(commit.at, *offset);
            found.rise(Step { at: commit.at.1, offset: *offset, by: Some(tenure) });
            self.doubt(&commit.group, *partition, back, *offset, Found::Committed, (commit.process, commit.at));
        }
    }

    pub(super) fn see_committed(&mut self, read: &CommittedOp) {
        let Some(offsets) = read.outcome.ok() else { return };
        self.was_read_last = true;
        for (partition, offset) in offsets {
            let Some(found) = self.partition(&read.group, *partition) else { continue };
            found.last = *offset;
            let back = found.check(read.at, offset.unwrap_or_default());
            if let Some(offset) = offset {
                found.seen.insert(*offset);
                found.rise(Step { at: read.at.1, offset: *offset, by: None });
            }
            self.doubt(&read.group, *partition, back, offset.unwrap_or_default(), Found::Read, (read.process, read.at));
        }
    }

    /// Whoever may have made it late is known only in the end.
    fn doubt(
        &mut self,
        group: &str,
        partition: u32,
        floor: Option<Step>,
        found: u64,
        what: Found,
        (process, at): (u32, When),
    ) {
        let Some(floor) = floor.filter(|_| self.backs.len() < MAX_DOUBTS) else { return };
        let (group, by) = (group.to_owned(), Moment { process, at: at.1 });
        self.backs.push(Back { group, partition, floor, found, what, by });
    }

    pub(super) fn see_end(&mut self, end: &CopyEnd) {
        self.was_read_last = false;
        if let (Source::Replica, Some(next)) = (end.source, end.outcome.ok()) {
            let highest = self.ends.entry(end.partition).or_default();
            *highest = (*next).max(*highest);
        }
    }

    /// Why nothing follows.
    pub(super) fn unproven(&self) -> Option<String> {
        (self.is_there && !self.was_read_last)
            .then(|| "what the group has committed was not read when all was over".to_owned())
    }

    /// `starts` are the offsets below which nothing has to be there; `was_read`: the group had the time to read everything.
    pub(super) fn conclude(&mut self, log: &Log, starts: &[u64], was_read: bool, findings: &mut Findings) {
        let start = |partition: u32| starts.get(partition as usize).copied().unwrap_or_default();
        let mut backs = std::mem::take(&mut self.backs);
        for Beginning { group, partition, floor, first, by } in std::mem::take(&mut self.beginnings) {
            let least = floor.map_or(0, |step| step.offset).max(start(partition));
            let Some(found) = self.partition(&group, partition) else { continue };
            match floor.filter(|step| first < step.offset) {
                Some(floor) => backs.push(Back { group, partition, floor, found: first, what: Found::Begun, by }),
                None if first == least || found.committed.contains(first) => {}
                None => not_committed(&group, partition, first, by, findings),
            }
        }
        for back in backs {
            if self.partition(&back.group, back.partition).is_some_and(|found| !found.excuses(&back)) {
                went_back(&back, findings);
            }
        }
        for (name, partitions) in &self.groups {
            for (number, found) in (0..).zip(partitions) {
                found.check_seen(name, number, findings);
                found.check_given(name, number, start(number), log, findings);
                let end = self.ends.get(&number).copied().filter(|_| was_read && self.was_read_last);
                let last = found.last.unwrap_or_default();
                if let Some(end) = end.filter(|end| last < *end) {
                    findings.add(Kind::GroupBehind, vec![Subject::Place { partition: number, offset: last }], || {
                        format!("in the end group {name} had read partition {number} to before offset {last}, and its log goes to before {end}")
                    });
                }
            }
        }
    }
}

impl Partition {
    /// What was committed at least when something began.
    fn floor(&self, at: Micros) -> Option<Step> {
        let before = self.steps.partition_point(|step| step.at < at);
        self.steps.get(before.checked_sub(1)?).copied()
    }

    /// What of it contradicts that this is committed.
    fn check(&self, at: When, offset: u64) -> Option<Step> {
        self.floor(at.0).filter(|floor| floor.offset > offset)
    }

    /// Lines of operations that ended at nearly the same time may change places: the later time holds.
    fn rise(&mut self, step: Step) {
        let (at, highest) = self.steps.last().map_or((0, None), |last| (last.at, Some(last.offset)));
        if highest.is_none_or(|highest| step.offset > highest) {
            self.steps.push(Step { at: step.at.max(at), ..step });
        }
    }

    /// A commit of unknown outcome took effect after a later one of the same member, while it had what it had.
    fn excuses(&self, back: &Back) -> bool {
        let of = |offset: u64| {
            self.unknown.range((offset, (0, 0))..=(offset, (u32::MAX, u64::MAX))).map(|(_, tenure)| *tenure)
        };
        back.what != Found::Committed
            && of(back.found).any(|late| back.floor.by == Some(late) || of(back.floor.offset).any(|by| by == late))
    }

    fn check_seen(&self, group: &str, number: u32, findings: &mut Findings) {
        let mut next = 0;
        while let Some(offset) = self.seen.next_from(next) {
            if !self.committed.contains(offset) {
                findings.add(Kind::CommitPhantom, vec![Subject::Place { partition: number, offset }], || {
                    format!("group {group} was told that offset {offset} of partition {number} is committed, which no member did")
                });
            }
            next = offset + 1;
        }
    }

    fn check_given(&self, group: &str, number: u32, start: u64, log: &Log, findings: &mut Findings) {
        let highest = self.steps.last().map_or(0, |step| step.offset);
        let is_missing = |offset: &u64| log.at(number, *offset).is_some() && !self.given.contains(*offset);
        let mut missing = (start..highest.min(log.end(number))).filter(is_missing).peekable();
        while let Some(first) = missing.next() {
            let mut last = first;
            while missing.next_if_eq(&(last + 1)).is_some() {
                last += 1;
            }
            findings.add(Kind::Undelivered, vec![Subject::Place { partition: number, offset: first }], || {
                format!(
                    "group {group} has committed offset {highest} of partition {number}, and none of its members was given offsets \
                     {first} to {last}"
                )
            });
        }
    }
}

fn not_committed(group: &str, partition: u32, first: u64, by: Moment, findings: &mut Findings) {
    let Moment { process, at } = by;
    let subjects = vec![Subject::Moment { process, partition, at }, Subject::Place { partition, offset: first }];
    findings.add(Kind::WrongPosition, subjects, || {
        format!(
            "member {process} began at offset {first} of partition {partition}, which group {group} never committed"
        )
    });
}

fn went_back(back: &Back, findings: &mut Findings) {
    let Back { group, partition, floor, found, what, by: Moment { process, at } } = back;
    let kind = if *what == Found::Begun { Kind::WrongPosition } else { Kind::CommitBack };
    let (least, since) = (floor.offset, floor.at as f64 / 1e6);
    let place = Subject::Place { partition: *partition, offset: *found };
    let mut subjects = vec![Subject::Moment { process: *process, partition: *partition, at: *at }, place];
    subjects.extend(floor.by.map(|(process, _)| Subject::Moment { process, partition: *partition, at: floor.at }));
    findings.add(kind, subjects, || {
        let did = match what {
            Found::Read => format!("client {process} read offset {found} as committed"),
            Found::Committed => format!("a commit of offset {found} by member {process} was taken"),
            Found::Begun => format!("member {process} began at offset {found}"),
        };
        format!("{did} in partition {partition}, in which group {group} had committed {least} at {since:.3} s")
    });
}
