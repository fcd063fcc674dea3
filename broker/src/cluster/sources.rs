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
use stratalog_transport::{CallError, Frame, Frames, Method};
use tokio::time::{Instant, timeout};

use super::Nodes;

/// The bytes of a file, in order.
type SegmentBytes = BoxStream<'static, Result<Bytes, Error>>;

/// How long a node may take for the first bytes of a file before another one is asked.
const FIRST_BYTES: Duration = Duration::from_secs(10);
/// The same for one that failed a moment ago.
const FIRST_BYTES_AGAIN: Duration = Duration::from_secs(1);
/// How long nothing may come in the middle of a file: less than whoever waits for its bytes has patience.
const SILENCE: Duration = Duration::from_secs(8);
/// How long a node that failed is asked after all others.
const REST: Duration = Duration::from_secs(60);
/// Files of which it is remembered who gave them. Beyond it all is forgotten, which costs a fetch in vain at the most.
const MAX_REMEMBERED: usize = 4_096;

/// Gets segments from other nodes.
pub(super) struct Sources {
    nodes: Arc<Nodes>,
    known: Arc<Mutex<Known>>,
}

/// What became of asking before.
#[derive(Default)]
struct Known {
    /// Who gave a file, the last one at the end. Whoever asks for it again was not helped by what it got.
    given: BTreeMap<Key, Vec<NodeId>>,
    /// Until when nodes that hang or are not reached rest.
    rests: BTreeMap<NodeId, Instant>,
}

/// A shard, and the id of a segment.
type Key = (ShardId, Bytes);

impl Sources {
    pub(super) fn new(nodes: Arc<Nodes>) -> Self {
        Self { nodes, known: Arc::default() }
    }

    /// The bytes of a segment's file: from `source`, or from the first of the shard's other replicas that has it, its leader
    /// before the others, those that gave it before behind these, since what they have may be damaged, and those that failed a
    /// moment ago behind all.
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
            let patience = self.known.lock().patience(node, Instant::now());
            let problem = match timeout(patience, frames.next()).await {
                Ok(Some(Ok(first))) => {
                    if source.is_none() {
                        self.known.lock().gave(key, node);
                    }
                    return Ok(parts(first).chain(self.rest_of(node, frames)).boxed());
                }
                // Nothing is left behind the offset.
                Ok(None) => return Ok(stream::empty().boxed()),
                // It answers, and does not have it.
                Ok(Some(Err(CallError::Refused(error)))) => error.to_string(),
                Ok(Some(Err(error))) => self.failed(node, error.to_string()),
                Err(_) => self.failed(node, format!("nothing has come for {patience:?}")),
            };
            problems.push(format!("node {node}: {problem}"));
        }
        let message = format!("no other replica of shard {shard} gave a segment: {}", problems.join("; "));
        Err(Error::new(Code::Unavailable, message))
    }

    /// What follows the first bytes.
    fn rest_of(&self, node: NodeId, frames: Frames) -> SegmentBytes {
        let known = Arc::clone(&self.known);
        let frames = stream::unfold(Some(frames), move |frames| {
            let known = Arc::clone(&known);
            async move {
                let mut frames = frames?;
                let why = match timeout(SILENCE, frames.next()).await {
                    Ok(None) => return None,
                    Ok(Some(Ok(frame))) => return Some((parts(frame), Some(frames))),
                    Ok(Some(Err(error))) => error.to_string(),
                    Err(_) => format!("nothing has come for {SILENCE:?}"),
                };
                known.lock().failed(node, Instant::now());
                let message = format!("a segment from node {node} broke off: {why}");
                Some((stream::iter([Err(Error::new(Code::Unavailable, message))]).boxed(), None))
            }
        });
        frames.flatten().boxed()
    }

    fn failed(&self, node: NodeId, why: String) -> String {
        self.known.lock().failed(node, Instant::now());
        why
    }

    fn order(&self, key: &Key) -> Vec<NodeId> {
        let (view, leader) = (self.nodes.view(), self.nodes.leader_of(key.0));
        let replicas = view.shards.get(&key.0).into_iter().flat_map(|placement| placement.replicas.values());
        let others = replicas.map(|replica| replica.node).filter(|node| *node != self.nodes.me()).collect();
        self.known.lock().order(key, others, leader, Instant::now())
    }
}

impl Known {
    /// Whom to ask, in this order.
    fn order(&self, key: &Key, mut nodes: Vec<NodeId>, leader: Option<NodeId>, now: Instant) -> Vec<NodeId> {
        let before = self.given.get(key).map_or(&[][..], Vec::as_slice);
        let turn = |node: &NodeId| before.iter().position(|given| given == node).map_or(0, |place| place + 1);
        nodes.sort_by_key(|node| (self.rests(*node, now), turn(node), Some(*node) != leader, *node));
        nodes.dedup();
        nodes
    }

    fn rests(&self, node: NodeId, now: Instant) -> bool {
        self.rests.get(&node).is_some_and(|until| now < *until)
    }

    /// How long the first bytes of a node are waited for.
    fn patience(&self, node: NodeId, now: Instant) -> Duration {
        if self.rests(node, now) { FIRST_BYTES_AGAIN } else { FIRST_BYTES }
    }

    /// A node gives a file.
    fn gave(&mut self, key: Key, node: NodeId) {
        self.rests.remove(&node);
        if self.given.len() >= MAX_REMEMBERED && !self.given.contains_key(&key) {
            self.given.clear();
        }
        let nodes = self.given.entry(key).or_default();
        nodes.retain(|given| *given != node);
        nodes.push(node);
    }

    /// A node was not reached, or gave nothing for too long.
    fn failed(&mut self, node: NodeId, now: Instant) {
        self.rests.retain(|_, until| now < *until);
        self.rests.insert(node, now + REST);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn key(id: u32) -> Key {
        (ShardId(1), Bytes::copy_from_slice(&id.to_le_bytes()))
    }

    fn order(known: &Known, id: u32, now: Instant) -> Vec<u64> {
        let nodes = [1, 2, 4].map(NodeId).to_vec();
        known.order(&key(id), nodes, Some(NodeId(2)), now).into_iter().map(|node| node.0).collect()
    }

    #[test]
    fn l5_who_gave_a_file_in_vain_is_asked_after_the_others() {
        let (mut known, now) = (Known::default(), Instant::now());
        assert_eq!(order(&known, 7, now), [2, 1, 4], "the leader first");
        known.gave(key(7), NodeId(2));
        assert_eq!(order(&known, 7, now), [1, 4, 2]);
        known.gave(key(7), NodeId(1));
        assert_eq!(order(&known, 7, now), [4, 2, 1]);
        known.gave(key(7), NodeId(4));
        known.gave(key(7), NodeId(2));
        assert_eq!(order(&known, 7, now), [1, 4, 2], "all of them in turn");
        assert_eq!(order(&known, 8, now), [2, 1, 4], "another file");
    }

    #[test]
    fn who_hangs_is_asked_last_for_every_file_and_not_for_long_until_it_has_rested() {
        let (mut known, now) = (Known::default(), Instant::now());
        known.failed(NodeId(2), now);
        known.gave(key(7), NodeId(1));
        assert_eq!((order(&known, 7, now), order(&known, 8, now)), (vec![4, 1, 2], vec![1, 4, 2]));
        assert_eq!([1, 2].map(|node| known.patience(NodeId(node), now)), [FIRST_BYTES, FIRST_BYTES_AGAIN]);
        let later = now + REST;
        assert_eq!((order(&known, 8, later), known.patience(NodeId(2), later)), (vec![2, 1, 4], FIRST_BYTES));
        known.gave(key(9), NodeId(2));
        assert_eq!(order(&known, 8, now), [2, 1, 4], "it does answer");
        known.failed(NodeId(2), now);
        known.failed(NodeId(1), later);
        assert_eq!(known.rests.len(), 1, "those that have rested are forgotten");
    }

    #[test]
    fn x1_what_is_remembered_is_bounded() {
        let mut known = Known::default();
        for id in 0..2 * MAX_REMEMBERED as u32 {
            known.gave(key(id), NodeId(1));
            assert!(known.given.len() <= MAX_REMEMBERED);
        }
    }
}
