//! Consumers through librdkafka that name their partitions: they read on, and go on elsewhere.

use std::sync::Arc;
use std::time::Duration;

use super::Shared;
use super::consumer::{POLLS, somewhere};
use super::record::runs;
use crate::history::{AssignOp, Line, Micros, Outcome, PollOp, Position, When};
use crate::kafka::{Answer, Command, KafkaClient};

const TRY_AGAIN: Duration = Duration::from_millis(300);
/// The most that is asked for at once, and how long nothing may come.
pub(super) const MAX_RECORDS: usize = 500;
pub(super) const POLL_MS: u64 = 300;

pub(super) async fn run(shared: Arc<Shared>, process: u32, mut client: KafkaClient) {
    let mut random = shared.random(process);
    let mut position = (Position::Earliest, (0..shared.load.partitions).collect::<Vec<u32>>());
    while !shared.is_over() {
        let Some(is_there) = assign(&shared, process, &mut client, position).await else { break };
        let polls = random.u32(POLLS / 2..POLLS * 2);
        if is_there && read(&shared, process, &mut client, polls).await.is_none() {
            break;
        }
        shared.sleep(TRY_AGAIN).await;
        position = somewhere(&shared, &mut random);
    }
    if shared.is_over() {
        client.handle.may_end();
        client.input.say(&Command::End {}).await;
    }
    shared.note_end(&client.handle).await;
}

/// Whether it has its position; `None`: the client has ended.
async fn assign(
    shared: &Shared,
    process: u32,
    client: &mut KafkaClient,
    (from, partitions): (Position, Vec<u32>),
) -> Option<bool> {
    let (at, answer) = shared.timed(client.ask(&Command::assign(&partitions, from))).await;
    let Some(Answer::Assigned { outcome }) = answer else { return None };
    let is_there = outcome.ok().is_some();
    shared.note(&Line::Assign(AssignOp { process, at, partitions, from, outcome }));
    Some(is_there)
}

/// Reads until it has polled so often, it fails, or all is over; `None`: the client has ended.
async fn read(shared: &Shared, process: u32, client: &mut KafkaClient, mut polls: u32) -> Option<()> {
    while polls > 0 && !shared.is_over() {
        let invoked = shared.history.now();
        let answer = client.ask(&Command::Poll { records: MAX_RECORDS, ms: POLL_MS }).await;
        let Some(Answer::Records { records, error, .. }) = answer else { return None };
        let records: Vec<_> = records.into_iter().map(Into::into).collect();
        polls -= u32::from(!records.is_empty());
        // After an error there is nothing more.
        polls = if error.is_some() { 0 } else { polls };
        note(shared, process, invoked, &records, error);
    }
    Some(())
}

/// Notes what came, if anything did.
pub(super) fn note(
    shared: &Shared,
    process: u32,
    invoked: Micros,
    records: &[stratalog_client::ConsumedRecord],
    error: Option<String>,
) {
    let at = When(invoked, shared.history.now());
    if !records.is_empty() {
        let outcome = Outcome::Ok(runs(records, shared.load.padding));
        shared.note(&Line::Poll(PollOp { process, at, outcome }));
    }
    if let Some(why) = error {
        shared.note(&Line::Poll(PollOp { process, at, outcome: Outcome::Fail(why) }));
    }
}
