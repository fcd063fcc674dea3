//! Backups and removals of one place at the same time, in an order that a seed chooses, some of which die.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{JoinHandle, LocalSet, spawn_local};

use super::Fake;
use super::removal::all_whole;
use super::store::{Process, World};
use crate::keep_newest;
use crate::lease::DEAD_AFTER;

const TEXTS: [&str; 6] = ["one", "two", "three", "four", "five", "six"];
const ROUNDS: u32 = 5;

struct Running {
    process: Process,
    /// The backup that was made, if it was.
    task: JoinHandle<Option<String>>,
}

fn some_segments(random: &mut fastrand::Rng) -> Vec<&'static str> {
    TEXTS.into_iter().filter(|_| random.bool()).collect()
}

fn start(world: &Arc<World>, random: &mut fastrand::Rng) -> Running {
    let process = world.process().in_turns();
    let target = process.target();
    let keep = NonZeroU32::new(random.u32(0..4));
    let fake = Fake::of(&[&some_segments(random), &some_segments(random)]);
    let task = spawn_local(async move {
        let made = fake.backup(&target).await.ok()?.manifest.id;
        if let Some(keep) = keep {
            // It may be refused, and be tried again by somebody else.
            let _ = keep_newest(&target, keep, &made).await;
        }
        Some(made)
    });
    Running { process, task }
}

/// Whatever came of it is whole.
async fn run(seed: u64) -> (usize, usize) {
    let (world, mut random) = (World::new(), fastrand::Rng::with_seed(seed));
    let (mut made, mut died) = (0, 0);
    for _ in 0..ROUNDS {
        let mut all: Vec<Running> = (0..random.usize(1..4)).map(|_| start(&world, &mut random)).collect();
        while !all.is_empty() {
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
            if let Some(ended) = all.iter().position(|one| one.task.is_finished()) {
                made += usize::from(all.swap_remove(ended).task.await.unwrap().is_some());
                continue;
            }
            let waiting: Vec<usize> = (0..all.len()).filter(|at| all[*at].process.waits()).collect();
            match random.choice(&waiting) {
                None => tokio::time::sleep(Duration::from_secs(1)).await,
                Some(at) if random.u32(0..300) == 0 => {
                    let Running { task, .. } = all.swap_remove(*at);
                    task.abort();
                    assert!(task.await.unwrap_err().is_cancelled());
                    died += 1;
                }
                Some(at) => all[*at].process.turn(),
            }
        }
        all_whole(&world).await;
        if random.bool() {
            tokio::time::advance(DEAD_AFTER).await;
        }
    }
    (made, died)
}

#[tokio::test(start_paused = true)]
async fn whoever_is_at_work_at_the_same_time_every_backup_is_whole() {
    let seeds = std::env::var("SIMULATION_SEEDS").ok().map_or(40, |seeds| seeds.parse().unwrap());
    let (mut made, mut died) = (0, 0);
    for seed in 0..seeds {
        let (more, dead) = LocalSet::new().run_until(run(seed)).await;
        made += more;
        died += dead;
    }
    assert!(made > 0 && died > 0, "{made} were made, {died} died");
}
