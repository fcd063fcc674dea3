//! Reads while faults are going on: watermarks, counts, single hits. Each operation says what it has to show at least, so that
//! it is judged alone; what was seen is compared with the log in the end.

use std::collections::HashMap;

use super::findings::{Findings, Kind, Subject};
use super::log::Log;
use super::repeats::Place;
use crate::history::{Excuse, Header, QueryOp, SearchOp, Seen, WatermarkOp};

/// Searches with several hits that are kept until the end; what comes later is judged at once.
const MAX_KEPT: usize = 1 << 12;

#[derive(Debug)]
pub(super) struct Reads {
    starts_move: bool,
    /// The last watermark that each client got of each partition.
    watermarks: HashMap<(u32, u32), u64>,
    /// The highest row that any query saw of each partition, and the query.
    highest: HashMap<u32, (u64, Subject)>,
    /// Searches that found a value more than once.
    several: Vec<SearchOp>,
    pub(super) watermark_reads: u64,
    pub(super) queries: u64,
    pub(super) searches: u64,
}

impl Reads {
    pub(super) fn new(header: &Header) -> Self {
        Self {
            starts_move: header.excuses.contains(&Excuse::LogStartMoves),
            watermarks: HashMap::new(),
            highest: HashMap::new(),
            several: Vec::new(),
            watermark_reads: 0,
            queries: 0,
            searches: 0,
        }
    }

    pub(super) fn see_watermarks(&mut self, read: &WatermarkOp, findings: &mut Findings) {
        let Some(marks) = read.outcome.ok() else { return };
        self.watermark_reads += 1;
        let moment = |partition| Subject::Moment { process: read.process, partition, at: read.at.1 };
        for (partition, mark) in (0..).zip(marks) {
            let before = self.watermarks.insert((read.process, partition), *mark);
            if let Some(before) = before.filter(|before| before > mark) {
                findings.add(Kind::WatermarkBack, vec![moment(partition)], || {
                    let process = read.process;
                    format!(
                        "for client {process} the high watermark of partition {partition} went from {before} to {mark}"
                    )
                });
            }
        }
        for (partition, at_least) in (0..).zip(&read.at_least) {
            let mark = marks.get(partition as usize).copied().unwrap_or_default();
            if mark < *at_least {
                findings.add(Kind::StaleRead, vec![moment(partition), place(partition, *at_least)], || {
                    format!(
                        "the high watermark of partition {partition} was read as {mark}, after offset {} was acknowledged",
                        at_least - 1
                    )
                });
            }
        }
    }

    pub(super) fn see_query(&mut self, query: &QueryOp, findings: &mut Findings) {
        let Some(seen) = query.outcome.ok() else { return };
        self.queries += 1;
        let moment = |partition| Subject::Moment { process: query.process, partition, at: query.at.1 };
        for rows in seen {
            if !self.is_prefix(rows) {
                findings.add(Kind::NotAPrefix, vec![moment(rows.partition)], || {
                    let Seen { partition, rows, first, last, sum } = *rows;
                    format!(
                        "a query saw {rows} rows of partition {partition}, from offset {first} to {last}, whose offsets make {sum}: \
                         that is not each of them once"
                    )
                });
            }
            let highest = self.highest.entry(rows.partition).or_insert((rows.last, moment(rows.partition)));
            if highest.0 < rows.last {
                *highest = (rows.last, moment(rows.partition));
            }
        }
        for (partition, at_least) in (0..).zip(&query.at_least) {
            let to = seen.iter().find(|rows| rows.partition == partition).map_or(0, |rows| rows.last.saturating_add(1));
            if to < *at_least {
                findings.add(Kind::StaleRead, vec![moment(partition), place(partition, *at_least)], || {
                    format!(
                        "a query with its token did not see offset {} of partition {partition}: its rows end before offset {to}",
                        at_least - 1
                    )
                });
            }
        }
    }

    fn is_prefix(&self, seen: &Seen) -> bool {
        let Seen { rows, first, last, sum, .. } = *seen;
        let begins = first == 0 || self.starts_move;
        let count = u128::from(last).checked_sub(u128::from(first)).map(|count| count + 1);
        let series = (u128::from(first) + u128::from(last)) * u128::from(rows) / 2;
        begins && count == Some(u128::from(rows)) && series == u128::from(sum)
    }

    pub(super) fn see_search(&mut self, search: &SearchOp, findings: &mut Findings) {
        let Some(hits) = search.outcome.ok() else { return };
        self.searches += 1;
        if hits[..] == [search.place] {
            return;
        }
        if hits.len() > 1 && hits.contains(&search.place) && self.several.len() < MAX_KEPT {
            self.several.push(search.clone());
            return;
        }
        add_hits(search, hits, findings);
    }

    /// What was found in several places is there, because its producer numbered it anew.
    pub(super) fn conclude_searches(&self, log: &Log, findings: &mut Findings) {
        for search in &self.several {
            let hits = search.outcome.ok().map(Vec::as_slice).unwrap_or_default();
            if !log.are_anew(search.value, hits) {
                add_hits(search, hits, findings);
            }
        }
    }

    /// What a query saw is in the log.
    pub(super) fn conclude_queries(&self, log: &Log, findings: &mut Findings) {
        for (partition, (last, moment)) in &self.highest {
            let end = log.end(*partition);
            if *last >= end {
                findings.add(Kind::SqlDisagrees, vec![moment.clone()], || {
                    format!("a query saw offset {last} of partition {partition}, whose log ends before offset {end}")
                });
            }
        }
    }
}

/// A search did not find the one place of its value.
fn add_hits(search: &SearchOp, hits: &[Place], findings: &mut Findings) {
    let subjects = vec![
        Subject::Value(search.value),
        Subject::Moment { process: search.process, partition: search.place.0, at: search.at.1 },
    ];
    // Nothing found where something was acknowledged is a read of the past; anything else is wrong at any time.
    let kind = if hits.is_empty() { Kind::StaleRead } else { Kind::SearchDisagrees };
    findings.add(kind, subjects, || {
        let (partition, offset) = search.place;
        format!(
            "a search with its token for value {}, acknowledged at {partition}/{offset}, found {hits:?} (partition, offset)",
            search.value
        )
    });
}

fn place(partition: u32, at_least: u64) -> Subject {
    Subject::Place { partition, offset: at_least.saturating_sub(1) }
}
