//! What replicas of a shard lack, and which of that another one could give them. What none of them has is a trouble of the
//! shard: it keeps no replica from its work, and no change of the members from going on.

use std::collections::{BTreeMap, BTreeSet};

use stratalog_proto::internal::ReplicaState;
use stratalog_proto::{ReplicaId, SegmentId};

/// So many replay segments that it lacks are named by a replica. One that lacks more is far from having all.
pub(super) const NAMED: usize = 64;

/// Replay segments that a replica says it lacks.
struct Lacking {
    count: u64,
    /// Those that it named.
    named: BTreeSet<SegmentId>,
}

impl Lacking {
    /// One of an older version does not tell what kind of segments it lacks, and names none.
    fn of(state: &ReplicaState) -> Self {
        let named = state.missing_replay_ids.iter().take(NAMED).filter_map(|id| SegmentId::from_slice(id)).collect();
        Self { count: state.missing_replays.unwrap_or(state.missing_segments), named }
    }

    /// Whether it named all of them.
    fn is_known(&self) -> bool {
        self.named.len() as u64 == self.count
    }
}

/// How many column segments a replica lacks.
fn columns(state: &ReplicaState) -> u64 {
    state.missing_segments.saturating_sub(state.missing_replays.unwrap_or(state.missing_segments))
}

/// Whether a replica has applied as much as `frontier`: before, it knows of no segments.
fn is_as_far(state: &ReplicaState, frontier: u64) -> bool {
    state.applied >= frontier.max(1)
}

/// Which members of a group have what.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Holders {
    /// They lack no segment that another member has.
    pub(super) complete: BTreeSet<ReplicaId>,
    /// The same of replay segments: what was acknowledged is in these. Column segments are made of them.
    pub(super) whole: BTreeSet<ReplicaId>,
}

/// Of the members of a group, from what they answered; `None` for no answer. `frontier`: that of the leader. Nothing is held
/// to be lost before each of the `voters` has said so.
pub(super) fn holders(
    members: &BTreeMap<ReplicaId, Option<&ReplicaState>>,
    voters: &BTreeSet<ReplicaId>,
    frontier: u64,
) -> Holders {
    let answered: Vec<(ReplicaId, &ReplicaState, Lacking)> =
        members.iter().filter_map(|(id, state)| state.map(|state| (*id, state, Lacking::of(state)))).collect();
    let all_answered = voters.iter().all(|voter| members.get(voter).is_some_and(Option::is_some));
    let is_lost = |id: &SegmentId| all_answered && answered.iter().all(|(.., lacking)| lacking.named.contains(id));
    let is_whole = |lacking: &Lacking| lacking.count == 0 || lacking.is_known() && lacking.named.iter().all(is_lost);
    let mut whole: Vec<(ReplicaId, u64)> = Vec::new();
    for (replica, state, lacking) in &answered {
        if is_as_far(state, frontier) && is_whole(lacking) {
            whole.push((*replica, columns(state)));
        }
    }
    let of_voters = whole.iter().filter(|(replica, _)| voters.contains(replica)).map(|(_, columns)| *columns);
    let fewest = of_voters.min().filter(|_| all_answered).unwrap_or(0);
    let complete = whole.iter().filter(|(_, columns)| *columns <= fewest).map(|(replica, _)| *replica).collect();
    Holders { complete, whole: whole.into_iter().map(|(replica, _)| replica).collect() }
}

/// Where what a replica lacks can be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whereabouts {
    /// So many files of another replica.
    Elsewhere(usize),
    /// Nowhere: none has it.
    Nowhere,
    /// None of those that answered has it.
    Unknown,
}

/// Where these replay segments and so many column segments can be had, from what each other voter answered; `None` for no
/// answer. `frontier`: that of the replica which lacks them.
pub(super) fn whereabouts(
    replays: &[SegmentId],
    lacked_columns: usize,
    others: &[Option<&ReplicaState>],
    frontier: u64,
) -> Whereabouts {
    if replays.is_empty() && lacked_columns == 0 {
        return Whereabouts::Nowhere;
    }
    let heard: Vec<&ReplicaState> =
        others.iter().flatten().copied().filter(|state| is_as_far(state, frontier)).collect();
    let lacking: Vec<Lacking> = heard.iter().map(|state| Lacking::of(state)).collect();
    let may_have = |id: &&SegmentId| lacking.iter().any(|lacking| !lacking.named.contains(id));
    let fewest = heard.iter().map(|state| columns(state)).min();
    let more_columns = fewest.map_or(0, |fewest| lacked_columns.saturating_sub(fewest as usize));
    match replays.iter().filter(may_have).count() + more_columns {
        0 if heard.len() < others.len() => Whereabouts::Unknown,
        0 => Whereabouts::Nowhere,
        files => Whereabouts::Elsewhere(files),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segments<const N: usize>() -> [SegmentId; N] {
        [(); N].map(|()| SegmentId::new())
    }

    /// A replica that is as far as entry 10, lacks these replay segments, and so many column segments.
    fn lacks(replays: &[SegmentId], columns: u64) -> ReplicaState {
        ReplicaState {
            applied: 10,
            missing_segments: replays.len() as u64 + columns,
            missing_replays: Some(replays.len() as u64),
            missing_replay_ids: replays.iter().map(|id| id.to_bytes()).collect(),
            ..ReplicaState::default()
        }
    }

    fn ids(ids: &[u64]) -> BTreeSet<ReplicaId> {
        ids.iter().copied().map(ReplicaId).collect()
    }

    /// The holders of a group whose replicas 1, 2, ... gave these answers, the first three of which vote.
    fn held(answers: &[Option<ReplicaState>]) -> Holders {
        let members = (1..).map(ReplicaId).zip(answers.iter().map(Option::as_ref)).collect();
        holders(&members, &ids(&[1, 2, 3]), 10)
    }

    #[test]
    fn l1_column_segments_are_no_copies_of_records() {
        let found = held(&[Some(lacks(&[], 0)), Some(lacks(&[], 4)), Some(lacks(&segments::<1>(), 0))]);
        assert_eq!((found.complete, found.whole), (ids(&[1]), ids(&[1, 2])));
    }

    #[test]
    fn what_nobody_has_keeps_nobody_from_being_complete() {
        let [lost, here] = segments();
        let found = held(&[Some(lacks(&[lost], 1)), Some(lacks(&[lost], 2)), Some(lacks(&[lost, here], 1))]);
        assert_eq!((found.complete, found.whole), (ids(&[1]), ids(&[1, 2])));
        let all = [(); 4].map(|()| Some(lacks(&[lost], 1)));
        assert_eq!(held(&all).complete, ids(&[1, 2, 3, 4]), "one that joins, too");
    }

    #[test]
    fn l1_as_many_missing_files_are_not_the_same_files() {
        let [one, other] = segments();
        let found = held(&[Some(lacks(&[one], 0)), Some(lacks(&[one], 0)), Some(lacks(&[other], 0))]);
        assert_eq!(found, Holders::default(), "each has what another one lacks");
    }

    #[test]
    fn l1_nothing_is_lost_before_every_voter_has_said_so() {
        let [lost] = segments();
        assert_eq!(held(&[Some(lacks(&[lost], 0)), Some(lacks(&[lost], 0)), None]), Holders::default());
        let older = ReplicaState { applied: 10, missing_segments: 1, ..ReplicaState::default() };
        assert_eq!(held(&[Some(lacks(&[lost], 0)), Some(lacks(&[lost], 0)), Some(older)]), Holders::default());
        let behind = ReplicaState { applied: 9, ..lacks(&[], 0) };
        assert_eq!(
            held(&[Some(lacks(&[], 0)), Some(behind), None]).whole,
            ids(&[1]),
            "one that is behind knows little"
        );
    }

    #[test]
    fn what_every_replica_lacks_is_not_waited_for() {
        let [lost, here] = segments();
        let [none, one, both, columns] = [lacks(&[], 0), lacks(&[lost], 0), lacks(&[lost, here], 0), lacks(&[lost], 9)];
        let find = |replays: &[SegmentId], columns, others: &[Option<&ReplicaState>]| {
            whereabouts(replays, columns, others, 10)
        };
        assert_eq!(find(&[lost, here], 0, &[Some(&one), Some(&both)]), Whereabouts::Elsewhere(1));
        assert_eq!(find(&[lost], 0, &[Some(&one), Some(&columns)]), Whereabouts::Nowhere, "like is compared with like");
        assert_eq!(find(&[], 9, &[Some(&columns)]), Whereabouts::Nowhere);
        assert_eq!(find(&[], 9, &[Some(&columns), Some(&none)]), Whereabouts::Elsewhere(9));
        assert_eq!(find(&[], 0, &[None]), Whereabouts::Nowhere, "it lacks nothing");
    }

    #[test]
    fn nobody_who_answers_is_not_nobody_who_has_it() {
        let [lost] = segments();
        let behind = ReplicaState { applied: 9, ..lacks(&[], 0) };
        let lacking = lacks(&[lost], 0);
        assert_eq!(whereabouts(&[lost], 0, &[None, Some(&lacking)], 10), Whereabouts::Unknown);
        assert_eq!(whereabouts(&[lost], 0, &[Some(&behind)], 10), Whereabouts::Unknown);
        assert_eq!(whereabouts(&[lost], 0, &[], 10), Whereabouts::Nowhere, "it is the only one");
    }
}
