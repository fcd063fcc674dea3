//! Stories of a consumer group: member 20 and member 21 of it, and 30, who asks what it has committed.

use super::story::Story;
use crate::check::Kind;
use crate::history::{
    ClientKind, CommitOp, CommittedOp, CrashOp, Line, Outcome, Position, Process, RebalanceOp, Role, SubscribeOp, When,
};

const GROUP: &str = "g";

impl Story {
    fn of_group() -> Self {
        let mut story = Self::new(1);
        for (process, role) in [(20, Role::Member), (21, Role::Member), (30, Role::Observer)] {
            story.header.processes.push(Process { process, role, node: None, client: ClientKind::Librdkafka });
        }
        story.ack(1, 0, 10, 0).ack(1, 0, 11, 1).ack(1, 0, 12, 2).ack(1, 0, 13, 3);
        story.assign(7, Position::Earliest).poll(7, 0, 0, &[10, 11, 12, 13]);
        story.subscribe(20).subscribe(21)
    }

    fn subscribe(mut self, process: u32) -> Self {
        let at = self.when();
        self.lines.push(Line::Subscribe(SubscribeOp { process, at, group: GROUP.to_owned() }));
        self
    }

    fn gain(self, process: u32) -> Self {
        self.rebalance(process, vec![0], Vec::new())
    }

    fn lose(self, process: u32) -> Self {
        self.rebalance(process, Vec::new(), vec![0])
    }

    fn rebalance(mut self, process: u32, gained: Vec<u32>, lost: Vec<u32>) -> Self {
        let at = self.when();
        self.lines.push(Line::Rebalance(RebalanceOp { process, at, gained, lost }));
        self
    }

    fn given(mut self, process: u32, first: u64, values: &[u64]) -> Self {
        self.poll(process, 0, first, values);
        self
    }

    fn commit(mut self, process: u32, offset: u64) -> Self {
        let at = self.when();
        self.commit_at(process, at, offset, Outcome::Ok(()))
    }

    fn commit_at(mut self, process: u32, at: When, offset: u64, outcome: Outcome<()>) -> Self {
        let (group, offsets) = (GROUP.to_owned(), vec![(0, offset)]);
        self.lines.push(Line::Commit(CommitOp { process, at, group, offsets, outcome }));
        self
    }

    /// Its outcome is told later than all that follows.
    fn commit_unknown(mut self, process: u32, offset: u64) -> Self {
        let at = self.when();
        self.commit_at(process, at, offset, Outcome::Info("no answer".to_owned()))
    }

    fn committed(mut self, offset: Option<u64>) -> Self {
        let at = self.when();
        self.committed_at(at, offset)
    }

    fn committed_at(mut self, at: When, offset: Option<u64>) -> Self {
        let (group, outcome) = (GROUP.to_owned(), Outcome::Ok(vec![(0, offset)]));
        self.lines.push(Line::Committed(CommittedOp { process: 30, at, group, outcome }));
        self
    }

    fn dies(mut self, process: u32) -> Self {
        let at = self.when();
        self.lines.push(Line::Crash(CrashOp { process, at }));
        self
    }

    /// Everybody has everything, and then this is committed.
    fn in_the_end(mut self, offset: u64) -> Self {
        self.finally(0, &[10, 11, 12, 13]).require_all();
        self.committed(Some(offset))
    }
}

/// Member 20 was given two records, and committed one.
fn begun() -> Story {
    Story::of_group().committed(None).gain(20).given(20, 0, &[10, 11]).commit(20, 1).committed(Some(1))
}

#[test]
fn a_group_that_goes_on_where_it_was_passes() {
    let story = begun().dies(20).gain(21).given(21, 1, &[11, 12]).commit(21, 3).lose(21);
    let story = story.subscribe(20).gain(20).given(20, 3, &[13]).commit(20, 4).committed(Some(4));
    story.in_the_end(4).passes();
}

#[test]
fn g1_a_committed_offset_that_goes_back_is_found_in_reads_and_commits() {
    let on = || begun().given(20, 2, &[12, 13]).commit(20, 4);
    let what = on().committed(Some(1)).in_the_end(4).fails(&[Kind::CommitBack]);
    assert!(
        what.contains("client 30 read offset 1 as committed in partition 0, in which group g had committed 4"),
        "{what}"
    );
    let what = on().committed(None).in_the_end(4).fails(&[Kind::CommitBack]);
    assert!(what.contains("client 30 read offset 0"), "{what}");
    // What was read as committed is committed, too, whatever came of the commit.
    let story = begun().given(20, 2, &[12]).commit_unknown(20, 3).committed(Some(3)).committed(Some(1));
    story.given(20, 3, &[13]).commit(20, 4).in_the_end(4).fails(&[Kind::CommitBack]);
    // A member that another one has replaced is not to commit any more.
    let what = on().lose(20).gain(21).commit(20, 2).in_the_end(4).fails(&[Kind::CommitBack]);
    assert!(what.contains("a commit of offset 2 by member 20 was taken"), "{what}");
}

#[test]
fn what_goes_on_at_the_same_time_is_seen_or_not() {
    let mut story = begun().given(20, 2, &[12, 13]);
    let (commit, read) = (story.when(), story.when());
    let (commit, read) = (When(commit.0, read.0 + 5), When(commit.0 + 5, read.1));
    let story = story.commit_at(20, commit, 4, Outcome::Ok(())).committed_at(read, Some(1));
    story.in_the_end(4).passes();
}

#[test]
fn a_commit_that_comes_late_excuses_going_back_only_within_its_members_tenure() {
    let late = || begun().given(20, 2, &[12, 13]).commit_unknown(20, 3).commit(20, 4).committed(Some(4));
    late().committed(Some(3)).commit(20, 4).in_the_end(4).passes();
    // Others have the partition since.
    let story = begun().given(20, 2, &[12]).commit_unknown(20, 3).dies(20).gain(21).given(21, 1, &[11, 12, 13]);
    story.commit(21, 4).committed(Some(3)).in_the_end(4).fails(&[Kind::CommitBack]);
}

#[test]
fn records_below_a_committed_offset_that_no_member_was_given_are_found() {
    let story = begun().commit(20, 4).in_the_end(4);
    let what = story.fails(&[Kind::Undelivered]);
    assert!(what.contains("none of its members was given offsets 2 to 3"), "{what}");
    // Whoever else read them.
    begun().commit(20, 3).in_the_end(3).fails(&[Kind::Undelivered, Kind::GroupBehind]);
}

#[test]
fn a_member_that_begins_elsewhere_is_found() {
    let ahead = begun().lose(20).gain(21).given(21, 2, &[12, 13]).commit(21, 4).in_the_end(4);
    let what = ahead.fails(&[Kind::WrongPosition]);
    assert!(what.contains("member 21 began at offset 2 of partition 0, which group g never committed"), "{what}");
    let behind = begun().lose(20).gain(21).given(21, 0, &[10, 11, 12, 13]).commit(21, 4).in_the_end(4);
    let what = behind.fails(&[Kind::WrongPosition]);
    assert!(what.contains("member 21 began at offset 0 in partition 0, in which group g had committed 1"), "{what}");
    // Nothing was committed: the log begins there.
    let story = Story::of_group().gain(20).given(20, 1, &[11, 12, 13]).commit(20, 4).lose(20).gain(21);
    story.in_the_end(4).fails(&[Kind::Undelivered, Kind::WrongPosition]);
}

#[test]
fn a_member_may_begin_where_an_unknown_commit_has_put_the_group() {
    let story = begun().given(20, 2, &[12]).commit_unknown(20, 3).dies(20).gain(21).given(21, 3, &[13]);
    story.commit(21, 4).in_the_end(4).passes();
    let story = begun().given(20, 2, &[12]).commit_unknown(20, 3).dies(20).gain(21).given(21, 1, &[11, 12, 13]);
    story.commit(21, 4).in_the_end(4).passes();
}

#[test]
fn an_offset_that_nobody_committed_is_found() {
    let story = begun().committed(Some(2)).given(20, 2, &[12, 13]).commit(20, 4).in_the_end(4);
    let what = story.fails(&[Kind::CommitPhantom]);
    assert!(what.contains("offset 2 of partition 0 is committed, which no member did"), "{what}");
}

#[test]
fn a_group_that_stays_behind_is_found_and_one_that_nobody_looked_at_proves_nothing() {
    let what = begun().given(20, 2, &[12]).commit(20, 3).in_the_end(3).fails(&[Kind::GroupBehind]);
    assert!(what.contains("to before offset 3, and its log goes to before 4"), "{what}");
    let mut story = begun().given(20, 2, &[12, 13]).commit(20, 4);
    story.finally(0, &[10, 11, 12, 13]).require_all();
    assert!(story.proves_nothing().contains("was not read when all was over"));
}

#[test]
fn what_went_through_librdkafka_has_to_be_enough_for_itself() {
    let mut story = begun().given(20, 2, &[12, 13]).commit(20, 4).in_the_end(4);
    story.header.requires.kafka_operations = [("poll".to_owned(), 2), ("commit".to_owned(), 2)].into();
    story.passes();
    story.header.requires.kafka_operations.insert("send".to_owned(), 1);
    assert!(story.proves_nothing().contains("0 operations `send` through librdkafka succeeded; at least 1"));
}
