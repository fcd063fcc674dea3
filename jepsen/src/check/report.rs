//! The verdict, and what it rests on.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;

use super::findings::{Finding, Kind};
use super::timeline::Fired;
use crate::history::{ClientKind, Header, Line, Outcome};

/// So much of what was measured is told in a summary; `report.json` has all of it.
const MEASURED: usize = 12;
/// No process has this number: what the harness itself reads.
const NOBODY: u32 = u32::MAX;

/// What a history proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Verdict {
    /// Everything that was required happened, and nothing is wrong.
    Pass,
    /// Nothing is wrong, and that proves nothing.
    Unknown,
    /// Something is wrong.
    Fail,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pass => "pass",
            Self::Unknown => "unknown",
            Self::Fail => "fail",
        })
    }
}

/// What was counted.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Figures {
    /// Name of a line → how many ended ok, fail and info.
    pub(crate) operations: BTreeMap<&'static str, [u64; 3]>,
    /// Those of them that went through librdkafka.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) kafka_operations: BTreeMap<&'static str, [u64; 3]>,
    /// Records that are there again because librdkafka numbered them anew ([`super::repeats`]).
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) written_anew: u64,
    /// Records that anybody read, each as often as it was read.
    pub(crate) records_read: u64,
    #[serde(skip)]
    pub(crate) contradictions: Vec<String>,
    /// Processes that go through librdkafka.
    #[serde(skip)]
    kafka: BTreeSet<u32>,
}

impl Figures {
    pub(super) const SEND: &str = "send";

    pub(super) fn new(header: &Header) -> Self {
        let kafka = header.processes.iter().filter(|process| process.client == ClientKind::Librdkafka);
        Self { kafka: kafka.map(|process| process.process).collect(), ..Self::default() }
    }

    pub(super) fn count(&mut self, line: &Line) {
        let (name, process, ended) = match line {
            Line::Begin(_) | Line::End(_) | Line::Crash(_) | Line::Fault(_) => return,
            Line::Probe(_) | Line::Terms(_) => return,
            Line::Send(send) => (Self::SEND, send.process, ended(&send.outcome)),
            Line::Assign(assign) => ("assign", assign.process, ended(&assign.outcome)),
            Line::Subscribe(subscribe) => ("subscribe", subscribe.process, 0),
            Line::Rebalance(rebalance) => ("rebalance", rebalance.process, 0),
            Line::Commit(commit) => ("commit", commit.process, ended(&commit.outcome)),
            Line::Committed(read) => ("committed", read.process, ended(&read.outcome)),
            Line::Poll(poll) => {
                let runs = poll.outcome.ok().into_iter().flatten();
                self.records_read += runs.map(|run| run.values.len() as u64).sum::<u64>();
                ("poll", poll.process, ended(&poll.outcome))
            }
            Line::Watermarks(read) => ("watermarks", read.process, ended(&read.outcome)),
            Line::Query(query) => ("query", query.process, ended(&query.outcome)),
            Line::Search(search) => ("search", search.process, ended(&search.outcome)),
            Line::Meta(meta) => ("meta", meta.process, ended(&meta.outcome)),
            Line::Copy(part) => {
                self.records_read += part.values.len() as u64;
                return;
            }
            Line::CopyEnd(end) => ("copy", NOBODY, ended(&end.outcome)),
        };
        self.operations.entry(name).or_default()[ended] += 1;
        if self.kafka.contains(&process) {
            self.kafka_operations.entry(name).or_default()[ended] += 1;
        }
    }

    pub(super) fn succeeded(&self, name: &str) -> u64 {
        self.operations.get(name).map_or(0, |counts| counts[0])
    }

    pub(super) fn succeeded_by_kafka(&self, name: &str) -> u64 {
        self.kafka_operations.get(name).map_or(0, |counts| counts[0])
    }

    /// Operations that were checked.
    pub(crate) fn total(&self) -> u64 {
        self.operations.values().flatten().sum()
    }
}

// As serde asks for it.
fn is_zero(number: &u64) -> bool {
    *number == 0
}

fn ended<T>(outcome: &Outcome<T>) -> usize {
    match outcome {
        Outcome::Ok(_) => 0,
        Outcome::Fail(_) => 1,
        Outcome::Info(_) => 2,
    }
}

/// The longest time without an acknowledgement around each fault of a kind; percentiles over the faults, by nearest rank.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Gaps {
    pub(crate) p50_ms: u64,
    pub(crate) p99_ms: u64,
    pub(crate) max_ms: u64,
}

/// What was measured around faults, and what should have been.
#[derive(Debug, Default)]
pub(super) struct Measured {
    /// A sentence each, whether anything is promised of it or not.
    pub(super) told: Vec<String>,
    /// Promises that nothing tells of, and why.
    pub(super) unproven: Vec<String>,
}

/// What a check has to say.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) verdict: Verdict,
    /// Kind → how many, and the first of them; the gravest kind first.
    pub(crate) findings: BTreeMap<Kind, (u64, Vec<Finding>)>,
    /// Why nothing follows.
    pub(crate) unproven: Vec<String>,
    pub(crate) figures: Figures,
    /// Fault → how many hit a cluster at work, and how many in all.
    pub(crate) faults: BTreeMap<String, (u64, u64)>,
    pub(crate) gaps: BTreeMap<String, Gaps>,
    /// What else was measured around faults, a sentence each.
    pub(crate) measured: Vec<String>,
}

impl Report {
    pub(super) fn new(
        findings: BTreeMap<Kind, (u64, Vec<Finding>)>,
        unproven: Vec<String>,
        figures: Figures,
        fired: Fired,
    ) -> Self {
        let verdict = match (findings.is_empty(), unproven.is_empty()) {
            (false, _) => Verdict::Fail,
            (true, false) => Verdict::Unknown,
            (true, true) => Verdict::Pass,
        };
        Self {
            verdict,
            findings,
            unproven,
            figures,
            faults: fired.by_kind,
            gaps: fired.gaps,
            measured: fired.measured.told,
        }
    }

    /// One line for each kind of operation and fault, and what is wrong or missing.
    pub(crate) fn summary(&self) -> String {
        let counts =
            |(name, [ok, fail, info]): (&&str, &[u64; 3])| format!("{name} {ok} ok, {fail} failed, {info} unknown");
        let operations: Vec<String> = self.figures.operations.iter().map(counts).collect();
        let faults: Vec<String> = self.faults.iter().map(|(kind, (at_work, _))| format!("{kind} {at_work}")).collect();
        let kafka: Vec<String> = self.figures.kafka_operations.iter().map(counts).collect();
        let mut text = format!(
            "{} operations ({}); {} records read; faults that hit a cluster at work: {}\n",
            self.figures.total(),
            operations.join("; "),
            self.figures.records_read,
            if faults.is_empty() { "none".to_owned() } else { faults.join(", ") },
        );
        if !kafka.is_empty() {
            text.push_str(&format!("  through librdkafka: {}\n", kafka.join("; ")));
        }
        if self.figures.written_anew > 0 {
            let anew = self.figures.written_anew;
            text.push_str(&format!("  {anew} records are there again: librdkafka sent them again in a later epoch\n"));
        }
        for (kind, Gaps { p50_ms, p99_ms, max_ms }) in &self.gaps {
            let line = format!(
                "  {kind}: nobody acknowledged for {p50_ms} ms (median), {p99_ms} ms (99 %), {max_ms} ms (most)\n"
            );
            text.push_str(&line);
        }
        for what in self.measured.iter().take(MEASURED) {
            text.push_str(&format!("  {what}\n"));
        }
        for (kind, (count, _)) in &self.findings {
            text.push_str(&format!("  {kind}: {count}\n"));
        }
        for why in &self.unproven {
            text.push_str(&format!("  not proven: {why}\n"));
        }
        text
    }
}
