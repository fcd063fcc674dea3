//! Producers through librdkafka: a record after the other, as those of the SDK.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::MissedTickBehavior;

use super::Shared;
use super::producer::DEADLINE;
use super::record::record;
use crate::history::{Line, Micros, Outcome, SendOp, When};
use crate::kafka::{Answer, Command, KafkaClient};

/// One codec for each of them, by its number.
const CODECS: [&str; 5] = ["none", "lz4", "zstd", "snappy", "gzip"];
/// librdkafka looks for late records only now and then.
const ANSWERS_WITHIN: Duration = Duration::from_secs(15);

/// Records on their way: value → when it was sent, and its partition.
type Flights = Mutex<HashMap<u64, (Micros, u32)>>;

pub(super) fn settings(process: u32) -> [(&'static str, String); 2] {
    let codec = CODECS[process as usize % CODECS.len()];
    [("delivery.timeout.ms", DEADLINE.as_millis().to_string()), ("compression.codec", codec.to_owned())]
}

pub(super) async fn run(shared: Arc<Shared>, process: u32, client: KafkaClient) {
    let KafkaClient { mut input, mut answers, handle } = client;
    let flights = Flights::default();
    let sending = async {
        let mut random = shared.random(process);
        let mut ticks = tokio::time::interval(Duration::from_secs(1) / shared.load.kafka.records_a_second.max(1));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !shared.is_over() {
            ticks.tick().await;
            let partition = random.u32(..shared.load.partitions);
            let value = shared.next_value();
            flights.lock().insert(value, (shared.history.now(), partition));
            input.say(&Command::send(value, partition, &record(value, partition, shared.load.padding))).await;
        }
        let landed = async {
            while !flights.lock().is_empty() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        // What is still on its way then is unknown.
        let _ = tokio::time::timeout(DEADLINE + ANSWERS_WITHIN, landed).await;
        handle.may_end();
        input.say(&Command::End {}).await;
    };
    let noting = async {
        while let Some(answer) = answers.next().await {
            let Answer::Sent { id, outcome } = answer else { break };
            let flight = flights.lock().remove(&id);
            if let Some((invoked, partition)) = flight {
                noted(&shared, process, (invoked, partition, id), outcome);
            }
        }
    };
    {
        tokio::pin!(noting);
        // One that ended by itself answers nothing more, and is sent nothing more.
        let is_over = tokio::select! {
            () = &mut noting => false,
            () = sending => true,
        };
        if is_over {
            noting.await;
        }
    }
    for (value, (invoked, partition)) in flights.into_inner() {
        noted(&shared, process, (invoked, partition, value), Outcome::Info("the client told nothing of it".to_owned()));
    }
    shared.note_end(&handle).await;
}

fn noted(shared: &Shared, process: u32, send: (Micros, u32, u64), outcome: Outcome<Option<u64>>) {
    let (invoked, partition, value) = send;
    let at = When(invoked, shared.history.now());
    let (outcome, placeless) = match outcome {
        Outcome::Ok(Some(offset)) => (Outcome::Ok(offset), false),
        Outcome::Ok(None) => (Outcome::Info("acknowledged without its offset".to_owned()), true),
        Outcome::Fail(why) => (Outcome::Fail(why), false),
        Outcome::Info(why) => (Outcome::Info(why), false),
    };
    let offset = outcome.ok().copied();
    shared.note(&Line::Send(SendOp { process, at, partition, value, outcome, placeless }));
    // Only now does anybody expect to see it.
    if let Some(offset) = offset {
        shared.known.lock().acked_at(partition, offset);
    }
}
