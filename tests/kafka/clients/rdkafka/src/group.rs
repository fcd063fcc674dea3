//! Consuming in a group.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::io::Read;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance};
use rdkafka::{Message, Offset, TopicPartitionList};
use serde_json::json;

use crate::{Args, Outcome, tell, tell_message};

/// What this member holds.
#[derive(Default)]
struct Member {
    held: Mutex<BTreeSet<i32>>,
}

impl ClientContext for Member {}

impl ConsumerContext for Member {
    fn pre_rebalance(&self, _: &BaseConsumer<Self>, change: &Rebalance) {
        let mut held = self.held.lock().expect("nobody panics with it");
        match change {
            Rebalance::Assign(partitions) => {
                held.extend(numbers(partitions));
                tell(&json!({"event": "assigned", "partitions": *held}));
            }
            Rebalance::Revoke(partitions) => {
                let gone: BTreeSet<i32> = numbers(partitions).collect();
                held.retain(|partition| !gone.contains(partition));
                tell(&json!({"event": "revoked", "partitions": gone}));
            }
            Rebalance::Error(error) => eprintln!("rebalancing failed: {error}"),
        }
    }
}

fn numbers(partitions: &TopicPartitionList) -> impl Iterator<Item = i32> {
    partitions.elements().into_iter().map(|each| each.partition()).collect::<Vec<_>>().into_iter()
}

fn config(args: &Args) -> Result<ClientConfig, Box<dyn Error>> {
    let mut config = args.config()?;
    config.set("group.id", args.text("group")?).set("enable.auto.commit", "false").set("auto.offset.reset", "earliest");
    Ok(config)
}

pub fn group(args: &Args) -> Outcome {
    let mut config = config(args)?;
    let strategy = if args.text("assignor")? == "range" { "range" } else { "cooperative-sticky" };
    config.set("partition.assignment.strategy", strategy).set("session.timeout.ms", "30000").set("heartbeat.interval.ms", "1000");
    if let Some(instance) = args.get("instance") {
        config.set("group.instance.id", instance);
    }
    let consumer: BaseConsumer<Member> = config.create_with_context(Member::default())?;
    consumer.subscribe(&[args.text("topic")?])?;
    let ended = end_of_input();
    let until = Instant::now() + args.timeout();
    let count = args.get("count").map_or(Ok(0), str::parse::<i64>)?;
    let mut left = count;
    while !ended.load(Ordering::Relaxed) && Instant::now() < until && (count == 0 || left > 0) {
        let mut done: BTreeMap<i32, i64> = BTreeMap::new();
        let most = if count == 0 { 50 } else { left.min(50) };
        for _ in 0..most {
            let wait = if done.is_empty() { 200 } else { 0 };
            let Some(message) = consumer.poll(Duration::from_millis(wait)) else { break };
            let message = message?;
            tell_message(&message, Some("record"));
            done.insert(message.partition(), message.offset() + 1);
            left -= 1;
        }
        if !done.is_empty() {
            commit(&consumer, args.text("topic")?, &done)?;
        }
    }
    // Leaves the group.
    consumer.unsubscribe();
    drop(consumer);
    if left > 0 { Err(format!("{left} records are missing").into()) } else { Ok(()) }
}

fn commit(consumer: &BaseConsumer<Member>, topic: &str, done: &BTreeMap<i32, i64>) -> Outcome {
    let mut offsets = TopicPartitionList::new();
    for (partition, offset) in done {
        offsets.add_partition_offset(topic, *partition, Offset::Offset(*offset))?;
    }
    consumer.commit(&offsets, CommitMode::Sync)?;
    tell(&json!({"event": "committed", "offsets": done}));
    Ok(())
}

fn end_of_input() -> Arc<AtomicBool> {
    let ended = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&ended);
    std::thread::spawn(move || {
        // Whatever ends it.
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        told.store(true, Ordering::Relaxed);
    });
    ended
}

pub fn committed(args: &Args) -> Outcome {
    let consumer: BaseConsumer = config(args)?.create()?;
    let topic = args.text("topic")?;
    let mut asked = TopicPartitionList::new();
    for partition in args.numbers("partitions")? {
        asked.add_partition(topic, partition as i32);
    }
    for found in consumer.committed_offsets(asked, Duration::from_secs(30))?.elements() {
        found.error()?;
        let offset = match found.offset() {
            Offset::Offset(offset) => Some(offset),
            _ => None,
        };
        tell(&json!({"partition": found.partition(), "offset": offset, "metadata": found.metadata()}));
    }
    Ok(())
}
