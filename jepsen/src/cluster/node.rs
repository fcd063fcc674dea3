//! One node: a place, and the process that may run there.

use std::fs::OpenOptions;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::disk::Disk;
use super::levers::Levers;
use super::memory::MemoryLimit;
use crate::failure::Failure;

const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Dropping it kills the process, its own and no other.
#[derive(Debug)]
pub(crate) struct Node {
    /// From 1 on, which is also the id that the cluster gives it.
    pub(crate) number: u64,
    /// As in `http://127.0.0.1:7070`.
    pub(crate) grpc: String,
    /// As in `127.0.0.1:8080`.
    pub(crate) http: String,
    /// As in `127.0.0.1:9092`.
    pub(crate) kafka: String,
    pub(crate) peer: String,
    pub(crate) data: PathBuf,
    pub(crate) disk: Disk,
    pub(crate) levers: Option<Levers>,
    /// What its process may have in use, where the system bounds it.
    pub(super) limit: Option<MemoryLimit>,
    pub(super) config: PathBuf,
    /// What the process prints.
    pub(super) log: PathBuf,
    pub(super) child: Option<Child>,
}

impl Node {
    pub(crate) fn is_running(&self) -> bool {
        self.child.is_some()
    }

    /// Starts the process; waits for nothing. To be called on the thread that the harness began on: the process ends with it.
    pub(super) fn launch(&mut self, mut command: Command) -> Result<(), Failure> {
        if self.is_running() {
            return Err(Failure(format!("node {} runs already", self.number)));
        }
        let log = OpenOptions::new().create(true).append(true).open(&self.log)?;
        command.arg("serve").arg("--config").arg(&self.config).stdin(Stdio::null());
        command.stdout(log.try_clone()?).stderr(log);
        // SAFETY: between fork and exec only one system call is made, which takes and changes no memory.
        unsafe { command.pre_exec(end_with_the_harness) };
        let program = command.get_program().to_owned();
        let spawned = command.spawn();
        let child = spawned.map_err(|error| Failure(format!("cannot start {}: {error}", program.display())))?;
        let id = child.id();
        self.child = Some(child);
        self.limit.as_ref().map_or(Ok(()), |limit| limit.add(id)).map_err(Failure)
    }

    /// `kill -9`.
    pub(super) fn kill(&mut self) -> Result<(), Failure> {
        let mut child = self.take()?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Asks the process to stop, and waits until it has.
    pub(super) async fn stop(&mut self, within: Duration) -> Result<(), Failure> {
        self.signal(libc::SIGTERM)?;
        let number = self.number;
        let deadline = Instant::now() + within;
        let mut child = self.take()?;
        loop {
            match child.try_wait()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => {
                    return Err(Failure(format!("node {number} was asked to stop and ended with {status}")));
                }
                None if Instant::now() >= deadline => {
                    child.kill()?;
                    child.wait()?;
                    return Err(Failure(format!("node {number} did not stop within {within:?}; it was killed")));
                }
                None => tokio::time::sleep(LOOK_EVERY).await,
            }
        }
    }

    /// Suspends or resumes the process.
    pub(super) fn signal(&self, signal: libc::c_int) -> Result<(), Failure> {
        let child = self.child.as_ref().ok_or_else(|| self.not_running())?;
        let id = libc::pid_t::try_from(child.id()).map_err(|error| Failure(error.to_string()))?;
        // SAFETY: the call reads its arguments only. The child was not waited for yet, so the id is still its own.
        let sent = unsafe { libc::kill(id, signal) };
        if sent == 0 { Ok(()) } else { Err(std::io::Error::last_os_error().into()) }
    }

    /// Waits until nothing of the process runs that was halted: what the system does for it may take a while.
    ///
    /// # Errors
    /// If it still runs after that time.
    pub(super) fn wait_halted(&self, within: Duration) -> Result<(), Failure> {
        let id = self.child.as_ref().ok_or_else(|| self.not_running())?.id();
        let deadline = Instant::now() + within;
        while threads_run(id)? {
            if Instant::now() >= deadline {
                return Err(Failure(format!("node {} was halted and still runs after {within:?}", self.number)));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// How the process ended, if it did though nobody asked it to. It is not running then.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        let status = self.child.as_mut()?.try_wait().ok()??;
        self.child = None;
        Some(status)
    }

    /// What of its memory is in use now.
    ///
    /// # Errors
    /// If it does not run.
    pub(crate) fn memory_bytes(&self) -> Result<u64, Failure> {
        self.resident_bytes("VmRSS:")
    }

    /// What of its memory was in use at most since it started.
    ///
    /// # Errors
    /// If it does not run.
    pub(crate) fn peak_memory_bytes(&self) -> Result<u64, Failure> {
        self.resident_bytes("VmHWM:")
    }

    fn resident_bytes(&self, name: &str) -> Result<u64, Failure> {
        let id = self.child.as_ref().ok_or_else(|| self.not_running())?.id();
        let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
        let resident = status.lines().find_map(|line| line.strip_prefix(name));
        let kib: Option<u64> = resident.and_then(|text| text.split_whitespace().next()?.parse().ok());
        kib.map(|kib| kib << 10)
            .ok_or_else(|| Failure(format!("it is not known how much memory node {} has", self.number)))
    }

    /// What it has printed so far.
    pub(crate) fn told(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The last line of that.
    pub(crate) fn last_words(&self) -> String {
        let told = self.told();
        told.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default().to_owned()
    }

    fn take(&mut self) -> Result<Child, Failure> {
        self.child.take().ok_or_else(|| self.not_running())
    }

    fn not_running(&self) -> Failure {
        Failure(format!("node {} does not run", self.number))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Whether a thread of a process does something of its own; one that waits for a device does not come back to it.
fn threads_run(process: u32) -> Result<bool, Failure> {
    let mut states = Vec::new();
    for thread in std::fs::read_dir(format!("/proc/{process}/task"))? {
        // A thread may end meanwhile.
        let told = std::fs::read_to_string(thread?.path().join("stat")).unwrap_or_default();
        // Behind the name, which may have anything in it.
        states.extend(told.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next()));
    }
    Ok(states.iter().any(|state| matches!(state, 'R' | 'S')))
}

/// A harness that is killed leaves no nodes behind.
pub(crate) fn end_with_the_harness() -> std::io::Result<()> {
    // SAFETY: the call takes numbers only.
    let done = unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    if done == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}
