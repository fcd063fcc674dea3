//! Watching a change until it is done. The cluster does the work; this only looks.

use std::fmt;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use stratalog_client::Client;
use stratalog_proto::v1;

use crate::failure::Failure;
use crate::output::human_bytes;

/// How often the cluster is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long nobody may answer before that is an error: longer than leaders take to be found.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long it may look as if nobody worked on the goal before that is believed: the node that answers may be behind, and
/// what drains begins one replica after the other.
const IDLE: Duration = Duration::from_secs(10);

/// What is waited for.
#[derive(Debug)]
pub(super) enum Goal {
    /// The node has no replica any more.
    Drained(u64),
    /// Each of these is done.
    Moved(Vec<v1::Move>),
}

/// How far something is: steps, and what the current ones wait for.
#[derive(Debug, PartialEq, Eq)]
struct Progress {
    left: usize,
    missing_bytes: u64,
}

/// Since when a goal has looked as if it will not be reached.
#[derive(Default)]
struct Doubt(Option<Instant>);

impl Doubt {
    /// Whether an obstacle has been there for so long that it is one.
    fn is_over(&mut self, is_there: bool, now: Instant) -> bool {
        self.0 = is_there.then(|| self.0.unwrap_or(now));
        self.0.is_some_and(|since| now.saturating_duration_since(since) >= IDLE)
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Goal::Drained(node) => write!(f, "node {node} has no replica"),
            Goal::Moved(moves) if moves.len() == 1 => write!(f, "shard {} has moved", moves[0].shard),
            Goal::Moved(moves) => write!(f, "{} replicas have moved", moves.len()),
        }
    }
}

/// Returns once the goal is reached. Nodes that do not answer for a while are waited for, and the gravest of what the
/// cluster warns of is shown.
///
/// # Errors
/// The last failure once nobody answered for a minute; a goal that nobody works on any more, since somebody took it back.
pub(super) async fn follow(client: &Client, goal: &Goal) -> Result<(), Failure> {
    let bar = ProgressBar::new(0);
    bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(8));
    bar.set_style(
        ProgressStyle::with_template("  {bar:40} {pos}/{len} {wide_msg}").expect("the template is well formed"),
    );
    let (mut answered, mut doubt) = (Instant::now(), Doubt::default());
    loop {
        match client.cluster().await {
            Ok(status) => {
                answered = Instant::now();
                let progress = goal.progress(&status);
                if progress.left == 0 {
                    bar.finish_and_clear();
                    return Ok(());
                }
                let obstacle = goal.obstacle(&status);
                if doubt.is_over(obstacle.is_some(), answered)
                    && let Some(obstacle) = obstacle
                {
                    bar.finish_and_clear();
                    return Err(Failure::Refused(obstacle));
                }
                show(&bar, &progress, status.warnings.first());
            }
            Err(error) if answered.elapsed() > PATIENCE => return Err(error.into()),
            Err(error) => bar.set_message(format!("waiting: {error}")),
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Shows how far it is, and the gravest of what the cluster warns of.
fn show(bar: &ProgressBar, progress: &Progress, warning: Option<&String>) {
    let left = progress.left as u64;
    let most = bar.length().unwrap_or(0).max(left);
    bar.set_length(most);
    bar.set_position(most - left);
    let copies = match progress.missing_bytes {
        0 => String::new(),
        missing => format!(", {} to be copied", human_bytes(missing)),
    };
    let warning = warning.map(|warning| format!("; {warning}")).unwrap_or_default();
    bar.set_message(format!("replicas in place{copies}{warning}"));
}

impl Goal {
    fn progress(&self, status: &v1::ClusterStatus) -> Progress {
        let (left, shards): (usize, Vec<u32>) = match self {
            Goal::Drained(node) => {
                let here = status.shards.iter().filter(|shard| shard.replicas.iter().any(|r| is_to_leave(r, *node)));
                let here: Vec<u32> = here.map(|shard| shard.shard).collect();
                (here.len(), here)
            }
            Goal::Moved(moves) => {
                let open: Vec<u32> = moves.iter().filter(|one| !is_done(one, status)).map(|one| one.shard).collect();
                (open.len(), open)
            }
        };
        let moving = status.shards.iter().filter(|shard| shards.contains(&shard.shard));
        let joining = moving.flat_map(|shard| &shard.replicas).filter(|replica| replica.role == "joining");
        Progress { left, missing_bytes: joining.map(|replica| replica.missing_bytes).sum() }
    }

    /// Why nobody works on what is left of it, if so.
    fn obstacle(&self, status: &v1::ClusterStatus) -> Option<String> {
        match self {
            Goal::Drained(node) => {
                let is_active = status.nodes.iter().any(|found| found.node == *node && found.state == "active");
                is_active.then(|| format!("node {node} drains no more: that was cancelled, and replicas stay on it"))
            }
            Goal::Moved(moves) => {
                let mut open = moves.iter().filter(|one| !is_done(one, status)).map(|one| one.shard).peekable();
                let first = *open.peek()?;
                let is_given_up = open.all(|shard| !is_changing(shard, status));
                is_given_up.then(|| {
                    format!(
                        "shard {first} has not moved, and nobody moves it any more: that was taken back, by somebody or \
                         because the other node did not answer for a minute; `stratalog cluster status` shows how it is"
                    )
                })
            }
        }
    }
}

/// Whether a replica of a shard comes or goes.
fn is_changing(shard: u32, status: &v1::ClusterStatus) -> bool {
    let replicas = status.shards.iter().filter(|found| found.shard == shard).flat_map(|found| &found.replicas);
    replicas.into_iter().any(|replica| matches!(replica.role.as_str(), "joining" | "leaving"))
}

/// A learner of the metadata group is on every node, and stays.
fn is_to_leave(replica: &v1::ClusterReplica, node: u64) -> bool {
    replica.node == node && replica.role != "learner"
}

fn is_done(one: &v1::Move, status: &v1::ClusterStatus) -> bool {
    let Some(shard) = status.shards.iter().find(|shard| shard.shard == one.shard) else { return true };
    let on = |node: u64| shard.replicas.iter().find(|replica| replica.node == node);
    let arrived = one.to_node == 0 || on(one.to_node).is_some_and(|replica| replica.role == "voter");
    let left = one.from_node == 0 || on(one.from_node).is_none_or(|replica| replica.role == "learner");
    arrived && left
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(replicas: &[(u32, u64, &str, u64)]) -> v1::ClusterStatus {
        let mut status = v1::ClusterStatus::default();
        for (id, node, role, missing_bytes) in replicas {
            let replica = v1::ClusterReplica {
                node: *node,
                role: (*role).to_owned(),
                missing_bytes: *missing_bytes,
                ..v1::ClusterReplica::default()
            };
            match status.shards.iter_mut().find(|shard| shard.shard == *id) {
                Some(shard) => shard.replicas.push(replica),
                None => status.shards.push(v1::ClusterShard {
                    shard: *id,
                    replicas: vec![replica],
                    ..v1::ClusterShard::default()
                }),
            }
        }
        status
    }

    #[test]
    fn a_drained_node_has_at_most_a_learner_of_the_metadata() {
        let goal = Goal::Drained(3);
        let before = status(&[(0, 3, "voter", 0), (1, 3, "leaving", 0), (1, 4, "joining", 70), (2, 1, "voter", 0)]);
        assert_eq!(goal.progress(&before), Progress { left: 2, missing_bytes: 70 });
        let after = status(&[(0, 3, "learner", 0), (1, 4, "voter", 0), (2, 1, "voter", 0)]);
        assert_eq!(goal.progress(&after).left, 0);
    }

    #[test]
    fn a_move_is_done_when_the_new_replica_votes_and_the_old_one_is_gone() {
        let goal = Goal::Moved(vec![v1::Move { shard: 1, from_node: 1, to_node: 4, ..v1::Move::default() }]);
        let joining = status(&[(1, 1, "leaving", 0), (1, 4, "joining", 10)]);
        assert_eq!(goal.progress(&joining), Progress { left: 1, missing_bytes: 10 });
        assert_eq!(goal.progress(&status(&[(1, 1, "leaving", 0), (1, 4, "voter", 0)])).left, 1);
        assert_eq!(goal.progress(&status(&[(1, 4, "voter", 0)])).left, 0);
    }

    #[test]
    fn a_move_that_was_taken_back_and_a_drain_that_was_cancelled_will_not_be_reached() {
        let one = |shard| v1::Move { shard, from_node: 1, to_node: 4, ..v1::Move::default() };
        let goal = Goal::Moved(vec![one(1), one(2)]);
        let moving = status(&[(1, 1, "voter", 0), (2, 1, "leaving", 0), (2, 4, "joining", 9)]);
        assert_eq!(goal.obstacle(&moving), None, "one of them is moved");
        let done = status(&[(1, 1, "voter", 0), (2, 4, "voter", 0)]);
        let said = "shard 1 has not moved, and nobody moves it any more: that was taken back, by somebody or because the \
                    other node did not answer for a minute; `stratalog cluster status` shows how it is";
        assert_eq!(goal.obstacle(&done).as_deref(), Some(said));

        let goal = Goal::Drained(1);
        let mut now = status(&[(1, 1, "voter", 0)]);
        let node =
            |state: &str| vec![v1::ClusterNode { node: 1, state: state.to_owned(), ..v1::ClusterNode::default() }];
        now.nodes = node("draining");
        assert_eq!(goal.obstacle(&now), None, "its turn may come");
        now.nodes = node("active");
        assert!(goal.obstacle(&now).unwrap().contains("cancelled"));
    }

    #[test]
    fn a_doubt_needs_time_and_ends_with_one_good_look() {
        let (mut doubt, start) = (Doubt::default(), Instant::now());
        assert!(!doubt.is_over(true, start) && !doubt.is_over(true, start + IDLE / 2));
        assert!(!doubt.is_over(false, start + IDLE));
        assert!(!doubt.is_over(true, start + IDLE * 2) && doubt.is_over(true, start + IDLE * 3));
    }

    #[test]
    fn a_replica_more_is_there_when_it_votes() {
        let goal = Goal::Moved(vec![v1::Move { shard: 1, from_node: 0, to_node: 4, ..v1::Move::default() }]);
        assert_eq!(goal.progress(&status(&[(1, 1, "voter", 0)])).left, 1);
        assert_eq!(goal.progress(&status(&[(1, 1, "voter", 0), (1, 4, "voter", 0)])).left, 0);
    }
}
