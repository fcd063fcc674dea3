//! The acceptance matrix as data: what is broken, what that needs of the machine, and what has to have happened for a pass.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::chaos::{Nemesis, READS_SERVE, WIPED_IS_REFUSED};
use crate::cluster::{Capability, DiskKind};
use crate::history::{Promise, Requires, Source};
use crate::workload::Load;

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
    /// Fault, how often it has to have fired in a run of full length, and in a short one.
    faults: &'static [(&'static str, u64, u64)],
    /// The same of what has to have been looked at.
    probes: &'static [(&'static str, u64, u64)],
    promises: &'static [Bound],
    /// Sends that a node without the others has to have been given.
    cut_off: (u64, u64),
    padding: usize,
    /// In the matrix, short form.
    short: Duration,
}

/// A promise in the table.
#[derive(Clone, Copy, Debug)]
enum Bound {
    Gap(&'static str, u64),
    Back(&'static str, u64),
    Replaced(&'static str, u64),
}

const SHORT: Duration = Duration::from_secs(30);

const PLAIN: Scenario = Scenario {
    row: None,
    name: "",
    what: "",
    nemesis: Nemesis::None,
    needs: &[],
    disks: DiskKind::Directory,
    faults: &[],
    probes: &[],
    promises: &[],
    cut_off: (0, 0),
    padding: 200,
    short: SHORT,
};

/// Everything that can be run.
pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario { row: Some(1), name: "calm", what: "no faults", short: Duration::from_secs(20), ..PLAIN },
    Scenario {
        row: Some(2),
        name: "kill-leader",
        what: "kill -9 of a leader about every 5 s; nobody waits longer than 2 s (99th percentile)",
        nemesis: Nemesis::KillLeader,
        faults: &[("kill-leader", 5, 3)],
        promises: &[Bound::Gap("kill-leader", 2_000)],
        ..PLAIN
    },
    Scenario {
        row: Some(3),
        name: "kill-all",
        what: "kill -9 of all nodes at once; they serve within 10 s of their start",
        nemesis: Nemesis::KillAll,
        faults: &[("kill-all", 20, 2)],
        promises: &[Bound::Back("kill-all", 10_000)],
        ..PLAIN
    },
    Scenario {
        row: Some(7),
        name: "pause-leader",
        what: "SIGSTOP of a leader for 1 to 60 s; it answers nothing old when it wakes up, and another leads within 2 s",
        nemesis: Nemesis::PauseLeader,
        faults: &[("pause-leader", 5, 2)],
        promises: &[Bound::Replaced("pause-leader", 2_000)],
        ..PLAIN
    },
    Scenario {
        row: Some(8),
        name: "partitions",
        what: "links cut as halves, ring, bridge, one way and one by one; a minority acknowledges nothing, and all is well 5 s later",
        nemesis: Nemesis::Partitions,
        needs: &[Capability::Namespaces],
        faults: &[("halves", 5, 1), ("ring", 5, 1), ("bridge", 5, 1), ("one-way", 5, 1), ("clog", 5, 1)],
        promises: &[
            Bound::Back("halves", 5_000),
            Bound::Back("ring", 5_000),
            Bound::Back("bridge", 5_000),
            Bound::Back("one-way", 5_000),
            Bound::Back("clog", 5_000),
        ],
        cut_off: (25, 5),
        short: Duration::from_secs(60),
        ..PLAIN
    },
    Scenario {
        row: Some(16),
        name: "full-disks",
        what: "a follower's device without room, then a leader's; reads serve, and writes go on when there is room",
        nemesis: Nemesis::FullDisks,
        needs: &[Capability::SmallDisks],
        disks: DiskKind::Small,
        faults: &[("full-follower", 5, 1), ("full-leader", 5, 1)],
        probes: &[(READS_SERVE, 10, 2)],
        promises: &[Bound::Back("full-leader", 30_000)],
        ..PLAIN
    },
    Scenario {
        row: Some(19),
        name: "members",
        what: "nodes join, leave and are replaced, with kills and partitions; a wiped node under its old id is refused",
        nemesis: Nemesis::Members,
        needs: &[Capability::Namespaces],
        faults: &[("join", 5, 1), ("leave", 5, 1), ("replace", 5, 1), ("kill-leader", 5, 1), ("halves", 5, 1)],
        probes: &[(WIPED_IS_REFUSED, 5, 1)],
        short: Duration::from_secs(60),
        ..PLAIN
    },
    Scenario {
        row: Some(20),
        name: "rolling-restart",
        what: "one node after the other is stopped and started under load; nobody waits longer than 2 s",
        nemesis: Nemesis::RollingRestart,
        faults: &[("restart", 15, 3)],
        promises: &[Bound::Gap("restart", 2_000)],
        ..PLAIN
    },
    Scenario {
        row: Some(20),
        name: "upgrade",
        what: "the same from this release to another and back (needs --other-binary)",
        nemesis: Nemesis::Upgrade,
        faults: &[("to-other-release", 5, 3), ("to-this-release", 5, 3)],
        promises: &[Bound::Gap("to-other-release", 2_000), Bound::Gap("to-this-release", 2_000)],
        ..PLAIN
    },
    Scenario {
        row: Some(22),
        name: "kill-in-work",
        what: "kill -9 in the middle of a seal, a roll and the fetch of a segment; each offset is a row and a hit once",
        nemesis: Nemesis::AimedKills,
        faults: &[("kill-in-seal", 17, 1), ("kill-in-roll", 17, 1), ("kill-in-fetch", 16, 1)],
        padding: 1_000,
        ..PLAIN
    },
    Scenario {
        name: "soak",
        what: "leaders killed and paused, all killed, links cut, restarts and kills in the middle of work, in turn",
        nemesis: Nemesis::Mixed,
        needs: &[Capability::Namespaces],
        faults: &[
            ("kill-leader", 5, 1),
            ("pause-leader", 5, 1),
            ("kill-all", 5, 1),
            ("halves", 5, 1),
            ("restart", 15, 3),
            ("kill-in-seal", 5, 1),
        ],
        short: Duration::from_secs(90),
        ..PLAIN
    },
];

/// Rows of the matrix that cannot be run yet, and what they wait for.
pub(crate) const NOT_BUILT: &[(u8, &str, &str)] = &[
    (4, "power-cut-one", "power cuts"),
    (5, "power-cut-all", "power cuts"),
    (6, "pause-and-power-cut", "power cuts"),
    (9, "bad-network", "delay, loss, duplication and reordering of packets"),
    (10, "bit-flips", "damage to files"),
    (11, "torn-chunks", "damage to files"),
    (12, "damage-everywhere-once", "damage to files"),
    (13, "damage-on-all", "damage to files"),
    (14, "damaged-votes", "damage to files"),
    (15, "fsync-error", "errors of the device"),
    (17, "slow-disk", "a slow device"),
    (18, "clocks", "clocks that step"),
    (21, "rebalance", "consumer groups"),
    (23, "delete-derived", "deletion of files"),
    (24, "overload", "a load of many times the capacity"),
    (25, "tenants", "tenants"),
    (26, "slow-clients", "slow clients"),
    (27, "bombs", "hostile clients"),
    (28, "hostile-queries", "hostile clients"),
    (29, "foreign-ids", "tenants"),
    (30, "fuzzing", "fuzzing of decoders"),
    (31, "sabotage", "sabotage builds"),
];

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

    /// What a pass takes. Without `times`, nothing is said about how fast the cluster has to be back.
    pub(crate) fn requires(&self, length: Duration, nodes: u64, short: bool, times: bool) -> Requires {
        // A fraction of what a cluster does that is whole: faults take their time.
        let seconds = length.as_secs().max(10);
        let operations = [
            ("send", seconds * 40),
            ("poll", seconds * 2),
            ("query", seconds / 5),
            ("search", seconds / 5),
            ("watermarks", seconds / 2),
            ("meta", seconds / 5),
        ];
        let copies = nodes.min(3);
        let mut probes = counts(self.probes, short);
        probes.insert(NO_THREAD_PANICS.to_owned(), 1);
        Requires {
            faults: self.faults(short),
            operations: operations.into_iter().map(|(name, count)| (name.to_owned(), count)).collect(),
            copies: [Source::Replica, Source::Sql, Source::Search].map(|source| (source, copies)).into(),
            sends_while_cut_off: if short { self.cut_off.1 } else { self.cut_off.0 },
            probes,
            promises: if times { self.promises.iter().map(Bound::promise).collect() } else { Vec::new() },
        }
    }

    pub(crate) fn load(&self) -> Load {
        Load {
            topic: "jepsen".to_owned(),
            partitions: 16,
            producers: 2,
            records_a_second: 300,
            padding: self.padding,
            consumers: 2,
        }
    }
}

impl Bound {
    fn promise(&self) -> Promise {
        match *self {
            Self::Gap(fault, within_ms) => Promise::Gap { fault: fault.to_owned(), within_ms },
            Self::Back(fault, within_ms) => Promise::Back { fault: fault.to_owned(), within_ms },
            Self::Replaced(fault, within_ms) => Promise::Replaced { fault: fault.to_owned(), within_ms },
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
        let rows: BTreeSet<u8> = built.chain(NOT_BUILT.iter().map(|(row, ..)| *row)).collect();
        assert_eq!(rows, (1..=31).collect());
        let names = SCENARIOS.iter().map(|scenario| scenario.name).chain(NOT_BUILT.iter().map(|(_, name, _)| *name));
        let unique: BTreeSet<&str> = names.clone().collect();
        assert_eq!(unique.len(), names.count());
    }

    #[test]
    fn every_promise_is_about_a_fault_that_is_required() {
        for scenario in SCENARIOS {
            let faults = scenario.faults(true);
            for Bound::Gap(fault, _) | Bound::Back(fault, _) | Bound::Replaced(fault, _) in scenario.promises {
                assert!(faults.contains_key(*fault), "{}: {fault}", scenario.name);
            }
        }
    }

    #[test]
    fn a_scenario_that_is_not_there_says_what_to_do() {
        assert!(named("power-cut-one").unwrap_err().contains("row 4) is not built yet: it waits for power cuts"));
        assert!(named("kill").unwrap_err().contains("kill-leader"));
        assert!(named("calm").is_ok());
    }
}
