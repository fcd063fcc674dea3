//! The command line of clusters.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Debug, Args)]
#[command(after_help = "\
Each node is a process of its own, `stratalog serve` with the settings that it finds in DIR/nodeN.toml; they are written at
the first start, and may be changed. Its data is in DIR/nodeN. Ctrl-C stops them all; a node that is killed can be started
again beside the others, as the message about its end says.

Examples:
  stratalog dev
  stratalog dev --nodes 5 --data ./cluster")]
pub(crate) struct Dev {
    /// How many nodes; more than DIR has join the others
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=9))]
    pub(crate) nodes: u16,
    /// Keep settings and data here; otherwise they are deleted at the end
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Cluster {
    /// Begin a cluster with the node at --endpoint as its first
    #[command(after_help = "\
It is done once. The node waits for it if its settings say whom to join (cluster.join) and its data directory is new; the
others join by themselves then. A node without cluster.join begins a cluster of its own when it starts.
All nodes that cluster.join names have to answer: one that does not may belong to a cluster, and then there would be two.

Example:
  stratalog cluster init --endpoint http://10.0.0.1:7070 --shards 16")]
    Init {
        /// Raft groups, for good; what the node's settings say if not given
        #[arg(long, value_name = "N")]
        shards: Option<u32>,
        /// Copies of what is written, once there are as many nodes; what the node's settings say if not given
        #[arg(long, value_name = "N")]
        replication: Option<u32>,
        /// Begin although nodes that it is to join do not answer: they belong to no cluster, you know that
        #[arg(long)]
        alone: bool,
    },
    /// Show the nodes, the shards with their leaders and replicas, and what is not well
    #[command(after_help = "\
Examples:
  stratalog cluster status
  stratalog cluster status --output json")]
    Status,
    /// Have a node that waits for a cluster join this one
    #[command(after_help = "\
Nodes whose cluster.join names a node of this cluster join it by themselves. This is for one that waits and names none.

Example:
  stratalog cluster add-node 10.0.0.4:7071")]
    AddNode {
        /// Its listener for nodes
        #[arg(value_name = "ADDR")]
        peer_address: String,
    },
    /// Take a node out of the cluster, for ever
    #[command(after_help = "\
Drain it first: a node that still has replicas is refused, unless --force gives them up. A node that is gone for good is
removed with --force; the shards then get new replicas from those that are left.

Examples:
  stratalog cluster drain 4 && stratalog cluster remove-node 4
  stratalog cluster remove-node 2 --force")]
    RemoveNode {
        /// The node
        #[arg(value_name = "NODE")]
        node: u64,
        /// Give up the replicas that it has
        #[arg(long)]
        force: bool,
    },
    /// Have a node give all its replicas away
    #[command(after_help = "\
Shows how far it is until it is done. Ctrl-C ends only that: the work goes on, and the same command shows it again.

Examples:
  stratalog cluster drain 3
  stratalog cluster drain 3 --cancel")]
    Drain {
        /// The node
        #[arg(value_name = "NODE")]
        node: u64,
        /// Let it have replicas again
        #[arg(long)]
        cancel: bool,
        #[command(flatten)]
        follow: Follow,
    },
    /// Move a replica of a shard to another node
    #[command(after_help = "\
Examples:
  stratalog cluster move 3 --to 4
  stratalog cluster move 3 --from 1 --to 4 --no-wait")]
    Move {
        /// The shard; 0 is the metadata group
        shard: u32,
        /// The node that gets it
        #[arg(long, value_name = "NODE")]
        to: u64,
        /// The node that gives it; the one with the most replicas if not given
        #[arg(long, value_name = "NODE")]
        from: Option<u64>,
        #[command(flatten)]
        follow: Follow,
    },
    /// Spread replicas evenly over the nodes
    #[command(after_help = "\
Examples:
  stratalog cluster rebalance --plan
  stratalog cluster rebalance")]
    Rebalance {
        /// Only say what would move
        #[arg(long)]
        plan: bool,
        #[command(flatten)]
        follow: Follow,
    },
    /// Have the leader of a shard hand leadership over
    #[command(after_help = "\
Example:
  stratalog cluster transfer-leader 3 --to 2")]
    TransferLeader {
        /// The shard; 0 is the metadata group
        shard: u32,
        /// The node that leads then; any that is up to date if not given
        #[arg(long, value_name = "NODE")]
        to: Option<u64>,
    },
}

/// Whether to stay until a change is done.
#[derive(Debug, Args)]
pub(crate) struct Follow {
    /// Do not wait until it is done
    #[arg(long)]
    pub(crate) no_wait: bool,
}
