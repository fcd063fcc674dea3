//! What a replica takes from its leader: only what fits the room of the lane that is there. An entry that Raft has seen
//! must be appended, and one that waits for space in the lane holds up all groups of the node.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use openraft::EntryPayload;
use openraft::raft::AppendEntriesRequest;
use stratalog_proto::{Code, Error};

use super::log::{GroupLog, NewEntry};
use super::promise::Promise;
use super::types::{Entry, EntryBytes, TypeConfig};

/// Room that is left free: for the end of a file that stays empty because an entry does not fit it, and for entries
/// without commands. It is half of what a leader keeps, so that what a leader puts into the other half, Seal and Drop,
/// still gets through on a replica that is as full.
const RESERVE_BYTES: u64 = 4 << 20;
/// The reserve is at most this part of a log file.
const RESERVE_PART: u64 = 32;
/// What an entry takes in the log beside its payload, at most.
const ENTRY_BYTES: u64 = 128;
/// What a message takes beside its entries, at most.
const MESSAGE_BYTES: u64 = 1 << 10;
/// What is appended at once of a snapshot, and the part of a log file that it is at most.
const INSTALL_BYTES: u64 = 4 << 20;
const INSTALL_PART: u64 = 8;
/// How long the log's next file may be on its way before the leader is told to come back later. Shorter than a heartbeat
/// is waited for.
const WAIT: Duration = Duration::from_millis(100);
/// How often room is looked for meanwhile.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

impl GroupLog {
    /// Promises the entries with commands of a message their room in the lane. A message without any passes: heartbeats,
    /// and the entry that a new leader begins with.
    ///
    /// # Errors
    /// [`Code::StorageFull`]: there is no room now; Raft must not see the message.
    pub(super) async fn make_room(&self, append: &mut AppendEntriesRequest<TypeConfig>) -> Result<(), Error> {
        let payloads = append.entries.iter().filter_map(commands);
        let Some(bytes) = payloads.map(|entry| entry.bytes.len() as u64 + ENTRY_BYTES).reduce(|sum, more| sum + more)
        else {
            return Ok(());
        };
        let promises: Arc<[Promise]> = Arc::new([self.room_for(bytes + MESSAGE_BYTES).await?]);
        for entry in &mut append.entries {
            if let EntryPayload::Normal(entry) = &mut entry.payload {
                entry.promises = Arc::clone(&promises);
            }
        }
        Ok(())
    }

    /// Promises entries of a snapshot their room, however long it takes until there is some: Raft has seen the snapshot, and
    /// would take an error for one of the disk.
    ///
    /// # Errors
    /// The group is being stopped.
    pub(super) async fn room_to_install(&self, entries: &[NewEntry]) -> io::Result<Promise> {
        let bytes = entries.iter().map(|entry| entry.payload.len() as u64 + ENTRY_BYTES).sum();
        let mut told = false;
        loop {
            match self.room_for(bytes).await {
                Ok(promise) => return Ok(promise),
                Err(error) if self.stopping().load(Ordering::Acquire) => return Err(io::Error::other(error)),
                Err(error) if !std::mem::replace(&mut told, true) => {
                    tracing::debug!(shard = %self.shard(), %error, "a snapshot waits for the log's next file");
                }
                Err(_) => {}
            }
        }
    }

    /// How much of a snapshot is read and appended at once: all of it finds room in a log file that others write to, too.
    pub(super) fn install_bytes(&self) -> u64 {
        INSTALL_BYTES.min(self.max_entry_bytes() as u64 / INSTALL_PART)
    }

    async fn room_for(&self, bytes: u64) -> Result<Promise, Error> {
        let file = self.max_entry_bytes() as u64;
        let reserve = RESERVE_BYTES.min(file / RESERVE_PART);
        // Batches that wait here leave so much of a whole file, and of more room than that one cannot be sure.
        let asked = bytes.min((file / 2).saturating_sub(reserve));
        let promised = async {
            loop {
                match self.promise(asked, reserve) {
                    Ok(promise) => return promise,
                    Err(_) => tokio::time::sleep(LOOK_AGAIN).await,
                }
            }
        };
        let none = |_| {
            let message = format!("the log of shard {} has no room for {bytes} bytes of entries now", self.shard());
            Error::new(Code::StorageFull, message)
        };
        tokio::time::timeout(WAIT, promised).await.map_err(none)
    }
}

fn commands(entry: &Entry) -> Option<&EntryBytes> {
    match &entry.payload {
        EntryPayload::Normal(commands) => Some(commands),
        EntryPayload::Blank | EntryPayload::Membership(_) => None,
    }
}
