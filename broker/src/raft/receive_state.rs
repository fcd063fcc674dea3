//! A snapshot as it arrives: whole and checked, on this replica's disk, before Raft hears of it. Raft takes an error of
//! an install for one of the disk, and stops the group.

use std::io;
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use futures::StreamExt;
use stratalog_proto::{Code, Error};
use stratalog_storage::StateImage;
use tokio::sync::OwnedMutexGuard;

use super::codec::{decode_stored_membership, invalid};
use super::log::GroupLog;
use super::peers::{Incoming, Message};
use super::snapshots::{Received, Snapshots, blocking, hash, point};
use super::staged::StagedEntries;
use super::types::Vote;
use super::wire::{Kind, cut, take_leader_vote, take_log_id};

/// What the first message says.
struct Head {
    vote: Vote,
    image: StateImage,
    state_bytes: u64,
    hash: [u8; 32],
}

/// Takes in all messages of a snapshot: the leader's vote, and what is to be installed. What is received keeps `changing`.
///
/// # Errors
/// [`Code::Unavailable`]: they end early, or the peer failed. [`Code::CorruptData`]: they are not a snapshot.
pub(super) async fn receive(
    snapshots: &Snapshots,
    mut messages: Incoming,
    changing: OwnedMutexGuard<()>,
) -> Result<(Vote, Received), Error> {
    let first = next(&mut messages).await?.ok_or_else(|| corrupt(&cut()))?;
    let Head { vote, image, state_bytes, hash: expected } = Head::decode(first).map_err(|error| corrupt(&error))?;
    let mut state = BytesMut::new();
    let mut entries = Some(stage(snapshots, &image).await?);
    while let Some(message) = next(&mut messages).await? {
        let Message { mut head, parts } = message;
        match Kind::take(&mut head).map_err(|error| corrupt(&error))? {
            Kind::StateBytes => {
                let more: usize = parts.iter().map(Bytes::len).sum();
                if state.len() as u64 + more as u64 > state_bytes {
                    return Err(corrupt(&invalid("a state of the length that it says")));
                }
                parts.iter().for_each(|part| state.extend_from_slice(part));
            }
            Kind::StateEntries => entries = Some(push(snapshots.log(), entries.take(), head, parts).await?),
            _ => return Err(corrupt(&invalid("a part of a snapshot"))),
        }
    }
    let image = StateImage { state: state.freeze(), ..image };
    match entries.filter(StagedEntries::is_whole) {
        Some(entries) if image.state.len() as u64 == state_bytes && hash(&image.state) == expected => {
            Ok((vote, Received { image, entries, changing }))
        }
        _ => Err(corrupt(&invalid("a whole snapshot"))),
    }
}

impl Head {
    fn decode(Message { mut head, parts }: Message) -> io::Result<Self> {
        if Kind::take(&mut head)? != Kind::StateHead {
            return Err(invalid("the head of a snapshot"));
        }
        let vote = take_leader_vote(&mut head)?;
        let at = take_log_id(&mut head)?.map(point).ok_or_else(cut)?;
        let frontier = take_log_id(&mut head)?.map(point).ok_or_else(cut)?;
        let state_bytes = head.try_get_u64_le().map_err(|_| cut())?;
        let hash: [u8; 32] = head.as_ref().try_into().map_err(|_| cut())?;
        let [membership] = <[Bytes; 1]>::try_from(parts).map_err(|_| invalid("a snapshot with a membership"))?;
        let ordered = frontier <= at && frontier.index <= at.index && at.term.0 <= vote.leader_id.term;
        let fits = membership.len() <= StateImage::MAX_MEMBERSHIP_BYTES && state_bytes <= StateImage::MAX_STATE_BYTES;
        if !ordered || !fits {
            return Err(invalid("a snapshot within the bounds"));
        }
        decode_stored_membership(membership.clone())?;
        let image = StateImage { at, frontier, membership, state: Bytes::new() };
        Ok(Self { vote, image, state_bytes, hash })
    }
}

async fn next(messages: &mut Incoming) -> Result<Option<Message>, Error> {
    let ended = |error| Error::new(Code::Unavailable, format!("a snapshot did not arrive whole: {error}"));
    messages.next().await.transpose().map_err(ended)
}

async fn stage(snapshots: &Snapshots, image: &StateImage) -> Result<StagedEntries, Error> {
    let (files, log) = (Arc::clone(snapshots.files()), snapshots.log().clone());
    let (frontier, at) = (image.frontier, image.at);
    let staged = blocking(move || StagedEntries::create(&files, frontier, at, log.max_entry_bytes())).await?;
    staged.map_err(|error| not_staged(&error))
}

async fn push(
    log: &GroupLog,
    entries: Option<StagedEntries>,
    headers: Bytes,
    payloads: Vec<Bytes>,
) -> Result<StagedEntries, Error> {
    let mut entries = entries.ok_or_else(|| Error::new(Code::Internal, "a snapshot's entries have no file"))?;
    let log = log.clone();
    let pushed = move || {
        check_space(&log, &entries, headers.len() + payloads.iter().map(Bytes::len).sum::<usize>())?;
        entries.push(headers, &payloads).map(|()| entries)
    };
    blocking(pushed).await?.map_err(|error| not_staged(&error))
}

/// Refuses more entries than the log's device has space for (X1): all of them are written twice, here and into the log, and
/// the log would wait for ever.
fn check_space(log: &GroupLog, entries: &StagedEntries, more: usize) -> io::Result<()> {
    let (needed, space) = (entries.end() + 2 * more as u64, log.space_bytes()?);
    if needed <= space {
        return Ok(());
    }
    let message = format!(
        "{needed} bytes of them or more are to come, and the log's device has {space} for them; free or add space"
    );
    Err(io::Error::new(io::ErrorKind::StorageFull, message))
}

fn corrupt(error: &io::Error) -> Error {
    Error::new(Code::CorruptData, format!("a snapshot from another replica was refused: {error}"))
}

fn not_staged(error: &io::Error) -> Error {
    let code = match error.kind() {
        io::ErrorKind::InvalidData => Code::CorruptData,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Code::StorageFull,
        _ => Code::Io,
    };
    Error::new(code, format!("the entries of a snapshot cannot be kept: {error}"))
}

#[cfg(test)]
mod lies;
