//! What every node has at the end: its replica of the log, its rows, its hits.
//!
//! A bit for each offset of each copy, and a checksum (8 bytes) for each offset of the log.

use std::collections::{BTreeMap, BTreeSet};

use super::findings::{Findings, Kind, Subject};
use super::log::{How, Log};
use super::paged::{Bits, Paged};
use crate::history::{CopyEnd, CopyPart, Excuse, Header, Outcome, Source};

/// So many rows without a record are kept until the log is whole.
const MAX_EARLY: usize = 1 << 16;
/// Marks a checksum as there.
const KNOWN: u64 = 1 << 32;

#[derive(Debug, Default)]
struct Copy {
    offsets: Bits,
    /// Where it begins and one past its end, once it was read so far.
    whole: Option<(u64, u64)>,
}

/// A row of an offset that nobody had read from the log yet.
#[derive(Debug)]
struct Early {
    source: Source,
    node: u64,
    partition: u32,
    offset: u64,
    value: u64,
}

#[derive(Debug)]
pub(super) struct Copies {
    words: u64,
    starts_move: bool,
    copies: BTreeMap<(Source, u32, u64), Copy>,
    digests: BTreeMap<u32, Paged<u64>>,
    early: Vec<Early>,
    /// Copies that could not be read to their end, and why.
    pub(super) broken_off: Vec<String>,
}

impl Copies {
    pub(super) fn new(header: &Header) -> Self {
        Self {
            words: header.words.max(1),
            starts_move: header.excuses.contains(&Excuse::LogStartMoves),
            copies: BTreeMap::new(),
            digests: BTreeMap::new(),
            early: Vec::new(),
            broken_off: Vec::new(),
        }
    }

    pub(super) fn see_part(&mut self, part: &CopyPart, log: &mut Log, findings: &mut Findings) {
        for (at, value) in part.values.iter().enumerate() {
            let Some(offset) = part.first.checked_add(at as u64) else {
                log.out_of_bounds += 1;
                return;
            };
            let digest = part.digests.get(at).copied();
            self.see_record(part, offset, *value, digest, log, findings);
        }
    }

    fn see_record(
        &mut self,
        part: &CopyPart,
        offset: u64,
        value: u64,
        digest: Option<u32>,
        log: &mut Log,
        findings: &mut Findings,
    ) {
        let CopyPart { source, node, partition, word, .. } = *part;
        let copy = self.copies.entry((source, partition, node)).or_default();
        if !copy.offsets.insert(offset) {
            findings.add(kind_of(source), vec![Subject::Place { partition, offset }], || {
                format!("{} of node {node} has offset {offset} of partition {partition} twice", name_of(source))
            });
        }
        if source == Source::Replica {
            log.observe(partition, offset, value, How::Read, findings);
            self.compare(part, offset, digest, findings);
            return;
        }
        if let Some(word) = word.filter(|word| value % self.words != *word) {
            findings.add(kind_of(source), vec![Subject::Place { partition, offset }], || {
                format!("node {node} finds word{word} in value {value} at {partition}/{offset}, which does not have it")
            });
        }
        match log.at(partition, offset) {
            None if self.early.len() < MAX_EARLY => self.early.push(Early { source, node, partition, offset, value }),
            None => log.out_of_bounds += 1,
            Some(there) => check_row(source, node, (partition, offset), value, there, findings),
        }
    }

    /// L2: the same bytes at the same offset, whoever is asked.
    fn compare(&mut self, part: &CopyPart, offset: u64, digest: Option<u32>, findings: &mut Findings) {
        let (node, partition) = (part.node, part.partition);
        let known = self.digests.entry(partition).or_default().get_mut(offset);
        let (Some(digest), Some(known)) = (digest, known) else { return };
        let digest = u64::from(digest) | KNOWN;
        if *known == 0 {
            *known = digest;
        } else if *known != digest {
            findings.add(Kind::ReplicaDiffers, vec![Subject::Place { partition, offset }], || {
                format!("the record at {partition}/{offset} has other bytes on node {node} than on a node that was read before")
            });
        }
    }

    pub(super) fn see_end(&mut self, end: &CopyEnd) {
        let copy = self.copies.entry((end.source, end.partition, end.node)).or_default();
        match &end.outcome {
            Outcome::Ok(next) => copy.whole = Some((end.from, *next)),
            Outcome::Fail(why) | Outcome::Info(why) => {
                let (source, partition, node) = (name_of(end.source), end.partition, end.node);
                self.broken_off
                    .push(format!("{source} of node {node} was not read to the end of partition {partition}: {why}"));
            }
        }
    }

    /// Where each partition's log begins: offsets below need not be there, where log starts may move.
    pub(super) fn starts(&self, partitions: u32) -> Vec<u64> {
        let mut starts = vec![0; partitions as usize];
        for ((source, partition, _), copy) in &self.copies {
            let (Some(start), Some((from, _))) = (starts.get_mut(*partition as usize), copy.whole) else { continue };
            if self.starts_move && *source == Source::Replica {
                *start = from.max(*start);
            }
        }
        starts
    }

    /// Compares whole copies with the log, of which everything is known now.
    pub(super) fn conclude(&self, log: &Log, starts: &[u64], findings: &mut Findings) {
        for early in &self.early {
            let Early { source, node, partition, offset, value } = *early;
            match log.at(partition, offset) {
                Some(there) => check_row(source, node, (partition, offset), value, there, findings),
                None => findings.add(kind_of(source), vec![Subject::Place { partition, offset }], || {
                    format!(
                        "{} of node {node} has value {value} at {partition}/{offset}, where the log has nothing",
                        name_of(source)
                    )
                }),
            }
        }
        for ((source, partition, node), copy) in &self.copies {
            let Some((from, next)) = copy.whole else { continue };
            if from > 0 && !self.starts_move {
                findings.add(Kind::LogStartMoved, vec![Subject::Place { partition: *partition, offset: 0 }], || {
                    format!("{} of node {node} begins partition {partition} at offset {from}", name_of(*source))
                });
            }
            let start = starts.get(*partition as usize).copied().unwrap_or_default();
            let Some((offset, value, others)) = copy.first_missing(log, *partition, start) else { continue };
            let subjects = vec![Subject::Value(value), Subject::Place { partition: *partition, offset }];
            findings.add(kind_of(*source), subjects, || {
                format!(
                    "{} of node {node} lacks value {value} at offset {offset} of partition {partition}, and {others} more; it was \
                     read to offset {next}",
                    name_of(*source)
                )
            });
        }
    }

    /// Nodes from which a partition was read to its end.
    pub(super) fn whole_from(&self, source: Source, partition: u32) -> BTreeSet<u64> {
        let of_partition = self.copies.range((source, partition, 0)..=(source, partition, u64::MAX));
        of_partition.filter(|(_, copy)| copy.whole.is_some()).map(|((_, _, node), _)| *node).collect()
    }
}

impl Copy {
    /// The first record of the log that it lacks, from `start` on: offset, value, and how many more there are.
    fn first_missing(&self, log: &Log, partition: u32, start: u64) -> Option<(u64, u64, usize)> {
        let there = (start..log.end(partition)).filter_map(|offset| Some((offset, log.at(partition, offset)?)));
        let mut missing = there.filter(|(offset, _)| !self.offsets.contains(*offset));
        let (offset, value) = missing.next()?;
        Some((offset, value, missing.count()))
    }
}

fn check_row(source: Source, node: u64, place: (u32, u64), value: u64, there: u64, findings: &mut Findings) {
    let (partition, offset) = place;
    if value == there {
        return;
    }
    findings.add(kind_of(source), vec![Subject::Place { partition, offset }, Subject::Value(value)], || {
        format!(
            "{} of node {node} has value {value} at {partition}/{offset}, where the log has {there}",
            name_of(source)
        )
    });
}

fn kind_of(source: Source) -> Kind {
    match source {
        Source::Replica => Kind::ReplicaDiffers,
        Source::Sql => Kind::SqlDisagrees,
        Source::Search => Kind::SearchDisagrees,
    }
}

fn name_of(source: Source) -> &'static str {
    match source {
        Source::Replica => "the replica",
        Source::Sql => "SQL",
        Source::Search => "search",
    }
}
