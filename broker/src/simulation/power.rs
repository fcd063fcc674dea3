//! What goes wrong with the machine, and how a node comes back.

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use stratalog_proto::Error;
use stratalog_storage::simulation::Op;

use super::node::Node;
use super::run::Run;
use crate::fatal::simulated;

/// Calls that may fail, on which files, and as what.
const FAULTS: [(Op, &str, ErrorKind); 16] = [
    (Op::Write, ".log", ErrorKind::Other),
    (Op::Sync, ".log", ErrorKind::Other),
    (Op::Write, ".vote", ErrorKind::Other),
    (Op::Write, ".rec", ErrorKind::Other),
    (Op::Sync, ".rec", ErrorKind::Other),
    (Op::Rename, ".rec", ErrorKind::Other),
    (Op::Sync, "segments", ErrorKind::Other),
    (Op::Write, ".state", ErrorKind::Other),
    (Op::Sync, ".state", ErrorKind::Other),
    (Op::Sync, "/state", ErrorKind::Other),
    (Op::View, ".rec", ErrorKind::Other),
    (Op::View, ".log", ErrorKind::Other),
    (Op::Allocate, ".log", ErrorKind::StorageFull),
    (Op::Create, ".rec", ErrorKind::StorageFull),
    (Op::Create, ".state", ErrorKind::StorageFull),
    (Op::Remove, "", ErrorKind::Other),
];

/// Whether the power is gone; the disk's hook says so.
#[derive(Clone, Default)]
pub(super) struct Power(Arc<AtomicBool>);

impl Run {
    /// Has one of the calls to come fail.
    pub(super) fn order_fault(&mut self) {
        let (op, part, kind) = FAULTS[self.dice.below(FAULTS.len() as u64) as usize];
        self.disk.fail_next(op, part, kind);
        self.troubled = true;
        self.note(format_args!("{op:?} of {part}: {kind}"));
    }

    /// Fills the device, or gives it room again.
    pub(super) fn change_space(&mut self) {
        let room = self.dice.chance(1, 2).then(|| self.dice.below(30_000));
        self.disk.set_capacity(room.map_or(u64::MAX, |room| self.disk.used_bytes() + room));
        self.troubled |= room.is_some();
        self.note(format_args!("{room:?} bytes"));
    }

    /// After a few more calls, none reaches the disk.
    pub(super) fn cut_power_soon(&mut self) {
        let calls = 1 + self.dice.below(60);
        self.note(format_args!("after {calls} calls"));
        self.arm(calls);
    }

    fn arm(&mut self, calls: u64) {
        let (left, gone) = (AtomicU64::new(calls), self.power.0.clone());
        self.troubled = true;
        self.disk.set_fault(move |_, _| {
            let last = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_err();
            gone.fetch_or(last, Ordering::SeqCst);
            if last { Err(io::Error::other("the power is gone")) } else { Ok(()) }
        });
    }

    pub(super) fn power_is_gone(&self) -> bool {
        self.power.0.load(Ordering::SeqCst)
    }

    /// Ends the process, with the power or without, and starts it again until it serves.
    pub(super) fn restart(&mut self, power: bool) {
        self.next_life(power);
        for attempt in 0.. {
            // Starts are interrupted too, but not for ever.
            if attempt < 3 && self.dice.chance(1, 4) {
                let calls = self.dice.below(80);
                self.arm(calls);
            }
            let started = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.start()));
            let stopped = simulated::take();
            match started {
                Err(panic) if stopped.is_none() => std::panic::resume_unwind(panic),
                Ok(Ok(())) if stopped.is_none() && !self.power_is_gone() => break,
                Ok(Err(error)) => {
                    assert!(self.troubled, "a start failed though nothing was wrong: {error}");
                    self.note(format_args!("start: {error}"));
                }
                _ => {}
            }
            let power = self.power_is_gone() || self.dice.chance(1, 2);
            self.next_life(power);
        }
        self.disk.clear_fault();
        self.troubled = false;
    }

    fn next_life(&mut self, power: bool) {
        self.restarts += 1;
        self.recycled += self.node.lane.lane().stats().recycled_files;
        self.disk = if power { self.disk.after_power_cut_by_seed() } else { self.disk.after_kill() };
        self.disk.set_capacity(u64::MAX);
        self.power = Power::default();
        self.troubled = false;
        self.note(if power { "power cut" } else { "killed" });
    }

    /// Opens what the disk has, applies it, and compares.
    fn start(&mut self) -> Result<(), Error> {
        self.node = Node::open(&self.disk)?;
        for (replica, model) in self.node.replicas.iter().zip(&mut self.models) {
            model.recovered(replica.solo.end());
            model.voted(replica.solo.voted());
        }
        self.clients.iter_mut().flatten().for_each(|client| client.reconnect());
        self.apply_all()?;
        self.forget_lost_topics();
        self.lead()?;
        self.apply_all()?;
        self.node.reconcile()?;
        for at in 0..self.models.len() {
            self.node.replicas[at].make_expected()?;
            self.check(at)?;
            self.check_segments(at)?;
        }
        Ok(())
    }
}
