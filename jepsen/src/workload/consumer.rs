//! Consumers: they read on, go away without a word, and come back at some offset.

use std::sync::Arc;
use std::time::Duration;

use stratalog_client::{Client, Consumer, ConsumerOptions, Start};
use stratalog_proto::{Offset, PartitionId};

use super::record::runs;
use super::{Shared, read_outcome, told};
use crate::history::{AssignOp, CrashOp, Line, Outcome, PollOp, Position, Process, When};

/// A consumer is left after so many polls, about.
pub(super) const POLLS: u32 = 400;
/// How far behind the end it comes back, at most.
const BACK: u64 = 2_000;
const PATIENCE: Duration = Duration::from_secs(10);
const TRY_AGAIN: Duration = Duration::from_millis(300);
/// Between looks whether the load is over, while nothing comes.
const LOOK_EVERY: Duration = Duration::from_secs(1);

pub(super) async fn run(shared: Arc<Shared>, process: Process, client: Client) {
    let mut random = shared.random(process.process);
    let mut position = (Position::Earliest, (0..shared.load.partitions).collect::<Vec<u32>>());
    while !shared.is_over() {
        if let Some(consumer) = assign(&shared, &process, &client, &position).await {
            let polls = random.u32(POLLS / 2..POLLS * 2);
            read(&shared, &process, consumer, polls).await;
            let now = shared.history.now();
            shared.note(&Line::Crash(CrashOp { process: process.process, at: When(now, now) }));
        } else {
            shared.sleep(TRY_AGAIN).await;
        }
        position = somewhere(&shared, &mut random);
    }
}

/// One partition from an offset near its end, or all from now on.
pub(super) fn somewhere(shared: &Shared, random: &mut fastrand::Rng) -> (Position, Vec<u32>) {
    let acked_to = shared.known.lock().acknowledged().0;
    if random.u32(..3) == 0 {
        return (Position::Latest, (0..shared.load.partitions).collect());
    }
    let partition = random.u32(..shared.load.partitions);
    let end = acked_to.get(partition as usize).copied().unwrap_or_default();
    (Position::Offset(end.saturating_sub(random.u64(..BACK))), vec![partition])
}

async fn assign(
    shared: &Shared,
    process: &Process,
    client: &Client,
    position: &(Position, Vec<u32>),
) -> Option<Consumer> {
    let (from, partitions) = position.clone();
    let start = match from {
        Position::Earliest => Start::Earliest,
        Position::Latest => Start::Latest,
        Position::Offset(offset) => Start::Offset(Offset(offset)),
    };
    let options = ConsumerOptions {
        start,
        partitions: Some(partitions.iter().copied().map(PartitionId).collect()),
        patience: PATIENCE,
        // One that may ask a single node reads from that node's own replica.
        from_follower: process.node.is_some(),
        ..ConsumerOptions::default()
    };
    let asked = tokio::time::timeout(super::ANSWER_WITHIN, client.consumer(&shared.load.topic, options));
    let (at, answer) = shared.timed(asked).await;
    let (consumer, outcome) = match read_outcome(answer) {
        Outcome::Ok(consumer) => (Some(consumer), Outcome::Ok(())),
        Outcome::Fail(why) => (None, Outcome::Fail(why)),
        Outcome::Info(why) => (None, Outcome::Info(why)),
    };
    shared.note(&Line::Assign(AssignOp { process: process.process, at, partitions, from, outcome }));
    consumer
}

/// Reads until it has polled so often, it fails, or all is over.
async fn read(shared: &Shared, process: &Process, mut consumer: Consumer, mut polls: u32) {
    while polls > 0 && !shared.is_over() {
        let (at, next) = shared.timed(tokio::time::timeout(LOOK_EVERY, consumer.next())).await;
        // Nothing has come yet.
        let Ok(next) = next else { continue };
        polls -= 1;
        let outcome = match next {
            Ok(Some(records)) => Outcome::Ok(runs(&records, shared.load.padding)),
            Ok(None) => return,
            Err(error) => Outcome::Fail(told(&error)),
        };
        // After an error there is nothing more.
        polls = if outcome.ok().is_some() { polls } else { 0 };
        shared.note(&Line::Poll(PollOp { process: process.process, at, outcome }));
    }
}
