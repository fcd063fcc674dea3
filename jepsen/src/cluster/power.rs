//! The power of nodes goes.

use std::time::Duration;

use super::loop_disk::LoopDisk;
use super::{Cluster, Disk};
use crate::failure::Failure;

/// What the system does for a process that is halted is done within this.
const HALTS_WITHIN: Duration = Duration::from_secs(10);

impl Cluster {
    /// Cuts the power of these nodes at one moment, and gives it back: what they had not synced is lost, and they do not run.
    ///
    /// A process is halted before its device ends, and never goes on: it could take a sync that met the end of its device for one
    /// that succeeded (`jbd2_complete_transaction` takes a transaction that was aborted for a committed one) and acknowledge what
    /// no machine without power acknowledges.
    ///
    /// # Errors
    /// If the harness cannot do that.
    pub(crate) fn cut_power(&mut self, numbers: &[u64]) -> Result<(), Failure> {
        numbers.iter().try_for_each(|number| self.halt(*number))?;
        numbers.iter().try_for_each(|number| self.node(*number)?.wait_halted(HALTS_WITHIN))?;
        self.on_devices(numbers, LoopDisk::cut)?;
        numbers.iter().try_for_each(|number| self.kill(*number))?;
        self.on_devices(numbers, LoopDisk::remount)
    }

    fn on_devices(&self, numbers: &[u64], work: impl Fn(&LoopDisk) -> Result<(), String>) -> Result<(), Failure> {
        numbers.iter().try_for_each(|number| match &self.node(*number)?.disk {
            Disk::Loop(disk) => work(disk).map_err(Failure),
            _ => Err(Failure(format!("node {number} has no device that can lose its power"))),
        })
    }
}
