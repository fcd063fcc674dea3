//! What this node answers to others: one file for each kind of question.

mod join;
mod parts;
mod raft;
mod route;
mod segments;
mod state;

use std::sync::{Arc, Weak};

use async_trait::async_trait;
use bytes::Bytes;
use prost::Message;
use stratalog_proto::bounded::{self, MAX_OF_LIST, MAX_OF_REQUEST};
use stratalog_proto::{Code, Error};
use stratalog_transport::{Frame, Frames, Method, Peer, PeerService};
use tokio::sync::Mutex;

use crate::backup;
use crate::broker::Broker;

pub(crate) use route::Intake;

/// The answering side of a node that is in a cluster.
pub(crate) struct Server {
    broker: Weak<Broker>,
    /// Held while a node is let in.
    joining: Mutex<()>,
}

impl Server {
    /// Answers as long as the broker is there.
    pub(crate) fn new(broker: &Arc<Broker>) -> Self {
        Self { broker: Arc::downgrade(broker), joining: Mutex::default() }
    }

    fn broker(&self) -> Result<Arc<Broker>, Error> {
        self.broker.upgrade().ok_or_else(|| Error::new(Code::Unavailable, "the node is stopping"))
    }
}

#[async_trait]
impl PeerService for Server {
    async fn call(&self, from: Peer, method: Method, frame: Frame) -> Result<Frame, Error> {
        let broker = self.broker()?;
        match method {
            Method::Join => join::join(&broker, &self.joining, &from, frame).await,
            Method::Invite | Method::Begin => Err(join::is_in_a_cluster(&broker)),
            Method::RaftAsk => raft::ask(&broker, frame).await,
            Method::ReadIndex => raft::read_index(&broker, frame).await,
            Method::TransferLeader => raft::transfer_leader(&broker, frame).await,
            Method::ReplicaState => state::replicas(&broker, frame),
            Method::Propose => route::propose(&broker, frame).await,
            Method::Fetch => route::fetch(&broker, frame).await,
            Method::Read => route::read(&broker, frame).await,
            Method::Maintain => route::maintain(&broker, frame).await,
            Method::Groups => route::groups(&broker, frame).await,
            Method::HoldSegments => segments::hold(&broker, frame).await,
            Method::OpenPart => parts::open(&broker, frame).await,
            Method::ClosePart => parts::close(&broker, frame).await,
            // The desk in front has answered a Hello.
            Method::Hello => Ok(Frame::default()),
            Method::RaftReplicate
            | Method::RaftState
            | Method::Produce
            | Method::FetchSegment
            | Method::CopyShard
            | Method::RunPart => Err(wrong_shape(method, "a stream")),
        }
    }

    async fn stream(&self, from: Peer, method: Method, frames: Frames) -> Result<Frames, Error> {
        let broker = self.broker()?;
        match method {
            Method::RaftReplicate => raft::replicate(&broker, &from, frames).await,
            Method::RaftState => raft::take_state(&broker, frames).await,
            Method::Produce => route::produce(&broker, frames).await,
            Method::FetchSegment => segments::fetch(&broker, frames).await,
            Method::CopyShard => backup::serve(&broker, frames).await,
            Method::RunPart => parts::run(&broker, frames).await,
            _ => Err(wrong_shape(method, "one message")),
        }
    }
}

fn wrong_shape(method: Method, shape: &str) -> Error {
    Error::new(Code::InvalidRequest, format!("{} takes {shape}", method.name()))
}

/// The message of a head.
///
/// # Errors
/// [`Code::InvalidRequest`], naming the method.
fn decode<M: Message + Default>(method: Method, head: Bytes) -> Result<M, Error> {
    let malformed = |error| {
        Error::new(Code::InvalidRequest, format!("a {} of another node cannot be read: {error}", method.name()))
    };
    let most = match method {
        Method::HoldSegments | Method::FetchSegment => MAX_OF_LIST,
        _ => MAX_OF_REQUEST,
    };
    bounded::decode(head, most).map_err(malformed)
}

/// A message as the head of a frame.
fn encode(message: &impl Message) -> Frame {
    Frame::head(message.encode_to_vec())
}
