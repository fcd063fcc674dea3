//! Whether a history keeps what is promised. Pure: lines in, a report out.
//!
//! One pass over the lines fills tables (`log`, `repeats`, `order`, `copies`, `reads`, `meta`, `groups`, `timeline`); a second look at the tables finds
//! what only the whole history tells. Memory for each record of the log: 24 bytes for its value, 8 for its offset, 8 for its
//! checksum, 4 for its epoch, 8 for how long its send took, a bit for each copy that was read, and three for a consumer group; 32 bytes for each offset
//! that a group commits; beside it what is bounded by clients and partitions. A million records and twenty reads of each take some seconds.
//!
//! A verdict is `pass` only if the history is whole, everything that its header requires has happened, and nothing is wrong.

mod copies;
mod coverage;
mod elections;
mod findings;
mod groups;
mod latency;
mod log;
mod meta;
mod order;
mod paged;
mod reads;
mod repeats;
mod report;
mod timeline;
mod wgl;

#[cfg(test)]
mod tests;

use crate::history::{End, Header, HistoryError, Line, Reader};
use copies::Copies;
use findings::Findings;
use groups::Groups;
use log::Log;
use meta::Metadata;
use order::Order;
use reads::Reads;
use timeline::Timeline;

pub(crate) use findings::{Finding, Kind, Subject};
pub(crate) use report::{Figures, Report, Verdict};

/// Takes in the lines behind the header.
#[derive(Debug)]
pub(crate) struct Checker {
    header: Header,
    log: Log,
    order: Order,
    copies: Copies,
    reads: Reads,
    metadata: Metadata,
    groups: Groups,
    timeline: Timeline,
    findings: Findings,
    figures: Figures,
    /// Lines so far, the header's among them.
    lines: u64,
    /// The last line; `None`: it has not come.
    end: Option<End>,
    probes: std::collections::BTreeMap<String, u64>,
}

/// Reads a history and judges it.
///
/// # Errors
/// If the file is no history.
pub(crate) fn check(reader: &mut Reader) -> Result<Report, HistoryError> {
    let mut checker = Checker::new(reader.header().clone());
    while let Some(line) = reader.read()? {
        checker.see(&line);
    }
    Ok(checker.conclude())
}

impl Checker {
    pub(crate) fn new(header: Header) -> Self {
        Self {
            log: Log::new(&header),
            order: Order::default(),
            copies: Copies::new(&header),
            reads: Reads::new(&header),
            metadata: Metadata::default(),
            groups: Groups::new(&header),
            timeline: Timeline::new(&header),
            findings: Findings::default(),
            figures: Figures::new(&header),
            lines: 1,
            end: None,
            probes: std::collections::BTreeMap::new(),
            header,
        }
    }

    pub(crate) fn see(&mut self, line: &Line) {
        let Self { log, findings, .. } = self;
        match line {
            Line::Begin(_) => self.figures.contradictions.push("a second line `begin`".to_owned()),
            Line::Send(send) => {
                log.see_send(send, findings);
                self.timeline.see_send(send);
            }
            Line::Assign(assign) => self.order.see_assign(assign),
            Line::Poll(poll) => {
                for run in poll.outcome.ok().into_iter().flatten() {
                    for (at, value) in run.values.iter().enumerate() {
                        log.observe(
                            run.partition,
                            run.first.saturating_add(at as u64),
                            *value,
                            log::How::Read,
                            findings,
                        );
                    }
                    see_altered(&run.altered, run.partition, &format!("consumer {}", poll.process), findings);
                }
                self.order.see_poll(poll, findings);
                self.groups.see_poll(poll);
            }
            Line::Subscribe(subscribe) => self.groups.see_subscribe(subscribe),
            Line::Rebalance(rebalance) => {
                self.order.see_rebalance(rebalance);
                self.groups.see_rebalance(rebalance);
            }
            Line::Commit(commit) => self.groups.see_commit(commit),
            Line::Committed(read) => self.groups.see_committed(read),
            Line::Crash(crash) => self.groups.see_crash(crash),
            Line::Watermarks(read) => {
                self.reads.see_watermarks(read, findings);
                self.timeline.see_watermarks(read);
            }
            Line::Query(query) => self.reads.see_query(query, findings),
            Line::Search(search) => self.reads.see_search(search, findings),
            Line::Meta(operation) => self.metadata.see(operation),
            Line::Copy(part) => {
                self.copies.see_part(part, log, findings);
                log.repeats.see_epochs(part);
                see_altered(&part.altered, part.partition, &format!("node {}", part.node), findings);
            }
            Line::CopyEnd(end) => {
                self.copies.see_end(end);
                self.groups.see_end(end);
            }
            Line::Fault(fault) => self.timeline.see_fault(fault),
            Line::Probe(probe) => {
                *self.probes.entry(probe.what.clone()).or_default() += 1;
                if !probe.held {
                    let subjects = vec![Subject::Time(probe.at.0), Subject::Time(probe.at.1)];
                    findings.add(Kind::BrokenPromise, subjects, || format!("{}: {}", probe.what, probe.detail));
                }
            }
            Line::Terms(looked) => self.timeline.see_terms(looked),
            Line::End(end) => {
                if end.lines != self.lines {
                    let what = format!("the last line tells of {} lines, and {} were read", end.lines, self.lines);
                    self.figures.contradictions.push(what);
                }
                self.end = Some(end.clone());
            }
        }
        self.figures.count(line);
        self.lines += 1;
    }

    pub(crate) fn conclude(mut self) -> Report {
        let starts = self.copies.starts(self.header.partitions);
        let findings = &mut self.findings;
        // Consumers go away and come back elsewhere: what nobody read before a run was broken off may yet be there,
        // and the log may go on behind what was read of it.
        let was_read = self.end.as_ref().is_none_or(|end| end.broken_off.is_none());
        self.figures.written_anew = self.log.conclude(&starts, was_read, findings);
        self.order.conclude(&self.log, &starts, findings);
        self.copies.conclude(&self.log, &starts, findings);
        self.reads.conclude_searches(&self.log, findings);
        if was_read {
            self.reads.conclude_queries(&self.log, findings);
        }
        self.metadata.conclude(findings);
        self.groups.conclude(&self.log, &starts, was_read, findings);
        let fired = self.timeline.conclude(&self.header.requires.promises, findings);
        let unproven = coverage::unproven(&self, &fired);
        Report::new(self.findings.into_parts(), unproven, self.figures, fired)
    }
}

fn see_altered(altered: &[(u64, String)], partition: u32, who: &str, findings: &mut Findings) {
    for (offset, how) in altered {
        let subjects = vec![Subject::Place { partition, offset: *offset }];
        findings.add(Kind::Corrupt, subjects, || format!("{who} read at {partition}/{offset} what nobody sent: {how}"));
    }
}
