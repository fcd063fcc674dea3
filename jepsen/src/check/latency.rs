//! How long sends took: before anything was broken, while it was, and afterwards. Only those of clients that know all nodes count;
//! one that was not acknowledged took as long as it was tried.
//!
//! Eight bytes a send.

use super::findings::{Findings, Kind, Subject};
use super::report::Measured;
use crate::history::{Fault, Micros, Promise, SendOp};

const MILLI: Micros = 1_000;
/// Of a new cluster, whose clients are only beginning.
const WARM_UP_MS: u64 = 3_000;
/// What comes after a fault is judged by so much of it, unless the next fault comes sooner.
const JUDGED_MS: u64 = 30_000;
/// Fewer sends have no 99th percentile.
const ENOUGH: usize = 100;

#[derive(Debug, Default)]
pub(super) struct Latencies {
    /// Milliseconds at which a send began, and that it took.
    sends: Vec<(u32, u32)>,
}

/// Sends in the order in which they began, and what they are compared with.
struct Sorted<'a> {
    sends: Vec<(u32, u32)>,
    /// The 99th percentile before anything was broken.
    before: Option<u32>,
    faults: &'a [Fault],
}

impl Latencies {
    pub(super) fn see(&mut self, send: &SendOp) {
        let millis = |micros: Micros| u32::try_from(micros.div_ceil(MILLI)).unwrap_or(u32::MAX);
        self.sends.push((millis(send.at.0), millis(send.at.1.saturating_sub(send.at.0))));
    }

    /// Judges what is promised, and says for each fault how long sends took, and why it cannot be judged.
    pub(super) fn conclude(&self, faults: &[Fault], promises: &[Promise], findings: &mut Findings) -> Measured {
        let mut measured = Measured::default();
        let Some(sorted) = Sorted::new(self.sends.clone(), faults) else { return measured };
        for promise in promises {
            let (kind, times) = match promise {
                Promise::Slowed { fault, times } | Promise::Recovered { fault, times, .. } => (fault, *times),
                _ => continue,
            };
            for fault in faults.iter().filter(|fault| fault.kind == *kind) {
                let (from, to, when) = sorted.judged(promise, fault);
                match sorted.before.zip(sorted.p99(from, to)) {
                    Some((before, took)) => judge(fault, &when, (before, took), times, findings),
                    None => {
                        let what = format!("too few sends tell how long they take {when} {kind}, or before anything");
                        measured.unproven.push(what);
                    }
                }
            }
        }
        measured.told = faults.iter().map(|fault| sorted.told(fault)).collect();
        measured
    }
}

fn judge(fault: &Fault, when: &str, (before, took): (u32, u32), times: u64, findings: &mut Findings) {
    if u64::from(took) > times * u64::from(before) {
        findings.add(Kind::Slow, vec![Subject::Time(fault.at.0)], || {
            format!(
                "{when} {}, 99 % of sends took up to {took} ms, and {before} ms before anything was broken; {times} times \
                 that is allowed",
                fault.kind
            )
        });
    }
}

impl<'a> Sorted<'a> {
    /// `None` if nothing was broken.
    fn new(mut sends: Vec<(u32, u32)>, faults: &'a [Fault]) -> Option<Self> {
        let first = faults.iter().map(|fault| fault.at.0 / MILLI).min()?;
        sends.sort_unstable();
        let begin = sends.first().map_or(0, |(at, _)| u64::from(*at)) + WARM_UP_MS;
        let mut sorted = Self { sends, before: None, faults };
        sorted.before = sorted.p99(begin, first);
        Some(sorted)
    }

    /// The 99th percentile of what began in these milliseconds, by nearest rank; `None` if that is too little.
    fn p99(&self, from: u64, to: u64) -> Option<u32> {
        let place = |ms: u64| self.sends.partition_point(|(at, _)| u64::from(*at) < ms);
        let begun = self.sends.get(place(from)..place(to)).filter(|begun| begun.len() >= ENOUGH)?;
        let mut took: Vec<u32> = begun.iter().map(|(_, took)| *took).collect();
        let rank = (took.len() * 99).div_ceil(100) - 1;
        Some(*took.select_nth_unstable(rank).1)
    }

    /// Milliseconds of which a promise tells, and how they are called.
    fn judged(&self, promise: &Promise, fault: &Fault) -> (u64, u64, String) {
        if let Promise::Recovered { within_ms, .. } = promise {
            let (from, to) = self.behind(fault, *within_ms);
            return (from, to, format!("{} s after the end of", within_ms / 1_000));
        }
        (fault.at.0 / MILLI, fault.at.1 / MILLI, "during".to_owned())
    }

    /// What is judged behind a fault, beginning so long after its end.
    fn behind(&self, fault: &Fault, later_ms: u64) -> (u64, u64) {
        let from = fault.at.1 / MILLI + later_ms;
        let next = self.faults.iter().map(|other| other.at.0 / MILLI).filter(|begin| *begin >= from).min();
        (from, next.unwrap_or(u64::MAX).min(from + JUDGED_MS))
    }

    fn told(&self, fault: &Fault) -> String {
        let ms = |took: Option<u32>| took.map_or_else(|| "? ms".to_owned(), |took| format!("{took} ms"));
        let (from, to) = self.behind(fault, 0);
        let (kind, at, seconds) = (&fault.kind, fault.at.0 as f64 / 1e6, (to - from) / 1_000);
        let during = ms(self.p99(fault.at.0 / MILLI, fault.at.1 / MILLI));
        let (before, after) = (ms(self.before), ms(self.p99(from, to)));
        format!(
            "{kind} at {at:.3} s: 99 % of sends took {before} before anything was broken, {during} during it, {after} in the \
             {seconds} s after it"
        )
    }
}
