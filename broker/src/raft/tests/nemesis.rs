//! Everything at once, at random: what was acknowledged stays, whatever minority fails.

use std::time::Duration;

use stratalog_storage::simulation::Dice;
use tokio::time::{sleep, timeout};

use super::cluster::{ALL, Cluster, simulate};

const STEPS: usize = 60;
/// How long a step that cannot be done is tried.
const STEP_WAIT: Duration = Duration::from_secs(12);

async fn run(seed: u64) {
    let mut dice = Dice::new(seed);
    let mut cluster = Cluster::start(seed).await;
    for step in 0..STEPS {
        let one = *dice.pick(&ALL).unwrap();
        match dice.below(17) {
            0..=4 => {
                for _ in 0..dice.within(1..6) {
                    let _ = cluster.produce().await;
                }
            }
            5 | 6 => crash(&mut cluster, one, dice.chance(2, 3)).await,
            7 => restart(&mut cluster).await,
            8 => cluster.network.isolate(one),
            9 => cluster.network.cut(one, one % 3 + 1),
            10 | 11 => cluster.network.heal(),
            12 => cluster.network.slow_down(Duration::from_millis(dice.below(60)), dice.below(60)),
            13 => drop(timeout(STEP_WAIT, cluster.roll(step as u64)).await),
            14 if cluster.runs(one) => {
                cluster.refetch(one);
                let _ = timeout(STEP_WAIT, cluster.at(one).compact()).await;
            }
            15 if cluster.runs(one) => drop(timeout(STEP_WAIT, cluster.at(one).group.hand_over()).await),
            _ if cluster.runs(one) => stall(&mut cluster, one, dice.below(4_000)).await,
            _ => {}
        }
        sleep(Duration::from_millis(dice.below(2_000))).await;
    }
    cluster.settle().await;
    cluster.check();
}

/// One replica is down at a time.
async fn crash(cluster: &mut Cluster, one: u64, power: bool) {
    if ALL.into_iter().all(|id| cluster.runs(id)) {
        cluster.crash(one, power).await;
    }
}

async fn restart(cluster: &mut Cluster) {
    for id in ALL {
        cluster.restart(id).await.unwrap();
    }
}

/// The disk of one replica takes no flush for a while, in which others write.
async fn stall(cluster: &mut Cluster, one: u64, millis: u64) {
    cluster.at(one).stall(true);
    let _ = cluster.produce().await;
    sleep(Duration::from_millis(millis)).await;
    cluster.at(one).stall(false);
}

#[test]
fn l1_l2_a1_random_failures_of_a_minority_lose_nothing() {
    for seed in 0..seeds() {
        eprintln!("seed {seed}");
        simulate(run(seed));
    }
}

/// A longer run is asked for by a variable.
fn seeds() -> u64 {
    std::env::var("STRATALOG_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(6)
}
