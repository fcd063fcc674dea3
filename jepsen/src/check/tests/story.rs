//! Histories in a few words.

use std::collections::BTreeMap;

use crate::check::{Checker, Kind, Report, Verdict};
use crate::history::{
    AssignOp, ClientKind, CopyEnd, CopyPart, End, Excuse, FORMAT, Fault, Header, Line, MetaChange, MetaOp, MetaSeen,
    Outcome, PollOp, Position, Process, Promise, QueryOp, Requires, Role, Run, SearchOp, Seen, SendOp, Source,
    Versions, WatermarkOp, When,
};

pub(super) const WORDS: u64 = 4;
/// Between two operations.
const TICK: u64 = 1_000;
pub(super) const NODES: u64 = 3;
/// Its client talks to node 1 only.
pub(super) const PINNED: u32 = 90;

#[derive(Clone, Debug)]
pub(super) struct Story {
    pub(super) header: Header,
    pub(super) lines: Vec<Line>,
    now: u64,
}

impl Story {
    pub(super) fn new(partitions: u32) -> Self {
        let header = Header {
            format: FORMAT,
            scenario: "story".to_owned(),
            seed: 0,
            length_s: 1,
            started_ms: 0,
            versions: Versions::default(),
            capabilities: Vec::new(),
            missing: Vec::new(),
            topic: "t".to_owned(),
            partitions,
            words: WORDS,
            processes: vec![Process { process: PINNED, role: Role::Producer, node: Some(1), client: ClientKind::Sdk }],
            excuses: Vec::new(),
            requires: Requires::default(),
        };
        Self { header, lines: Vec::new(), now: 0 }
    }

    /// The time of an operation that takes as long as any.
    pub(super) fn when(&mut self) -> When {
        self.now += TICK;
        // Operations of equal times would be concurrent.
        When(self.now - TICK + 1, self.now)
    }

    pub(super) fn sleep(&mut self, ms: u64) {
        self.now += 1_000 * ms;
    }

    pub(super) fn starts_move(mut self) -> Self {
        self.header.excuses.push(Excuse::LogStartMoves);
        self
    }

    pub(super) fn send(&mut self, process: u32, partition: u32, value: u64, outcome: Outcome<u64>) -> &mut Self {
        let at = self.when();
        self.lines.push(Line::Send(SendOp { process, at, partition, value, outcome, placeless: false }));
        self
    }

    pub(super) fn ack(&mut self, process: u32, partition: u32, value: u64, offset: u64) -> &mut Self {
        self.send(process, partition, value, Outcome::Ok(offset))
    }

    pub(super) fn assign(&mut self, process: u32, from: Position) -> &mut Self {
        let (at, partitions) = (self.when(), (0..self.header.partitions).collect());
        self.lines.push(Line::Assign(AssignOp { process, at, partitions, from, outcome: Outcome::Ok(()) }));
        self
    }

    pub(super) fn poll(&mut self, process: u32, partition: u32, first: u64, values: &[u64]) -> &mut Self {
        let at = self.when();
        let run = Run { partition, first, values: values.to_vec(), altered: Vec::new() };
        self.lines.push(Line::Poll(PollOp { process, at, outcome: Outcome::Ok(vec![run]) }));
        self
    }

    pub(super) fn watermarks(&mut self, process: u32, at_least: &[u64], marks: &[u64]) -> &mut Self {
        let (at, at_least, outcome) = (self.when(), at_least.to_vec(), Outcome::Ok(marks.to_vec()));
        self.lines.push(Line::Watermarks(WatermarkOp { process, at, at_least, outcome }));
        self
    }

    pub(super) fn query(&mut self, at_least: &[u64], seen: &[Seen]) -> &mut Self {
        let (at, at_least, outcome) = (self.when(), at_least.to_vec(), Outcome::Ok(seen.to_vec()));
        self.lines.push(Line::Query(QueryOp { process: 50, at, at_least, outcome }));
        self
    }

    pub(super) fn search(&mut self, value: u64, place: (u32, u64), hits: &[(u32, u64)]) -> &mut Self {
        let (at, outcome) = (self.when(), Outcome::Ok(hits.to_vec()));
        self.lines.push(Line::Search(SearchOp { process: 60, at, value, place, outcome }));
        self
    }

    pub(super) fn meta(&mut self, process: u32, change: MetaChange, seen: MetaSeen) -> &mut Self {
        let at = self.when();
        self.meta_at(process, at, change, Outcome::Ok(seen))
    }

    pub(super) fn meta_at(
        &mut self,
        process: u32,
        at: When,
        change: MetaChange,
        outcome: Outcome<MetaSeen>,
    ) -> &mut Self {
        self.lines.push(Line::Meta(MetaOp { process, at, key: "k".to_owned(), change, outcome }));
        self
    }

    /// A copy without its end.
    pub(super) fn part(&mut self, source: Source, node: u64, partition: u32, first: u64, values: &[u64]) -> &mut Self {
        let digests =
            if source == Source::Replica { values.iter().map(|value| digest(*value)).collect() } else { Vec::new() };
        let part = CopyPart {
            source,
            node,
            partition,
            first,
            values: values.to_vec(),
            word: None,
            digests,
            epochs: Vec::new(),
            altered: Vec::new(),
        };
        if source != Source::Search {
            self.lines.push(Line::Copy(part));
            return self;
        }
        for (at, value) in (first..).zip(values) {
            let word = Some(value % WORDS);
            self.lines.push(Line::Copy(CopyPart { first: at, values: vec![*value], word, ..part.clone() }));
        }
        self
    }

    pub(super) fn part_end(&mut self, source: Source, node: u64, partition: u32, outcome: Outcome<u64>) -> &mut Self {
        let at = self.when();
        self.lines.push(Line::CopyEnd(CopyEnd { source, node, partition, at, from: 0, outcome }));
        self
    }

    /// Everything that everybody has of a partition in the end.
    pub(super) fn finally(&mut self, partition: u32, values: &[u64]) -> &mut Self {
        for source in [Source::Replica, Source::Sql, Source::Search] {
            for node in 1..=NODES {
                self.part(source, node, partition, 0, values);
                self.part_end(source, node, partition, Outcome::Ok(values.len() as u64));
            }
        }
        self
    }

    pub(super) fn fault(&mut self, kind: &str, ms: u64, partitions: &[u32]) -> &mut Self {
        let at = When(self.now, self.now + 1_000 * ms);
        let partitions = partitions.to_vec();
        let detail = "told".to_owned();
        self.lines.push(Line::Fault(Fault {
            kind: kind.to_owned(),
            nodes: vec![1],
            at,
            partitions,
            cuts: Vec::new(),
            alone: Vec::new(),
            detail,
        }));
        self
    }

    pub(super) fn promise(&mut self, promise: Promise) -> &mut Self {
        self.header.requires.promises.push(promise);
        self
    }

    pub(super) fn require_all(&mut self) -> &mut Self {
        let copies = [Source::Replica, Source::Sql, Source::Search].map(|source| (source, NODES));
        self.header.requires.copies = BTreeMap::from(copies);
        let operations = ["send", "poll"].map(|name| (name.to_owned(), 1));
        self.header.requires.operations = BTreeMap::from(operations);
        self
    }

    /// Without the last line.
    pub(super) fn judged_so_far(&self) -> Report {
        let mut checker = Checker::new(self.header.clone());
        self.lines.iter().for_each(|line| checker.see(line));
        checker.conclude()
    }

    pub(super) fn judged(&self) -> Report {
        let mut whole = self.clone();
        whole.lines.push(Line::End(End { lines: self.lines.len() as u64 + 1, broken_off: None }));
        whole.judged_so_far()
    }

    #[track_caller]
    pub(super) fn passes(&self) {
        let report = self.judged();
        assert_eq!(report.verdict, Verdict::Pass, "{}\n{:#?}", report.summary(), report.findings);
    }

    /// It fails, and with these kinds only; what is said of the first.
    #[track_caller]
    pub(super) fn fails(&self, kinds: &[Kind]) -> String {
        let report = self.judged();
        let found: Vec<Kind> = report.findings.keys().copied().collect();
        assert_eq!(found, kinds, "{}\n{:#?}", report.summary(), report.findings);
        assert_eq!(report.verdict, Verdict::Fail);
        report.findings[&kinds[0]].1[0].what.clone()
    }

    /// Nothing is wrong, and nothing proven; why.
    #[track_caller]
    pub(super) fn proves_nothing(&self) -> String {
        let report = self.judged();
        assert_eq!(report.verdict, Verdict::Unknown, "{}\n{:#?}", report.summary(), report.findings);
        report.unproven.join("; ")
    }
}

/// The checksum of a record with this value.
pub(super) fn digest(value: u64) -> u32 {
    (value as u32).wrapping_mul(0x9E37_79B9)
}

/// The rows of the first offsets of a partition.
pub(super) fn seen(partition: u32, rows: u64) -> Seen {
    Seen { partition, rows, first: 0, last: rows - 1, sum: rows * (rows - 1) / 2 }
}
