//! The acceptance matrix as data: what is broken, what that needs of the machine, and what has to have happened for a pass.

mod table;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::chaos::Nemesis;
use crate::cluster::{Capability, DiskKind};
use crate::history::{Promise, Requires, Source};
use crate::workload::{KafkaLoad, Load, NO_KAFKA_CLIENT_ENDS};

pub(crate) use table::{ELSEWHERE, NOT_BUILT, SCENARIOS};

/// Each producer through librdkafka sends so many times less than one of the SDK.
const KAFKA_SENDS_LESS: u32 = 3;

/// What every run looks at.
pub(crate) const NO_THREAD_PANICS: &str = "no thread of a node panics";

/// A row that can be run.
#[derive(Debug)]
pub(crate) struct Scenario {
    /// Of the matrix; `None`: it is none of its rows.
    pub(crate) row: Option<u8>,
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    pub(crate) nemesis: Nemesis,
    pub(crate) needs: &'static [Capability],
    pub(crate) disks: DiskKind,
    /// Nodes that can, read their segments again all the time.
    pub(crate) scrubs: bool,
    /// Bytes that each node may have in use; `None`: as many as there are.
    pub(crate) memory: Option<u64>,
    /// Of the topic.
    settings: &'static [(&'static str, &'static str)],
    /// Fault, how often it has to have fired in a run of full length, and in a short one.
    faults: &'static [(&'static str, u64, u64)],
    /// The same of what has to have been looked at.
    probes: &'static [(&'static str, u64, u64)],
    promises: &'static [Bound],
    /// Sends that a node without the others has to have been given.
    cut_off: (u64, u64),
    padding: usize,
    /// What each of the producers that know all nodes sends in a second, if the cluster takes it.
    records_a_second: u32,
    /// Members of a consumer group, which go through a Kafka client.
    members: u32,
    /// In the matrix, short form.
    short: Duration,
}

/// A promise in the table.
#[derive(Clone, Copy, Debug)]
enum Bound {
    Gap(&'static str, u64),
    Back(&'static str, u64),
    Replaced(&'static str, u64),
    Elections(&'static str, u64),
    Slowed(&'static str, u64),
    Recovered(&'static str, u64, u64),
}

/// Finds a scenario by its name.
///
/// # Errors
/// What the name could have been, or why it cannot be run.
pub(crate) fn named(name: &str) -> Result<&'static Scenario, String> {
    if let Some(found) = SCENARIOS.iter().find(|scenario| scenario.name == name) {
        return Ok(found);
    }
    if let Some((row, _, waits_for)) = NOT_BUILT.iter().find(|(_, not_built, _)| *not_built == name) {
        return Err(format!("scenario {name} (row {row}) is not built yet: it waits for {waits_for}"));
    }
    let names: Vec<&str> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
    Err(format!("there is no scenario `{name}`; there are {}", names.join(", ")))
}

impl Scenario {
    pub(crate) fn length(&self, minutes: Option<f64>, short: bool) -> Duration {
        match minutes {
            Some(minutes) => Duration::from_secs_f64(minutes * 60.0),
            None if short => self.short,
            None => Duration::from_secs(600),
        }
    }

    /// Fault → how often.
    pub(crate) fn faults(&self, short: bool) -> BTreeMap<String, u64> {
        counts(self.faults, short)
    }

    /// Whether clients in processes of their own take part, which are asked for with `kafka` where a scenario does not need them.
    pub(crate) fn has_kafka_clients(&self, kafka: bool) -> bool {
        kafka || self.members > 0
    }

    /// What a pass takes. Without `times`, nothing is said about how fast the cluster has to be back; `kafka` is as above.
    pub(crate) fn requires(&self, length: Duration, nodes: u64, short: bool, times: bool, kafka: bool) -> Requires {
        // A fraction of what a cluster does that is whole: faults take their time. In a short run they take most of it, and more on a
        // slow machine; a quarter still shows that all kinds of operations took part.
        let seconds = length.as_secs().max(20) / if short { 4 } else { 1 };
        let operations = [
            ("send", seconds * u64::from(self.records_a_second) * 2 / 15),
            ("poll", seconds * 2),
            ("query", seconds / 5),
            ("search", seconds / 5),
            ("watermarks", seconds / 2),
            ("meta", seconds / 5),
        ];
        let of_group = [("commit", seconds / 2), ("rebalance", seconds / 5), ("committed", seconds / 2)];
        let of_group = of_group.into_iter().filter(|_| self.members > 0);
        let of_kafka =
            [("send", seconds * u64::from(self.records_a_second / KAFKA_SENDS_LESS) / 15), ("poll", seconds / 2)];
        let copies = nodes.min(3);
        let mut probes = counts(self.probes, short);
        probes.insert(NO_THREAD_PANICS.to_owned(), 1);
        if self.has_kafka_clients(kafka) {
            probes.insert(NO_KAFKA_CLIENT_ENDS.to_owned(), 1);
        }
        Requires {
            faults: self.faults(short),
            operations: operations.into_iter().chain(of_group).map(|(name, count)| (name.to_owned(), count)).collect(),
            kafka_operations: of_kafka
                .into_iter()
                .filter(|_| kafka)
                .map(|(name, count)| (name.to_owned(), count.max(1)))
                .collect(),
            copies: [Source::Replica, Source::Sql, Source::Search].map(|source| (source, copies)).into(),
            sends_while_cut_off: if short { self.cut_off.1 } else { self.cut_off.0 },
            probes,
            promises: if times { self.promises.iter().map(Bound::promise).collect() } else { Vec::new() },
        }
    }

    pub(crate) fn load(&self, kafka: bool) -> Load {
        let beside = if kafka { 2 } else { 0 };
        Load {
            kafka: KafkaLoad {
                producers: beside,
                records_a_second: (self.records_a_second / KAFKA_SENDS_LESS).max(1),
                consumers: beside,
                members: self.members,
            },
            topic: "jepsen".to_owned(),
            partitions: 16,
            producers: 2,
            records_a_second: self.records_a_second,
            padding: self.padding,
            consumers: 2,
            settings: self.settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        }
    }
}

impl Bound {
    fn promise(&self) -> Promise {
        match *self {
            Self::Gap(fault, within_ms) => Promise::Gap { fault: fault.to_owned(), within_ms },
            Self::Back(fault, within_ms) => Promise::Back { fault: fault.to_owned(), within_ms },
            Self::Replaced(fault, within_ms) => Promise::Replaced { fault: fault.to_owned(), within_ms },
            Self::Elections(fault, a_minute) => Promise::Elections { fault: fault.to_owned(), a_minute },
            Self::Slowed(fault, times) => Promise::Slowed { fault: fault.to_owned(), times },
            Self::Recovered(fault, within_ms, times) => {
                Promise::Recovered { fault: fault.to_owned(), within_ms, times }
            }
        }
    }
}

fn counts(of: &[(&str, u64, u64)], short: bool) -> BTreeMap<String, u64> {
    of.iter().map(|(name, full, few)| ((*name).to_owned(), if short { *few } else { *full })).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_table_has_every_row_of_the_matrix_and_each_name_once() {
        let built = SCENARIOS.iter().filter_map(|scenario| scenario.row);
        let rows = built.chain(NOT_BUILT.iter().map(|(row, ..)| *row)).chain(ELSEWHERE.iter().map(|(row, ..)| *row));
        let rows: BTreeSet<u8> = rows.collect();
        assert_eq!(rows, (1..=31).collect());
        let names = SCENARIOS.iter().map(|scenario| scenario.name).chain(NOT_BUILT.iter().map(|(_, name, _)| *name));
        let unique: BTreeSet<&str> = names.clone().collect();
        assert_eq!(unique.len(), names.count());
    }

    #[test]
    fn every_promise_is_about_a_fault_that_is_required() {
        for scenario in SCENARIOS {
            let faults = scenario.faults(true);
            for promise in scenario.promises {
                let (Bound::Gap(fault, _)
                | Bound::Back(fault, _)
                | Bound::Replaced(fault, _)
                | Bound::Elections(fault, _)
                | Bound::Slowed(fault, _)
                | Bound::Recovered(fault, ..)) = promise;
                assert!(faults.contains_key(*fault), "{}: {fault}", scenario.name);
            }
        }
    }

    #[test]
    fn a_scenario_that_is_not_there_says_what_to_do() {
        assert!(named("tenants").unwrap_err().contains("row 25) is not built yet: it waits for tenants"));
        assert!(named("kill").unwrap_err().contains("kill-leader"));
        assert!(named("calm").is_ok());
    }
}
