//! `stratalog dev`: a cluster on this machine, one process a node.

use crate::cli::Dev;
use crate::failure::Failure;
use crate::local::{Directory, LocalCluster};
use crate::output::say;
use crate::serve::stop_signal;

/// Runs until SIGTERM or SIGINT, or until no node is left.
pub(crate) async fn run(flags: &Dev) -> Result<(), Failure> {
    let directory = Directory::new(flags.data.as_deref(), "dev")?;
    let outcome = match LocalCluster::start(directory.path(), flags.nodes, |_| ()) {
        Ok(cluster) => serve(cluster, &directory).await,
        Err(failure) => Err(failure),
    };
    directory.clean_up()?;
    outcome
}

async fn serve(mut cluster: LocalCluster, directory: &Directory) -> Result<(), Failure> {
    let outcome = tokio::select! {
        ran = run_on(&mut cluster, directory) => ran,
        why = stop_signal() => why.map(|_| ()),
    };
    if cluster.is_running() {
        eprintln!("stopping the nodes");
    }
    cluster.stop().await;
    outcome
}

async fn run_on(cluster: &mut LocalCluster, directory: &Directory) -> Result<(), Failure> {
    let count = cluster.nodes().len();
    let kept = if directory.is_temporary() { ", which is deleted at the end" } else { "" };
    say!("{count} nodes start, with their data in {}{kept}", directory.path().display())?;
    cluster.ready(|missing| eprintln!("waiting: {missing}")).await?;
    announce(cluster)?;
    loop {
        let ended = cluster.ended().await;
        eprintln!("{ended}");
        if !cluster.is_running() {
            return Err(Failure::Refused("no node is left".to_owned()));
        }
        let name = ended.split(' ').next().unwrap_or_default();
        if let Some(node) = cluster.nodes().iter().find(|node| node.name == name) {
            eprintln!("the others go on; start it again with: {} serve --config {}", program(), node.config.display());
        }
    }
}

fn announce(cluster: &LocalCluster) -> Result<(), Failure> {
    say!("the cluster is ready; Ctrl-C stops it")?;
    for node in cluster.nodes() {
        let kafka = if node.kafka.is_empty() { String::new() } else { format!("  Kafka {}", node.kafka) };
        say!("  {}  gRPC {}  HTTP {}{kafka}", node.name, node.grpc, node.http)?;
    }
    say!("  export STRATALOG_ENDPOINT={}", cluster.endpoints())?;
    say!("  {} cluster status", program())
}

/// As it was called.
fn program() -> String {
    std::env::args().next().unwrap_or_else(|| "stratalog".to_owned())
}
