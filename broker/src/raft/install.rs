//! Brings a log up to a snapshot that a leader sent.

use std::io;
use std::sync::Arc;

use stratalog_storage::LogPoint;

use super::log::{GroupLog, NewEntry};
use super::staged::StagedEntries;

impl GroupLog {
    /// Makes the log hold the entries above `frontier` up to `at`, durably. What it holds of them already stays; nothing
    /// that it holds leaves the disk before [`release`](GroupLog::release). Called while nobody appends: openraft queues
    /// everything that follows an install behind it.
    ///
    /// A log that has the entry at `frontier` goes on with what it lacks. Any other goes on after a Purge frame; a crash
    /// before the state file that belongs to it is durable takes that frame back.
    pub(super) async fn install(&self, frontier: LogPoint, at: LogPoint, entries: StagedEntries) -> io::Result<()> {
        if !self.0.index.read().has(frontier.term.0, frontier.index.0) {
            self.jump(frontier.term.0, frontier.index.0)?;
        }
        let entries = Arc::new(entries);
        let mut from = 0;
        while from < entries.end() {
            let (staged, bytes) = (Arc::clone(&entries), self.install_bytes());
            let read = tokio::task::spawn_blocking(move || staged.read(from, bytes));
            let (window, next) = read.await.map_err(io::Error::other)??;
            // Without room in the lane it would hold up all groups of the node.
            let promise = self.room_to_install(&window).await?;
            self.install_some(window)?;
            drop(promise);
            // A window at a time is in memory.
            self.all_durable().await?;
            from = next;
        }
        self.all_durable().await?;
        let reached = self.0.index.read().has(at.term.0, at.index.0);
        if reached { Ok(()) } else { Err(io::Error::other(format!("the entries of the snapshot end before {at:?}"))) }
    }

    /// Appends those of the entries that the log does not have, in place of others at their indexes.
    fn install_some(&self, mut entries: Vec<NewEntry>) -> io::Result<()> {
        let held = {
            let index = self.0.index.read();
            entries.iter().take_while(|entry| index.has(entry.term, entry.index)).count()
        };
        entries.drain(..held);
        let Some(first) = entries.first() else { return Ok(()) };
        let before = first.index.checked_sub(1);
        if self.last_index() > before {
            self.truncate_after(before)?;
        }
        self.append(entries, || ())
    }
}
