//! [`GroupLog`] as openraft's log storage.

use std::io;

use openraft::entry::RaftEntry;
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{EntryPayload, OptionalSend};
use stratalog_storage::FrameKind;

use super::codec::encode_membership;
use super::log::{GroupLog, NewEntry};
use super::types::{Entry, EntryBytes, LogId, TypeConfig, Vote, log_id};

impl RaftLogStorage<TypeConfig> for GroupLog {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig>> {
        let [last_purged_log_id, last_log_id] = self.ends().map(|end| end.map(|(term, index)| log_id(term, index)));
        Ok(LogState { last_purged_log_id, last_log_id })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        GroupLog::save_vote(self, *vote).await
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries = entries.into_iter().map(new_entry).collect();
        GroupLog::append(self, entries, move || callback.io_completed(Ok(())))
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        GroupLog::truncate_after(self, last.map(|id| id.index))
    }

    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        GroupLog::purge(self, upto.leader_id.term, upto.index)
    }
}

fn new_entry(entry: Entry) -> NewEntry {
    let id = entry.log_id();
    let (kind, EntryBytes { bytes: payload, promises }) = match entry.payload {
        EntryPayload::Blank => (FrameKind::Blank, bytes::Bytes::new().into()),
        EntryPayload::Normal(entry) => (FrameKind::Normal, entry),
        EntryPayload::Membership(membership) => (FrameKind::Membership, encode_membership(&membership).into()),
    };
    NewEntry { index: id.index, term: id.leader_id.term, kind, payload, promises }
}
