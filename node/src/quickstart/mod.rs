//! `stratalog quickstart`: the main job on one node, where the user can watch. Every step is done by a client, over
//! gRPC, and checks what it claims: a step whose check fails ends the tour with an error.

mod generate;
mod source;
mod steps;

use std::path::{Path, PathBuf};

use crate::cli::Quickstart;
use crate::config::{Bytes, LogFormat, Settings};
use crate::failure::Failure;
use crate::output::say;
use crate::serve::{Node, Ports, start_log, stop_signal};
use source::Source;
use steps::Tour;

/// Runs the tour, and then serves on or ends.
pub(crate) async fn run(flags: &Quickstart) -> Result<(), Failure> {
    let data = Data::new(flags.data.as_deref())?;
    let toured = tour_and_serve(flags, &data).await;
    data.clean_up()?;
    toured
}

async fn tour_and_serve(flags: &Quickstart, data: &Data) -> Result<(), Failure> {
    let settings = settings(flags, data);
    settings.validate()?;
    start_log(&settings)?;
    say!("A node starts here, in this process, with its data in {}.", data.dir.display())?;
    let node = Node::start(&settings, ports(flags)).await?;
    let outcome = tokio::select! {
        toured = tour_then_serve(flags, &node) => toured,
        why = stop_signal() => why.map(|_| ()),
    };
    node.stop().await;
    outcome
}

/// Ends after the tour with `--exit`, else never by itself.
async fn tour_then_serve(flags: &Quickstart, node: &Node) -> Result<(), Failure> {
    let topic = tour(flags, node).await?;
    if flags.exit {
        return Ok(());
    }
    invite(node, &topic)?;
    std::future::pending().await
}

async fn tour(flags: &Quickstart, node: &Node) -> Result<String, Failure> {
    let source = Source::new(flags)?;
    let mut tour = Tour::begin(&format!("http://{}", node.grpc), source).await?;
    tour.create_topic().await?;
    tour.produce().await?;
    tour.replay().await?;
    tour.sql().await?;
    tour.search().await?;
    tour.freshness().await?;
    tour.drop_oldest().await?;
    Ok(tour.into_topic())
}

fn settings(flags: &Quickstart, data: &Data) -> Settings {
    let mut settings = Settings { data_dir: data.dir.clone(), ..Settings::default() };
    settings.log.level = "warn".to_owned();
    settings.log.format = LogFormat::Text;
    // Small, so that a tour of a minute shows rows in sealed segments as well as in the tail.
    settings.rows.seal_bytes = Bytes(4 << 20);
    if let Some(grpc) = &flags.grpc {
        settings.grpc.listen.clone_from(grpc);
    }
    if let Some(http) = &flags.http {
        settings.http.listen.clone_from(http);
    }
    settings
}

fn ports(flags: &Quickstart) -> Ports {
    if flags.grpc.is_some() || flags.http.is_some() { Ports::AsGiven } else { Ports::AnyIfTaken }
}

fn invite(node: &Node, topic: &str) -> Result<(), Failure> {
    let endpoint = match node.grpc.port() {
        7070 => String::new(),
        _ => format!("--endpoint http://{} ", node.grpc),
    };
    let program = std::env::args().next().unwrap_or_else(|| "stratalog".to_owned());
    say!("\nThe node serves on: gRPC http://{}, HTTP http://{}. Ctrl-C ends it.", node.grpc, node.http)?;
    say!("Try, in another terminal:")?;
    say!("  {program} {endpoint}sql \"SELECT * FROM {topic} ORDER BY _time DESC LIMIT 5\"")?;
    say!("  {program} {endpoint}search {topic} 'error' --limit 5")?;
    say!("  {program} {endpoint}consume {topic} --from -1h --count 5")?;
    say!(
        "  curl -s http://{}/v1/sql -d '{{\"sql\": \"SELECT count(*) FROM {topic}\"}}' -H 'content-type: application/json'",
        node.http
    )
}

/// The data directory: the user's, or one of our own that goes at the end.
struct Data {
    dir: PathBuf,
    temporary: bool,
}

impl Data {
    fn new(given: Option<&Path>) -> Result<Self, Failure> {
        if let Some(dir) = given {
            return Ok(Self { dir: dir.to_owned(), temporary: false });
        }
        let dir = std::env::temp_dir().join(format!("stratalog-quickstart-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&dir).map_err(|error| Failure::io("create", dir.display(), &error))?;
        Ok(Self { dir, temporary: true })
    }

    fn clean_up(self) -> Result<(), Failure> {
        if self.temporary {
            std::fs::remove_dir_all(&self.dir)
                .map_err(|error| Failure::io("remove the quickstart's data in", self.dir.display(), &error))?;
        }
        Ok(())
    }
}
