//! [`GroupLog`] as openraft's log reader.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, Range, RangeBounds, RangeInclusive};

use bytes::Bytes;
use futures::Stream;
use futures::stream::{self, StreamExt, TryStreamExt};
use openraft::storage::RaftLogReader;
use openraft::{EntryPayload, OptionalSend};
use stratalog_proto::{Error, RaftIndex};
use stratalog_storage::FrameKind;

use super::codec::decode_membership;
use super::index::Located;
use super::log::GroupLog;
use super::types::{Entry, EntryBytes, LogId, TypeConfig, Vote, log_id};

/// Payload bytes that one read takes into memory; openraft's own limits count entries only.
pub(super) const READ_BYTES: usize = 4 << 20;

impl RaftLogReader<TypeConfig> for GroupLog {
    async fn try_get_log_entries<R>(&mut self, range: R) -> io::Result<Vec<Entry>>
    where
        R: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        if self.is_starting() {
            // A start looks for memberships and terms in all of the log, 64 entries at a time.
            let located = self.locate(indexes(&range), usize::MAX);
            return located.iter().map(|entry| self.outline(entry)).collect();
        }
        self.entries(indexes(&range), usize::MAX).await
    }

    async fn get_key_log_ids(&mut self, range: RangeInclusive<LogId>) -> io::Result<Vec<LogId>> {
        let ends = self.0.index.read().run_ends(range.start().index..=range.end().index);
        Ok(ends.into_iter().map(|(term, index)| log_id(term, index)).collect())
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        self.entries(start..end, READ_BYTES).await
    }

    /// Reads in steps of a few megabytes: the default would load the whole range, which at a restart is the whole log.
    async fn entries_stream<R>(&mut self, range: R) -> impl Stream<Item = io::Result<Entry>> + OptionalSend
    where
        R: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let log = self.clone();
        let steps = stream::try_unfold(indexes(&range), move |rest| {
            let log = log.clone();
            async move {
                let read = log.entries(rest.clone(), READ_BYTES).await?;
                let next = read.last().map(|entry| entry.log_id.index + 1);
                Ok::<_, io::Error>(next.map(|next| (stream::iter(read.into_iter().map(Ok)), next..rest.end)))
            }
        });
        steps.try_flatten().boxed()
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.vote())
    }
}

impl GroupLog {
    async fn entries(&self, range: Range<u64>, max_bytes: usize) -> io::Result<Vec<Entry>> {
        let located = self.locate(range, max_bytes);
        if located.iter().all(|entry| entry.payload.is_some()) {
            return self.decode(&located);
        }
        let log = self.clone();
        tokio::task::spawn_blocking(move || log.decode(&located)).await.map_err(io::Error::other)?
    }

    /// An entry without its commands.
    fn outline(&self, located: &Located) -> io::Result<Entry> {
        match located.slot.kind {
            FrameKind::Normal => {
                let payload = EntryPayload::Normal(EntryBytes::from(Bytes::new()));
                Ok(Entry { log_id: log_id(located.term, located.index), payload })
            }
            _ => self.decode(std::slice::from_ref(located)).map(|mut one| one.remove(0)),
        }
    }

    /// Entries with their payloads, those included that Raft no longer reads, until they exceed `max_bytes`; at least one
    /// if there is one. Blocks on the disk.
    pub(super) fn window(&self, range: Range<u64>, max_bytes: usize) -> Result<Vec<(Located, Bytes)>, Error> {
        let located = self.0.index.read().range(range, max_bytes);
        let load = |entry: Located| match self.load(&entry) {
            Ok(payload) => Ok((entry, payload)),
            Err(error) => Err(self.unreadable(RaftIndex(entry.index), &error)),
        };
        located.into_iter().map(load).collect()
    }

    fn decode(&self, located: &[Located]) -> io::Result<Vec<Entry>> {
        let entry = |located: &Located| {
            let payload = match located.slot.kind {
                FrameKind::Blank => EntryPayload::Blank,
                FrameKind::Normal => EntryPayload::Normal(EntryBytes::from(self.load(located)?)),
                FrameKind::Membership => EntryPayload::Membership(decode_membership(self.load(located)?)?),
                FrameKind::Truncate | FrameKind::Purge => {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "a marker is no entry of the log"));
                }
            };
            Ok(Entry { log_id: log_id(located.term, located.index), payload })
        };
        located.iter().map(entry).collect()
    }
}

fn indexes(range: &impl RangeBounds<u64>) -> Range<u64> {
    let start = match range.start_bound() {
        Bound::Included(first) => *first,
        Bound::Excluded(before) => before.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(last) => last.saturating_add(1),
        Bound::Excluded(end) => *end,
        Bound::Unbounded => u64::MAX,
    };
    start..end
}
