//! A snapshot on its way to another replica: head, state, entries. A few megabytes of it are in memory at a time, besides
//! the state itself, which is read once and sent in slices.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use futures::stream::{self, BoxStream, StreamExt};
use stratalog_proto::{Code, Error};
use stratalog_storage::StateImage;

use super::codec::encode_vote;
use super::peers::Message;
use super::reader::READ_BYTES;
use super::snapshots::{Snapshots, blocking, hash};
use super::staged::encode_headers;
use super::types::{Vote, log_id};
use super::wire::{Kind, put_log_id};

/// The newest state file of a replica, in messages.
pub(super) fn messages(vote: Vote, snapshots: Arc<Snapshots>) -> BoxStream<'static, Result<Message, Error>> {
    let all = async move {
        let image = match snapshots.read_newest().await {
            Ok(image) => image,
            Err(error) => return stream::once(async move { Err(error) }).boxed(),
        };
        let head = head(vote, &image);
        let state = slices(image.state.clone());
        let entries = entries(Arc::clone(&snapshots), &image);
        stream::once(async move { Ok(head) }).chain(state).chain(entries).boxed()
    };
    stream::once(all).flatten().boxed()
}

/// The first message of a snapshot.
pub(super) fn head(vote: Vote, image: &StateImage) -> Message {
    let mut head = BytesMut::with_capacity(128);
    head.put_u8(Kind::StateHead as u8);
    head.put_slice(&encode_vote(&vote));
    for point in [image.at, image.frontier] {
        put_log_id(&mut head, Some(&log_id(point.term.0, point.index.0)));
    }
    head.put_u64_le(image.state.len() as u64);
    head.put_slice(&hash(&image.state));
    Message { head: head.freeze(), parts: vec![image.membership.clone()] }
}

fn slices(state: Bytes) -> BoxStream<'static, Result<Message, Error>> {
    let slices = stream::unfold(state, |mut rest| async move {
        let slice = rest.split_to(rest.len().min(READ_BYTES));
        let head = Bytes::copy_from_slice(&[Kind::StateBytes as u8]);
        (!slice.is_empty()).then(|| (Ok(Message { head, parts: vec![slice] }), rest))
    });
    slices.boxed()
}

/// The entries that the state needs.
fn entries(snapshots: Arc<Snapshots>, image: &StateImage) -> BoxStream<'static, Result<Message, Error>> {
    let (next, end) = (image.frontier.index.0 + 1, image.at.index.0 + 1);
    let windows = stream::try_unfold(next, move |next| {
        let log = snapshots.log().clone();
        async move {
            if next >= end {
                return Ok(None);
            }
            let read = blocking(move || log.window(next..end, READ_BYTES)).await??;
            let last = read.last().map(|(located, _)| located.index);
            // What a newer snapshot allowed to let go of: it is sent at the next attempt.
            let gone = || Error::new(Code::Unavailable, format!("entry {next} has left the log meanwhile"));
            let last = last.filter(|_| read[0].0.index == next).ok_or_else(gone)?;
            let headers = read.iter().map(|(entry, payload)| (entry.term, entry.index, entry.slot.kind, payload));
            let mut head = BytesMut::new();
            head.put_u8(Kind::StateEntries as u8);
            head.put_slice(&encode_headers(headers));
            let parts = read.into_iter().map(|(_, payload)| payload).collect();
            Ok(Some((Message { head: head.freeze(), parts }, last + 1)))
        }
    });
    windows.boxed()
}
