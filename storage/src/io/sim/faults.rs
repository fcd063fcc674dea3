//! When calls of a simulated disk fail.

use std::fmt;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;

use super::Dice;

/// What a fault is asked about, before it happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// A write to a file.
    Write,
    /// A sync of a file or of a directory.
    Sync,
    /// A read.
    View,
    /// Taking space for a file.
    Allocate,
    /// Zeroing a range of a file without writing it.
    Zero,
    /// Cutting or extending a file.
    Truncate,
    /// Making a file.
    Create,
    /// Renaming a file; the path is the old name.
    Rename,
    /// Removing a file's name.
    Remove,
}

/// How often calls fail, each once in so many calls on average; 0 is never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultRates {
    /// Reads that are a medium error.
    pub reads: u32,
    /// Writes that are a medium error; a part of them may have reached the file.
    pub writes: u32,
    /// Syncs that are a medium error: nobody knows what is on the medium, and no later sync tells.
    pub syncs: u32,
    /// Allocations and new files for which the device is full.
    pub allocations: u32,
}

impl FaultRates {
    fn of(&self, op: Op) -> (u32, ErrorKind) {
        match op {
            Op::View => (self.reads, ErrorKind::Other),
            Op::Write => (self.writes, ErrorKind::Other),
            Op::Sync => (self.syncs, ErrorKind::Other),
            Op::Allocate | Op::Create => (self.allocations, ErrorKind::StorageFull),
            Op::Zero | Op::Truncate | Op::Rename | Op::Remove => (0, ErrorKind::Other),
        }
    }
}

/// Called before an operation; it may wait, or fail the operation.
pub(super) type Hook = Arc<dyn Fn(Op, &Path) -> io::Result<()> + Send + Sync>;

/// All faults of a disk.
#[derive(Clone, Default)]
pub(super) struct Faults {
    hook: Option<Hook>,
    rates: FaultRates,
    /// Faults that come once: of which call, on which part of a path, as what.
    once: Vec<(Op, String, ErrorKind)>,
    /// The next write to a path with this part goes wrong in this way, and says that all is well.
    lies: Vec<(Lie, String)>,
    dice: Dice,
}

/// A write that is acknowledged and did something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lie {
    Lost,
    Misdirected,
}

impl Faults {
    pub(super) fn new(dice: Dice) -> Self {
        Self { dice, ..Self::default() }
    }

    pub(super) fn set_hook(&mut self, hook: Option<Hook>) {
        self.hook = hook;
    }

    pub(super) fn hook(&self) -> Option<Hook> {
        self.hook.clone()
    }

    pub(super) fn set_rates(&mut self, rates: FaultRates) {
        self.rates = rates;
    }

    pub(super) fn fail_next(&mut self, op: Op, part: &str, kind: ErrorKind) {
        self.once.push((op, part.to_owned(), kind));
    }

    pub(super) fn lie_at_next_write(&mut self, lie: Lie, part: &str) {
        self.lies.push((lie, part.to_owned()));
    }

    /// The fault of this call that was ordered, or that the dice bring.
    pub(super) fn take(&mut self, op: Op, path: &Path) -> Option<ErrorKind> {
        let name = path.to_string_lossy();
        if let Some(at) = self.once.iter().position(|(of, part, _)| *of == op && name.contains(part.as_str())) {
            return Some(self.once.remove(at).2);
        }
        let (rate, kind) = self.rates.of(op);
        (rate > 0 && self.dice.chance(1, u64::from(rate))).then_some(kind)
    }

    pub(super) fn take_lie(&mut self, path: &Path) -> Option<Lie> {
        let name = path.to_string_lossy();
        let at = self.lies.iter().position(|(_, part)| name.contains(part.as_str()))?;
        Some(self.lies.remove(at).0)
    }

    pub(super) fn dice(&mut self) -> &mut Dice {
        &mut self.dice
    }
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Faults").field("rates", &self.rates).field("once", &self.once).finish_non_exhaustive()
    }
}
