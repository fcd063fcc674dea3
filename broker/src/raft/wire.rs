//! The bytes of what replicas of a group tell each other; `docs/FORMATS.md`, "Raft payloads". All integers are
//! little-endian. Whoever receives them checks every length before memory is taken for it.

use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use openraft::EntryPayload;
use openraft::entry::RaftEntry;
use openraft::raft::{AppendEntriesRequest, TransferLeaderRequest, VoteRequest, VoteResponse};
use stratalog_storage::FrameKind;

use super::codec::{VOTE_BYTES, decode_membership, decode_vote, encode_membership, encode_vote, invalid};
use super::peers::Message;
use super::types::{Entry, EntryBytes, LogId, TypeConfig, Vote, log_id};

/// Bytes in front of each entry's payload.
pub(super) const ENTRY_HEADER_BYTES: usize = 32;
/// The most entries of one message; openraft's own limit is lower.
const MAX_ENTRIES: u32 = 1 << 16;
/// The highest term that is believed. Terms grow by one an election.
const MAX_TERM: u64 = 1 << 62;
/// The highest index that is believed. Logs grow by one an entry.
const MAX_INDEX: u64 = 1 << 62;

/// What a message is; its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    Append = 1,
    Vote = 2,
    PreVote = 3,
    StateHead = 4,
    StateBytes = 5,
    StateEntries = 6,
    TransferLeader = 7,
}

impl Kind {
    const ALL: [Kind; 7] = [
        Kind::Append,
        Kind::Vote,
        Kind::PreVote,
        Kind::StateHead,
        Kind::StateBytes,
        Kind::StateEntries,
        Kind::TransferLeader,
    ];

    /// Takes the kind off the front of a head.
    pub(super) fn take(head: &mut Bytes) -> io::Result<Self> {
        let number = head.try_get_u8().map_err(|_| cut())?;
        Self::ALL.into_iter().find(|kind| *kind as u8 == number).ok_or_else(|| invalid("a message of a known kind"))
    }
}

/// A request of a leader or a candidate.
pub(super) enum Request {
    Append(AppendEntriesRequest<TypeConfig>),
    Vote(VoteRequest<TypeConfig>),
    PreVote(VoteRequest<TypeConfig>),
    TransferLeader(TransferLeaderRequest<TypeConfig>),
}

impl Request {
    pub(super) fn encode(self) -> Message {
        match self {
            Request::Append(append) => encode_append(append),
            Request::Vote(vote) => encode_vote_request(Kind::Vote, &vote),
            Request::PreVote(vote) => encode_vote_request(Kind::PreVote, &vote),
            Request::TransferLeader(transfer) => encode_transfer(&transfer),
        }
    }

    /// # Errors
    /// `InvalidData` for bytes that are no request.
    pub(super) fn decode(message: Message) -> io::Result<Self> {
        let Message { mut head, parts } = message;
        let kind = Kind::take(&mut head)?;
        let request = match kind {
            Kind::Append => Request::Append(decode_append(&mut head, parts)?),
            Kind::Vote => Request::Vote(decode_vote_request(&mut head)?),
            Kind::PreVote => Request::PreVote(decode_vote_request(&mut head)?),
            Kind::TransferLeader => Request::TransferLeader(decode_transfer(&mut head)?),
            _ => return Err(invalid("a request")),
        };
        if head.has_remaining() { Err(invalid("a request: bytes are left over")) } else { Ok(request) }
    }
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The entries up to this one are in the log and durable.
    Appended(Option<LogId>),
    /// The log does not have this entry, after which others were to follow.
    Conflict(Option<LogId>),
    /// A vote above the sender's was seen.
    HigherVote(Vote),
    Vote(VoteResponse<TypeConfig>),
    /// The snapshot is installed, or was not needed.
    StateTaken(Vote),
    /// Whether a leadership that is handed over was taken note of.
    TakenOver(bool),
}

impl Answer {
    pub(super) fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(64);
        match self {
            Answer::Appended(last) => {
                out.put_u8(1);
                put_log_id(&mut out, last.as_ref());
            }
            Answer::Conflict(at) => {
                out.put_u8(2);
                put_log_id(&mut out, at.as_ref());
            }
            Answer::HigherVote(vote) => {
                out.put_u8(3);
                out.put_slice(&encode_vote(vote));
            }
            Answer::Vote(VoteResponse { vote, vote_granted, last_log_id }) => {
                out.put_u8(4);
                out.put_slice(&encode_vote(vote));
                out.put_u8(u8::from(*vote_granted));
                put_log_id(&mut out, last_log_id.as_ref());
            }
            Answer::StateTaken(vote) => {
                out.put_u8(5);
                out.put_slice(&encode_vote(vote));
            }
            Answer::TakenOver(taken) => {
                out.put_u8(6);
                out.put_u8(u8::from(*taken));
            }
        }
        out.freeze()
    }

    /// # Errors
    /// `InvalidData` for bytes that are no answer.
    pub(super) fn decode(mut bytes: Bytes) -> io::Result<Self> {
        let answer = match bytes.try_get_u8().map_err(|_| cut())? {
            1 => Answer::Appended(take_log_id(&mut bytes)?),
            2 => Answer::Conflict(take_log_id(&mut bytes)?),
            3 => Answer::HigherVote(take_vote(&mut bytes)?),
            4 => {
                let vote = take_vote(&mut bytes)?;
                let vote_granted = take_flag(&mut bytes)?;
                Answer::Vote(VoteResponse { vote, vote_granted, last_log_id: take_log_id(&mut bytes)? })
            }
            5 => Answer::StateTaken(take_vote(&mut bytes)?),
            6 => Answer::TakenOver(take_flag(&mut bytes)?),
            _ => return Err(invalid("an answer of a known kind")),
        };
        if bytes.has_remaining() { Err(invalid("an answer: bytes are left over")) } else { Ok(answer) }
    }
}

/// The header of an entry in a message: term, index, length and checksum of the payload, kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EntryHeader {
    pub(super) term: u64,
    pub(super) index: u64,
    pub(super) len: u32,
    pub(super) crc: u32,
    pub(super) kind: FrameKind,
}

impl EntryHeader {
    pub(super) fn new(term: u64, index: u64, kind: FrameKind, payload: &Bytes) -> Self {
        let len = u32::try_from(payload.len()).expect("an entry is smaller than 4 GiB");
        Self { term, index, len, crc: crc32fast::hash(payload), kind }
    }

    pub(super) fn put(&self, out: &mut BytesMut) {
        out.put_u64_le(self.term);
        out.put_u64_le(self.index);
        out.put_u32_le(self.len);
        out.put_u32_le(self.crc);
        out.put_u8(self.kind as u8);
        out.put_bytes(0, 7);
    }

    pub(super) fn take(bytes: &mut Bytes) -> io::Result<Self> {
        if bytes.remaining() < ENTRY_HEADER_BYTES {
            return Err(cut());
        }
        let (term, index) = (bytes.get_u64_le(), bytes.get_u64_le());
        let (len, crc) = (bytes.get_u32_le(), bytes.get_u32_le());
        let number = bytes.get_u8();
        bytes.advance(7);
        let kinds = [FrameKind::Blank, FrameKind::Normal, FrameKind::Membership];
        let kind = kinds.into_iter().find(|kind| *kind as u8 == number);
        Ok(Self { term, index, len, crc, kind: kind.ok_or_else(|| invalid("an entry of a known kind"))? })
    }

    /// Checks that `payload` is the one that the header belongs to.
    pub(super) fn check(&self, payload: &Bytes) -> io::Result<()> {
        if payload.len() != self.len as usize || crc32fast::hash(payload) != self.crc {
            return Err(invalid("an entry: its payload fails its checksum"));
        }
        Ok(())
    }
}

fn encode_append(append: AppendEntriesRequest<TypeConfig>) -> Message {
    let AppendEntriesRequest { vote, prev_log_id, entries, leader_commit } = append;
    let mut head = BytesMut::with_capacity(64 + entries.len() * ENTRY_HEADER_BYTES);
    head.put_u8(Kind::Append as u8);
    head.put_slice(&encode_vote(&vote));
    put_log_id(&mut head, prev_log_id.as_ref());
    put_log_id(&mut head, leader_commit.as_ref());
    head.put_u32_le(entries.len() as u32);
    let mut parts = Vec::with_capacity(entries.len());
    for entry in entries {
        let id = entry.log_id();
        let (kind, payload) = match entry.payload {
            EntryPayload::Blank => (FrameKind::Blank, Bytes::new()),
            EntryPayload::Normal(entry) => (FrameKind::Normal, entry.bytes),
            EntryPayload::Membership(membership) => (FrameKind::Membership, encode_membership(&membership)),
        };
        EntryHeader::new(id.leader_id.term, id.index, kind, &payload).put(&mut head);
        parts.push(payload);
    }
    Message { head: head.freeze(), parts }
}

fn decode_append(head: &mut Bytes, parts: Vec<Bytes>) -> io::Result<AppendEntriesRequest<TypeConfig>> {
    let vote = take_leader_vote(head)?;
    let (prev_log_id, leader_commit) = (take_log_id(head)?, take_log_id(head)?);
    let count = head.try_get_u32_le().map_err(|_| cut())?;
    if count > MAX_ENTRIES || count as usize != parts.len() {
        return Err(invalid("a message with as many entries as it says"));
    }
    let first = prev_log_id.map_or(0, |prev| prev.index + 1);
    let mut term = prev_log_id.map_or(0, |prev| prev.leader_id.term);
    let mut entries = Vec::with_capacity(parts.len());
    for (index, payload) in (first..).zip(parts) {
        let header = EntryHeader::take(head)?;
        header.check(&payload)?;
        if header.index != index || !(term..=vote.leader_id.term).contains(&header.term) {
            return Err(invalid("a message of entries that follow each other"));
        }
        term = header.term;
        entries.push(entry(&header, payload)?);
    }
    Ok(AppendEntriesRequest { vote, prev_log_id, entries, leader_commit })
}

/// An entry of the log.
pub(super) fn entry(header: &EntryHeader, payload: Bytes) -> io::Result<Entry> {
    let payload = match header.kind {
        FrameKind::Blank => EntryPayload::Blank,
        FrameKind::Normal => EntryPayload::Normal(EntryBytes::from(payload)),
        FrameKind::Membership => EntryPayload::Membership(decode_membership(payload)?),
        FrameKind::Truncate | FrameKind::Purge => return Err(invalid("an entry: it is a mark")),
    };
    Ok(Entry { log_id: log_id(header.term, header.index), payload })
}

fn encode_vote_request(kind: Kind, request: &VoteRequest<TypeConfig>) -> Message {
    let mut head = BytesMut::with_capacity(64);
    head.put_u8(kind as u8);
    head.put_slice(&encode_vote(&request.vote));
    put_log_id(&mut head, request.last_log_id.as_ref());
    head.put_u8(u8::from(request.leadership_transfer));
    Message::head(head)
}

fn decode_vote_request(head: &mut Bytes) -> io::Result<VoteRequest<TypeConfig>> {
    let mut request = VoteRequest::new(take_vote(head)?, take_log_id(head)?);
    request.leadership_transfer = take_flag(head)?;
    Ok(request)
}

fn encode_transfer(request: &TransferLeaderRequest<TypeConfig>) -> Message {
    let mut head = BytesMut::with_capacity(64);
    head.put_u8(Kind::TransferLeader as u8);
    head.put_slice(&encode_vote(request.from_leader()));
    head.put_u64_le(*request.to_node_id());
    put_log_id(&mut head, request.last_log_id());
    Message::head(head)
}

fn decode_transfer(head: &mut Bytes) -> io::Result<TransferLeaderRequest<TypeConfig>> {
    let from = take_leader_vote(head)?;
    let to = head.try_get_u64_le().map_err(|_| cut())?;
    Ok(TransferLeaderRequest::new(from, to, take_log_id(head)?))
}

pub(super) fn put_log_id(out: &mut BytesMut, id: Option<&LogId>) {
    out.put_u8(u8::from(id.is_some()));
    out.put_u64_le(id.map_or(0, |id| id.leader_id.term));
    out.put_u64_le(id.map_or(0, |id| id.index));
}

pub(super) fn take_log_id(bytes: &mut Bytes) -> io::Result<Option<LogId>> {
    let present = take_flag(bytes)?;
    if bytes.remaining() < 16 {
        return Err(cut());
    }
    let id = log_id(bytes.get_u64_le(), bytes.get_u64_le());
    check_term(id.leader_id.term)?;
    // Every index has a next one, and so have those of all entries that a message brings behind it.
    if id.index > MAX_INDEX { Err(invalid("a log id")) } else { Ok(present.then_some(id)) }
}

pub(super) fn take_vote(bytes: &mut Bytes) -> io::Result<Vote> {
    if bytes.remaining() < VOTE_BYTES {
        return Err(cut());
    }
    let vote = decode_vote(bytes.split_to(VOTE_BYTES))?;
    check_term(vote.leader_id.term)?;
    Ok(vote)
}

/// Every term has a next one: whoever believed a last one could never stand for election again, nor start.
fn check_term(term: u64) -> io::Result<()> {
    if term > MAX_TERM { Err(invalid("a term")) } else { Ok(()) }
}

/// The vote of somebody who leads by it.
pub(super) fn take_leader_vote(bytes: &mut Bytes) -> io::Result<Vote> {
    let vote = take_vote(bytes)?;
    if vote.is_committed() { Ok(vote) } else { Err(invalid("a message of a leader")) }
}

fn take_flag(bytes: &mut Bytes) -> io::Result<bool> {
    match bytes.try_get_u8() {
        Ok(0) => Ok(false),
        Ok(1) => Ok(true),
        Ok(_) => Err(invalid("a flag, which is 0 or 1")),
        Err(_) => Err(cut()),
    }
}

pub(super) fn cut() -> io::Error {
    invalid("a message: it ends early")
}

#[cfg(test)]
mod lies;
#[cfg(test)]
mod tests;
