//! Asking other nodes to be let into their cluster.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use futures::future::join_all;
use prost::Message;
use stratalog_proto::internal::{JoinAnswer, JoinRequest};
use stratalog_proto::{Code, Error, bounded};
use stratalog_transport::{CallError, Frame, Method, Peer};
use uuid::Uuid;

use super::Forming;

/// How long a node may take to say who it is.
const HELLO_WAIT: Duration = Duration::from_secs(3);
/// How long nodes may be silent when a cluster is to be begun: they may be starting, too.
const SEEDS_WAIT: Duration = Duration::from_secs(5);
/// How long a node may take to let this one in: it looks whether it reaches this one, and the cluster has to agree.
const JOIN_WAIT: Duration = Duration::from_secs(20);
/// Between two rounds, at first and at most.
const PAUSE: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(3)];

/// Asks one after the other, again and again, until one has let this node into its cluster.
pub(super) async fn ask_seeds(forming: Weak<Forming>) {
    let (mut pause, mut said) = (PAUSE[0], None);
    while let Some(forming) = forming.upgrade().filter(|forming| !forming.is_formed()) {
        let _one = forming.deciding.lock().await;
        if forming.is_formed() {
            return;
        }
        let joined = match round(&forming).await {
            Ok(answer) => forming.join(answer).await,
            Err(error) => Err(error),
        };
        drop(_one);
        let Err(error) = joined else { return };
        *forming.problem.lock() = Some(error.message.clone());
        if said.as_ref() != Some(&error.message) {
            // Others are starting, or are told to begin: that is what it waits for.
            match error.code {
                Code::NotFormed | Code::Unavailable => {
                    tracing::info!("this node belongs to no cluster yet: {}", error.message);
                }
                _ => tracing::warn!("this node belongs to no cluster yet: {}", error.message),
            }
            said = Some(error.message);
            pause = PAUSE[0];
        }
        let _ = tokio::time::timeout(pause, forming.ask.notified()).await;
        pause = (pause * 2).min(PAUSE[1]);
    }
}

/// Refuses to begin a cluster if a node that is to be joined belongs to one already, or begins one, or may do so: it does
/// not answer for a while, and this node is not told to begin `alone`.
///
/// # Errors
/// [`Code::WrongCluster`], naming node and cluster; [`Code::Conflict`], naming who does not answer, or begins one.
pub(super) async fn check_no_cluster(forming: &Forming, alone: bool) -> Result<(), Error> {
    let deadline = Instant::now() + SEEDS_WAIT;
    let found = loop {
        let found = greet(forming).await;
        if let Some((cluster, seeds)) = found.members.first_key_value() {
            return Err(joins_already(cluster, &seeds[0]));
        }
        if alone || found.silent.is_empty() {
            break found;
        }
        if Instant::now() >= deadline {
            return Err(may_belong(&found.silent));
        }
        // It may be about to start, as this one was.
        tokio::time::sleep(PAUSE[0]).await;
    };
    let asked = join_all(found.waiting.iter().map(|seed| may_begin(forming, seed))).await;
    let mut failed = found.waiting.iter().zip(asked).filter_map(|(seed, answer)| Some((seed, answer.err()?)));
    match failed.find(|(_, error)| !alone || matches!(error, CallError::Refused(_))) {
        None => Ok(()),
        Some((seed, error)) => {
            let message = format!("{seed} does not let this node begin a cluster: {error}");
            Err(Error::new(Code::Conflict, message))
        }
    }
}

fn joins_already(cluster: &Uuid, seed: &str) -> Error {
    let message = format!(
        "{seed} belongs to cluster {cluster} already, and this node joins it by itself: a second cluster is not begun"
    );
    Error::new(Code::WrongCluster, message)
}

fn may_belong(silent: &[String]) -> Error {
    let message = format!(
        "a second cluster may be begun: whether these nodes of `cluster.join` belong to one is not known, they do not answer: \
         {}. Start them and try again; if none of them belongs to a cluster, `stratalog cluster init --alone` begins it without \
         them",
        silent.join("; ")
    );
    Error::new(Code::Conflict, message)
}

/// What the seeds say of themselves.
#[derive(Default)]
struct Found {
    /// Those in a cluster, by cluster.
    members: BTreeMap<Uuid, Vec<String>>,
    /// Those that wait as this node does.
    waiting: Vec<String>,
    /// Those that were not reached, with the reason.
    silent: Vec<String>,
}

async fn round(forming: &Arc<Forming>) -> Result<JoinAnswer, Error> {
    let found = greet(forming).await;
    if found.members.len() > 1 {
        let clusters = found.members.iter().map(|(cluster, seeds)| format!("{} to {cluster}", seeds.join(", ")));
        let clusters: Vec<_> = clusters.collect();
        let message = format!(
            "the nodes that it is to join belong to different clusters ({}): name those of one in `cluster.join`",
            clusters.join("; ")
        );
        return Err(Error::new(Code::WrongCluster, message));
    }
    let (mut refusals, mut code) = (Vec::new(), Code::NotFormed);
    for seed in found.members.values().flatten() {
        match ask(forming, seed).await {
            Ok(answer) => return Ok(answer),
            Err(error) => {
                refusals.push(said(seed, &error));
                // Waiting does not help.
                if let CallError::Refused(error) = error
                    && !error.code.is_retriable()
                {
                    code = error.code;
                }
            }
        }
    }
    Err(Error::new(code, why(&found, &refusals)))
}

/// What a seed said, or why it said nothing, which may name it already.
fn said(seed: &str, error: &CallError) -> String {
    let error = error.to_string();
    if error.starts_with(seed) { error } else { format!("{seed}: {error}") }
}

fn why(found: &Found, refusals: &[String]) -> String {
    let mut reasons = refusals.to_vec();
    if found.members.is_empty() {
        if !found.waiting.is_empty() {
            reasons.push(format!(
                "{} belongs to no cluster yet; begin one, on one node, with `stratalog cluster init`",
                found.waiting.join(", ")
            ));
        }
        reasons.extend(found.silent.iter().cloned());
    }
    if reasons.is_empty() {
        return "no other node is named in `cluster.join`; begin a cluster with `stratalog cluster init`".to_owned();
    }
    reasons.join("; ")
}

/// Asks all seeds who they are.
async fn greet(forming: &Forming) -> Found {
    let own = forming.peer_address();
    let seeds: Vec<String> = forming.seeds.lock().iter().cloned().collect();
    let greeted = join_all(seeds.iter().map(|seed| hello(forming, seed))).await;
    let mut found = Found::default();
    for (seed, greeted) in seeds.into_iter().zip(greeted) {
        match greeted {
            // It is this node itself.
            Ok(peer) if peer.identity.incarnation == forming.incarnation => {}
            Ok(peer) => match peer.identity.cluster {
                Some(cluster) => found.members.entry(cluster).or_default().push(seed),
                None => found.waiting.push(seed),
            },
            // The same list may stand in the settings of every node, this one included.
            Err(_) if Some(seed.as_str()) == own => {}
            Err(error) => found.silent.push(said(&seed, &error)),
        }
    }
    found
}

async fn hello(forming: &Forming, seed: &str) -> Result<Peer, CallError> {
    call(forming, seed, Method::Hello, Frame::default(), HELLO_WAIT).await.map(|(peer, _)| peer)
}

async fn may_begin(forming: &Forming, seed: &str) -> Result<(), CallError> {
    call(forming, seed, Method::Begin, Frame::default(), HELLO_WAIT).await.map(drop)
}

async fn ask(forming: &Forming, seed: &str) -> Result<JoinAnswer, CallError> {
    let request = JoinRequest { node: forming.options.cluster.node_id.0 };
    let (_, answer) = call(forming, seed, Method::Join, Frame::head(request.encode_to_vec()), JOIN_WAIT).await?;
    let answer = bounded::decode(answer.head, bounded::MAX_OF_LIST);
    answer.map_err(|error| CallError::Unknown(format!("its answer cannot be read: {error}")))
}

async fn call(
    forming: &Forming,
    seed: &str,
    method: Method,
    frame: Frame,
    within: Duration,
) -> Result<(Peer, Frame), CallError> {
    let nowhere = || CallError::NotSent("this node has no listener for other nodes".to_owned());
    let transport = forming.peering.as_ref().ok_or_else(nowhere)?.transport();
    transport.call_address(seed, method, frame, within).await
}
