//! Random good histories pass; with one thing changed they do not.
//!
//! A history is the trace of a small log: producers append, some without hearing of it, some without it having happened; consumers,
//! queries and watermarks follow; in the end everybody reads everything.

use proptest::prelude::*;
use proptest::sample::Index;

use super::story::{NODES, Story, seen};
use crate::check::{Kind, Verdict, check};
use crate::explain::explain;
use crate::history::{Line, MetaChange, MetaSeen, Outcome, Position, Reader, Source, Writer};

const PARTITIONS: u32 = 2;

/// What happens next.
#[derive(Clone, Debug)]
enum Step {
    /// By a producer, into a partition: acknowledged, unknown but there, unknown and not there, refused.
    Send(u32, u32, u8),
    /// By a consumer, at most so many of a partition.
    Poll(u32, u32, usize),
    /// A consumer begins again, so far from the end.
    Assign(u32, u64),
    Query,
    Watermarks(u32),
    /// For one of what was acknowledged.
    Search(Index),
    Meta(u32, u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (1..4_u32, 0..PARTITIONS, 0..10_u8).prop_map(|(process, partition, fate)| Step::Send(process, partition, fate)),
        4 => (10..12_u32, 0..PARTITIONS, 1..5_usize).prop_map(|(process, partition, most)| Step::Poll(process, partition, most)),
        1 => (10..12_u32, 0..4_u64).prop_map(|(process, back)| Step::Assign(process, back)),
        1 => Just(Step::Query),
        1 => (30..32_u32).prop_map(Step::Watermarks),
        1 => any::<Index>().prop_map(Step::Search),
        1 => (40..42_u32, 0..4_u8).prop_map(|(process, what)| Step::Meta(process, what)),
    ]
}

/// The log, and how far whom.
struct Trace {
    story: Story,
    log: Vec<Vec<u64>>,
    acked_to: Vec<u64>,
    acked: Vec<(u64, (u32, u64))>,
    positions: std::collections::BTreeMap<(u32, u32), u64>,
    next_value: u64,
    setting: Option<u64>,
}

impl Trace {
    fn new() -> Self {
        let mut story = Story::new(PARTITIONS);
        story.require_all();
        let positions =
            (10..12).flat_map(|process| (0..PARTITIONS).map(move |partition| ((process, partition), 0))).collect();
        for process in 10..12 {
            story.assign(process, Position::Earliest);
        }
        let empty = vec![0; PARTITIONS as usize];
        Self {
            story,
            log: vec![Vec::new(); PARTITIONS as usize],
            acked_to: empty,
            acked: Vec::new(),
            positions,
            next_value: 0,
            setting: None,
        }
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Send(process, partition, fate) => self.send(*process, *partition, *fate),
            Step::Poll(process, partition, most) => self.poll(*process, *partition, *most),
            Step::Assign(process, back) => {
                // One position for all partitions: none may be beyond its end.
                let shortest = self.log.iter().map(|log| log.len() as u64).min().unwrap_or_default();
                let position = shortest.saturating_sub(*back);
                self.story.assign(*process, Position::Offset(position));
                self.positions.extend((0..PARTITIONS).map(|partition| ((*process, partition), position)));
            }
            Step::Query => {
                let lengths = (0..).zip(self.log.iter().map(|log| log.len() as u64)).filter(|(_, rows)| *rows > 0);
                let rows: Vec<_> = lengths.map(|(partition, rows)| seen(partition, rows)).collect();
                self.story.query(&self.acked_to.clone(), &rows);
            }
            Step::Watermarks(process) => {
                let marks: Vec<u64> = self.log.iter().map(|log| log.len() as u64).collect();
                self.story.watermarks(*process, &self.acked_to.clone(), &marks);
            }
            Step::Search(index) if !self.acked.is_empty() => {
                let (value, place) = *index.get(&self.acked);
                self.story.search(value, place, &[place]);
            }
            Step::Search(_) => {}
            Step::Meta(process, what) => self.meta(*process, *what),
        }
    }

    fn send(&mut self, process: u32, partition: u32, fate: u8) {
        self.next_value += 1;
        let (value, offset) = (self.next_value, self.log[partition as usize].len() as u64);
        let unknown = || Outcome::Info("no answer".to_owned());
        let outcome = match fate {
            7 | 8 => unknown(),
            9 => Outcome::Fail("refused".to_owned()),
            _ => Outcome::Ok(offset),
        };
        if fate < 8 {
            self.log[partition as usize].push(value);
        }
        if fate < 7 {
            self.acked_to[partition as usize] = offset + 1;
            self.acked.push((value, (partition, offset)));
        }
        self.story.send(process, partition, value, outcome);
    }

    fn poll(&mut self, process: u32, partition: u32, most: usize) {
        let position = self.positions.entry((process, partition)).or_default();
        let values: Vec<u64> =
            self.log[partition as usize].iter().skip(*position as usize).take(most).copied().collect();
        if !values.is_empty() {
            self.story.poll(process, partition, *position, &values);
            *position += values.len() as u64;
        }
    }

    fn meta(&mut self, process: u32, what: u8) {
        self.next_value += 1;
        let (value, is_there) = (self.next_value, self.setting.is_some());
        let (change, seen) = match what {
            0 if is_there => (MetaChange::Create(value), MetaSeen::Exists),
            0 => (MetaChange::Create(value), MetaSeen::Done),
            1 if is_there => (MetaChange::Alter(value), MetaSeen::Done),
            1 => (MetaChange::Alter(value), MetaSeen::Absent),
            2 if is_there => (MetaChange::Delete, MetaSeen::Done),
            2 => (MetaChange::Delete, MetaSeen::Absent),
            _ => (MetaChange::Read, self.setting.map_or(MetaSeen::Absent, MetaSeen::Setting)),
        };
        self.setting = match (change, seen) {
            (MetaChange::Delete, _) => None,
            (MetaChange::Create(value) | MetaChange::Alter(value), MetaSeen::Done) => Some(value),
            _ => self.setting,
        };
        self.story.meta(process, change, seen);
    }
}

fn trace(steps: &[Step]) -> Story {
    let mut trace = Trace::new();
    // Enough for each thing that may be changed below.
    for partition in 0..PARTITIONS {
        [0, 0, 7, 0].into_iter().for_each(|fate| trace.send(1, partition, fate));
        trace.poll(10, partition, 2);
        trace.poll(10, partition, 2);
    }
    trace.take(&Step::Query);
    trace.take(&Step::Watermarks(30));
    [0, 1, 3].into_iter().for_each(|what| trace.meta(40, what));
    steps.iter().for_each(|step| trace.take(step));
    trace.take(&Step::Watermarks(30));
    let log = trace.log.clone();
    let mut story = trace.story;
    for (partition, values) in (0..).zip(&log) {
        story.finally(partition, values);
    }
    story
}

/// Chooses one of the lines that `pick` accepts.
fn chosen<'a, T: 'a>(story: &'a mut Story, index: &Index, pick: impl FnMut(&'a mut Line) -> Option<T>) -> T {
    let mut found: Vec<T> = story.lines.iter_mut().filter_map(pick).collect();
    let at = index.index(found.len());
    found.swap_remove(at)
}

/// Changes one thing in a good history; which kinds may be found for it, of which one has to.
fn plant(story: &mut Story, what: usize, index: &Index) -> &'static [Kind] {
    let copy_of = |source| move |line: &mut Line| matches!(line, Line::Copy(part) if part.source == source);
    match what {
        // An acknowledgement of what is nowhere.
        0 => {
            story.ack(1, 0, 1_000_000, 1_000);
            &[Kind::Unseen]
        }
        // A replica, rows, hits that lack a record.
        1..=3 => {
            let source = [Source::Replica, Source::Sql, Source::Search][what - 1];
            let is_copy = copy_of(source);
            let part = chosen(story, index, |line| {
                let is_one = is_copy(line);
                if let Line::Copy(part) = line { is_one.then_some(part) } else { None }
            });
            part.values.pop();
            part.digests.pop();
            &[[Kind::ReplicaDiffers], [Kind::SqlDisagrees], [Kind::SearchDisagrees]][what - 1]
        }
        // Other bytes on one replica.
        4 => {
            let part = chosen(story, index, |line| {
                if let Line::Copy(part) = line { (!part.digests.is_empty()).then_some(part) } else { None }
            });
            part.digests[0] ^= 1;
            &[Kind::ReplicaDiffers]
        }
        // A poll of something else, of nothing that was sent, twice.
        5 => {
            let poll = chosen(story, index, |line| if let Line::Poll(poll) = line { Some(poll) } else { None });
            let Outcome::Ok(runs) = &mut poll.outcome else { unreachable!("all polls succeed") };
            runs[0].values[0] = 2_000_000;
            &[Kind::InconsistentOffset]
        }
        6 => {
            let polls: Vec<usize> =
                (0..story.lines.len()).filter(|at| matches!(story.lines[*at], Line::Poll(_))).collect();
            let at = *index.get(&polls);
            story.lines.insert(at, story.lines[at].clone());
            &[Kind::NonmonotonicPoll]
        }
        // An acknowledgement that was a refusal.
        7 => {
            let send = chosen(story, index, |line| match line {
                Line::Send(send) if send.outcome.ok().is_some() => Some(send),
                _ => None,
            });
            send.outcome = Outcome::Fail("refused".to_owned());
            &[Kind::AbortedRead]
        }
        // An acknowledged offset that is another one.
        8 => {
            let send = chosen(story, index, |line| match line {
                Line::Send(send) if send.outcome.ok().is_some() => Some(send),
                _ => None,
            });
            send.outcome = Outcome::Ok(5_000);
            &[Kind::OffsetMismatch]
        }
        // A send that the history does not know.
        9 => {
            let sends = story
                .lines
                .iter()
                .enumerate()
                .filter(|(_, line)| matches!(line, Line::Send(send) if send.outcome.ok().is_some()));
            let sends: Vec<usize> = sends.map(|(at, _)| at).collect();
            story.lines.remove(*index.get(&sends));
            &[Kind::Phantom]
        }
        // A watermark, a query, a search that go back in time.
        10 => {
            let marks: Vec<usize> =
                (0..story.lines.len()).filter(|at| matches!(story.lines[*at], Line::Watermarks(_))).collect();
            let (first, last) = (marks[0], marks[marks.len() - 1]);
            story.lines.swap(first, last);
            let Line::Watermarks(read) = &mut story.lines[last] else { unreachable!("it is one") };
            let Outcome::Ok(marks) = &mut read.outcome else { unreachable!("all reads succeed") };
            marks[0] = 0;
            &[Kind::WatermarkBack]
        }
        11 => {
            let query = chosen(story, index, |line| if let Line::Query(query) = line { Some(query) } else { None });
            let Outcome::Ok(rows) = &mut query.outcome else { unreachable!("all queries succeed") };
            rows.remove(0);
            &[Kind::StaleRead]
        }
        12 => {
            let query = chosen(story, index, |line| if let Line::Query(query) = line { Some(query) } else { None });
            let Outcome::Ok(rows) = &mut query.outcome else { unreachable!("all queries succeed") };
            rows[0].rows += 1;
            &[Kind::NotAPrefix]
        }
        // A change of metadata that nobody made.
        _ => {
            story.meta(40, MetaChange::Read, MetaSeen::Setting(u64::MAX));
            &[Kind::NotLinearizable]
        }
    }
}

proptest! {
    #[test]
    fn a_good_history_passes(steps in prop::collection::vec(step(), 0..120)) {
        let report = trace(&steps).judged();
        prop_assert_eq!(report.verdict, Verdict::Pass, "{}\n{:#?}", report.summary(), report.findings);
    }

    #[test]
    fn one_thing_that_is_wrong_is_found(steps in prop::collection::vec(step(), 0..60), what in 0..14_usize, index in any::<Index>()) {
        let mut story = trace(&steps);
        let kinds = plant(&mut story, what, &index);
        let report = story.judged();
        let found = kinds.iter().any(|kind| report.findings.contains_key(kind));
        prop_assert!(found, "{:?} was not found\n{}\n{:#?}", kinds, report.summary(), report.findings);
        prop_assert_eq!(report.verdict, Verdict::Fail);
    }

    /// As a file, and for a person.
    #[test]
    fn what_is_found_in_a_file_is_explained(what in 0..14_usize, index in any::<Index>()) {
        let mut story = trace(&[]);
        let kinds = plant(&mut story, what, &index);
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("history.jsonl");
        let writer = Writer::create(&path, story.header.clone()).unwrap();
        story.lines.iter().for_each(|line| writer.note(line));
        writer.finish(None).unwrap();
        let report = check(&mut Reader::open(&path).unwrap()).unwrap();
        prop_assert_eq!(report.summary(), story.judged().summary());
        let text = explain(&path, &report, None).unwrap();
        prop_assert!(kinds.iter().any(|kind| text.contains(kind.name())), "{}", text);
        prop_assert_eq!(text.lines().filter(|line| !line.starts_with(' ')).count(), report.findings.len());
    }

    /// Whichever line is lost, the history is whole no more.
    #[test]
    fn a_history_that_lacks_a_line_is_no_pass(steps in prop::collection::vec(step(), 0..40), index in any::<Index>()) {
        let mut story = trace(&steps);
        let lines = story.lines.len() as u64 + 1;
        story.lines.push(Line::End(crate::history::End { lines, broken_off: None }));
        let at = index.index(story.lines.len());
        story.lines.remove(at);
        prop_assert_ne!(story.judged_so_far().verdict, Verdict::Pass);
    }
}

#[test]
fn every_copy_of_a_trace_is_read_from_every_node() {
    let story = trace(&[]);
    let replicas =
        story.lines.iter().filter(|line| matches!(line, Line::CopyEnd(end) if end.source == Source::Replica));
    assert_eq!(replicas.count() as u64, NODES * u64::from(PARTITIONS));
}
