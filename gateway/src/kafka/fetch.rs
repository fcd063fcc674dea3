//! Fetch: record batches leave as they lie in the log.

mod gather;
mod write;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::protocol::StrBytes;
use tokio::sync::OwnedSemaphorePermit;

use super::Node;
use super::api::Request;
use super::connection::Client;
use super::wire::{Malformed, Reader};
use gather::Found;

/// The most bytes of one answer, whatever was asked for.
pub(super) const MAX_BYTES: usize = 64 << 20;
/// The longest that a client may wait.
const MAX_WAIT: Duration = Duration::from_secs(60);
/// After records were read for which there is no room.
const PAUSE: Duration = Duration::from_millis(100);

/// From this version on, topics are named by their ids.
const FIRST_WITH_IDS: i16 = 13;

/// A request, as it was read.
#[derive(Debug)]
struct Asked {
    max_wait: Duration,
    min_bytes: usize,
    max_bytes: usize,
    session: i32,
    session_epoch: i32,
    topics: Vec<Topic>,
}

#[derive(Debug)]
struct Topic {
    name: Named,
    partitions: Vec<Partition>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Named {
    Name(StrBytes),
    Id(u128),
}

#[derive(Clone, Copy, Debug)]
struct Partition {
    index: i32,
    offset: i64,
    max_bytes: usize,
}

pub(super) async fn answer(
    node: &Node,
    client: &Client,
    request: &Request,
) -> Result<(Vec<Bytes>, Option<OwnedSemaphorePermit>), Malformed> {
    let asked = read(request)?;
    // A session was never begun here, so that none can go on: the client sends all that it wants, then.
    let goes_on = asked.session != 0 && asked.session_epoch > 0;
    if goes_on {
        return Ok((write::refusal(request, ResponseError::FetchSessionIdNotFound), None));
    }
    let mut found = gather::gather(node, client, &asked).await;
    let bytes: usize = found.iter().map(Found::bytes).sum();
    match Arc::clone(&node.answers).try_acquire_many_owned((bytes.min(MAX_BYTES) / 1024) as u32) {
        Ok(held) => Ok((write::write(request, &asked, &found), Some(held))),
        // Too many clients have not taken theirs yet: this one asks again.
        Err(_) => {
            found.iter_mut().for_each(Found::without_records);
            tokio::time::sleep(PAUSE).await;
            Ok((write::write(request, &asked, &found), None))
        }
    }
}

/// The most bytes of records that the answer to a request may hold.
pub(super) fn most_bytes(request: &Request) -> usize {
    read_head(&mut reader(request), request.version).map_or(0, |head| head.max_bytes)
}

fn read(request: &Request) -> Result<Asked, Malformed> {
    let version = request.version;
    let has = |since: i16| version >= since;
    let mut reader = reader(request);
    let Head { max_wait, min_bytes, max_bytes } = read_head(&mut reader, version)?;
    // The isolation level: without transactions, everything below the high watermark is committed.
    reader.i8()?;
    let (session, session_epoch) = if has(7) { (reader.i32()?, reader.i32()?) } else { (0, -1) };
    let topics = reader.list(3, |reader| read_topic(reader, version))?;
    if has(7) {
        // What a session forgets.
        reader.list(3, |reader| {
            read_name(reader, version)?;
            reader.list(4, Reader::i32)?;
            reader.tags()
        })?;
    }
    if has(11) {
        // The client's rack.
        reader.nullable_text()?;
    }
    reader.tags()?;
    reader.end()?;
    Ok(Asked { max_wait, min_bytes, max_bytes, session, session_epoch, topics })
}

fn reader(request: &Request) -> Reader {
    Reader::new(request.body.clone(), request.is_flexible())
}

/// How long a client waits, and for how much.
struct Head {
    max_wait: Duration,
    min_bytes: usize,
    max_bytes: usize,
}

fn read_head(reader: &mut Reader, version: i16) -> Result<Head, Malformed> {
    if version < 15 {
        // The id of a replica: this is no protocol between nodes.
        reader.i32()?;
    }
    Ok(Head {
        max_wait: Duration::from_millis(reader.i32()?.max(0) as u64).min(MAX_WAIT),
        min_bytes: reader.i32()?.max(0) as usize,
        max_bytes: (reader.i32()?.max(1) as usize).min(MAX_BYTES),
    })
}

fn read_topic(reader: &mut Reader, version: i16) -> Result<Topic, Malformed> {
    let has = |since: i16| version >= since;
    let name = read_name(reader, version)?;
    let partitions = reader.list(16, |reader| {
        let index = reader.i32()?;
        if has(9) {
            // The epoch that the client knows: metadata names none.
            reader.i32()?;
        }
        let offset = reader.i64()?;
        if has(12) {
            reader.i32()?;
        }
        if has(5) {
            reader.i64()?;
        }
        let max_bytes = reader.i32()?.max(1) as usize;
        reader.tags().map(|()| Partition { index, offset, max_bytes })
    })?;
    reader.tags().map(|()| Topic { name, partitions })
}

fn read_name(reader: &mut Reader, version: i16) -> Result<Named, Malformed> {
    if version >= FIRST_WITH_IDS { reader.uuid().map(Named::Id) } else { reader.text().map(Named::Name) }
}
