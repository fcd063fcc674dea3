//! Column segments between nodes: a majority holds what a leader is about to propose, and who misses one gets it where it is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;
use prost::Message;
use stratalog_proto::internal::fetch_segment::File;
use stratalog_proto::internal::{self, FetchSegment, HoldSegments, ReplicaStateRequest, ReplicaStates};
use stratalog_proto::{Code, Error, NodeId, ReplicaId, ShardId, Term, bounded};
use stratalog_storage::SegmentMeta;
use stratalog_transport::{Frame, Method};
use tokio::sync::mpsc;

use super::Nodes;
use super::sources::Sources;
use crate::pull::SegmentBytes;
use crate::rows::{SegmentCopies, clock_ns};
use crate::shards::Shards;

/// How long others may take to get files, beside what their bytes need.
const HOLD_WAIT: Duration = Duration::from_secs(30);
/// Bytes of files that others get in a second, at the least.
const SLOWEST: u64 = 4 << 20;
/// How long a node may take to tell its clock.
const CLOCK_WAIT: Duration = Duration::from_secs(2);
/// How long nodes may take to hear what they need not hold any more.
const RELEASE_WAIT: Duration = Duration::from_secs(5);

/// The column segments of the other nodes.
pub(crate) struct NodeCopies {
    nodes: Arc<Nodes>,
    shards: Arc<Shards>,
    sources: Sources,
}

/// The other replicas of a shard.
struct Others {
    /// The nodes that have them, and whether each is a voter's.
    nodes: BTreeMap<NodeId, bool>,
    /// Voters that are to have a copy, too, so that with this replica a majority has it; those included of which it is not
    /// known where they are. `None` while the shard is not run here.
    wanted: Option<usize>,
}

impl NodeCopies {
    pub(crate) fn new(nodes: Arc<Nodes>, shards: Arc<Shards>) -> Self {
        Self { sources: Sources::new(Arc::clone(&nodes)), nodes, shards }
    }

    /// Where replicas are is what the metadata says. Who votes is what the group itself says: the metadata hears of it later.
    fn others(&self, shard: ShardId) -> Others {
        let view = self.nodes.view();
        let placed = view.shards.get(&shard).map(|placement| placement.replicas.clone()).unwrap_or_default();
        let mut voters: BTreeSet<ReplicaId> = BTreeSet::new();
        let wanted = self.shards.get(shard).map(|here| {
            voters = here.group().members().voters;
            let majority = voters.len() / 2 + 1;
            majority - usize::from(voters.remove(&here.group().log().replica()))
        });
        let mut nodes = BTreeMap::new();
        for (id, view) in placed.iter().filter(|(_, view)| view.node != self.nodes.me()) {
            *nodes.entry(view.node).or_default() |= voters.contains(id);
        }
        Others { nodes, wanted }
    }

    /// Asks nodes, each on its own, and says of each that counts what came of it.
    fn ask_all(
        &self,
        nodes: &BTreeMap<NodeId, bool>,
        frame: &Frame,
        timeout: Duration,
    ) -> mpsc::Receiver<Result<(), String>> {
        let (answers, answered) = mpsc::channel(nodes.len().max(1));
        for (node, counts) in nodes {
            let (asked, answers) =
                (self.nodes.call(*node, Method::HoldSegments, frame.clone(), timeout), answers.clone());
            let (node, counts) = (*node, *counts);
            tokio::spawn(async move {
                let answer = asked.await.map(drop).map_err(|error| format!("node {node}: {error}"));
                if counts {
                    let _ = answers.send(answer).await;
                }
            });
        }
        answered
    }
}

#[async_trait]
impl SegmentCopies for NodeCopies {
    async fn hold(&self, shard: ShardId, term: Term, segments: &[SegmentMeta]) -> Result<(), Error> {
        let others = self.others(shard);
        let Some(mut missing) = others.wanted else {
            let message =
                format!("shard {shard} is not run on this node, so that nobody is asked to hold its segments");
            return Err(Error::new(Code::Unavailable, message));
        };
        let bytes: u64 = segments.iter().map(|meta| meta.bytes).sum();
        let wait = HOLD_WAIT + Duration::from_secs(bytes / SLOWEST);
        let request = HoldSegments {
            shard: shard.0,
            from_node: self.nodes.me().0,
            wait_ms: wait.as_millis() as u64,
            segments: segments.iter().map(internal::SegmentMeta::from).collect(),
            term: term.0,
            release: Vec::new(),
        };
        let frame = Frame::head(request.encode_to_vec());
        let mut answers = self.ask_all(&others.nodes, &frame, wait);
        let mut problems = Vec::new();
        while missing > 0 {
            match answers.recv().await {
                Some(Ok(())) => missing -= 1,
                Some(Err(problem)) => problems.push(problem),
                None => return Err(not_held(shard, segments.len(), &problems)),
            }
        }
        Ok(())
    }

    fn release(&self, shard: ShardId, term: Term, segments: &[SegmentMeta]) {
        let others = self.others(shard).nodes;
        if segments.is_empty() || others.is_empty() {
            return;
        }
        let request = HoldSegments {
            shard: shard.0,
            from_node: self.nodes.me().0,
            wait_ms: RELEASE_WAIT.as_millis() as u64,
            segments: Vec::new(),
            term: term.0,
            release: segments.iter().map(|meta| meta.id.to_bytes()).collect(),
        };
        drop(self.ask_all(&others, &Frame::head(request.encode_to_vec()), RELEASE_WAIT));
    }

    async fn fetch(
        &self,
        shard: ShardId,
        segment: &SegmentMeta,
        source: Option<NodeId>,
        offset: u64,
    ) -> Result<SegmentBytes, Error> {
        let file = File::Column(segment.into());
        let request = FetchSegment { shard: shard.0, file: Some(file), offset };
        self.sources.fetch(shard, &request, source).await
    }

    async fn clock_ns(&self, shard: ShardId) -> Option<i64> {
        let others = self.others(shard);
        let wanted = others.wanted?;
        let frame = Frame::head(ReplicaStateRequest { shards: vec![shard.0] }.encode_to_vec());
        let asked = others.nodes.iter().filter(|(_, votes)| **votes).map(|(node, _)| {
            let asked = self.nodes.call(*node, Method::ReplicaState, frame.clone(), CLOCK_WAIT);
            async move { told_clock(&bounded::decode(asked.await.ok()?.head, bounded::MAX_OF_LIST).ok()?) }
        });
        let mut clocks: Vec<i64> = join_all(asked).await.into_iter().flatten().collect();
        clocks.push(clock_ns());
        lowest_of_majority(clocks, wanted + 1)
    }

    fn may_have(&self, shard: ShardId) -> bool {
        !self.others(shard).nodes.is_empty()
    }

    async fn all_answer(&self, shard: ShardId) -> bool {
        let nodes = self.others(shard).nodes;
        let frame = Frame::head(ReplicaStateRequest { shards: vec![shard.0] }.encode_to_vec());
        let asked = nodes.keys().map(|node| self.nodes.call(*node, Method::ReplicaState, frame.clone(), CLOCK_WAIT));
        join_all(asked).await.iter().all(Result::is_ok)
    }
}

/// The clock of the node that answered. A node of an older version says nothing of it, which is not the year 1970.
fn told_clock(states: &ReplicaStates) -> Option<i64> {
    Some(states.clock_ns).filter(|told| *told != 0)
}

/// The highest time that so many clocks have come to.
fn lowest_of_majority(mut clocks: Vec<i64>, majority: usize) -> Option<i64> {
    clocks.sort_unstable_by(|one, other| other.cmp(one));
    clocks.get(majority.checked_sub(1)?).copied()
}

fn not_held(shard: ShardId, segments: usize, problems: &[String]) -> Error {
    let message = format!(
        "no majority of the replicas of shard {shard} has got {segments} new column segments; they are built again later: {}",
        problems.join("; ")
    );
    Error::new(Code::Unavailable, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_does_not_tell_its_clock_has_not_stopped_in_1970() {
        assert_eq!(told_clock(&ReplicaStates::default()), None);
        assert_eq!(told_clock(&ReplicaStates { clock_ns: 7, ..ReplicaStates::default() }), Some(7));
    }

    #[test]
    fn retention_goes_by_a_clock_that_a_majority_has_come_to() {
        assert_eq!(lowest_of_majority(vec![7], 1), Some(7), "a single node");
        assert_eq!(lowest_of_majority(vec![100, 5, 6], 2), Some(6), "one is fast");
        assert_eq!(lowest_of_majority(vec![0, 5, 6], 2), Some(5), "one is slow");
        assert_eq!(lowest_of_majority(vec![100, 5], 2), Some(5), "one does not answer");
        assert_eq!(lowest_of_majority(vec![100], 2), None, "too few answer");
    }
}
