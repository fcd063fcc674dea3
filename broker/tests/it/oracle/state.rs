//! The same records in several topics, whose rows lie in different places.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use stratalog_broker::{Broker, BrokerOptions, ErasureState, RowsOptions};
use stratalog_proto::config::TopicConfig;
use stratalog_proto::{Offset, PartitionId, ShardId, Token};
use stratalog_storage::simulation::Dice;
use tempfile::TempDir;

use super::answer::Asked;
use super::generate::condition;
use super::records::{PARTITIONS, Record, World, batches};
use crate::{options, start_after_kill_with};

/// A topic, and which of the records are rows of it.
pub(super) struct State {
    pub(super) topic: String,
    is_live: Box<dyn Fn(&Record) -> bool + Send + Sync>,
}

impl State {
    fn whole(topic: &str) -> Self {
        Self { topic: topic.to_owned(), is_live: Box::new(|_| true) }
    }

    /// Whether the record is a row of it.
    pub(super) fn has(&self, record: &Record) -> bool {
        (self.is_live)(record)
    }
}

/// A broker with a topic for each state; `restarted` after all is as it is to be.
pub(super) async fn build(dir: &TempDir, world: &World, dice: &mut Dice, restarted: bool) -> (Asked, Vec<State>) {
    let broker = start(dir).await;
    let hours = *dice.pick(&[1, 24, 24 * 366]).expect("there are some");
    let mut maker = Maker { broker, hours, tokens: BTreeMap::new(), dice: dice.fork() };
    let states = vec![
        maker.sealed_in(world, "tail", 0).await,
        maker.sealed_in(world, "half", 1).await,
        maker.sealed_in(world, "sealed", 2).await,
        maker.sealed_in(world, "pieces", 9).await,
        maker.merged(world).await,
        maker.trimmed(world).await,
        maker.erased(world).await,
    ];
    let Maker { mut broker, tokens, .. } = maker;
    if restarted {
        broker.stop().await;
        drop(broker);
        broker = start(dir).await;
    }
    (Asked { broker, tokens: tokens.into_values().collect() }, states)
}

/// A broker that seals and merges only what it is told to.
async fn start(dir: &TempDir) -> Arc<Broker> {
    start_after_kill_with(|| {
        let quiet = RowsOptions { seal_age: Duration::from_secs(3_600), merge_rate_bytes: 0, ..RowsOptions::default() };
        BrokerOptions { rows: quiet, ..options(dir) }
    })
    .await
}

struct Maker {
    broker: Arc<Broker>,
    /// The width of a time bucket.
    hours: u64,
    /// The newest of each shard.
    tokens: BTreeMap<ShardId, Token>,
    dice: Dice,
}

impl Maker {
    /// A topic with all records, sealed so many times: once is after half of them, more often is up to the last.
    async fn sealed_in(&mut self, world: &World, topic: &str, seals: usize) -> State {
        self.create(topic).await;
        let records: Vec<&Record> = world.records.iter().collect();
        let runs = if seals == 0 { 1 } else { seals.max(2) };
        for (number, run) in records.chunks(records.len().div_ceil(runs)).enumerate() {
            self.produce(topic, run).await;
            if number < seals {
                self.seal(topic).await;
            }
        }
        State::whole(topic)
    }

    /// A topic of many small segments that are merged.
    async fn merged(&mut self, world: &World) -> State {
        let state = self.sealed_in(world, "merged", 9).await;
        self.broker.merge_topic("merged").await.unwrap();
        state
    }

    /// A topic of which some rows are erased when half of it is there.
    async fn erased(&mut self, world: &World) -> State {
        let (first, second) = world.records.split_at(world.records.len() / 2);
        let first: Vec<&Record> = first.iter().collect();
        let (condition, erased) = loop {
            let condition = condition(world, &mut self.dice, 1);
            let erased: BTreeSet<(u32, u64)> =
                first.iter().filter(|row| condition.of(world, row) == Some(true)).map(|row| row.place()).collect();
            if (first.len() / 20..first.len() * 2 / 3).contains(&erased.len()) {
                break (condition, erased);
            }
        };
        self.create("erased").await;
        self.produce("erased", &first).await;
        self.seal("erased").await;
        let job = self.broker.erase("erased", &condition.sql()).await.unwrap();
        self.produce("erased", &second.iter().collect::<Vec<_>>()).await;
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let of_job: Vec<_> = self.broker.erasures().into_iter().filter(|erasure| erasure.job == job).collect();
            if of_job.iter().all(|erasure| matches!(erasure.state, ErasureState::Done { .. })) {
                assert!(of_job.iter().all(|erasure| erasure.error.is_none()), "{}: {of_job:?}", condition.sql());
                break;
            }
            assert!(Instant::now() < deadline, "{} is not done: {of_job:?}", condition.sql());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        State { topic: "erased".to_owned(), is_live: Box::new(move |record| !erased.contains(&record.place())) }
    }

    /// A topic of which a part is deleted before and a part after it was sealed, and a part while it is in the tail.
    async fn trimmed(&mut self, world: &World) -> State {
        let mut state = self.sealed_in(world, "trimmed", 1).await;
        let starts: Vec<u64> =
            (0..PARTITIONS).map(|partition| self.dice.below(world.end(partition) * 3 / 5 + 1)).collect();
        let before = |part: u64| {
            let of = |(partition, start): (u32, &u64)| (PartitionId(partition), Offset(start * part / 2));
            (0..).zip(&starts).map(of).collect::<Vec<_>>()
        };
        for part in [1, 2] {
            self.broker.delete_records("trimmed", &before(part)).await.unwrap();
        }
        state.is_live = Box::new(move |record| record.offset >= starts[record.partition as usize]);
        state
    }

    async fn create(&self, topic: &str) {
        let config = TopicConfig {
            time_field: Some("ts".to_owned()),
            bucket_ns: self.hours * 3_600_000_000_000,
            ..TopicConfig::default()
        };
        self.broker.create_topic(topic, PARTITIONS, config).await.unwrap();
    }

    async fn produce(&mut self, topic: &str, records: &[&Record]) {
        for (partition, batch, first) in batches(records, &mut self.dice) {
            let produced = self.broker.produce(topic, PartitionId(partition), batch).await.unwrap();
            assert_eq!(produced.base_offset.0, first.offset, "L2: offsets are those that were foretold");
            self.tokens.insert(produced.token.shard, produced.token);
        }
    }

    async fn seal(&self, topic: &str) {
        self.broker.seal_topic(topic).await.unwrap();
    }
}
