//! What becomes of inputs that do not go together: the others are merged without them.

use std::sync::Arc;

use stratalog_proto::{Code, Error};
use stratalog_storage::SegmentMeta;

/// Why a merge was not built, in terms of its inputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Blame {
    /// It is none of their fault: the same merge may be built another time.
    Elsewhere,
    /// These cannot be read, or do not go with the others: ascending numbers of inputs.
    Inputs(Vec<usize>),
    /// All of them together: none by itself.
    Together,
}

/// What to do with inputs that were not merged.
#[derive(Debug, Default)]
pub(super) struct Apart {
    /// To be left alone from now on.
    pub(super) put_aside: Vec<Arc<SegmentMeta>>,
    /// To be merged with each other: two or more each, and fewer than there were.
    pub(super) again: Vec<Vec<Arc<SegmentMeta>>>,
}

impl Blame {
    /// What an error of building says if inputs with these numbers could not be read.
    pub(super) fn of(error: &Error, unreadable: Vec<usize>) -> Self {
        match error.code {
            Code::Conflict | Code::Cancelled | Code::StorageFull => Self::Elsewhere,
            _ if !unreadable.is_empty() => Self::Inputs(unreadable),
            Code::Io => Self::Elsewhere,
            _ => Self::Together,
        }
    }

    /// Takes the inputs of a merge apart; `None` if they are not to blame. Something is put aside or the parts are smaller,
    /// so that trying again comes to an end.
    pub(super) fn apart(&self, inputs: &[Arc<SegmentMeta>]) -> Option<Apart> {
        let blamed = match self {
            Self::Elsewhere => return None,
            Self::Inputs(numbers) if (1..inputs.len()).contains(&numbers.len()) => numbers,
            Self::Inputs(_) | Self::Together => return Some(halves(inputs)),
        };
        let numbered = inputs.iter().cloned().enumerate();
        let (bad, good): (Vec<_>, Vec<_>) = numbered.partition(|(number, _)| blamed.contains(number));
        let metas = |part: Vec<(usize, Arc<SegmentMeta>)>| part.into_iter().map(|(_, meta)| meta).collect::<Vec<_>>();
        let (bad, good) = (metas(bad), metas(good));
        let mut apart = Apart::default();
        match bad.len() {
            1 => apart.put_aside = bad,
            _ => apart.again.push(bad),
        }
        apart.again.extend((good.len() > 1).then_some(good));
        Some(apart)
    }
}

/// Of two the larger is put aside, since the smaller one may yet go with others.
fn halves(inputs: &[Arc<SegmentMeta>]) -> Apart {
    if inputs.len() <= 2 {
        let larger = inputs.iter().max_by_key(|meta| (meta.bytes, meta.id)).cloned();
        return Apart { put_aside: larger.into_iter().collect(), again: Vec::new() };
    }
    let (first, second) = inputs.split_at(inputs.len() / 2);
    let again = [first, second].into_iter().filter(|half| half.len() > 1).map(<[_]>::to_vec).collect();
    Apart { put_aside: Vec::new(), again }
}

#[cfg(test)]
mod tests {
    use stratalog_proto::{SegmentId, TimeBucket, TopicId};
    use stratalog_storage::SegmentKind;

    use super::*;

    fn inputs(count: usize) -> Vec<Arc<SegmentMeta>> {
        let meta = |n: usize| SegmentMeta {
            id: SegmentId::new(),
            topic: TopicId::new(),
            kind: SegmentKind::Column,
            bucket: TimeBucket { start_ns: 0, end_ns: 1 },
            min_time_ns: 0,
            max_time_ns: 0,
            max_ingested_ns: 0,
            rows: 1,
            dead_rows: 0,
            bytes: n as u64,
            ranges: Vec::new(),
            blake3: [0; 32],
            analyzer_version: 0,
        };
        (0..count).map(meta).map(Arc::new).collect()
    }

    fn shown(apart: Option<Apart>) -> Option<(Vec<u64>, Vec<Vec<u64>>)> {
        let bytes = |metas: &Vec<Arc<SegmentMeta>>| metas.iter().map(|meta| meta.bytes).collect::<Vec<_>>();
        apart.map(|apart| (bytes(&apart.put_aside), apart.again.iter().map(bytes).collect()))
    }

    #[test]
    fn inputs_that_are_to_blame_leave_and_the_others_stay_together() {
        let five = inputs(5);
        assert_eq!(shown(Blame::Elsewhere.apart(&five)), None);
        assert_eq!(shown(Blame::Inputs(vec![2]).apart(&five)), Some((vec![2], vec![vec![0, 1, 3, 4]])));
        assert_eq!(shown(Blame::Inputs(vec![0, 2]).apart(&five)), Some((vec![], vec![vec![0, 2], vec![1, 3, 4]])));
        assert_eq!(shown(Blame::Inputs(vec![0]).apart(&five[..2])), Some((vec![0], vec![])));
        assert_eq!(shown(Blame::Inputs(vec![0]).apart(&five[..1])), Some((vec![0], vec![])));
    }

    #[test]
    fn inputs_that_do_not_go_together_are_halved_down_to_two() {
        let five = inputs(5);
        assert_eq!(shown(Blame::Together.apart(&five)), Some((vec![], vec![vec![0, 1], vec![2, 3, 4]])));
        assert_eq!(shown(Blame::Together.apart(&five[..3])), Some((vec![], vec![vec![1, 2]])));
        assert_eq!(shown(Blame::Together.apart(&five[..2])), Some((vec![1], vec![])));
    }

    #[test]
    fn a_full_disk_is_no_fault_of_the_inputs() {
        let blame = |code, unreadable: &[usize]| Blame::of(&Error::new(code, "no"), unreadable.to_vec());
        for code in [Code::StorageFull, Code::Conflict, Code::Cancelled] {
            assert_eq!(blame(code, &[1]), Blame::Elsewhere);
        }
        assert_eq!((blame(Code::Io, &[]), blame(Code::Io, &[1])), (Blame::Elsewhere, Blame::Inputs(vec![1])));
        assert_eq!(blame(Code::Internal, &[]), Blame::Together);
    }
}
