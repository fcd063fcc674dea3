//! L5: media that lie and rot.

use std::path::{Path, PathBuf};

use stratalog_proto::Code;
use stratalog_storage::simulation::Rot;

use super::node::Node;
use super::run::Run;

impl Run {
    /// Has the medium lie or rot, and starts a process on it: either the start is refused, or everything that was
    /// acknowledged is there all the same, or a read says which file is damaged. Then all is as it was before.
    pub(super) fn damage(&mut self) {
        self.troubled = true;
        let whole = (self.disk.after_kill(), self.models.clone(), self.clients.clone(), self.topics.clone());
        let damaged = if self.dice.chance(1, 4) { self.lie() } else { self.rot_at_rest() };
        if let Some(what) = damaged {
            self.damages.0 += 1;
            let told = self.start_damaged(&what);
            self.note(format_args!("{what}: {told}"));
        }
        (self.disk, self.models, self.clients, self.topics) = whole;
        self.restart(false);
    }

    /// The next write to the log is acknowledged, and is not where it should be; the log goes on behind it.
    fn lie(&mut self) -> Option<String> {
        let misdirected = self.dice.chance(1, 2);
        if misdirected {
            self.disk.misdirect_next_write(".log");
        } else {
            self.disk.lose_next_write(".log");
        }
        let written = self.node.lane.flush();
        let applied = self.apply_all();
        let proven = self.node.lane.mark();
        self.disk = self.disk.after_kill();
        let what = if misdirected { "misdirected" } else { "lost" };
        (written && proven && applied.is_ok()).then(|| format!("a {what} write to the log"))
    }

    /// A file rots while no process runs.
    fn rot_at_rest(&mut self) -> Option<String> {
        // Behind a mark the whole log is known to be durable; without one, a lost sector at its end passes for a write that
        // was cut short.
        while self.node.lane.flush() {}
        let marked = self.node.lane.mark();
        self.disk = self.disk.after_kill();
        let (path, kind) = self.rot(marked)?;
        Some(format!("{kind:?} in {}", path.display()))
    }

    fn rot(&mut self, marked: bool) -> Option<(PathBuf, Rot)> {
        let paths = self.disk.paths();
        let path = self.dice.pick(&paths)?.clone();
        let kind = if is_log(&path) && !marked { Rot::Flip } else { *self.dice.pick(&Rot::ALL)? };
        self.disk.rot(&path, kind, 0..u64::MAX).map(|_| (path, kind))
    }

    /// Starts on the damaged disk; what it said.
    fn start_damaged(&mut self, what: &str) -> String {
        self.disk.set_capacity(u64::MAX);
        let started = Node::open(&self.disk).and_then(|node| {
            self.node = node;
            for (replica, model) in self.node.replicas.iter().zip(&mut self.models) {
                model.recovered(replica.solo.end());
                model.voted(replica.solo.voted());
            }
            self.apply_all()?;
            self.node.reconcile()?;
            for at in 0..self.models.len() {
                self.node.replicas[at].make_expected()?;
                self.check(at)?;
                self.check_segments(at)?;
            }
            Ok(())
        });
        let Err(error) = started else { return "harmless".to_owned() };
        self.damages.1 += 1;
        let damage = [Code::CorruptData, Code::CorruptBatch, Code::NewerVersion];
        assert!(damage.contains(&error.code), "L5: damage ({what}) is told as {}: {error}", error.code);
        error.to_string()
    }
}

fn is_log(path: &Path) -> bool {
    path.to_string_lossy().contains(".log")
}
