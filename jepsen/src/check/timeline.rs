//! When records were sent and acknowledged, and what faults did to that: whether they hit a cluster at work, how long nobody
//! was acknowledged, and whether a node without a majority acknowledged something.
//!
//! A bit for each millisecond of each partition: two hours of sixteen partitions are 15 MB.

use std::collections::BTreeMap;

use super::elections::Elections;
use super::findings::{Findings, Kind, Subject};
use super::latency::Latencies;
use super::paged::{Bits, MAX_INDEX};
use super::report::{Gaps, Measured};
use crate::history::{Fault, Header, Micros, Promise, SendOp, Terms, WatermarkOp, When};

const MILLI: Micros = 1_000;
/// A fault counts as having hit a cluster at work if a record was acknowledged while it lasted, or so long before.
const AT_WORK_WITHIN: Micros = 5_000 * MILLI;
/// So long after a fault ended, that nobody is acknowledged is not its doing any more.
const GAP_AFTER: Micros = 10_000 * MILLI;

/// A send by a client that talks to one node only.
#[derive(Debug)]
struct Pinned {
    node: u64,
    at: When,
    value: u64,
    acked: bool,
}

#[derive(Debug)]
pub(super) struct Timeline {
    pinned_to: BTreeMap<u32, u64>,
    /// Milliseconds in which a record was sent at all.
    sends: Bits,
    /// Milliseconds in which a record of a partition was acknowledged.
    acks: BTreeMap<u32, Bits>,
    pinned: Vec<Pinned>,
    /// Reads of all high watermarks by clients of one node, which was there to answer.
    reads: Vec<(u64, When)>,
    faults: Vec<Fault>,
    elections: Elections,
    latencies: Latencies,
}

/// What faults did, for coverage.
#[derive(Debug, Default)]
pub(super) struct Fired {
    /// Kind → how many hit a cluster at work, and how many in all.
    pub(super) by_kind: BTreeMap<String, (u64, u64)>,
    pub(super) sends_while_cut_off: u64,
    /// Kind → how long nobody was acknowledged in a partition that it concerns.
    pub(super) gaps: BTreeMap<String, Gaps>,
    pub(super) measured: Measured,
}

impl Timeline {
    pub(super) fn new(header: &Header) -> Self {
        let pinned = header.processes.iter().filter_map(|process| Some((process.process, process.node?)));
        Self {
            pinned_to: pinned.collect(),
            sends: Bits::default(),
            acks: BTreeMap::new(),
            pinned: Vec::new(),
            reads: Vec::new(),
            faults: Vec::new(),
            elections: Elections::default(),
            latencies: Latencies::default(),
        }
    }

    pub(super) fn see_send(&mut self, send: &SendOp) {
        self.sends.insert(send.at.0 / MILLI);
        let acked = send.outcome.ok().is_some();
        match self.pinned_to.get(&send.process) {
            Some(node) => self.pinned.push(Pinned { node: *node, at: send.at, value: send.value, acked }),
            // Those that ask one node only are cut off with it: they say nothing of how the cluster does.
            None => {
                self.latencies.see(send);
                if acked {
                    self.acks.entry(send.partition).or_default().insert(send.at.1 / MILLI);
                }
            }
        }
    }

    pub(super) fn see_terms(&mut self, looked: &Terms) {
        self.elections.see(looked);
    }

    pub(super) fn see_watermarks(&mut self, read: &WatermarkOp) {
        if let Some(node) = self.pinned_to.get(&read.process).filter(|_| read.outcome.ok().is_some()) {
            self.reads.push((*node, read.at));
        }
    }

    pub(super) fn see_fault(&mut self, fault: &Fault) {
        self.faults.push(fault.clone());
    }

    pub(super) fn conclude(&self, promises: &[Promise], findings: &mut Findings) -> Fired {
        let mut fired = Fired::default();
        for fault in &self.faults {
            let (at_work, all) = fired.by_kind.entry(fault.kind.clone()).or_default();
            *at_work += u64::from(self.hit_a_cluster_at_work(fault));
            *all += 1;
        }
        fired.gaps = fired.by_kind.keys().filter_map(|kind| Some((kind.clone(), self.gaps(kind)?))).collect();
        fired.sends_while_cut_off = self.check_cut_off(findings);
        promises.iter().for_each(|promise| self.check_promise(promise, findings));
        fired.measured = self.elections.conclude(&self.faults, promises, findings);
        let latencies = self.latencies.conclude(&self.faults, promises, findings);
        fired.measured.told.extend(latencies.told);
        fired.measured.unproven.extend(latencies.unproven);
        fired
    }

    fn gaps(&self, kind: &str) -> Option<Gaps> {
        let gap = Promise::Gap { fault: kind.to_owned(), within_ms: 0 };
        let of_kind = self.faults.iter().filter(|fault| fault.kind == kind);
        let mut times: Vec<u64> = of_kind.filter_map(|fault| Some(self.time(&gap, fault)?.0)).collect();
        times.sort_unstable();
        let rank = |percent: usize| times.get((times.len() * percent).div_ceil(100).saturating_sub(1)).copied();
        Some(Gaps { p50_ms: rank(50)?, p99_ms: rank(99)?, max_ms: rank(100)? })
    }

    /// Until when what nobody is acknowledged for is this fault's doing: then comes the next one.
    fn until(&self, fault: &Fault) -> Micros {
        let begins = self.faults.iter().map(|other| other.at.0).filter(|begin| *begin > fault.at.0);
        begins.min().unwrap_or(Micros::MAX).min(fault.at.1.saturating_add(GAP_AFTER))
    }

    fn hit_a_cluster_at_work(&self, fault: &Fault) -> bool {
        let from = fault.at.0.saturating_sub(AT_WORK_WITHIN) / MILLI;
        let next = self.acks.values().filter_map(|acks| acks.next_from(from)).min();
        next.is_some_and(|acked| acked <= fault.at.1 / MILLI)
    }

    /// Sends that were tried at nodes that nobody reached and that reached nobody; none may be acknowledged.
    fn check_cut_off(&self, findings: &mut Findings) -> u64 {
        let mut tried = 0;
        for (fault, node) in self.faults.iter().flat_map(|fault| fault.alone.iter().map(move |node| (fault, *node))) {
            let during = |send: &&Pinned| send.node == node && send.at.0 >= fault.at.0 && send.at.0 < fault.at.1;
            for send in self.pinned.iter().filter(during) {
                tried += 1;
                if send.acked && send.at.1 <= fault.at.1 {
                    findings.add(Kind::MinorityAck, vec![Subject::Value(send.value)], || {
                        format!(
                            "node {node} acknowledged value {}, which it was sent while it was cut off from all others",
                            send.value
                        )
                    });
                }
            }
        }
        tried
    }

    fn check_promise(&self, promise: &Promise, findings: &mut Findings) {
        let Some((kind, within_ms)) = promise.bound() else { return };
        let of_kind = self.faults.iter().filter(|fault| fault.kind == kind);
        let mut times: Vec<(u64, &Fault, String)> = of_kind.filter_map(|fault| self.time(promise, fault)).collect();
        times.sort_by_key(|(time, ..)| *time);
        let judged = match promise {
            // The nearest-rank 99th percentile: of fewer than a hundred, the longest.
            Promise::Gap { .. } => times.get((times.len() * 99).div_ceil(100).saturating_sub(1)..).unwrap_or_default(),
            _ => &times[..],
        };
        for (time, fault, what) in judged.iter().filter(|(time, ..)| *time > within_ms) {
            findings.add(Kind::Late, vec![Subject::Time(fault.at.0)], || {
                let (begun, nodes) = (fault.at.0 as f64 / 1e6, &fault.nodes);
                format!(
                    "{kind} of {nodes:?} at {begun:.3} s ({}): {what} {time} ms; {within_ms} ms are allowed",
                    fault.detail
                )
            });
        }
    }

    /// How long a fault was felt, in milliseconds, and by what.
    fn time<'a>(&self, promise: &Promise, fault: &'a Fault) -> Option<(u64, &'a Fault, String)> {
        let last_send = self.sends.last_to(MAX_INDEX)?;
        let (begun, ended) = (fault.at.0 / MILLI, fault.at.1 / MILLI);
        let none = Bits::default();
        let acks = |partition: &u32| self.acks.get(partition).unwrap_or(&none);
        let longest = |time: &dyn Fn(&u32) -> Option<u64>| {
            fault.partitions.iter().filter_map(|partition| Some((time(partition)?, *partition))).max()
        };
        match promise {
            Promise::Gap { .. } => {
                let (time, partition) =
                    longest(&|partition| gap(acks(partition), begun, self.until(fault) / MILLI, last_send))?;
                Some((time, fault, format!("in partition {partition} no record was acknowledged for")))
            }
            Promise::Back { .. } => {
                // Who is never acknowledged again waits for as long as somebody sends.
                let back = |partition: &u32| acks(partition).next_from(ended).or(Some(last_send))?.checked_sub(ended);
                let (time, partition) = longest(&back)?;
                let what = format!("in partition {partition} the first record was acknowledged after its end by");
                Some((time, fault, what))
            }
            Promise::Replaced { within_ms, .. } => {
                let by_others =
                    self.reads.iter().filter(|(node, at)| !fault.nodes.contains(node) && at.0 >= fault.at.0);
                let first = by_others.map(|(_, at)| at.1 / MILLI).min().unwrap_or(last_send);
                let what = "clients of other nodes could read all high watermarks after".to_owned();
                (ended.saturating_sub(begun) > *within_ms).then(|| (first.saturating_sub(begun), fault, what))
            }
            Promise::Elections { .. } | Promise::Slowed { .. } | Promise::Recovered { .. } => None,
        }
    }
}

impl Promise {
    /// Its fault, and its milliseconds; `None`: it is about something else than times without an acknowledgement.
    fn bound(&self) -> Option<(&str, u64)> {
        match self {
            Self::Gap { fault, within_ms } | Self::Back { fault, within_ms } | Self::Replaced { fault, within_ms } => {
                Some((fault, *within_ms))
            }
            Self::Elections { .. } | Self::Slowed { .. } | Self::Recovered { .. } => None,
        }
    }
}

/// The longest time without an acknowledgement that begins before `until` and ends after `begun`, in milliseconds.
fn gap(acks: &Bits, begun: u64, until: u64, last_send: u64) -> Option<u64> {
    let mut last = acks.last_to(begun).unwrap_or(begun);
    let mut longest = None;
    while last < until {
        let next = acks.next_from(last + 1).unwrap_or(last_send);
        if next <= last {
            break;
        }
        longest = longest.max(Some(next - last));
        last = next;
    }
    longest
}
