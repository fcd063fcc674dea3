//! Entries of a snapshot between the network and the log: in a file, so that they are all here before Raft hears of the
//! snapshot, and memory holds few of them at a time.

use std::io::{self, IoSlice};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use stratalog_proto::{RaftIndex, Term};
use stratalog_storage::{File, FrameKind, Io, LogPoint, OpenMode, StateFiles};
use uuid::Uuid;

use super::codec::invalid;
use super::log::NewEntry;
use super::wire::{ENTRY_HEADER_BYTES, EntryHeader};

/// Entries in a file of their own, each its header of the wire and its payload. Dropping it removes the file.
pub(super) struct StagedEntries {
    io: Arc<dyn Io>,
    path: PathBuf,
    file: Arc<dyn File>,
    end: u64,
    /// The entry that the next one has to follow.
    last: LogPoint,
    /// The last one that belongs to the snapshot.
    at: LogPoint,
    max_payload: usize,
}

impl StagedEntries {
    /// An empty file, for the entries after `frontier` up to `at`. Blocks, as all of this does.
    pub(super) fn create(files: &StateFiles, frontier: LogPoint, at: LogPoint, max_payload: usize) -> io::Result<Self> {
        let io = Arc::clone(files.io());
        // A file of this name is cleared away by [`StateFiles::open`]. No other has it: one that was received before may
        // still be read.
        let path = files.dir().join(format!("incoming-{}.tmp", Uuid::new_v4()));
        let file = io.open(&path, OpenMode::CreateNew)?;
        Ok(Self { io, path, file, end: 0, last: frontier, at, max_payload })
    }

    /// Where the entries end in the file.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Whether all entries are here.
    pub(super) fn is_whole(&self) -> bool {
        self.last == self.at
    }

    /// Adds entries: headers one after the other, and the payloads that they describe.
    ///
    /// # Errors
    /// `InvalidData` if they do not follow or fail their checksums; those of the disk.
    pub(super) fn push(&mut self, mut headers: Bytes, payloads: &[Bytes]) -> io::Result<()> {
        if headers.len() != payloads.len() * ENTRY_HEADER_BYTES {
            return Err(invalid("a header for each entry"));
        }
        let raw = headers.clone();
        for payload in payloads {
            let header = EntryHeader::take(&mut headers)?;
            header.check(payload)?;
            let follows = header.index == self.last.index.0 + 1 && header.term >= self.last.term.0;
            if !follows || header.index > self.at.index.0 || payload.len() > self.max_payload {
                return Err(invalid("entries that follow each other up to the snapshot and fit the log"));
            }
            self.last = LogPoint { term: Term(header.term), index: RaftIndex(header.index) };
        }
        let mut parts: Vec<IoSlice<'_>> = raw
            .chunks_exact(ENTRY_HEADER_BYTES)
            .zip(payloads)
            .flat_map(|(header, payload)| [IoSlice::new(header), IoSlice::new(payload)])
            .collect();
        self.file.write_vectored_at(self.end, &mut parts)?;
        self.end += (raw.len() + payloads.iter().map(Bytes::len).sum::<usize>()) as u64;
        Ok(())
    }

    /// The entries at `from` in the file, about `max_bytes` of them and at least one, and where the next ones are.
    pub(super) fn read(&self, from: u64, max_bytes: u64) -> io::Result<(Vec<NewEntry>, u64)> {
        let (mut at, mut entries) = (from, Vec::new());
        while at < self.end && (at == from || at - from < max_bytes) {
            let payload_at = at + ENTRY_HEADER_BYTES as u64;
            let header = EntryHeader::take(&mut self.file.view(at..payload_at)?)?;
            at = payload_at + u64::from(header.len);
            let payload = self.file.view(payload_at..at)?;
            header.check(&payload)?;
            let EntryHeader { term, index, kind, .. } = header;
            entries.push(NewEntry { index, term, kind, payload, promises: Arc::default() });
        }
        Ok((entries, at))
    }
}

impl Drop for StagedEntries {
    fn drop(&mut self) {
        // What stays is cleared away at the next start.
        let _ = self.io.remove(&self.path);
    }
}

/// Headers of entries, to send them.
pub(super) fn encode_headers<'a>(entries: impl Iterator<Item = (u64, u64, FrameKind, &'a Bytes)>) -> Bytes {
    let mut out = BytesMut::new();
    entries.for_each(|(term, index, kind, payload)| EntryHeader::new(term, index, kind, payload).put(&mut out));
    out.freeze()
}
