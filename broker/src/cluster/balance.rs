//! What the leader of the metadata looks after: shards have the replicas that they are to have, nodes that drain get
//! empty, leaders are spread, and what every node knows may be used.
//!
//! All of it is planned from what is, by pure functions, and proposed as commands; so a leader that is lost in the middle
//! is followed by one that plans the rest.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use stratalog_proto::entry::Command;
use stratalog_proto::{Error, NodeId, ShardId, internal};
use tokio_util::sync::CancellationToken;

use super::heard::Heard;
use super::states::States;
use crate::broker::Broker;
use crate::meta::{Change, ClusterView, Handover, plan_drain, plan_leaders, plan_repair};

/// How often is looked.
const PAUSE: Duration = Duration::from_secs(1);
/// How often the nodes are asked for all of their replicas, for who leads what.
const LEADERS_EVERY: u32 = 3;
/// How long a node may take to answer.
const ASK_WAIT: Duration = Duration::from_secs(1);
/// A node that has not answered for so long gets no replicas, and what was to join there goes elsewhere.
const LOST_AFTER: Duration = Duration::from_secs(60);
/// A node that has answered for so long may lead again: not at once after a start, when others just took over.
const STEADY_AFTER: Duration = Duration::from_secs(5);

/// Looks again and again, until `stop` or the end of the broker.
pub(super) async fn balance(broker: Weak<Broker>, stop: CancellationToken) {
    let (mut heard, mut round) = (Heard::default(), 0u32);
    loop {
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            () = stop.cancelled() => return,
        }
        let Some(here) = broker.upgrade() else { return };
        if !here.meta().group().watch_role().borrow().leads {
            (heard, round) = (Heard::default(), 0);
            continue;
        }
        round = round.wrapping_add(1);
        tokio::select! {
            () = look(&here, &mut heard, round.is_multiple_of(LEADERS_EVERY)) => {}
            () = stop.cancelled() => return,
        }
    }
}

async fn look(broker: &Arc<Broker>, heard: &mut Heard, with_leaders: bool) {
    let view = broker.meta().view();
    if view.cluster.is_none() {
        return;
    }
    raise_level(broker, &view).await;
    if view.nodes.len() == 1 && view.shards.values().all(|placement| placement.pending().next().is_none()) {
        return;
    }
    let states = ask(broker, &view, with_leaders).await;
    let now = Instant::now();
    heard.keep(|node| view.nodes.contains_key(&node));
    view.nodes.keys().for_each(|node| heard.note(*node, states.problem(*node).is_none(), now));
    let begun = change_replicas(broker, &view, &heard.lost(LOST_AFTER, now)).await;
    if with_leaders && begun == 0 {
        spread_leaders(broker, &view, heard, &states).await;
    }
}

/// Asks every node for its replicas; only for that of the metadata, if just whether it answers is of interest.
async fn ask(broker: &Broker, view: &ClusterView, all: bool) -> States {
    let shards = if all { Vec::new() } else { vec![0] };
    let asked = view.nodes.keys().map(|node| (*node, shards.clone())).collect();
    broker.ask_states(asked, ASK_WAIT).await
}

/// Proposes what drains and repairs; how many changes were begun.
async fn change_replicas(broker: &Broker, view: &ClusterView, lost: &BTreeSet<NodeId>) -> usize {
    let drains = plan_drain(view, lost);
    let draining: BTreeSet<ShardId> = drains.iter().map(|change| change.shard).collect();
    let repairs = plan_repair(view, lost).into_iter().filter(|change| !draining.contains(&change.shard));
    let mut begun = 0;
    for change in drains.into_iter().chain(repairs) {
        begun += usize::from(begin(broker, &change).await.is_ok());
    }
    begun
}

/// Proposes a change of a shard's replicas.
///
/// # Errors
/// Its refusal: the placement is another one by now, for example.
pub(super) async fn begin(broker: &Broker, change: &Change) -> Result<(), Error> {
    let (shard, reason) = (change.shard, &change.reason);
    let (add, remove) = (&change.add, change.remove.iter().map(|(_, node)| *node).collect::<Vec<_>>());
    match broker.propose(ShardId(0), change.command()).await {
        Ok(_) => {
            tracing::info!(%shard, reason, ?add, ?remove, "the replicas of a shard change");
            Ok(())
        }
        Err(error) => {
            tracing::debug!(%shard, reason, %error, "a change of a shard's replicas was not begun");
            Err(error)
        }
    }
}

/// Hands the leadership of one shard over, if that makes it more even, or if its leader has to go.
async fn spread_leaders(broker: &Broker, view: &ClusterView, heard: &Heard, states: &States) {
    let now = Instant::now();
    let ready = |shard: ShardId, node: NodeId| {
        let state = states.get(shard, node);
        heard.is_steady(node, STEADY_AFTER, now)
            && state.is_some_and(|state| state.missing_segments == 0 && !state.unfit)
    };
    let leaders: BTreeMap<ShardId, NodeId> = states.leaders();
    let Some(handover) = plan_leaders(view, &leaders, ready) else { return };
    let Handover { shard, from, to, replica } = handover;
    match broker.ask_for_handover(shard, from, Some(replica)).await {
        Ok(()) => tracing::info!(%shard, %from, %to, "leadership was handed over, to spread it"),
        Err(error) => tracing::debug!(%shard, %from, %to, %error, "leadership was not handed over"),
    }
}

/// Allows what every node knows by now.
async fn raise_level(broker: &Broker, view: &ClusterView) {
    let Some(level) = level_to_raise(view) else { return };
    match broker.propose(ShardId(0), Command::RaiseLevel(internal::RaiseLevel { level })).await {
        Ok(_) => tracing::info!(level, "every node knows the next feature level: it may be used from now on"),
        Err(error) => tracing::debug!(level, %error, "the feature level was not raised"),
    }
}

/// The highest level that all nodes know, if it is above the cluster's.
fn level_to_raise(view: &ClusterView) -> Option<u32> {
    let known_to_all = view.nodes.values().map(|node| node.feature_level).min()?;
    let level = known_to_all.min(stratalog_proto::FEATURE_LEVEL);
    (level > view.feature_level).then_some(level)
}
