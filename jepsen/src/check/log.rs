//! The log as everybody saw it together: which value is at which offset, and where each value is.
//!
//! Two tables with a place for each offset and each value, 8 and 24 bytes, filled while operations go by. What can be said
//! at once is said at once; what depends on operations that complete later is looked at in the end, in one pass over values.

use std::collections::{BTreeSet, HashMap};

use super::findings::{Findings, Kind, Subject};
use super::paged::{Bits, Paged};
use super::repeats::{Place, Repeats};
use crate::history::{Header, Outcome, SendOp};

/// The most partitions that a history may have.
pub(super) const MAX_PARTITIONS: u32 = 10_000;

/// What is known of a value.
#[derive(Clone, Copy, Debug, Default)]
struct Value {
    /// One more than the first offset that it was seen at; 0: none.
    place: u64,
    partition: u32,
    process: u32,
    sent: Sent,
    /// Whether somebody read it.
    read: bool,
    /// Whether it was acknowledged at `place`.
    acked_there: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Sent {
    #[default]
    Never,
    Acked,
    /// Acknowledged, without an offset.
    Placeless,
    Failed,
    Unknown,
}

/// How an offset came to be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    Acked,
    Read,
}

#[derive(Debug, Default)]
struct Partition {
    /// One more than the value at each offset; 0: none is known.
    values: Paged<u64>,
    /// One past the highest offset that somebody read, and that anybody knows of.
    read_to: u64,
    known_to: u64,
    /// Offsets that were read.
    read: Bits,
}

#[derive(Debug)]
pub(super) struct Log {
    values: Paged<Value>,
    partitions: Vec<Partition>,
    pub(super) repeats: Repeats,
    /// Numbers that are too high to be of this harness.
    pub(super) out_of_bounds: u64,
    pub(super) acked: u64,
}

impl Log {
    pub(super) fn new(header: &Header) -> Self {
        let partitions = (0..header.partitions.min(MAX_PARTITIONS)).map(|_| Partition::default()).collect();
        Self { values: Paged::default(), partitions, repeats: Repeats::new(header), out_of_bounds: 0, acked: 0 }
    }

    /// One past the highest offset of a partition that anybody knows of.
    pub(super) fn end(&self, partition: u32) -> u64 {
        self.partitions.get(partition as usize).map_or(0, |found| found.known_to)
    }

    /// The value at an offset, if anybody knows it.
    pub(super) fn at(&self, partition: u32, offset: u64) -> Option<u64> {
        self.partitions.get(partition as usize)?.values.get(offset).checked_sub(1)
    }

    pub(super) fn see_send(&mut self, send: &SendOp, findings: &mut Findings) {
        let (sent, offset) = match &send.outcome {
            Outcome::Ok(offset) => (Sent::Acked, Some(*offset)),
            Outcome::Fail(_) => (Sent::Failed, None),
            Outcome::Info(_) if send.placeless => (Sent::Placeless, None),
            Outcome::Info(_) => (Sent::Unknown, None),
        };
        self.acked += u64::from(offset.is_some());
        let Some(value) = self.values.get_mut(send.value) else {
            self.out_of_bounds += 1;
            return;
        };
        let before = *value;
        (value.sent, value.process) = (sent, send.process);
        if before.sent != Sent::Never {
            findings.add(Kind::Phantom, vec![Subject::Value(send.value)], || {
                format!("value {} was sent twice: the history contradicts itself", send.value)
            });
        }
        if before.place == 0 {
            value.partition = send.partition;
        } else if before.partition != send.partition {
            findings.add(Kind::Phantom, vec![Subject::Value(send.value)], || {
                let (to, there) = (send.partition, before.partition);
                format!("value {} was sent to partition {to}, and read in partition {there}", send.value)
            });
        }
        if let Some(offset) = offset {
            self.observe(send.partition, offset, send.value, How::Acked, findings);
        }
    }

    /// Somebody was told, or read, that `value` is at this offset.
    pub(super) fn observe(&mut self, partition: u32, offset: u64, value: u64, how: How, findings: &mut Findings) {
        let Some(found) = self.partitions.get_mut(partition as usize) else {
            self.out_of_bounds += 1;
            return;
        };
        let (Some(slot), Some(of_value)) = (found.values.get_mut(offset), self.values.get_mut(value)) else {
            self.out_of_bounds += 1;
            return;
        };
        match slot.checked_sub(1) {
            None => *slot = value + 1,
            Some(there) if there == value => {}
            Some(there) => {
                let subjects = vec![Subject::Place { partition, offset }, Subject::Value(there), Subject::Value(value)];
                findings.add(Kind::InconsistentOffset, subjects, || {
                    format!(
                        "offset {offset} of partition {partition} holds value {there} for one, and {value} for another"
                    )
                });
            }
        }
        found.known_to = found.known_to.max(offset + 1);
        if how == How::Read {
            found.read_to = found.read_to.max(offset + 1);
            found.read.insert(offset);
            of_value.read = true;
        }
        match of_value.place.checked_sub(1) {
            None => {
                (of_value.place, of_value.partition) = (offset + 1, partition);
                of_value.acked_there = how == How::Acked;
            }
            Some(there) if (there, of_value.partition) == (offset, partition) => {
                of_value.acked_there |= how == How::Acked;
            }
            Some(there) => {
                let (place, before) = ((partition, offset), (of_value.partition, there));
                if how == How::Acked {
                    self.repeats.note_ack(value, place);
                }
                let kind = if of_value.sent == Sent::Acked && !found.read.contains(there) {
                    Kind::OffsetMismatch
                } else {
                    Kind::Duplicate
                };
                if !self.repeats.keep(value, place, before, kind) {
                    add_repeat(value, place, before, kind, findings);
                }
            }
        }
    }

    /// Everything that had to wait for the last operation. `starts` are the offsets below which nothing has to be there;
    /// `was_read`: everybody had the time to read everything. How many records are there again because their producer numbered them
    /// anew.
    pub(super) fn conclude(&mut self, starts: &[u64], was_read: bool, findings: &mut Findings) -> u64 {
        let anew = self.judge_repeats(findings);
        let mut sent_last: HashMap<(u32, u32), (u64, u64)> = HashMap::new();
        for (number, value) in self.values.iter() {
            match value.sent {
                Sent::Never if value.read => findings.add(Kind::Phantom, vec![Subject::Value(number)], || {
                    let (partition, offset) = (value.partition, value.place - 1);
                    format!("value {number}, at offset {offset} of partition {partition}, was sent by nobody")
                }),
                Sent::Failed if value.read => findings.add(Kind::AbortedRead, vec![Subject::Value(number)], || {
                    let (partition, offset) = (value.partition, value.place - 1);
                    format!("value {number}, whose send failed, is at offset {offset} of partition {partition}")
                }),
                Sent::Acked | Sent::Placeless => {
                    if was_read {
                        self.check_read(number, value, starts, findings);
                    }
                    check_order(number, value, &mut sent_last, findings);
                }
                _ => {}
            }
        }
        for (number, partition) in self.partitions.iter().enumerate().filter(|_| was_read) {
            let start = starts.get(number).copied().unwrap_or_default();
            partition.check_dense(number as u32, start, findings);
        }
        anew
    }

    fn judge_repeats(&mut self, findings: &mut Findings) -> u64 {
        for (value, ..) in self.repeats.iter().collect::<Vec<_>>() {
            let known = self.values.get(value);
            if known.acked_there {
                self.repeats.note_ack(value, (known.partition, known.place - 1));
            }
        }
        let mut anew = 0;
        for (value, place, before, kind) in self.repeats.iter() {
            if !self.is_written_anew(value) {
                add_repeat(value, place, before, kind, findings);
                continue;
            }
            anew += 1;
            // In the order in which it was sent it stands where it is first.
            if let Some(known) = self.values.get_mut(value) {
                known.place = known.place.min(place.1 + 1);
            }
        }
        anew
    }

    /// Whether a value was read wherever it is, and its producer wrote each of them in another epoch. The order of what one epoch wrote
    /// anew is not looked at.
    fn is_written_anew(&self, value: u64) -> bool {
        let is_read = |(partition, offset): &Place| {
            let found = self.partitions.get(*partition as usize);
            found.is_some_and(|found| found.read.contains(*offset) && found.values.get(*offset) == value + 1)
        };
        let (places, sent) = (self.repeats.places(value), self.values.get(value));
        places.iter().all(|place| place.0 == sent.partition && is_read(place))
            && self.repeats.are_anew(sent.process, value, &places)
    }

    /// Whether all of these are places of a value that is there again because its producer numbered it anew.
    pub(super) fn are_anew(&self, value: u64, hits: &[Place]) -> bool {
        let (places, several) = (self.repeats.places(value), hits.iter().copied().collect::<BTreeSet<_>>());
        several.len() == hits.len() && several.is_subset(&places) && self.is_written_anew(value)
    }

    fn check_read(&self, number: u64, value: Value, starts: &[u64], findings: &mut Findings) {
        let partition = value.partition;
        let Some(offset) = value.place.checked_sub(1).filter(|_| !value.read) else {
            // What was deleted meanwhile may have been anywhere.
            let nothing_goes = starts.get(partition as usize).is_none_or(|start| *start == 0);
            if value.sent == Sent::Placeless && value.place == 0 && nothing_goes {
                findings.add(Kind::LostWrite, vec![Subject::Value(number)], || {
                    format!("value {number} was acknowledged without its offset in partition {partition}; nobody ever read it")
                });
            }
            return;
        };
        if starts.get(partition as usize).is_some_and(|start| offset < *start) {
            return;
        }
        let read_to = self.partitions.get(partition as usize).map_or(0, |found| found.read_to);
        let subjects = vec![Subject::Value(number), Subject::Place { partition, offset }];
        if offset < read_to {
            findings.add(Kind::LostWrite, subjects, || {
                format!(
                    "value {number} was acknowledged at offset {offset} of partition {partition}, which was read up to \
                     offset {}; nobody ever read it",
                    read_to - 1
                )
            });
        } else {
            findings.add(Kind::Unseen, subjects, || {
                format!("value {number} was acknowledged at offset {offset} of partition {partition}, and never read")
            });
        }
    }
}

fn add_repeat(value: u64, place: Place, before: Place, kind: Kind, findings: &mut Findings) {
    let ((partition, offset), (elsewhere, there)) = (place, before);
    findings.add(kind, vec![Subject::Value(value), Subject::Place { partition, offset }], || {
        format!("value {value} is at {elsewhere}/{there} for one, and at {partition}/{offset} for another")
    });
}

/// Values ascend in the order in which a process sent them: so do the offsets of its acknowledgements.
fn check_order(number: u64, value: Value, sent_last: &mut HashMap<(u32, u32), (u64, u64)>, findings: &mut Findings) {
    let Some(offset) = value.place.checked_sub(1) else { return };
    let before = sent_last.insert((value.process, value.partition), (number, offset));
    let Some((earlier, its_offset)) = before.filter(|(_, its_offset)| *its_offset >= offset) else { return };
    findings.add(Kind::NonmonotonicSend, vec![Subject::Value(earlier), Subject::Value(number)], || {
        let (process, partition) = (value.process, value.partition);
        format!(
            "process {process} sent value {earlier} before value {number}, and in partition {partition} they are at offsets \
             {its_offset} and {offset}"
        )
    });
}

impl Partition {
    fn check_dense(&self, number: u32, start: u64, findings: &mut Findings) {
        let mut missing = (start..self.known_to).filter(|offset| self.values.get(*offset) == 0).peekable();
        while let Some(first) = missing.next() {
            let mut last = first;
            while missing.next_if_eq(&(last + 1)).is_some() {
                last += 1;
            }
            findings.add(Kind::Gap, vec![Subject::Place { partition: number, offset: first }], || {
                let highest = self.known_to - 1;
                format!("nobody saw offsets {first} to {last} of partition {number}, which goes to {highest}")
            });
        }
    }
}
