use stratalog_storage::simulation::Dice;

/// What happens next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Produce a few batches.
    Produce,
    /// Seal a topic.
    Seal,
    /// Merge its segments.
    Merge,
    /// Erase some rows.
    Erase,
    /// Drop a segment, whatever its time.
    Drop,
    /// Drop what is older than some time.
    DropBefore,
    /// Move the log start of a partition.
    DeleteRecords,
    /// Roll the log into replay segments.
    Roll,
    /// The answer to the next seal or merge is lost, or it is refused.
    Fate,
    /// A proposal whose answer was lost applies, or is gone for good.
    Late,
    /// One call of the disk to come fails.
    Fault,
    /// The power goes after a few more calls.
    PowerSoon,
    /// The process stops in good order, and starts again.
    Restart,
    /// It dies, and starts again.
    Kill,
    /// The power goes, and comes back.
    PowerCut,
}

/// How often each is picked.
const WEIGHTS: [(Step, u64); 15] = [
    (Step::Produce, 120),
    (Step::Seal, 60),
    (Step::Merge, 25),
    (Step::Erase, 20),
    (Step::Drop, 10),
    (Step::DropBefore, 15),
    (Step::DeleteRecords, 15),
    (Step::Roll, 10),
    (Step::Fate, 20),
    (Step::Late, 15),
    (Step::Fault, 20),
    (Step::PowerSoon, 10),
    (Step::Restart, 10),
    (Step::Kill, 10),
    (Step::PowerCut, 10),
];

impl Step {
    pub(super) fn pick(dice: &mut Dice) -> Step {
        let mut left = dice.below(WEIGHTS.iter().map(|(_, weight)| weight).sum());
        for (step, weight) in WEIGHTS {
            match left.checked_sub(weight) {
                Some(rest) => left = rest,
                None => return step,
            }
        }
        unreachable!("the number is below the sum of all weights")
    }
}
