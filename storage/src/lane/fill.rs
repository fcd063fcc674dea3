//! Fills the next file with zeroes while the log leaves the disk idle.
//!
//! Space that was written once syncs about twice as fast as space that was only reserved. That is worth something to a
//! log of small groups, which leaves room for it; under load groups are so large that it matters less, and the zeroes
//! would be paid for with the log's own bandwidth. So they are written only while the log is slow, and a file that is
//! needed before they are all there is taken as it is. It reads as zeroes either way.

use std::io;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::files::LogWriter;
use super::format::FIRST_GROUP;
use super::jobs::State;
use super::spare::Shared;

/// Zeroes are written and synced in steps of this size.
const STEP: &[u8] = &[0; 1 << 20];
/// Before each step the thread rests for at least this long.
const REST: Duration = Duration::from_millis(20);
/// And this many times as long as the step before took, to leave the disk to the log.
const REST_STEPS: u32 = 3;
/// The log is slow if it writes no more than this, in bytes a second: a small part of what any disk takes.
const SLOW_BYTES: u64 = 16 << 20;
/// No zeroes are written any more once the log is quick and has written this part of a file since the filling began.
const QUICK_PART: u64 = 16;

impl Shared {
    /// Writes zeroes, step by step, until the end, until the log goes on quickly, or until somebody waits.
    pub(super) fn fill(&self, next: &LogWriter) -> io::Result<()> {
        let file_bytes = next.log.header.file_bytes;
        let began = self.logged.load(Ordering::Relaxed);
        let (mut at, mut rest) = (FIRST_GROUP, REST);
        let (mut seen, mut looked) = (began, Instant::now());
        while at < file_bytes && !self.hurried_after(rest) {
            let (logged, now) = (self.logged.load(Ordering::Relaxed), Instant::now());
            if is_slow(logged - seen, now - looked) {
                at += self.fill_step(next, at, file_bytes)?;
                rest = REST.max(now.elapsed() * REST_STEPS);
            } else if logged - began > file_bytes / QUICK_PART {
                break;
            }
            (seen, looked) = (logged, now);
        }
        Ok(())
    }

    fn fill_step(&self, next: &LogWriter, at: u64, file_bytes: u64) -> io::Result<u64> {
        let bytes = (file_bytes - at).min(STEP.len() as u64);
        next.file.write_at(at, &STEP[..bytes as usize])?;
        next.file.sync_data()?;
        self.zeroed.fetch_add(bytes, Ordering::Relaxed);
        Ok(bytes)
    }

    /// Rests; whether there is no more time for zeroes.
    fn hurried_after(&self, rest: Duration) -> bool {
        let calm = |state: &mut State| !(state.urgent || state.stop || state.closing);
        let mut state = self.state.lock();
        self.changed.wait_while_for(&mut state, calm, rest);
        !calm(&mut state)
    }
}

/// Whether a log that wrote so many bytes in this time leaves the disk room for zeroes.
fn is_slow(bytes: u64, time: Duration) -> bool {
    bytes as f64 <= SLOW_BYTES as f64 * time.as_secs_f64()
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;
    use std::sync::atomic::AtomicU64;

    use super::*;
    use crate::Io;
    use crate::io::sim::{Op, SimDisk};
    use crate::lane::maker::Maker;
    use crate::lane::spare::Spare;

    const FILE: u64 = 4 << 20;

    /// Fills a file while `during` happens at each write of zeroes; returns how many were written.
    fn filled(prepared: impl FnOnce(&Spare), during: impl Fn(&Shared) + Send + Sync + 'static) -> u64 {
        let disk = SimDisk::new();
        disk.create_dir_all(Path::new("/lane")).unwrap();
        let maker = Maker {
            io: Arc::new(disk.clone()),
            dir: "/lane".into(),
            lane: 7,
            file_bytes: FILE,
            reserve_bytes: 0,
            recycled: AtomicU64::new(0),
        };
        let next = maker.start(2, 1, None).unwrap();
        let spare = Spare::new(maker, State::new(2, None, 1, Vec::new()), Box::new(|error| panic!("{error}")));
        let shared = spare.shared().clone();
        prepared(&spare);
        disk.set_fault(move |op, _| {
            if op == Op::Write {
                during(&shared);
            }
            Ok(())
        });
        spare.shared().fill(&next).unwrap();
        disk.clear_fault();
        spare.shared().zeroed.load(Ordering::Relaxed)
    }

    #[test]
    fn an_idle_log_leaves_time_to_fill_the_whole_file() {
        assert_eq!(filled(|_| (), |_| ()), FILE - FIRST_GROUP);
        let trickle = |shared: &Shared| {
            shared.logged.fetch_add(1 << 10, Ordering::Relaxed);
        };
        assert_eq!(filled(|_| (), trickle), FILE - FIRST_GROUP);
    }

    #[test]
    fn a_slow_log_is_one_that_leaves_the_disk_room() {
        assert!(is_slow(5 << 20, Duration::from_secs(1)));
        assert!(is_slow(SLOW_BYTES / 50, REST));
        assert!(!is_slow(SLOW_BYTES / 50 + 1, REST));
    }

    #[test]
    fn a_log_that_goes_on_quickly_gets_no_zeroes() {
        // So much that it is quick however long the machine takes for a step.
        let flood = |shared: &Shared| {
            shared.logged.fetch_add(1 << 40, Ordering::Relaxed);
        };
        assert_eq!(filled(|_| (), flood), STEP.len() as u64, "it stops behind the first step");
    }

    #[test]
    fn nobody_waits_for_zeroes() {
        assert_eq!(filled(|spare| spare.prepare(true), |_| ()), 0);
        assert_eq!(filled(|spare| spare.watch().close(), |_| ()), 0);
        assert_eq!(filled(|_| (), |shared| shared.state.lock().urgent = true), STEP.len() as u64);
    }
}
