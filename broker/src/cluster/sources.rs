//! The nodes that have copies of a shard's segments, and whom to ask for one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use parking_lot::Mutex;
use prost::Message;
use stratalog_proto::internal::FetchSegment;
use stratalog_proto::internal::fetch_segment::File;
use stratalog_proto::{Code, Error, NodeId, ShardId};
use stratalog_transport::{Frame, Method};

use super::Nodes;

/// The bytes of a file, in order.
type SegmentBytes = BoxStream<'static, Result<Bytes, Error>>;

/// How long a node may take for the first bytes of a file before another one is asked.
const FIRST_BYTES: Duration = Duration::from_secs(10);
/// Files of which it is remembered who gave them. Beyond it all is forgotten, which costs a fetch in vain at the most.
const MAX_REMEMBERED: usize = 4_096;

/// Gets segments from other nodes.
pub(super) struct Sources {
    nodes: Arc<Nodes>,
    given: Mutex<Given>,
}

/// Who gave a file before, the last one at the end. Whoever asks for it again was not helped by what it got.
#[derive(Default)]
struct Given(BTreeMap<Key, Vec<NodeId>>);

/// A shard, and the id of a segment.
type Key = (ShardId, Bytes);

impl Sources {
    pub(super) fn new(nodes: Arc<Nodes>) -> Self {
        Self { nodes, given: Mutex::default() }
    }

    /// The bytes of a segment's file: from `source`, or from the first of the shard's other replicas that has it, its leader
    /// before the others, and those that gave it before behind all: what they have may be damaged.
    ///
    /// # Errors
    /// [`Code::Unavailable`] if nobody has it, with what each said.
    pub(super) async fn fetch(
        &self,
        shard: ShardId,
        request: &FetchSegment,
        source: Option<NodeId>,
    ) -> Result<SegmentBytes, Error> {
        let (frame, key) = (Frame::head(request.encode_to_vec()), (shard, id_of(request)));
        let asked = source.map_or_else(|| self.order(&key), |source| vec![source]);
        let mut problems = Vec::new();
        for node in asked {
            let mut frames = self.nodes.stream(node, Method::FetchSegment, stream::iter([Ok(frame.clone())]).boxed());
            match tokio::time::timeout(FIRST_BYTES, frames.next()).await {
                Ok(Some(Ok(first))) => {
                    if source.is_none() {
                        self.given.lock().note(key, node);
                    }
                    let rest = frames.map(move |frame| match frame {
                        Ok(frame) => parts(frame),
                        Err(error) => stream::iter([Err(broken(node, &error.to_string()))]).boxed(),
                    });
                    return Ok(parts(first).chain(rest.flatten()).boxed());
                }
                // Nothing is left behind the offset.
                Ok(None) => return Ok(stream::empty().boxed()),
                Ok(Some(Err(error))) => problems.push(format!("node {node}: {error}")),
                Err(_) => problems.push(format!("node {node}: nothing has come for {FIRST_BYTES:?}")),
            }
        }
        let message = format!("no other replica of shard {shard} gave a segment: {}", problems.join("; "));
        Err(Error::new(Code::Unavailable, message))
    }

    fn order(&self, key: &Key) -> Vec<NodeId> {
        let (view, leader) = (self.nodes.view(), self.nodes.leader_of(key.0));
        let replicas = view.shards.get(&key.0).into_iter().flat_map(|placement| placement.replicas.values());
        let others = replicas.map(|replica| replica.node).filter(|node| *node != self.nodes.me()).collect();
        self.given.lock().order(key, others, leader)
    }
}

impl Given {
    /// Whom to ask, in this order.
    fn order(&self, key: &Key, mut nodes: Vec<NodeId>, leader: Option<NodeId>) -> Vec<NodeId> {
        let before = self.0.get(key).map_or(&[][..], Vec::as_slice);
        let turn = |node: &NodeId| before.iter().position(|given| given == node).map_or(0, |place| place + 1);
        nodes.sort_by_key(|node| (turn(node), Some(*node) != leader, *node));
        nodes.dedup();
        nodes
    }

    /// A node gives a file.
    fn note(&mut self, key: Key, node: NodeId) {
        if self.0.len() >= MAX_REMEMBERED && !self.0.contains_key(&key) {
            self.0.clear();
        }
        let nodes = self.0.entry(key).or_default();
        nodes.retain(|given| *given != node);
        nodes.push(node);
    }
}

fn id_of(request: &FetchSegment) -> Bytes {
    match &request.file {
        Some(File::Column(meta)) => meta.id.clone(),
        Some(File::Replay(meta)) => meta.id.clone(),
        None => Bytes::new(),
    }
}

fn parts(frame: Frame) -> SegmentBytes {
    stream::iter(frame.parts.into_iter().map(Ok)).boxed()
}

fn broken(node: NodeId, why: &str) -> Error {
    Error::new(Code::Unavailable, format!("a segment from node {node} broke off: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(id: u32) -> Key {
        (ShardId(1), Bytes::copy_from_slice(&id.to_le_bytes()))
    }

    fn order(given: &Given, id: u32) -> Vec<u64> {
        let nodes = [1, 2, 4].map(NodeId).to_vec();
        given.order(&key(id), nodes, Some(NodeId(2))).into_iter().map(|node| node.0).collect()
    }

    #[test]
    fn l5_who_gave_a_file_in_vain_is_asked_after_the_others() {
        let mut given = Given::default();
        assert_eq!(order(&given, 7), [2, 1, 4], "the leader first");
        given.note(key(7), NodeId(2));
        assert_eq!(order(&given, 7), [1, 4, 2]);
        given.note(key(7), NodeId(1));
        assert_eq!(order(&given, 7), [4, 2, 1]);
        given.note(key(7), NodeId(4));
        given.note(key(7), NodeId(2));
        assert_eq!(order(&given, 7), [1, 4, 2], "all of them in turn");
        assert_eq!(order(&given, 8), [2, 1, 4], "another file");
    }

    #[test]
    fn x1_what_is_remembered_is_bounded() {
        let mut given = Given::default();
        for id in 0..2 * MAX_REMEMBERED as u32 {
            given.note(key(id), NodeId(1));
            assert!(given.0.len() <= MAX_REMEMBERED);
        }
    }
}
