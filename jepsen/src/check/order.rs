//! What one consumer got, poll after poll: each offset once, ascending, none left out.

use std::collections::HashMap;

use super::findings::{Findings, Kind, Subject};
use super::log::Log;
use crate::history::{AssignOp, PollOp, Position, RebalanceOp, Run};

/// So many passed-over ranges are looked at in the end; a history with more of them is wrong beyond counting.
const MAX_JUMPS: usize = 1 << 16;

/// A consumer that goes on above the offset that comes next.
#[derive(Debug)]
struct Jump {
    process: u32,
    partition: u32,
    /// The first offset that it passed over, and the one that it got.
    from: u64,
    to: u64,
    at: u64,
}

/// Where each consumer stands: 8 bytes for each partition that it reads.
#[derive(Debug, Default)]
pub(super) struct Order {
    /// The next offset; `None`: it began at the end, wherever that was.
    next: HashMap<(u32, u32), Option<u64>>,
    jumps: Vec<Jump>,
    pub(super) polls: u64,
}

impl Order {
    pub(super) fn see_assign(&mut self, assign: &AssignOp) {
        if assign.outcome.ok().is_none() {
            return;
        }
        self.next.retain(|(process, _), _| *process != assign.process);
        let next = match assign.from {
            Position::Earliest => Some(0),
            Position::Offset(offset) => Some(offset),
            Position::Latest => None,
        };
        self.next.extend(assign.partitions.iter().map(|partition| ((assign.process, *partition), next)));
    }

    /// Where a member of a group begins, and what it reads again, is the group's business.
    pub(super) fn see_rebalance(&mut self, rebalance: &RebalanceOp) {
        let RebalanceOp { process, gained, lost, .. } = rebalance;
        self.next.retain(|(of, partition), _| of != process || !lost.contains(partition));
        self.next.extend(gained.iter().map(|partition| ((*process, *partition), None)));
    }

    pub(super) fn see_poll(&mut self, poll: &PollOp, findings: &mut Findings) {
        let Some(runs) = poll.outcome.ok() else { return };
        self.polls += 1;
        runs.iter().for_each(|run| self.see_run(poll, run, findings));
    }

    fn see_run(&mut self, poll: &PollOp, run: &Run, findings: &mut Findings) {
        let (process, partition, first) = (poll.process, run.partition, run.first);
        let next = self.next.entry((process, partition)).or_default();
        match *next {
            Some(next) if first < next => {
                let subjects = vec![
                    Subject::Moment { process, partition, at: poll.at.1 },
                    Subject::Place { partition, offset: first },
                ];
                findings.add(Kind::NonmonotonicPoll, subjects, || {
                    format!("consumer {process} got offset {first} of partition {partition} after offset {}", next - 1)
                });
            }
            Some(next) if first > next && self.jumps.len() < MAX_JUMPS => {
                self.jumps.push(Jump { process, partition, from: next, to: first, at: poll.at.1 });
            }
            _ => {}
        }
        *next = Some(first.saturating_add(run.values.len() as u64));
    }

    /// A jump over an offset that holds something is a skip. One over nothing is the log's gap, not the consumer's.
    pub(super) fn conclude(&self, log: &Log, starts: &[u64], findings: &mut Findings) {
        for jump in &self.jumps {
            let start = starts.get(jump.partition as usize).copied().unwrap_or_default();
            let to = jump.to.min(log.end(jump.partition));
            let there = (jump.from.max(start)..to).find_map(|at| Some((at, log.at(jump.partition, at)?)));
            let Some((offset, value)) = there else { continue };
            let Jump { process, partition, from, to, at } = *jump;
            let subjects = vec![Subject::Moment { process, partition, at }, Subject::Value(value)];
            findings.add(Kind::PollSkip, subjects, || {
                format!(
                    "consumer {process} was to get offset {from} of partition {partition} and got offset {to}; it passed \
                     over value {value} at offset {offset}"
                )
            });
        }
    }
}
