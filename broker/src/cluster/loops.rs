//! What a node does by itself, for as long as it runs: each loop looks at what is wanted and at what is, and makes it so.

use std::sync::{Arc, Weak};

use stratalog_transport::Identity;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::absent::listen_for_nodes;
use super::announce::announce;
use super::balance::balance;
use super::gone::miss_leaders;
use super::greet::greet;
use super::hosts::host;
use super::keeper::keep;
use super::members::settle_members;
use super::readiness::watch_readiness;
use super::{Nodes, book};
use crate::broker::Broker;
use crate::groups::{Coordinators, expire_offsets};
use crate::options::BrokerOptions;
use crate::scrub::scrub;

/// Starts them all. Those that start and stop replicas end between two steps, the others wherever they are.
pub(crate) fn run_loops(broker: &Arc<Broker>, me: Identity, loops: &TaskTracker, stop: &CancellationToken) {
    let weak = || Arc::downgrade(broker);
    loops.spawn(follow_metadata(weak(), stop.clone()));
    loops.spawn(keep(weak(), stop.clone()));
    loops.spawn(stop.clone().run_until_cancelled_owned(host(weak())));
    loops.spawn(stop.clone().run_until_cancelled_owned(watch_readiness(weak())));
    loops.spawn(stop.clone().run_until_cancelled_owned(greet(weak())));
    loops.spawn(stop.clone().run_until_cancelled_owned(miss_leaders(weak())));
    loops.spawn(stop.clone().run_until_cancelled_owned(listen_for_nodes(weak())));
    loops.spawn(settle_members(weak(), stop.clone()));
    loops.spawn(balance(weak(), stop.clone()));
    loops.spawn(stop.clone().run_until_cancelled_owned(announce(weak(), me)));
    loops.spawn(scrub(weak(), stop.clone()));
    loops.spawn(Coordinators::run(Arc::downgrade(broker.coordinators()), stop.clone()));
    loops.spawn(stop.clone().run_until_cancelled_owned(expire_offsets(weak())));
    loops.close();
}

/// Has the address book, and its copy on disk, follow the metadata.
async fn follow_metadata(broker: Weak<Broker>, stop: CancellationToken) {
    let Some(mut views) = broker.upgrade().map(|broker| broker.meta().watch_view()) else { return };
    loop {
        let Some(node) = broker.upgrade() else { return };
        let view = views.borrow_and_update().clone();
        let is_kept = node.nodes().book().set_view(view);
        if let Some(transport) = node.nodes().transport() {
            transport.recheck();
        }
        let written = if is_kept { write_book(&node).await } else { Ok(()) };
        drop(node);
        if let Err(error) = written {
            tracing::warn!(%error, "the addresses of the other nodes are not kept; after a restart they are learned again");
        }
        tokio::select! {
            changed = views.changed() => if changed.is_err() { return },
            () = stop.cancelled() => return,
        }
    }
}

/// A node that nobody can join needs no copy.
async fn write_book(broker: &Broker) -> Result<(), stratalog_proto::Error> {
    let nodes: &Nodes = broker.nodes();
    let Some(cluster) = nodes.transport().and_then(|_| broker.meta().cluster()) else { return Ok(()) };
    let options: BrokerOptions = broker.options().clone();
    let written = tokio::task::spawn_blocking(move || book::write(&*options.disk, &options.data_dir, &cluster)).await;
    written.unwrap_or_else(|panic| {
        let message = format!("writing the addresses ended early: {panic}");
        Err(stratalog_proto::Error::new(stratalog_proto::Code::Internal, message))
    })
}
