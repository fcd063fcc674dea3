//! One run: a node, what has to be true of it, and the steps that it takes.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use stratalog_proto::entry::Command;
use stratalog_proto::{Error, Offset, TopicId, TopicPartition};
use stratalog_storage::simulation::{Dice, SimDisk};
use tokio::runtime::{Builder, Runtime};

use super::commands::{clients_of, put_topic, topic_id};
use super::node::{Node, SHARDS};
use super::power::Power;
use super::{Client, Model, Step};
use crate::fatal::simulated;

/// Steps of one run.
const STEPS: u64 = 220;
/// Topics of a shard.
const TOPICS: u64 = 2;

/// A node under test.
pub(super) struct Run {
    pub(super) dice: Dice,
    pub(super) disk: SimDisk,
    pub(super) node: Node,
    pub(super) models: Vec<Model>,
    pub(super) clients: Vec<Vec<Client>>,
    /// Of each shard, those that are there, or are to be.
    pub(super) topics: Vec<Vec<TopicId>>,
    pub(super) runtime: Runtime,
    pub(super) power: Power,
    /// Whether a step may fail: something was made to go wrong since the last start.
    pub(super) troubled: bool,
    /// Steps that failed.
    pub(super) failures: u64,
    pub(super) restarts: u64,
    /// Log files that were used again.
    pub(super) recycled: u64,
    /// Files that were damaged, and how often that was told at the start.
    pub(super) damages: (u64, u64),
    steps: Vec<String>,
    /// Batches and topics so far: each has a number of its own.
    pub(super) numbers: u64,
    /// What the clock of the machine says.
    pub(super) clock_ns: i64,
    /// The time of the last entry.
    pub(super) time_ns: i64,
}

impl Run {
    /// A new node with its topics.
    pub(super) fn new(seed: u64) -> Self {
        simulated::begin();
        let mut dice = Dice::new(seed);
        let disk = SimDisk::seeded(dice.next_u64());
        let node = Node::open(&disk).expect("a new directory opens");
        let runtime = Builder::new_current_thread().build().expect("a runtime of one thread starts");
        let shards = 0..SHARDS as usize;
        let models = shards.clone().map(|_| Model::new()).collect();
        let topics: Vec<Vec<TopicId>> =
            shards.clone().map(|shard| (0..TOPICS).map(|number| topic_id(shard, number)).collect()).collect();
        let clients = topics.iter().map(|of| of.iter().copied().flat_map(clients_of).collect()).collect();
        let mut run = Self {
            dice,
            disk,
            node,
            models,
            clients,
            topics,
            runtime,
            power: Power::default(),
            troubled: false,
            failures: 0,
            restarts: 0,
            recycled: 0,
            damages: (0, 0),
            steps: Vec::new(),
            numbers: TOPICS,
            clock_ns: 1_700_000_000_000_000_000,
            time_ns: i64::MIN,
        };
        run.lead().expect("a new node leads");
        for shard in shards {
            let topics: Vec<Command> = run.topics[shard].iter().copied().map(put_topic).collect();
            run.submit(shard, &topics).expect("a new node takes its topics");
        }
        run.apply_all().expect("a new node applies its topics");
        run
    }

    /// All steps, and a last look at everything.
    pub(super) fn go(&mut self) {
        let calm = self.dice.below(4);
        for _ in 0..STEPS {
            let step = Step::pick(&mut self.dice, calm);
            self.take(step);
        }
        self.take(Step::PowerCut);
        self.inspect();
    }

    /// The steps so far, in words.
    pub(super) fn steps(&self) -> &[String] {
        &self.steps
    }

    /// Adds to what is told of the current step.
    pub(super) fn note(&mut self, what: impl std::fmt::Display) {
        if let Some(step) = self.steps.last_mut() {
            step.push_str(&format!(" · {what}"));
        }
    }

    /// Takes a step. A process that stops in it is started again.
    pub(super) fn take(&mut self, step: Step) {
        self.steps.push(format!("{:4} {step:?}", self.steps.len()));
        let done = catch_unwind(AssertUnwindSafe(|| self.perform(step)));
        let stopped = simulated::take();
        match done {
            Err(panic) if stopped.is_none() => resume_unwind(panic),
            Ok(Err(error)) => {
                assert!(self.troubled, "a step failed though nothing was wrong: {error}");
                self.failures += 1;
                self.note(format_args!("failed: {error}"));
            }
            _ => {}
        }
        if let Some(why) = stopped {
            assert!(self.troubled, "the process stopped though nothing was wrong: {why}");
            self.note(format_args!("stopped: {why}"));
            let power = self.dice.chance(1, 2);
            self.restart(power);
        } else if self.power_is_gone() {
            self.note("the power is gone");
            self.restart(true);
        }
    }

    fn perform(&mut self, step: Step) -> Result<(), Error> {
        let at = self.dice.below(u64::from(SHARDS)) as usize;
        match step {
            Step::Produce => self.produce(at),
            Step::Flush => {
                self.node.lane.flush();
                Ok(())
            }
            Step::Mark => {
                self.node.lane.mark();
                Ok(())
            }
            Step::MakeFile => {
                self.node.lane.make_spare();
                Ok(())
            }
            Step::Apply => self.apply_some(at),
            Step::Roll => self.roll(at),
            Step::Snapshot => self.snapshot(at),
            Step::Settle => self.node.replicas[at].make_expected(),
            Step::Repack => self.repack(at),
            Step::Seal => self.seal(at),
            Step::Drop => self.drop(at),
            Step::Remake => self.remake(at),
            Step::Read => self.read_some(at),
            Step::Lead => self.lead(),
            Step::Clock => {
                let hour = 3_600_000_000_000;
                self.clock_ns += if self.dice.chance(1, 2) { hour } else { -hour };
                Ok(())
            }
            Step::Fault => {
                self.order_fault();
                Ok(())
            }
            Step::Space => {
                self.change_space();
                Ok(())
            }
            Step::PowerSoon => {
                self.cut_power_soon();
                Ok(())
            }
            Step::Kill => {
                self.restart(false);
                Ok(())
            }
            Step::PowerCut => {
                self.restart(true);
                Ok(())
            }
            Step::Damage => {
                self.damage();
                Ok(())
            }
        }
    }

    fn apply_some(&mut self, at: usize) -> Result<(), Error> {
        let most = 1 + self.dice.below(8);
        for _ in 0..most {
            if !self.apply_one(at)? {
                break;
            }
        }
        let next = self.node.replicas[at].solo.next();
        self.note(format_args!("shard {at} up to entry {next}"));
        Ok(())
    }

    /// Applies the next entry of a shard, if it is durable, and compares the answers.
    fn apply_one(&mut self, at: usize) -> Result<bool, Error> {
        let Some((index, answers)) = self.node.replicas[at].solo.apply_next()? else { return Ok(false) };
        if index.0 < self.models[at].next() {
            return Ok(true);
        }
        let applied = self.models[at].apply(index, &answers);
        for (tp, producer, sequence) in applied.acknowledged {
            let clients = self.clients[at].iter_mut().filter(|client| client.tp == tp);
            clients.for_each(|client| client.acknowledge(producer, sequence));
        }
        self.clients[at].retain(|client| !applied.removed.contains(&client.tp.topic));
        let replica = &mut self.node.replicas[at];
        if let Some((_, metas)) = replica.proposed.take_if(|(proposed, _)| *proposed == index)
            && let Err(refused) = &answers[0]
        {
            metas.iter().for_each(|meta| replica.recs.discard(meta));
            let refused = refused.to_string();
            self.note(refused);
        }
        Ok(true)
    }

    /// Makes everything that waits durable, and applies it.
    pub(super) fn apply_all(&mut self) -> Result<(), Error> {
        while self.node.lane.flush() {}
        for at in 0..self.models.len() {
            while self.apply_one(at)? {}
        }
        Ok(())
    }

    /// Leads in a higher term: what waits has to be durable before.
    pub(super) fn lead(&mut self) -> Result<(), Error> {
        while self.node.lane.flush() {}
        if self.node.replicas.iter().any(|replica| replica.solo.in_flight() > 0) {
            return Ok(());
        }
        let led = self.node.lead(&self.runtime);
        for (replica, model) in self.node.replicas.iter().zip(&mut self.models) {
            model.submitted_by_raft(replica.solo.end());
            model.voted(replica.solo.voted());
        }
        led
    }

    /// After a restart, what was to be made and was lost is forgotten.
    pub(super) fn forget_lost_topics(&mut self) {
        for (at, model) in self.models.iter().enumerate() {
            self.topics[at] = model.state().topics().map(|(topic, _)| topic).collect();
            self.clients[at].retain(|client| self.topics[at].contains(&client.tp.topic));
        }
    }

    pub(super) fn pick_topic(&mut self, at: usize) -> TopicId {
        *self.dice.pick(&self.topics[at]).expect("a shard has topics")
    }

    fn read_some(&mut self, at: usize) -> Result<(), Error> {
        let partitions: Vec<TopicPartition> = self.models[at].accepted().keys().copied().collect();
        let Some(tp) = self.dice.pick(&partitions).copied() else { return Ok(()) };
        let Some((start, end)) = self.node.replicas[at].bounds(tp).filter(|(start, end)| start < end) else {
            return Ok(());
        };
        let from = self.dice.within(start.0..end.0);
        self.note(format_args!("{tp:?} from {from} to {end}"));
        self.check_reads(at, tp, Offset(from))
    }
}
