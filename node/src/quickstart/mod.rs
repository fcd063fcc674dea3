//! `stratalog quickstart`: the main job on one node or on a cluster, where the user can watch. Every step is done by a client,
//! over gRPC, and checks what it claims: a step whose check fails ends the tour with an error.

mod generate;
mod source;
mod steps;

use crate::cli::{DEFAULT_ENDPOINT, Quickstart};
use crate::config::{Bytes, LogFormat, Settings};
use crate::failure::Failure;
use crate::local::{Directory, LocalCluster};
use crate::output::say;
use crate::serve::{Node, Ports, start_log, stop_signal};
use source::Source;
use steps::Tour;

/// Runs the tour, and then serves on or ends.
pub(crate) async fn run(flags: &Quickstart) -> Result<(), Failure> {
    let data = Directory::new(flags.data.as_deref(), "quickstart")?;
    let toured = match flags.nodes {
        1 => on_one_node(flags, &data).await,
        _ => on_a_cluster(flags, &data).await,
    };
    data.clean_up()?;
    toured
}

/// Where the tour's client, and the user's, find the product.
struct Endpoints {
    /// With commas between them.
    grpc: String,
    http: String,
}

async fn on_one_node(flags: &Quickstart, data: &Directory) -> Result<(), Failure> {
    let settings = settings(flags, data);
    settings.validate()?;
    start_log(&settings)?;
    say!("A node starts here, in this process, with its data in {}.", data.path().display())?;
    let node = Node::start(&settings, ports(flags)).await?;
    let endpoints = Endpoints { grpc: format!("http://{}", node.grpc), http: format!("http://{}", node.http) };
    let outcome = until_stopped(tour_then_serve(flags, &endpoints)).await;
    node.stop().await;
    outcome
}

async fn on_a_cluster(flags: &Quickstart, data: &Directory) -> Result<(), Failure> {
    let nodes = flags.nodes;
    say!("{nodes} nodes start here, each a process of its own, with their data in {}.", data.path().display())?;
    let mut cluster = LocalCluster::start(data.path(), nodes, quiet_and_small)?;
    let http = cluster.nodes().first().map(|node| node.http.clone()).unwrap_or_default();
    let endpoints = Endpoints { grpc: cluster.endpoints(), http };
    let outcome = until_stopped(async {
        cluster.ready(|missing| eprintln!("  waiting: {missing}")).await?;
        let ended = async |cluster: &mut LocalCluster| Failure::Refused(cluster.ended().await);
        tokio::select! {
            toured = tour_then_serve(flags, &endpoints) => toured,
            ended = ended(&mut cluster) => Err(ended),
        }
    })
    .await;
    cluster.stop().await;
    outcome
}

async fn until_stopped(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    tokio::select! {
        done = work => done,
        why = stop_signal() => why.map(|_| ()),
    }
}

/// Ends after the tour with `--exit`, else never by itself.
async fn tour_then_serve(flags: &Quickstart, endpoints: &Endpoints) -> Result<(), Failure> {
    let topic = tour(flags, endpoints).await?;
    if flags.exit {
        return Ok(());
    }
    invite(endpoints, &topic)?;
    std::future::pending().await
}

async fn tour(flags: &Quickstart, endpoints: &Endpoints) -> Result<String, Failure> {
    let source = Source::new(flags)?;
    let mut tour = Tour::begin(&endpoints.grpc, source).await?;
    tour.create_topic().await?;
    tour.produce().await?;
    tour.replay().await?;
    tour.sql().await?;
    tour.search().await?;
    tour.freshness().await?;
    tour.drop_oldest().await?;
    Ok(tour.into_topic())
}

/// Little to read beside the tour; and small seals, so that a minute of it shows rows in segments as well as in the tail.
fn quiet_and_small(settings: &mut Settings) {
    settings.log.level = "warn".to_owned();
    settings.log.format = LogFormat::Text;
    settings.rows.seal_bytes = Bytes(4 << 20);
}

fn settings(flags: &Quickstart, data: &Directory) -> Settings {
    let mut settings = Settings { data_dir: data.path().to_owned(), ..Settings::default() };
    quiet_and_small(&mut settings);
    if let Some(grpc) = &flags.grpc {
        settings.grpc.listen.clone_from(grpc);
    }
    if let Some(http) = &flags.http {
        settings.http.listen.clone_from(http);
    }
    if let Some(kafka) = &flags.kafka {
        settings.kafka.listen.clone_from(kafka);
    }
    settings
}

fn ports(flags: &Quickstart) -> Ports {
    let given = [&flags.grpc, &flags.http, &flags.kafka].into_iter().any(Option::is_some);
    if given { Ports::AsGiven } else { Ports::AnyIfTaken }
}

fn invite(endpoints: &Endpoints, topic: &str) -> Result<(), Failure> {
    let endpoint = match endpoints.grpc.as_str() {
        DEFAULT_ENDPOINT => String::new(),
        several => format!("--endpoint {several} "),
    };
    let program = std::env::args().next().unwrap_or_else(|| "stratalog".to_owned());
    say!("\nIt serves on: gRPC {}, HTTP {}. Ctrl-C ends it.", endpoints.grpc, endpoints.http)?;
    say!("Try, in another terminal:")?;
    say!("  {program} {endpoint}sql \"SELECT * FROM {topic} ORDER BY _time DESC LIMIT 5\"")?;
    say!("  {program} {endpoint}search {topic} 'error' --limit 5")?;
    say!("  {program} {endpoint}consume {topic} --from -1h --count 5")?;
    say!(
        "  curl -s {}/v1/sql -d '{{\"sql\": \"SELECT count(*) FROM {topic}\"}}' -H 'content-type: application/json'",
        endpoints.http
    )
}
