//! How requests between nodes are written: `route.proto`, with record batches beside the message, not copied.

mod batches;
mod fetch;
mod groups;
mod proposal;
mod question;
mod task;

use bytes::Bytes;
use prost::Message;
use stratalog_proto::internal::Routed;
use stratalog_proto::{Code, Error, NodeId, TopicId, bounded};
use stratalog_transport::Frame;

use super::tries::Missed;

pub(crate) use batches::{Batch, batch_answer, batch_frame, read_batch, read_batch_answer};
pub(crate) use fetch::{fetch_answer, fetch_frame, fetched, read_fetch};
pub(crate) use groups::{groups_answer, groups_of, read_groups, read_groups_of};
pub(crate) use proposal::{proposal, proposal_answer, proposed, read_proposal};
pub(crate) use question::{Found, Question, read_question};
pub(crate) use task::{Done, Task, read_maintain};

/// What a node answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Asked {
    /// The message.
    pub(crate) body: Bytes,
    /// What lies beside it.
    pub(crate) parts: Vec<Bytes>,
}

/// The answer to a request that was done.
pub(crate) fn success(body: &impl Message, parts: Vec<Bytes>) -> Frame {
    let routed = Routed { body: body.encode_to_vec().into(), ..Routed::default() };
    Frame { head: routed.encode_to_vec().into(), parts }
}

/// The answer to a request that was refused, with whoever leads instead of this node.
pub(crate) fn refusal(error: Error, leader: Option<NodeId>) -> Frame {
    let leader = leader.map_or(0, |node| node.0);
    let routed = Routed { code: error.code as u32, message: error.message, leader, body: Bytes::new() };
    Frame::head(routed.encode_to_vec())
}

/// Reads either of them.
pub(super) fn read_answer(frame: Frame) -> Result<Asked, Missed> {
    let Routed { code, message, leader, body } = super::decode(frame.head)?;
    match code {
        0 => Ok(Asked { body, parts: frame.parts }),
        _ => Err(missed(code, message, leader)),
    }
}

/// What a refusal means. A code that this version does not know is an error all the same.
fn missed(code: u32, message: String, leader: u64) -> Missed {
    match Missed::from(Error::new(Code::from_number(code).unwrap_or(Code::Internal), message)) {
        Missed::NotDone { why, .. } => Missed::NotDone { why, leader: (leader > 0).then_some(NodeId(leader)) },
        other => other,
    }
}

/// Reads what a peer asks.
fn request<M: Message + Default>(head: Bytes) -> Result<M, Error> {
    bounded::decode(head, bounded::MAX_OF_REQUEST).map_err(|error| malformed(format!("it does not decode: {error}")))
}

fn topic_id(bytes: &[u8]) -> Result<TopicId, Error> {
    TopicId::from_slice(bytes).ok_or_else(|| malformed(format!("a topic id has 16 bytes, not {}", bytes.len())))
}

fn malformed(why: impl std::fmt::Display) -> Error {
    Error::new(Code::InvalidRequest, format!("a request of another node cannot be read: {why}"))
}

/// That an answer is of another kind than what was asked.
fn mismatched() -> Missed {
    Missed::Unknown("another node answered something else than what it was asked".to_owned())
}

#[cfg(test)]
mod lies;
#[cfg(test)]
mod tests;
