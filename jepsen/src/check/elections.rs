//! How often leaders were elected while a fault lasted.
//!
//! Every election begins a term, and terms only grow: what they have grown by is what was elected, or tried, however seldom somebody
//! looked. A leader that hands over in order begins one, too.

use std::collections::BTreeMap;

use super::findings::{Findings, Kind, Subject};
use super::report::Measured;
use crate::history::{Fault, Micros, Promise, Terms};

const MINUTE: Micros = 60_000_000;

/// Shard → its term.
type Looked = BTreeMap<u32, u64>;

#[derive(Debug, Default)]
pub(super) struct Elections {
    looks: Vec<Terms>,
}

impl Elections {
    pub(super) fn see(&mut self, looked: &Terms) {
        self.looks.push(looked.clone());
    }

    /// Judges what is promised, and says for each fault that was looked at how many there were, and why it cannot be judged.
    pub(super) fn conclude(&self, faults: &[Fault], promises: &[Promise], findings: &mut Findings) -> Measured {
        let mut measured = Measured::default();
        for promise in promises {
            let Promise::Elections { fault: kind, a_minute } = promise else { continue };
            for fault in faults.iter().filter(|fault| fault.kind == *kind) {
                match self.during(fault) {
                    Some(elected) => judge(fault, &elected, *a_minute, findings),
                    None => measured.unproven.push(format!("nobody looked at the terms before and behind {kind}")),
                }
            }
        }
        let told = |fault: &Fault| {
            let (elected, began) = (self.during(fault)?, fault.at.0 as f64 / 1e6);
            Some(format!("{} at {began:.3} s: {} elections ({})", fault.kind, total(&elected), of_shards(&elected)))
        };
        measured.told.extend(faults.iter().filter_map(told));
        measured
    }

    /// By how much each term has grown from the last look before a fault to the first behind it; `None` if nobody looked.
    fn during(&self, fault: &Fault) -> Option<Looked> {
        let before = self.looks.iter().filter(|looked| looked.at.1 <= fault.at.0).map(|looked| &looked.terms);
        let before = before.fold(None::<Looked>, |before, looked| Some(highest(before.unwrap_or_default(), looked)))?;
        let behind = self.looks.iter().position(|looked| looked.at.0 >= fault.at.1)?;
        let after = self.looks[..=behind].iter().fold(Looked::new(), |after, looked| highest(after, &looked.terms));
        let grown = after.into_iter().map(|(shard, term)| {
            let first = before.get(&shard).copied().unwrap_or(term);
            (shard, term.saturating_sub(first))
        });
        Some(grown.filter(|(_, grown)| *grown > 0).collect())
    }
}

fn judge(fault: &Fault, elected: &Looked, a_minute: u64, findings: &mut Findings) {
    let lasted = fault.at.1.saturating_sub(fault.at.0);
    let (elections, allowed) = (total(elected), a_minute * lasted.div_ceil(MINUTE).max(1));
    if elections > allowed {
        findings.add(Kind::Restless, vec![Subject::Time(fault.at.0)], || {
            let (seconds, kind, of_shards) = (lasted as f64 / 1e6, &fault.kind, of_shards(elected));
            format!("{elections} leaders were elected in {seconds:.0} s of {kind} ({of_shards}); {allowed} are allowed")
        });
    }
}

fn highest(mut so_far: Looked, looked: &Looked) -> Looked {
    for (shard, term) in looked {
        let highest = so_far.entry(*shard).or_default();
        *highest = (*highest).max(*term);
    }
    so_far
}

fn total(elected: &Looked) -> u64 {
    elected.values().sum()
}

fn of_shards(elected: &Looked) -> String {
    let of_shards: Vec<String> = elected.iter().map(|(shard, count)| format!("{count} of shard {shard}")).collect();
    if of_shards.is_empty() { "none".to_owned() } else { of_shards.join(", ") }
}
