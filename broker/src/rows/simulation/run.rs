//! The scheduler: one process after the other over one log and one disk.

use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use stratalog_proto::config::TopicConfig;
use stratalog_proto::entry::Command;
use stratalog_proto::{PartitionId, internal};
use stratalog_query::TopicInfo;
use stratalog_storage::simulation::{Dice, Op, SimDisk};

use super::model::Produced;
use super::{Model, Step};
use crate::rows::garbage;
use crate::rows::log::RowLog;
use crate::rows::merge::Edit;
use crate::rows::options::RowsOptions;
use crate::rows::runtime::Rows;
use crate::rows::testing::{FixedTopics, MemLog, NOW_NS, SealFate, rows_over, topic};
use crate::shard::ShardState;

const STEPS: usize = 60;
const PARTITIONS: u32 = 2;
const HOUR: i64 = 3_600_000_000_000;
/// Where the segments are.
pub(super) const DIR: &str = "/segments";

/// Calls that may fail.
const FAULTS: [(Op, &str, ErrorKind); 7] = [
    (Op::Create, ".col", ErrorKind::StorageFull),
    (Op::Write, ".col", ErrorKind::StorageFull),
    (Op::Sync, ".col", ErrorKind::Other),
    (Op::Rename, ".col", ErrorKind::Other),
    (Op::Sync, "segments", ErrorKind::Other),
    (Op::Remove, ".col", ErrorKind::Other),
    (Op::View, ".col", ErrorKind::Other),
];

pub(super) struct Run {
    pub(super) dice: Dice,
    pub(super) disk: SimDisk,
    pub(super) log: Arc<MemLog>,
    pub(super) rows: Option<Arc<Rows>>,
    pub(super) topics: Vec<Arc<TopicInfo>>,
    pub(super) model: Model,
    /// Something was ordered that may fail a call.
    troubled: bool,
    numbers: i64,
    pub(super) steps: Vec<String>,
}

impl Run {
    pub(super) fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let disk = SimDisk::seeded(dice.next_u64());
        let log = on(&disk, |io| MemLog::on(io, Path::new(DIR)));
        let config = TopicConfig { time_field: Some("ts".to_owned()), ..TopicConfig::default() };
        let topics = ["logs", "more"].map(|name| topic(name, PARTITIONS, config.clone())).to_vec();
        topics.iter().for_each(|topic| log.create(topic));
        let model = Model::default();
        Self { dice, disk, log, rows: None, topics, model, troubled: false, numbers: 0, steps: Vec::new() }
    }

    pub(super) async fn go(&mut self) {
        self.start().await;
        for _ in 0..STEPS {
            let step = Step::pick(&mut self.dice);
            self.steps.push(format!("{step:?}"));
            self.take(step).await;
            self.settle().await;
            if !self.troubled {
                self.check().await;
            }
        }
        self.steps.push("the end".to_owned());
        while self.log.apply_late(false) {}
        self.end(false).await;
        self.check().await;
        self.check_files();
        self.rows().stop().await;
    }

    /// Adds to what the present step says of itself.
    pub(super) fn note(&mut self, what: std::fmt::Arguments<'_>) {
        let step = self.steps.last_mut().expect("there is a step");
        step.push_str(&format!(", {what}"));
    }

    pub(super) fn rows(&self) -> Arc<Rows> {
        Arc::clone(self.rows.as_ref().expect("a process runs"))
    }

    fn pick_topic(&mut self) -> Arc<TopicInfo> {
        Arc::clone(self.dice.pick(&self.topics).expect("there are topics"))
    }

    async fn take(&mut self, step: Step) {
        match step {
            Step::Produce => self.produce().await,
            Step::Seal => self.seal().await,
            Step::Merge => self.merge().await,
            Step::Erase => self.erase().await,
            Step::Drop => self.drop_one().await,
            Step::DropBefore => self.drop_before().await,
            Step::DeleteRecords => self.delete_records(),
            Step::Roll => self.roll(),
            Step::Fate => {
                let fates = [SealFate::AnswerLost, SealFate::Lost, SealFate::Late, SealFate::Refused];
                let fate = *self.dice.pick(&fates).expect("there are some");
                *self.log.fate.lock() = fate;
                self.note(format_args!("{fate:?}"));
            }
            Step::Late => {
                let forget = self.dice.chance(1, 3);
                let applied = self.log.apply_late(forget);
                self.note(format_args!("{applied}, forgotten: {forget}"));
            }
            Step::Fault => {
                let (op, part, kind) = FAULTS[self.dice.below(FAULTS.len() as u64) as usize];
                self.disk.fail_next(op, part, kind);
                self.troubled = true;
                self.note(format_args!("{op:?} of {part}: {kind}"));
            }
            Step::PowerSoon => self.cut_power_soon(),
            Step::Restart => {
                self.rows().stop().await;
                self.end(false).await;
            }
            Step::Kill => self.end(false).await,
            Step::PowerCut => self.end(true).await,
        }
    }

    async fn produce(&mut self) {
        for _ in 0..=self.dice.below(3) {
            let topic = self.pick_topic();
            let partition = self.dice.below(u64::from(PARTITIONS)) as u32;
            let values: Vec<String> = (0..=self.dice.below(30)).map(|_| self.record(&topic, partition)).collect();
            self.log.produce(&topic, partition, &values.iter().map(String::as_str).collect::<Vec<_>>());
        }
    }

    /// A value, most of them of few hours; one in ten is none.
    fn record(&mut self, topic: &TopicInfo, partition: u32) -> String {
        self.numbers += 1;
        let number = self.numbers;
        let hours = if self.dice.chance(1, 30) { self.dice.below(4_000) } else { self.dice.below(4) };
        let time_ns = NOW_NS - hours as i64 * HOUR + number;
        let bad = self.dice.chance(1, 10);
        let record = Produced { number: (!bad).then_some(number), time_ns };
        self.model.produced(topic.id, partition, record);
        if bad {
            format!("no JSON {number}")
        } else {
            format!(r#"{{"ts":{time_ns},"number":{number},"text":"word {number}"}}"#)
        }
    }

    async fn seal(&mut self) {
        let topic = self.pick_topic();
        let sealed = self.rows().seal_now(&topic).await;
        self.note(format_args!("{}: {:?}", topic.name, sealed.map_err(|error| error.message)));
    }

    async fn merge(&mut self) {
        let topic = self.pick_topic();
        let merged = self.rows().merge_now(&topic).await;
        self.note(format_args!("{}: {:?}", topic.name, merged.map_err(|error| error.message)));
    }

    /// Has some rows of a few segments left out, as an erasure does.
    async fn erase(&mut self) {
        let topic = self.pick_topic();
        let mut inputs = self.segments(&topic);
        inputs.retain(|meta| self.model.knows(meta.id));
        while inputs.len() > 3 {
            inputs.swap_remove(self.dice.below(inputs.len() as u64) as usize);
        }
        let (mut edit, mut places) = (Edit::default(), Vec::new());
        for place in inputs.iter().flat_map(|meta| self.model.rows_of(meta.id)) {
            if self.dice.chance(1, 5) {
                edit.erase.entry(PartitionId(place.1)).or_default().insert(place.2);
                places.push(*place);
            }
        }
        if places.is_empty() {
            return;
        }
        let rows = self.rows();
        let shard = rows.shards_of(&topic).next().expect("there is a shard").clone();
        let rewritten = rows.merger.rewrite(&shard, topic.id, &inputs, edit).await;
        self.note(format_args!(
            "{} rows of {}: {:?}",
            places.len(),
            topic.name,
            rewritten.as_ref().map(|done| done.erased)
        ));
        self.model.erased(places, rewritten.is_ok());
    }

    async fn drop_one(&mut self) {
        let topic = self.pick_topic();
        let live = self.segments(&topic);
        let Some(meta) = self.dice.pick(&live).cloned() else { return };
        if !self.model.knows(meta.id) {
            return;
        }
        let command = internal::Drop { topic: topic.id.to_bytes(), segments: vec![meta.id.to_bytes()] };
        self.log.propose(Command::Drop(command)).await.expect("what is live can be dropped");
        self.model.dropped(meta.id);
        self.note(format_args!("{} of {}", meta.id, topic.name));
    }

    /// Retention as users ask for it. What is in the tail is sealed before, so that it is known what each segment has.
    async fn drop_before(&mut self) {
        if self.troubled {
            return;
        }
        let topic = self.pick_topic();
        let sealed = self.rows().seal_now(&topic).await;
        if let Err(error) = sealed {
            self.note(format_args!("not sealed: {error}"));
            return;
        }
        self.learn(&topic).await;
        let before_ns = NOW_NS - self.dice.below(4) as i64 * HOUR;
        let late: Vec<_> = self.segments(&topic).into_iter().filter(|meta| meta.bucket.end_ns <= before_ns).collect();
        let dropped = self.rows().drop_before(&topic, before_ns, false).await;
        for meta in &late {
            self.model.dropped(meta.id);
        }
        self.note(format_args!("{} segments of {}", late.len(), topic.name));
        let dropped = dropped.expect("nothing is left to be sealed").segments;
        assert_eq!(dropped.len(), late.len(), "a drop takes the buckets that have ended");
    }

    fn delete_records(&mut self) {
        let topic = self.pick_topic();
        let partition = self.dice.below(u64::from(PARTITIONS)) as u32;
        let end = self.model.end(topic.id, partition);
        let before = self.dice.below(end + 5);
        let of = internal::PartitionCount { partition, value: before };
        let command = internal::DeleteRecords { topic: topic.id.to_bytes(), before: vec![of] };
        self.log.apply(&[Command::DeleteRecords(command)]).remove(0).expect("log start can be moved");
        self.model.deleted_below(topic.id, partition, before);
        self.note(format_args!("{} {partition} below {before} of {end}", topic.name));
    }

    fn roll(&mut self) {
        let new = |state: &ShardState| !state.batches_between(state.replay_frontier(), self.log.applied()).is_empty();
        if self.log.read(new) {
            self.log.roll();
        }
    }

    /// After a few more calls, none reaches the disk.
    fn cut_power_soon(&mut self) {
        let calls = AtomicU64::new(1 + self.dice.below(40));
        self.note(format_args!("after {calls:?} calls"));
        self.troubled = true;
        self.disk.set_fault(move |_, _| {
            let left = calls.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
            left.map(|_| ()).map_err(|_| io::Error::other("the power is gone"))
        });
    }

    /// The process ends, with the power or without, and the next one starts.
    async fn end(&mut self, power: bool) {
        let gone = |_: Op, _: &Path| Err(io::Error::other("this process has ended"));
        self.disk = {
            let next = if power { self.disk.after_power_cut_by_seed() } else { self.disk.after_kill() };
            self.disk.set_fault(gone);
            next
        };
        // What is left of the process writes nothing any more, and is waited for so that it burdens no other seed.
        self.rows().stop().await;
        self.log = on(&self.disk, |io| self.log.reopened(io));
        self.troubled = false;
        self.start().await;
        self.note(format_args!("{} entries", self.log.applied()));
        self.settle().await;
        let rows = self.rows();
        let shard = rows.shards_of(&self.topics[0]).next().expect("there is a shard");
        garbage::collect(&shard).await.expect("garbage can be collected from a sound disk");
        self.settle().await;
        self.check_files();
    }

    async fn start(&mut self) {
        let directory = Arc::new(FixedTopics(self.topics.clone()));
        let hour = Duration::from_secs(3_600);
        let quiet = RowsOptions { seal_age: hour, retention_interval: hour, ..RowsOptions::default() };
        let options = RowsOptions { merge_rate_bytes: 0, ..quiet };
        self.rows = Some(rows_over([self.log.clone()], directory, options).await);
    }

    /// Waits until all that was begun in the background is done.
    async fn settle(&mut self) {
        let soon = Instant::now() + Duration::from_secs(30);
        self.rows().caught_up(soon).await.expect("rows are made");
        // There is one thread for it: what was handed to it before is done when this is.
        tokio::task::spawn_blocking(|| ()).await.expect("nothing panics");
    }
}

fn on(disk: &SimDisk, make: impl FnOnce(Arc<dyn stratalog_storage::Io>) -> Arc<MemLog>) -> Arc<MemLog> {
    use stratalog_storage::Io;
    disk.create_dir_all(Path::new(DIR)).expect("a directory can be made");
    make(Arc::new(disk.clone()))
}
