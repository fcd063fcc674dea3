//! Changes and reads of metadata: one key at a time, is there an order that explains them?
//!
//! What a key is: a topic of its own that is there or not, with one setting. Creation, change, deletion and reads are
//! linearizable, whichever node is asked: each takes effect at a moment between its invocation and its answer.

use std::collections::{BTreeMap, BTreeSet};

use super::findings::{Findings, Kind, Subject};
use super::wgl::{Model, Operation, Search, search};
use crate::history::{MetaChange, MetaOp, MetaSeen, Outcome};

/// So many operations of an order are told.
const LAST_SHOWN: usize = 3;

/// A topic: its setting, if it is there.
#[derive(Debug)]
struct Topic;

impl Model for Topic {
    type State = Option<u64>;
    type Step = (MetaChange, Option<MetaSeen>);

    fn apply(state: &Option<u64>, (change, seen): &Self::Step) -> Option<Option<u64>> {
        use MetaChange::{Alter, Create, Delete, Read};
        match (*change, *seen) {
            // Its outcome is not known: it takes effect where it can.
            (Create(value), None) => Some(state.or(Some(value))),
            (Alter(value), None) => Some(state.map(|_| value)),
            (Delete, None) => Some(None),
            (Create(value), Some(MetaSeen::Done)) => state.is_none().then_some(Some(value)),
            (Create(_), Some(MetaSeen::Exists)) => state.is_some().then_some(*state),
            (Alter(value), Some(MetaSeen::Done)) => state.is_some().then_some(Some(value)),
            // Deleting what somebody else has just deleted succeeds, too.
            (Delete, Some(MetaSeen::Done)) => Some(None),
            (Read, Some(MetaSeen::Setting(value))) => (*state == Some(value)).then_some(*state),
            (Alter(_) | Delete | Read, Some(MetaSeen::Absent)) => state.is_none().then_some(None),
            _ => None,
        }
    }

    fn only_looks((change, seen): &Self::Step) -> bool {
        *change == MetaChange::Read || matches!(seen, Some(MetaSeen::Exists | MetaSeen::Absent))
    }
}

type Judged = Operation<(MetaChange, Option<MetaSeen>)>;

/// Operations by key. There are few of them: a key is used for some dozens, and then given up.
#[derive(Debug, Default)]
pub(super) struct Metadata {
    by_key: BTreeMap<String, Vec<MetaOp>>,
    pub(super) operations: u64,
    /// Keys for which no order was found in the time that there is.
    pub(super) undecided: Vec<String>,
}

impl Metadata {
    pub(super) fn see(&mut self, operation: &MetaOp) {
        self.operations += u64::from(operation.outcome.ok().is_some());
        self.by_key.entry(operation.key.clone()).or_default().push(operation.clone());
    }

    pub(super) fn conclude(&mut self, findings: &mut Findings) {
        for (key, operations) in &self.by_key {
            let judged = judged(operations);
            match search::<Topic>(&alike(&judged)) {
                Search::Linearizable => {}
                Search::Undecided => self.undecided.push(key.clone()),
                Search::Impossible { placed, stuck } => {
                    let until = judged[stuck].completed.unwrap_or(judged[stuck].invoked);
                    findings.add(Kind::NotLinearizable, vec![Subject::Key { key: key.clone(), until }], || {
                        explain(key, &judged, &placed, stuck)
                    });
                }
            }
        }
    }
}

/// What the search is given: operations that may have done something, each with the time in which it did, and the outcome where
/// it is known.
fn judged(operations: &[MetaOp]) -> Vec<Judged> {
    let mut by_invocation: Vec<&MetaOp> = operations.iter().collect();
    by_invocation.sort_by_key(|operation| operation.at.0);
    let mut judged: Vec<Judged> = Vec::with_capacity(operations.len());
    for MetaOp { at, change, outcome, .. } in by_invocation {
        let seen = outcome.ok().copied();
        let says_nothing = matches!(outcome, Outcome::Fail(_)) || (*change == MetaChange::Read && seen.is_none());
        if says_nothing {
            continue;
        }
        judged.push(Operation { invoked: at.0, completed: seen.map(|_| at.1), step: (*change, seen) });
    }
    judged
}

/// The same operations with fewer states between them: one setting stands for all that nobody has read, since it makes no difference
/// which of them a topic has.
fn alike(judged: &[Judged]) -> Vec<Judged> {
    let read: BTreeSet<u64> = judged
        .iter()
        .filter_map(|operation| match operation.step {
            (_, Some(MetaSeen::Setting(value))) => Some(value),
            _ => None,
        })
        .collect();
    let never_read = (0..).find(|value| !read.contains(value)).unwrap_or_default();
    let named = |value: u64| if read.contains(&value) { value } else { never_read };
    let renamed = judged.iter().cloned().map(|mut operation| {
        match &mut operation.step.0 {
            MetaChange::Create(value) | MetaChange::Alter(value) => *value = named(*value),
            MetaChange::Delete | MetaChange::Read => {}
        }
        operation
    });
    renamed.collect()
}

fn explain(key: &str, judged: &[Judged], placed: &[usize], stuck: usize) -> String {
    let tell = |at: &usize| {
        let Operation { invoked, completed, step: (change, seen), .. } = &judged[*at];
        let until = completed.map_or_else(|| "?".to_owned(), |at| format!("{:.3}", at as f64 / 1e6));
        let seen = seen.map_or_else(|| "unknown".to_owned(), |seen| format!("{seen:?}"));
        format!("{change:?} → {seen} ({:.3} s to {until} s)", *invoked as f64 / 1e6)
    };
    let state = placed.iter().try_fold(None, |state, at| Topic::apply(&state, &judged[*at].step)).flatten();
    let state = state.map_or_else(|| "not there".to_owned(), |setting| format!("there with setting {setting}"));
    let shown = placed.len().saturating_sub(LAST_SHOWN);
    let last: Vec<String> = placed[shown..].iter().map(tell).collect();
    format!(
        "no order explains what was done to topic {key}. Whatever is tried, {} has no place; the longest order without it ends \
         with [{}], after which the topic is {state}",
        tell(&stuck),
        last.join("; ")
    )
}
