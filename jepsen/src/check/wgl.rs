//! Linearizability of one object, by the search of Wing and Gong with Lowe's memory of states that lead nowhere
//! (<https://www.cs.ox.ac.uk/people/gavin.lowe/LinearizabiltyTesting/paper.pdf>).

use std::collections::HashSet;
use std::hash::Hash;

use crate::history::Micros;

/// More operations on one object than this are not decided.
pub(super) const MAX_OPERATIONS: usize = 1_024;
/// Nor are those that take more steps of the search.
const MAX_STEPS: u64 = 2_000_000;

/// What an object does.
pub(super) trait Model {
    type State: Clone + Default + Eq + Hash;
    type Step: PartialEq;

    /// The state after a step; `None` if what was seen of it cannot be there.
    fn apply(state: &Self::State, step: &Self::Step) -> Option<Self::State>;

    /// Whether a step leaves every state as it is.
    fn only_looks(step: &Self::Step) -> bool;
}

/// A step, and when it may have taken effect: at any time between; without a completion perhaps never.
#[derive(Clone, Debug)]
pub(super) struct Operation<S> {
    pub(super) invoked: Micros,
    pub(super) completed: Option<Micros>,
    pub(super) step: S,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Search {
    Linearizable,
    /// An order with as many completed operations as there can be, and the one that has to come next and cannot.
    Impossible {
        placed: Vec<usize>,
        stuck: usize,
    },
    /// It is too large.
    Undecided,
}

/// Bits of the operations that are in the order so far.
type Placed = Box<[u64]>;

struct Finder<'a, M: Model> {
    operations: &'a [Operation<M::Step>],
    /// Operations with a completion that are not placed yet.
    open: usize,
    placed: Placed,
    order: Vec<usize>,
    dead_ends: HashSet<(Placed, M::State)>,
    /// The best order so far: how many operations with a completion it leaves out, and which one is due then.
    best: (usize, Vec<usize>, usize),
    steps: u64,
}

/// Looks for an order in which each operation takes effect between its invocation and its completion.
pub(super) fn search<M: Model>(operations: &[Operation<M::Step>]) -> Search {
    if operations.len() > MAX_OPERATIONS {
        return Search::Undecided;
    }
    let mut finder = Finder::<M> {
        operations,
        open: operations.iter().filter(|operation| operation.completed.is_some()).count(),
        placed: vec![0; operations.len().div_ceil(64)].into_boxed_slice(),
        order: Vec::new(),
        dead_ends: HashSet::new(),
        best: (usize::MAX, Vec::new(), 0),
        steps: 0,
    };
    match finder.extend(&M::State::default()) {
        Some(true) => Search::Linearizable,
        Some(false) => Search::Impossible { placed: finder.best.1, stuck: finder.best.2 },
        None => Search::Undecided,
    }
}

impl<M: Model> Finder<'_, M> {
    /// Whether the order so far, which leads to `state`, can be completed; `None` when steps are used up. It calls itself once
    /// for each operation, of which there are at most [`MAX_OPERATIONS`].
    fn extend(&mut self, state: &M::State) -> Option<bool> {
        if self.open == 0 {
            return Some(true);
        }
        self.steps += 1;
        if self.steps > MAX_STEPS {
            return None;
        }
        let next = self.candidates();
        for at in &next {
            let Operation { completed, step, .. } = &self.operations[*at];
            let Some(after) = M::apply(state, step) else { continue };
            // What perhaps never took effect is of no use where it has none.
            if completed.is_none() && after == *state {
                continue;
            }
            self.place(*at);
            let is_new = self.dead_ends.insert((self.placed.clone(), after.clone()));
            let found = if is_new { self.extend(&after)? } else { false };
            if found {
                return Some(true);
            }
            self.take_back(*at);
            // Who only looks, and may do so now, hinders nobody: if there is no order behind it, there is none.
            if M::only_looks(step) {
                break;
            }
        }
        // What has to end soonest comes first among those that may come next.
        if let Some(due) = next.first().filter(|_| self.open < self.best.0) {
            self.best = (self.open, self.order.clone(), *due);
        }
        Some(false)
    }

    /// Operations that may come next: those that were invoked before any that is open completed. Of those that are alike and never
    /// ended one is enough, the first: it can stand wherever another could.
    fn candidates(&self) -> Vec<usize> {
        let is_placed = |at: usize| self.placed[at / 64] & (1 << (at % 64)) != 0;
        let open = || (0..self.operations.len()).filter(|at| !is_placed(*at));
        let first_end = open().filter_map(|at| self.operations[at].completed).min().unwrap_or(Micros::MAX);
        let may_come = |at: &usize| self.operations[*at].invoked <= first_end;
        let mut next: Vec<usize> = open().filter(may_come).collect();
        // What has to end soonest is the likeliest to come next; what never ended, the least.
        next.sort_by_key(|at| (self.operations[*at].completed.unwrap_or(Micros::MAX), self.operations[*at].invoked));
        let of = |at: usize| (&self.operations[at].step, self.operations[at].completed);
        let ended = next.partition_point(|at| self.operations[*at].completed.is_some());
        let never_ended = next.split_off(ended);
        for at in never_ended {
            if next[ended..].iter().all(|other| of(*other) != of(at)) {
                next.push(at);
            }
        }
        next
    }

    fn place(&mut self, at: usize) {
        self.placed[at / 64] |= 1 << (at % 64);
        self.open -= usize::from(self.operations[at].completed.is_some());
        self.order.push(at);
    }

    fn take_back(&mut self, at: usize) {
        self.placed[at / 64] &= !(1 << (at % 64));
        self.open += usize::from(self.operations[at].completed.is_some());
        self.order.pop();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A register: `(true, v)` writes, `(false, v)` reads.
    struct Register;

    impl Model for Register {
        type State = u8;
        type Step = (bool, u8);

        fn apply(state: &u8, (writes, value): &(bool, u8)) -> Option<u8> {
            (*writes || state == value).then_some(*value)
        }

        fn only_looks((writes, _): &(bool, u8)) -> bool {
            !writes
        }
    }

    fn operation(invoked: u64, completed: u64, step: (bool, u8)) -> Operation<(bool, u8)> {
        Operation { invoked, completed: (completed > 0).then_some(completed), step }
    }

    #[test]
    fn a_read_may_see_a_concurrent_write_and_not_the_value_before_a_completed_one() {
        let concurrent = [operation(1, 10, (true, 1)), operation(2, 3, (false, 1)), operation(4, 5, (false, 1))];
        assert_eq!(search::<Register>(&concurrent), Search::Linearizable);
        let back = [operation(1, 10, (true, 1)), operation(2, 3, (false, 1)), operation(4, 5, (false, 0))];
        assert!(
            matches!(search::<Register>(&back), Search::Impossible { placed, stuck } if placed == [0, 1] && stuck == 2)
        );
    }

    #[test]
    fn an_operation_of_unknown_outcome_may_take_effect_at_any_time_or_never() {
        let late = [operation(1, 0, (true, 1)), operation(2, 3, (false, 0)), operation(4, 5, (false, 1))];
        assert_eq!(search::<Register>(&late), Search::Linearizable);
        let never = [operation(1, 0, (true, 1)), operation(2, 3, (false, 0)), operation(4, 5, (false, 0))];
        assert_eq!(search::<Register>(&never), Search::Linearizable);
        let before = [operation(2, 0, (true, 1)), operation(0, 1, (false, 1))];
        assert!(matches!(search::<Register>(&before), Search::Impossible { .. }));
    }

    #[test]
    fn many_operations_of_unknown_outcome_are_decided() {
        let unknown = (0..60).map(|at| operation(at, 0, (true, 1 + (at % 3) as u8)));
        let seen = (0..60).map(|at| operation(100 + 2 * at, 101 + 2 * at, (false, 1 + (at % 2) as u8)));
        let mut operations: Vec<_> = unknown.chain(seen).collect();
        assert_eq!(search::<Register>(&operations[..100]), Search::Linearizable, "40 changes of 40 writes");
        operations.push(operation(300, 301, (false, 4)));
        assert!(matches!(search::<Register>(&operations), Search::Impossible { .. }));
    }

    #[test]
    fn too_many_operations_are_not_decided() {
        let many: Vec<_> = (0..=MAX_OPERATIONS as u64).map(|at| operation(at, at + 1, (true, 0))).collect();
        assert_eq!(search::<Register>(&many), Search::Undecided);
    }

    /// Steps at points that ascend, each stretched into an operation around its point.
    fn performed(steps: Vec<(bool, u8, u64, u64)>) -> Vec<Operation<(bool, u8)>> {
        let mut state = 0;
        let stretch = |(at, (writes, value, before, after)): (usize, (bool, u8, u64, u64))| {
            state = if writes { value } else { state };
            let point = 100 + 10 * at as u64;
            operation(point - before, point + after, (writes, state))
        };
        steps.into_iter().enumerate().map(stretch).collect()
    }

    /// Whether there is an order, by trying all of them.
    fn has_order(state: u8, open: &[Operation<(bool, u8)>]) -> bool {
        let first_end = open.iter().filter_map(|operation| operation.completed).min();
        let may_come = |operation: &Operation<_>| first_end.is_some_and(|end| operation.invoked <= end);
        first_end.is_none()
            || (0..open.len()).filter(|at| may_come(&open[*at])).any(|at| {
                let mut rest = open.to_vec();
                let step = rest.remove(at).step;
                Register::apply(&state, &step).is_some_and(|after| has_order(after, &rest))
            })
    }

    proptest! {
        #[test]
        fn what_is_left_out_of_the_search_changes_no_verdict(drawn in prop::collection::vec((0_u64..30, 0_u64..12, any::<bool>(), 0_u8..3), 0..7)) {
            // Without a completion only what writes is in a history.
            let drawn = drawn.into_iter().map(|(invoked, time, writes, value)| {
                operation(invoked, if writes && time < 5 { 0 } else { invoked + time + 1 }, (writes, value))
            });
            let operations: Vec<_> = drawn.collect();
            prop_assert_eq!(search::<Register>(&operations) == Search::Linearizable, has_order(0, &operations));
        }

        #[test]
        fn what_was_performed_in_an_order_is_linearizable(steps in prop::collection::vec((any::<bool>(), 1_u8..4, 0_u64..40, 1_u64..40), 0..40)) {
            prop_assert_eq!(search::<Register>(&performed(steps)), Search::Linearizable);
        }

        #[test]
        fn a_read_of_what_nobody_wrote_is_found(steps in prop::collection::vec((any::<bool>(), 1_u8..4, 0_u64..40, 1_u64..40), 1..40), at in any::<prop::sample::Index>()) {
            let mut operations = performed(steps);
            let at = at.index(operations.len());
            operations[at].step = (false, 9);
            let found = search::<Register>(&operations);
            prop_assert!(matches!(found, Search::Impossible { .. }), "{:?}", found);
        }
    }
}
