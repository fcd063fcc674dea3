//! What a person needs to see of a failed run: for each kind of anomaly one example, the operations that show it, the faults around
//! them, and what the nodes said then.
//!
//! The check keeps no operations. So the history is read a second time, for a few subjects only.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;

use crate::check::{Finding, Report, Subject};
use crate::history::{
    CopyEnd, CopyPart, Fault, Header, HistoryError, Line, MetaOp, Micros, Outcome, PollOp, Reader, RebalanceOp, Run,
    SendOp, Source, When,
};
use crate::logs;

/// Operations that are told for one example.
const MAX_TOLD: usize = 14;
/// Before the end of an order that cannot go on.
const BEFORE: Micros = 4_000_000;
/// How far before and behind the operations faults are told of.
const FAULTS_AROUND: Micros = 3_000_000;

/// An operation that shows an anomaly.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Told {
    at: Micros,
    text: String,
    /// Whether faults and log lines around it are of interest: it changed something.
    is_cause: bool,
}

/// What one example needs.
#[derive(Debug, Default)]
struct Collected {
    told: Vec<Told>,
    /// Who read a value at a place first, when, and how many read the same later.
    reads: BTreeMap<(u32, u64, u64), (Micros, String, u64)>,
    /// Places in copies that have something there.
    copied: BTreeSet<(Source, u64, u32)>,
    /// The last operation of the process of a moment.
    last: Option<Told>,
}

/// Explains the first example of each kind that was found. `run` is the directory with the logs of the nodes, if there is one.
///
/// # Errors
/// If the history cannot be read again.
pub(crate) fn explain(history: &Path, report: &Report, run: Option<&Path>) -> Result<String, HistoryError> {
    let examples: Vec<&Finding> = report.findings.values().filter_map(|(_, examples)| examples.first()).collect();
    let mut reader = Reader::open(history)?;
    let mut collected: Vec<Collected> = examples.iter().map(|_| Collected::default()).collect();
    let mut faults = Vec::new();
    while let Some(line) = reader.read()? {
        for (example, collected) in examples.iter().zip(&mut collected) {
            example.subjects.iter().for_each(|subject| collected.see(subject, &line));
        }
        if let Line::Fault(fault) = line {
            faults.push(fault);
        }
    }
    let mut text = String::new();
    for (example, collected) in examples.iter().zip(collected) {
        let count = report.findings[&example.kind].0;
        tell(&mut text, example, count, collected, &faults, reader.header(), run);
    }
    Ok(text)
}

fn tell(
    text: &mut String,
    example: &Finding,
    count: u64,
    collected: Collected,
    faults: &[Fault],
    header: &Header,
    run: Option<&Path>,
) {
    let mut told = collected.into_told();
    told.sort();
    told.dedup();
    let others = if count > 1 { format!(", one of {count}") } else { String::new() };
    add(text, &format!("{}{others}: {}", example.kind, example.what));
    let skipped = told.len().saturating_sub(MAX_TOLD);
    if skipped > 0 {
        add(text, &format!("  … {skipped} operations before"));
    }
    for operation in &told[skipped..] {
        // Copies are read when all is over.
        let at = if operation.at == Micros::MAX {
            "at the end".to_owned()
        } else {
            format!("{:>8.3} s", seconds(operation.at))
        };
        add(text, &format!("  {at:>12}  {}", operation.text));
    }
    let times =
        example.subjects.iter().filter_map(|subject| if let Subject::Time(at) = subject { Some(*at) } else { None });
    let causes = || told.iter().filter(|told| told.is_cause).map(|told| told.at).chain(times.clone());
    let Some((first, last)) = causes().min().zip(causes().max()) else { return };
    for fault in faults.iter().filter(|fault| overlaps(fault.at, first, last)) {
        let (begun, ended) = (seconds(fault.at.0), seconds(fault.at.1));
        add(
            text,
            &format!(
                "  fault      {} of {:?} from {begun:.3} s to {ended:.3} s ({})",
                fault.kind, fault.nodes, fault.detail
            ),
        );
    }
    if let Some(run) = run {
        logs::around(run, header.started_ms, first, last).iter().for_each(|line| add(text, &format!("  {line}")));
    }
}

fn add(text: &mut String, line: &str) {
    writeln!(text, "{line}").expect("a string takes everything");
}

fn overlaps(fault: When, first: Micros, last: Micros) -> bool {
    fault.0 <= last.saturating_add(FAULTS_AROUND) && fault.1.saturating_add(FAULTS_AROUND) >= first
}

fn seconds(at: Micros) -> f64 {
    at as f64 / 1e6
}

impl Collected {
    fn see(&mut self, subject: &Subject, line: &Line) {
        match (subject, line) {
            (Subject::Value(value), Line::Send(send)) if send.value == *value => self.told.push(told_send(send)),
            (Subject::Value(value), Line::Poll(poll)) => {
                let runs = poll.outcome.ok().into_iter().flatten();
                let found = runs.filter_map(|run| Some((run, run.values.iter().position(|read| read == value)?)));
                for (run, at) in found {
                    self.read(poll.at.1, &consumer(poll), (run.partition, run.first + at as u64, *value));
                }
            }
            (Subject::Value(value), Line::Copy(part)) => {
                if let Some(at) = part.values.iter().position(|read| read == value) {
                    self.copied(part, part.first + at as u64, *value);
                }
            }
            (Subject::Place { partition, offset }, Line::Poll(poll)) => {
                let runs = poll.outcome.ok().into_iter().flatten().filter(|run| run.partition == *partition);
                for value in runs.filter_map(|run| value_at(run.first, &run.values, *offset)) {
                    self.read(poll.at.1, &consumer(poll), (*partition, *offset, value));
                }
            }
            (Subject::Place { partition, offset }, Line::Copy(part)) if part.partition == *partition => {
                if let Some(value) = value_at(part.first, &part.values, *offset) {
                    self.copied(part, *offset, value);
                }
            }
            (Subject::Place { partition, offset }, Line::CopyEnd(end)) if end.partition == *partition => {
                self.see_end(end, *offset);
            }
            (Subject::Key { key, until }, Line::Meta(operation))
                if operation.key == *key
                    && operation.at.0 <= *until
                    && operation.at.1.saturating_add(BEFORE) >= *until =>
            {
                self.told.push(told_meta(operation));
            }
            (Subject::Moment { process, partition, at }, line) => self.see_moment(*process, *partition, *at, line),
            _ => {}
        }
    }

    /// Somebody read a value at a place: partition and offset.
    fn read(&mut self, at: Micros, who: &str, (partition, offset, value): (u32, u64, u64)) {
        let others = self.reads.entry((partition, offset, value)).or_insert_with(|| (at, who.to_owned(), 0));
        others.2 += u64::from(others.1 != who);
    }

    fn copied(&mut self, part: &CopyPart, offset: u64, value: u64) {
        let CopyPart { source, node, partition, .. } = *part;
        if self.copied.insert((source, node, partition)) {
            self.read(Micros::MAX, &reader_of(source, node), (partition, offset, value));
        }
    }

    /// A copy that does not have what the others have.
    fn see_end(&mut self, end: &CopyEnd, offset: u64) {
        let (source, node, partition) = (end.source, end.node, end.partition);
        if self.copied.contains(&(source, node, partition)) {
            return;
        }
        let who = reader_of(source, node);
        let text = match &end.outcome {
            Outcome::Ok(next) => {
                format!(
                    "{who} has nothing at offset {offset}: it was read from offset {} to before offset {next}",
                    end.from
                )
            }
            Outcome::Fail(why) | Outcome::Info(why) => format!("{who} was not read to its end: {why}"),
        };
        self.told.push(Told { at: end.at.1, text, is_cause: false });
    }

    /// What a client did, and what it did before.
    fn see_moment(&mut self, process: u32, partition: u32, moment: Micros, line: &Line) {
        let Some((at, text)) = told_of(process, partition, line) else { return };
        let told = Told { at: at.0, text, is_cause: at.1 == moment };
        if told.is_cause {
            self.told.extend(self.last.take());
            self.told.push(told);
        } else if at.1 < moment {
            self.last = Some(told);
        }
    }

    fn into_told(self) -> Vec<Told> {
        let reads = self.reads.into_iter().map(|((partition, offset, value), (at, who, others))| {
            let others = if others > 0 { format!("; {others} others read the same") } else { String::new() };
            let text = format!("{who} reads value {value} at offset {offset} of partition {partition}{others}");
            Told { at, text, is_cause: false }
        });
        self.told.into_iter().chain(reads).collect()
    }
}

/// When and what a client did, if it is this one and says something of the partition.
fn told_of(process: u32, partition: u32, line: &Line) -> Option<(When, String)> {
    let number = |all: &[u64]| all.get(partition as usize).copied().unwrap_or_default();
    Some(match line {
        Line::Assign(assign) if assign.process == process && assign.partitions.contains(&partition) => {
            (assign.at, format!("consumer {process} begins at {:?} of partition {partition}", assign.from))
        }
        Line::Poll(poll) if poll.process == process => {
            let runs = poll.outcome.ok()?.iter().filter(|run| run.partition == partition);
            let runs: Vec<String> = runs.map(told_run).collect();
            if runs.is_empty() {
                return None;
            }
            (poll.at, format!("consumer {process} gets {}", runs.join(", ")))
        }
        Line::Watermarks(read) if read.process == process => {
            let (mark, acked) = (number(read.outcome.ok()?), number(&read.at_least));
            let text = format!(
                "client {process} reads high watermark {mark} of partition {partition}; offsets below {acked} were acknowledged"
            );
            (read.at, text)
        }
        Line::Query(query) if query.process == process => {
            let seen = query.outcome.ok()?.iter().find(|seen| seen.partition == partition);
            let acked = number(&query.at_least);
            (
                query.at,
                format!(
                    "client {process} counts {seen:?}; offsets of partition {partition} below {acked} were acknowledged"
                ),
            )
        }
        Line::Search(search) if search.process == process => (
            search.at,
            format!("client {process} searches value {} and finds {:?}", search.value, search.outcome.ok()?),
        ),
        _ => return told_of_group(process, partition, line),
    })
}

/// The same of members of a consumer group, and of those who ask what it has committed.
fn told_of_group(process: u32, partition: u32, line: &Line) -> Option<(When, String)> {
    match line {
        Line::Subscribe(join) if join.process == process => {
            Some((join.at, format!("member {process} joins group {}", join.group)))
        }
        Line::Rebalance(rebalance) if rebalance.process == process => {
            let RebalanceOp { at, gained, lost, .. } = rebalance;
            let did = match (gained.contains(&partition), lost.contains(&partition)) {
                (true, _) => "gains",
                (_, true) => "loses",
                _ => return None,
            };
            Some((*at, format!("member {process} {did} partition {partition}")))
        }
        Line::Commit(commit) if commit.process == process => {
            let (_, offset) = commit.offsets.iter().find(|(of, _)| *of == partition)?;
            let outcome = match &commit.outcome {
                Outcome::Ok(()) => "done".to_owned(),
                Outcome::Fail(why) => format!("failed: {why}"),
                Outcome::Info(why) => format!("unknown: {why}"),
            };
            Some((commit.at, format!("member {process} commits offset {offset} of partition {partition}: {outcome}")))
        }
        Line::Committed(read) if read.process == process => {
            let (_, offset) = read.outcome.ok()?.iter().find(|(of, _)| *of == partition)?;
            let offset = offset.map_or_else(|| "nothing".to_owned(), |offset| format!("offset {offset}"));
            Some((read.at, format!("client {process} reads that {offset} of partition {partition} is committed")))
        }
        _ => None,
    }
}

fn told_send(send: &SendOp) -> Told {
    let SendOp { process, at, partition, value, outcome, .. } = send;
    let outcome = match outcome {
        Outcome::Ok(offset) => format!("acknowledged at offset {offset}"),
        Outcome::Fail(why) => format!("failed: {why}"),
        Outcome::Info(why) => format!("unknown: {why}"),
    };
    let text =
        format!("process {process} sends value {value} to partition {partition}; {:.3} s: {outcome}", seconds(at.1));
    Told { at: at.0, text, is_cause: true }
}

fn consumer(poll: &PollOp) -> String {
    format!("consumer {}", poll.process)
}

fn told_run(run: &Run) -> String {
    let last = run.first + (run.values.len() as u64).saturating_sub(1);
    format!("offsets {} to {last} of partition {}", run.first, run.partition)
}

fn told_meta(operation: &MetaOp) -> Told {
    let MetaOp { process, at, key, change, outcome } = operation;
    let text = format!("operator {process}, topic {key}: {change:?} → {outcome:?}, {:.3} s", seconds(at.1));
    Told { at: at.0, text, is_cause: true }
}

fn value_at(first: u64, values: &[u64], offset: u64) -> Option<u64> {
    let at = usize::try_from(offset.checked_sub(first)?).ok()?;
    values.get(at).copied()
}

fn reader_of(source: Source, node: u64) -> String {
    match source {
        Source::Replica => format!("the replica of node {node}"),
        Source::Sql => format!("SQL on node {node}"),
        Source::Search => format!("search on node {node}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::check;
    use crate::history::Writer;

    fn send(value: u64, at: u64, offset: u64) -> Line {
        Line::Send(SendOp {
            process: 1,
            at: When(at, at + 5_000),
            partition: 0,
            value,
            outcome: Outcome::Ok(offset),
            placeless: false,
        })
    }

    fn replica(node: u64, values: &[u64]) -> [Line; 2] {
        let values = values.to_vec();
        let end = CopyEnd {
            source: Source::Replica,
            node,
            partition: 0,
            at: When(9_000_000, 9_100_000),
            from: 0,
            outcome: Outcome::Ok(values.len() as u64),
        };
        let part = CopyPart {
            source: Source::Replica,
            node,
            partition: 0,
            first: 0,
            digests: vec![0; values.len()],
            epochs: Vec::new(),
            values,
            word: None,
            altered: Vec::new(),
        };
        [Line::Copy(part), Line::CopyEnd(end)]
    }

    /// The file of a run in which node 1 lost value 8, which node 2 has.
    fn lost(path: &Path) {
        let writer = Writer::create(path, Header { partitions: 1, ..Header::empty() }).unwrap();
        let fault = Fault {
            kind: "kill-leader".to_owned(),
            nodes: vec![1],
            at: When(2_000_000, 3_000_000),
            partitions: vec![0],
            cuts: Vec::new(),
            alone: Vec::new(),
            detail: "it led partition 0".to_owned(),
        };
        let run = Run { partition: 0, first: 0, values: vec![7, 8], altered: Vec::new() };
        let poll = PollOp { process: 5, at: When(2_100_000, 2_200_000), outcome: Outcome::Ok(vec![run]) };
        [send(7, 1_000_000, 0), send(8, 2_000_000, 1), Line::Poll(poll), Line::Fault(fault)]
            .iter()
            .chain(&replica(1, &[7]))
            .chain(&replica(2, &[7, 8]))
            .for_each(|line| writer.note(line));
        writer.finish(None).unwrap();
    }

    #[test]
    fn an_explanation_tells_who_saw_what_and_what_was_broken() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("history.jsonl");
        lost(&path);
        std::fs::write(home.path().join("node1.log"), "1970-01-01T00:00:02.5Z ERROR no more\n").unwrap();
        let report = check(&mut Reader::open(&path).unwrap()).unwrap();
        let text = explain(&path, &report, Some(home.path())).unwrap();
        let expected = "\
replica-differs: the replica of node 1 lacks value 8 at offset 1 of partition 0, and 0 more; it was read to offset 1
       2.000 s  process 1 sends value 8 to partition 0; 2.005 s: acknowledged at offset 1
       2.200 s  consumer 5 reads value 8 at offset 1 of partition 0; 1 others read the same
       9.100 s  the replica of node 1 has nothing at offset 1: it was read from offset 0 to before offset 1
  fault      kill-leader of [1] from 2.000 s to 3.000 s (it led partition 0)
  node1: 1970-01-01T00:00:02.5Z ERROR no more
";
        assert_eq!(text, expected);
    }
}
