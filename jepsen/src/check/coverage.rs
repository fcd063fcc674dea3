//! What has to have happened before "nothing is wrong" means anything. Whatever is missing makes the verdict unknown.

use super::timeline::Fired;
use super::{Checker, Figures};
use crate::history::Source;

/// Why nothing follows from the history, one sentence each; empty if something does.
pub(super) fn unproven(checker: &Checker, fired: &Fired) -> Vec<String> {
    let mut why = Vec::new();
    match &checker.end {
        None => why.push("the history has no end: the run was cut short".to_owned()),
        Some(end) => why.extend(end.broken_off.iter().map(|what| format!("the run was broken off: {what}"))),
    }
    why.extend(checker.figures.contradictions.iter().map(|what| format!("the history contradicts itself: {what}")));
    if checker.log.out_of_bounds > 0 {
        why.push(format!("{} values or offsets are too high to be judged", checker.log.out_of_bounds));
    }
    why.extend(checker.copies.broken_off.iter().cloned());
    why.extend(
        checker
            .metadata
            .undecided
            .iter()
            .map(|key| format!("whether topic {key} is linearizable takes too long to say")),
    );
    operations(checker, &mut why);
    copies(checker, &mut why);
    faults(checker, fired, &mut why);
    why.extend(fired.measured.unproven.iter().cloned());
    why
}

fn operations(checker: &Checker, why: &mut Vec<String>) {
    let requires = &checker.header.requires;
    for (name, wanted) in &requires.operations {
        let succeeded = checker.figures.succeeded(name);
        if succeeded < *wanted {
            why.push(format!("{succeeded} operations `{name}` succeeded; at least {wanted} are needed"));
        }
    }
    for (name, wanted) in &requires.kafka_operations {
        let succeeded = checker.figures.succeeded_by_kafka(name);
        if succeeded < *wanted {
            why.push(format!(
                "{succeeded} operations `{name}` through librdkafka succeeded; at least {wanted} are needed"
            ));
        }
    }
    why.extend(checker.groups.unproven());
    if checker.log.acked > 0 || requires.operations.contains_key(Figures::SEND) {
        let idle = (0..checker.header.partitions).filter(|partition| checker.log.end(*partition) == 0);
        why.extend(idle.map(|partition| format!("nothing was acknowledged or read in partition {partition}")));
    }
    for (what, wanted) in &requires.probes {
        let made = checker.probes.get(what).copied().unwrap_or_default();
        if made < *wanted {
            why.push(format!("whether {what} was looked at {made} times; at least {wanted} are needed"));
        }
    }
}

fn copies(checker: &Checker, why: &mut Vec<String>) {
    for (source, wanted) in &checker.header.requires.copies {
        for partition in 0..checker.header.partitions {
            let whole = checker.copies.whole_from(*source, partition).len() as u64;
            if whole < *wanted {
                let name = match source {
                    Source::Replica => "the log",
                    Source::Sql => "SQL",
                    Source::Search => "search",
                };
                why.push(format!(
                    "partition {partition} was read to its end from {name} of {whole} nodes; {wanted} are needed"
                ));
            }
        }
    }
}

fn faults(checker: &Checker, fired: &Fired, why: &mut Vec<String>) {
    let requires = &checker.header.requires;
    for (kind, wanted) in &requires.faults {
        let (at_work, all) = fired.by_kind.get(kind).copied().unwrap_or_default();
        if at_work < *wanted {
            why.push(format!(
                "fault {kind} fired {all} times, {at_work} of them while records were acknowledged; {wanted} are needed"
            ));
        }
    }
    if fired.sends_while_cut_off < requires.sends_while_cut_off {
        why.push(format!(
            "{} sends were tried at nodes that were cut off; {} are needed",
            fired.sends_while_cut_off, requires.sends_while_cut_off
        ));
    }
}
