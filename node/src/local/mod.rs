//! A cluster of several nodes on this machine, each a process of its own: for `dev` and for the quickstart.
//!
//! The first node begins a cluster, the others join it. What each is told stands in `nodeN.toml`, so that a later start
//! finds the same addresses; its data lies beside that, in `nodeN`.

mod directory;
mod layout;
mod process;
mod ready;

use std::path::Path;

use futures::future::select_all;

use crate::config::Settings;
use crate::failure::Failure;
use layout::Member;
use process::Process;

pub(crate) use directory::Directory;

/// Nodes that run.
pub(crate) struct LocalCluster {
    members: Vec<Member>,
    processes: Vec<Process>,
}

/// Where a node is, and how it is started.
#[derive(Clone, Debug)]
pub(crate) struct LocalNode {
    /// As in `node2`.
    pub(crate) name: String,
    /// As in `http://127.0.0.1:7070`.
    pub(crate) grpc: String,
    /// As in `http://127.0.0.1:8080`.
    pub(crate) http: String,
    /// As in `127.0.0.1:9092`; empty: Kafka clients are not listened to.
    pub(crate) kafka: String,
    /// Its settings, for `stratalog serve --config`.
    pub(crate) config: std::path::PathBuf,
}

impl LocalCluster {
    /// Starts `count` nodes, or as many as `directory` has, whichever is more. `adjust` changes the settings of nodes that
    /// are new.
    ///
    /// # Errors
    /// A directory that is not writable; settings in it that do not fit.
    pub(crate) fn start(directory: &Path, count: u16, adjust: fn(&mut Settings)) -> Result<Self, Failure> {
        let members = layout::members(directory, count, adjust)?;
        let start = |(at, member): (usize, &Member)| Process::start(&member.node, at);
        let processes = members.iter().enumerate().map(start).collect::<Result<_, _>>()?;
        Ok(Self { members, processes })
    }

    /// Returns once every node is in the cluster and ready, and every shard has its replicas; `tell` hears what is waited
    /// for, whenever it changes.
    ///
    /// # Errors
    /// A node that ends; one that is not ready after minutes.
    pub(crate) async fn ready(&mut self, tell: impl FnMut(&str)) -> Result<(), Failure> {
        let nodes = self.nodes();
        tokio::select! {
            ready = ready::wait(&nodes, tell) => ready,
            ended = self.ended() => Err(Failure::Refused(format!("{ended}; its last lines are above"))),
        }
    }

    /// The nodes, in the order of their numbers.
    pub(crate) fn nodes(&self) -> Vec<LocalNode> {
        self.members.iter().map(|member| member.node.clone()).collect()
    }

    /// The gRPC addresses, with commas between them.
    pub(crate) fn endpoints(&self) -> String {
        self.members.iter().map(|member| member.node.grpc.as_str()).collect::<Vec<_>>().join(",")
    }

    /// Resolves whenever a node ends by itself, with how it did; never, if none is left.
    pub(crate) async fn ended(&mut self) -> String {
        if self.processes.is_empty() {
            return std::future::pending().await;
        }
        let ends: Vec<_> = self.processes.iter_mut().map(|process| Box::pin(process.ended())).collect();
        let (how, at, _) = select_all(ends).await;
        let process = self.processes.remove(at);
        format!("{} ended by itself: {how}", process.name())
    }

    /// Whether any node runs.
    pub(crate) fn is_running(&self) -> bool {
        !self.processes.is_empty()
    }

    /// Asks all nodes to stop and waits for them. One that does not stop in a minute is killed.
    pub(crate) async fn stop(self) {
        futures::future::join_all(self.processes.into_iter().map(Process::stop)).await;
    }
}
