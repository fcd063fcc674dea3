use stratalog_storage::simulation::Dice;

/// What the scheduler may pick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Hand an entry of record batches to the log.
    Produce,
    /// Write the next flush group.
    Flush,
    /// Record in the log that it is durable.
    Mark,
    /// Make the next log file, or recycle one for it.
    MakeFile,
    /// Apply the entries that are durable, or some of them.
    Apply,
    /// Build replay segments, and propose them.
    Roll,
    /// Save the state, and let go of the log.
    Snapshot,
    /// Make segments that were rolled, and unlink those that are not needed.
    Settle,
    /// Rewrite a packed segment.
    Repack,
    /// Seal rows.
    Seal,
    /// Drop sealed rows, so that log start moves.
    Drop,
    /// Remove a topic, and make it again.
    Remake,
    /// Read from a random place to the end.
    Read,
    /// Lead in a higher term.
    Lead,
    /// The clock jumps, forwards or back.
    Clock,
    /// One call to come fails.
    Fault,
    /// The device is full, or has room again.
    Space,
    /// The power goes after a few more calls.
    PowerSoon,
    /// The process dies, and starts again.
    Kill,
    /// The power goes, and comes back.
    PowerCut,
    /// The medium lies or rots before the process starts again.
    Damage,
}

/// How often each is picked.
const WEIGHTS: [(Step, u64); 21] = [
    (Step::Produce, 300),
    (Step::Flush, 200),
    (Step::Mark, 20),
    (Step::MakeFile, 80),
    (Step::Apply, 160),
    (Step::Roll, 60),
    (Step::Snapshot, 60),
    (Step::Settle, 40),
    (Step::Repack, 20),
    (Step::Seal, 25),
    (Step::Drop, 25),
    (Step::Remake, 4),
    (Step::Read, 40),
    (Step::Lead, 8),
    (Step::Clock, 10),
    (Step::Fault, 15),
    (Step::Space, 12),
    (Step::PowerSoon, 15),
    (Step::Kill, 12),
    (Step::PowerCut, 12),
    (Step::Damage, 10),
];

impl Step {
    /// In a run with a higher `calm`, from 0 to 3, processes live longer.
    pub(super) fn pick(dice: &mut Dice, calm: u64) -> Step {
        let step = Self::pick_any(dice);
        let ends_process = matches!(step, Step::PowerSoon | Step::Kill | Step::PowerCut | Step::Damage);
        if ends_process && dice.chance(calm, 4) { Self::pick(dice, calm) } else { step }
    }

    fn pick_any(dice: &mut Dice) -> Step {
        let mut left = dice.below(WEIGHTS.iter().map(|(_, weight)| weight).sum());
        let mut steps = WEIGHTS.iter();
        loop {
            let (step, weight) = steps.next().expect("the number is below the sum of all weights");
            match left.checked_sub(*weight) {
                Some(rest) => left = rest,
                None => return *step,
            }
        }
    }
}
