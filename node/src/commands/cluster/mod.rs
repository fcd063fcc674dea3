//! `stratalog cluster`.

mod follow;
mod status;

use std::io::IsTerminal;

use stratalog_client::Client;
use stratalog_proto::v1;

use crate::cli::{Cluster, Global, OutputFormat};
use crate::failure::Failure;
use crate::output::{Listing, print_object, say};
use follow::{Goal, follow};

pub(super) async fn run(global: &Global, command: &Cluster) -> Result<(), Failure> {
    let client = global.client().await?;
    let format = global.format();
    match command {
        Cluster::Init { shards, replication, alone } => {
            let begun = client.init_cluster(shards.unwrap_or(0), replication.unwrap_or(0), *alone).await?;
            status::print(format, &begun)
        }
        Cluster::Status => status::print(format, &client.cluster().await?),
        Cluster::AddNode { peer_address } => {
            if format == OutputFormat::Table && std::io::stderr().is_terminal() {
                eprintln!("asking the node at {peer_address} to join; it has half a minute for that");
            }
            print_object(format, &status::node_fields(&client.add_node(peer_address).await?))
        }
        Cluster::RemoveNode { node, force } => {
            client.remove_node(*node, *force).await?;
            print_object(format, &vec![("removed", (*node).into())])
        }
        Cluster::Drain { node, cancel, follow } => {
            let drained = client.drain_node(*node, *cancel).await?;
            let goal = (!cancel && !follow.no_wait).then_some(Goal::Drained(*node));
            until_done(&client, format, goal).await?;
            let now = client.cluster().await?.nodes.into_iter().find(|found| found.node == *node);
            print_object(format, &status::node_fields(&now.unwrap_or(drained)))
        }
        Cluster::Move { shard, to, from, follow } => {
            let moves = vec![client.move_replica(*shard, *to, *from).await?];
            print_moves(format, &moves, false)?;
            until_done(&client, format, (!follow.no_wait).then_some(Goal::Moved(moves))).await
        }
        Cluster::Rebalance { plan, follow } => {
            let moves = client.rebalance(*plan).await?;
            print_moves(format, &moves, *plan)?;
            until_done(&client, format, (!plan && !follow.no_wait).then_some(Goal::Moved(moves))).await
        }
        Cluster::TransferLeader { shard, to } => {
            let leader = client.transfer_leader(*shard, *to).await?;
            print_object(format, &vec![("shard", (*shard).into()), ("leader", leader.into())])
        }
    }
}

/// Waits for the goal, if there is one. Whoever interrupts that is told that the work goes on.
async fn until_done(client: &Client, format: OutputFormat, goal: Option<Goal>) -> Result<(), Failure> {
    let Some(goal) = goal else { return Ok(()) };
    let done = tokio::select! {
        followed = follow(client, &goal) => followed.map(|()| true),
        interrupted = tokio::signal::ctrl_c() => {
            interrupted.map(|()| false).map_err(|error| Failure::io("listen for", "signals", &error))
        }
    }?;
    if !done {
        eprintln!("the work goes on without this command; `stratalog cluster status` shows how far it is");
    } else if format == OutputFormat::Table && std::io::stderr().is_terminal() {
        say!("done: {goal}")?;
    }
    Ok(())
}

fn print_moves(format: OutputFormat, moves: &[v1::Move], plan: bool) -> Result<(), Failure> {
    if moves.is_empty() && format == OutputFormat::Table {
        return say!("nothing to move: replicas are spread evenly");
    }
    let mut listing = Listing::new(&["shard", "from_node", "to_node", "reason"]);
    for one in moves {
        let node = |node: u64| Some(node).filter(|node| *node > 0).into();
        listing.push(vec![one.shard.into(), node(one.from_node), node(one.to_node), one.reason.clone().into()]);
    }
    listing.print(format)?;
    if plan && format == OutputFormat::Table {
        say!("nothing was changed; without --plan it is done")?;
    }
    Ok(())
}
