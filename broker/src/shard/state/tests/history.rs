//! Random histories of all commands, driven as a leader would: whatever happens, a state survives its encoding, and a
//! replica that begins from one ends where the others do.

use stratalog_proto::RaftIndex;
use stratalog_storage::RecMeta;

use super::rolling::roll;
use super::*;
use crate::shard::PendingRec;
use crate::shard::testing::rec_of;

const TOPICS: [TopicId; 3] = [TOPIC, TopicId(Uuid::from_u128(1)), TopicId(Uuid::from_u128(9))];
const HOUR_NS: i64 = 3_600_000_000_000;

/// One choice of what happens next. What cannot happen then is refused, or left out.
#[derive(Clone, Debug)]
enum Step {
    Append {
        topic: usize,
        partition: u32,
        records: i64,
    },
    /// The next batch of a producer, or its last one once more.
    Produce {
        producer: i64,
        again: bool,
    },
    Put {
        topic: usize,
        partitions: u32,
    },
    Remove {
        topic: usize,
    },
    Seal {
        topic: usize,
        back: u64,
        says: bool,
    },
    Drop {
        which: usize,
    },
    Roll {
        back: u64,
        packed: bool,
    },
    Repack {
        which: usize,
    },
    /// Of neighbours in the manifest; with `erase`, one row less.
    Merge {
        which: usize,
        erase: bool,
    },
    DeleteRecords {
        topic: usize,
        partition: u32,
        before: u64,
    },
    Erase {
        topic: usize,
        done: bool,
    },
}

#[derive(Clone, Debug)]
struct Round {
    steps: Vec<Step>,
    new_term: bool,
    clock_ns: i64,
}

fn step() -> impl Strategy<Value = Step> {
    let topic = 0..TOPICS.len();
    prop_oneof![
        8 => (topic.clone(), 0..3u32, 1..4i64).prop_map(|(topic, partition, records)| Step::Append { topic, partition, records }),
        4 => (0..3i64, any::<bool>()).prop_map(|(producer, again)| Step::Produce { producer, again }),
        2 => (topic.clone(), 1..4u32).prop_map(|(topic, partitions)| Step::Put { topic, partitions }),
        1 => topic.clone().prop_map(|topic| Step::Remove { topic }),
        4 => (topic, 0..3u64, any::<bool>()).prop_map(|(topic, back, says)| Step::Seal { topic, back, says }),
        2 => (0..8usize).prop_map(|which| Step::Drop { which }),
        3 => (0..4u64, any::<bool>()).prop_map(|(back, packed)| Step::Roll { back, packed }),
        1 => (0..8usize).prop_map(|which| Step::Repack { which }),
        2 => (0..8usize, any::<bool>()).prop_map(|(which, erase)| Step::Merge { which, erase }),
        1 => (0..TOPICS.len(), 0..3u32, 0..30u64)
            .prop_map(|(topic, partition, before)| Step::DeleteRecords { topic, partition, before }),
        1 => (0..TOPICS.len(), any::<bool>()).prop_map(|(topic, done)| Step::Erase { topic, done }),
    ]
}

fn round() -> impl Strategy<Value = Round> {
    let clock = -HOUR_NS..26 * HOUR_NS;
    (prop::collection::vec(step(), 1..5), prop::bool::weighted(0.2), clock)
        .prop_map(|(steps, new_term, clock_ns)| Round { steps, new_term, clock_ns })
}

/// An accepted batch: topic, partition, index, offset after it.
type Accepted = (TopicId, u32, u64, u64);

/// A leader, which builds commands from its own state and what it remembers of the log.
struct Leader {
    state: ShardState,
    index: u64,
    term: u64,
    accepted: Vec<Accepted>,
    sequences: BTreeMap<i64, i32>,
    segments: u128,
    /// Entries with their term and time.
    log: Vec<(Term, i64, Vec<Command>)>,
    effects: Vec<Effects>,
}

impl Leader {
    fn new() -> Self {
        let put = |topic| Step::Put { topic, partitions: 2 };
        let mut leader = Self {
            state: ShardState::new(),
            index: 0,
            term: 1,
            accepted: Vec::new(),
            sequences: BTreeMap::new(),
            segments: 100,
            log: Vec::new(),
            effects: Vec::new(),
        };
        leader.round(&Round { steps: vec![put(0), put(1)], new_term: false, clock_ns: 0 });
        leader
    }

    fn round(&mut self, round: &Round) {
        self.term += u64::from(round.new_term);
        self.index += 1 + u64::from(round.new_term);
        let commands: Vec<Command> = round.steps.iter().filter_map(|step| self.command(step)).collect();
        let time_ns = self.state.time_ns();
        let effects = apply_in(&mut self.state, Term(self.term), self.index, round.clock_ns, &commands).unwrap();
        assert!(self.state.time_ns() >= time_ns.max(round.clock_ns), "A1: the time of entries does not go back");
        self.remember(&commands, &effects);
        self.log.push((Term(self.term), round.clock_ns, commands));
        self.effects.push(effects);
    }

    fn remember(&mut self, commands: &[Command], effects: &Effects) {
        for (command, result) in commands.iter().zip(&effects.results) {
            if let (Command::Append(append), Ok(CommandResult::Appended { base_offset, duplicate: false })) =
                (command, result)
            {
                let records = stratalog_proto::batch::Batch::parse(append.batch.clone()).unwrap().record_count();
                let next = base_offset.0 + u64::from(records);
                self.accepted.push((append.topic, append.partition.0, self.index, next));
            }
        }
    }

    fn command(&mut self, step: &Step) -> Option<Command> {
        match *step {
            Step::Append { topic, partition, records } => Some(Self::append(topic, partition, batch(records, None))),
            Step::Produce { producer, again } => {
                let next = self.sequences.entry(producer).or_insert(0);
                *next += i32::from(!(again && *next > 0));
                Some(Self::append(0, 0, batch(1, Some((producer, 0, *next - 1)))))
            }
            Step::Put { topic, partitions } => {
                let Command::PutTopic(mut put) = put_topic(&(0..partitions).collect::<Vec<_>>()) else { return None };
                put.topic = TOPICS[topic].to_bytes();
                Some(Command::PutTopic(put))
            }
            Step::Remove { topic } => {
                Some(Command::RemoveTopic(internal::RemoveTopic { topic: TOPICS[topic].to_bytes() }))
            }
            Step::Seal { topic, back, says } => self.seal(TOPICS[topic], back, says),
            Step::Drop { which } => {
                let live = self.state.manifest().topics().flat_map(|(_, live)| live.segments.values());
                let live: Vec<_> = live.collect();
                let meta = live.get(which % live.len().max(1))?;
                Some(Command::Drop(internal::Drop { topic: meta.topic.to_bytes(), segments: vec![meta.id.to_bytes()] }))
            }
            Step::Roll { back, packed } => Some(self.roll(back, packed)),
            Step::Repack { which } => self.repack(which),
            Step::Merge { which, erase } => self.merge(which, erase),
            Step::DeleteRecords { topic, partition, before } => {
                let (topic, before) = (TOPICS[topic].to_bytes(), counts(&[(partition, before)]));
                Some(Command::DeleteRecords(internal::DeleteRecords { topic, before }))
            }
            Step::Erase { topic, done } => Some(self.erase(topic, done)),
        }
    }

    fn append(topic: usize, partition: u32, batch: Bytes) -> Command {
        Command::Append(Append { topic: TOPICS[topic], partition: PartitionId(partition), batch })
    }

    fn new_id(&mut self) -> u128 {
        self.segments += 1;
        self.segments
    }

    /// Seals everything up to `back` indexes below the last. Only while the log says where it ends, a seal need not.
    fn seal(&mut self, topic: TopicId, back: u64, says: bool) -> Option<Command> {
        let live = self.state.manifest().topic(topic)?;
        let (expect, next) = (live.row_frontier.0, (self.index - 1).saturating_sub(back));
        let mut ends: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
        for (_, partition, _, end) in
            self.accepted.iter().filter(|(of, _, index, _)| *of == topic && (expect + 1..=next).contains(index))
        {
            let first = self.state.partition(topic, PartitionId(*partition))?.sealed().0;
            ends.insert(*partition, (first, *end));
        }
        if ends.is_empty() || ends.values().any(|(first, end)| first >= end) {
            return None;
        }
        let ranges: Vec<_> = ends.iter().map(|(partition, (first, end))| (*partition, *first, *end)).collect();
        let mut meta = segment(self.new_id(), &ranges);
        meta.topic = topic.to_bytes();
        let Command::Seal(mut command) = seal(expect, next, vec![meta]) else { return None };
        command.topic = topic.to_bytes();
        if says || RaftIndex(next) < self.state.replay_frontier() {
            let end = |(partition, (_, end)): (&u32, &(u64, u64))| internal::PartitionCount {
                partition: *partition,
                value: *end,
            };
            command.ends = ends.iter().map(end).collect();
        }
        Some(Command::Seal(command))
    }

    /// Puts one segment in the place of two neighbours, without one of the rows if that is erased.
    fn merge(&mut self, which: usize, erase: bool) -> Option<Command> {
        let live = self.state.manifest().topics().filter(|(_, live)| live.segments.len() > 1);
        let live: Vec<_> =
            live.map(|(topic, live)| (topic, live.segments.values().cloned().collect::<Vec<_>>())).collect();
        let (topic, segments) = live.get(which % live.len().max(1))?;
        let inputs = &segments[which % (segments.len() - 1)..][..2];
        let mut ranges: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
        for range in inputs.iter().flat_map(|meta| &meta.ranges) {
            let (first, next) = (range.first.0, range.next.0);
            let known = ranges.entry(range.partition.0).or_insert((first, next));
            *known = (known.0.min(first), known.1.max(next));
        }
        let ranges: Vec<_> = ranges.into_iter().map(|(partition, (first, next))| (partition, first, next)).collect();
        let mut add = segment(self.new_id(), &ranges);
        let (rows, erased) = (inputs.iter().map(|meta| meta.rows).sum::<u64>(), u64::from(erase));
        (add.topic, add.rows) = (topic.to_bytes(), rows - erased);
        let remove = inputs.iter().map(|meta| meta.id.to_bytes()).collect();
        let topic = topic.to_bytes();
        Some(Command::Merge(internal::Merge { topic, remove, add: vec![add], erased, ..Default::default() }))
    }

    /// Begins an erasure, or ends the first that is under way.
    fn erase(&mut self, topic: usize, done: bool) -> Command {
        let running = self.state.erasures().iter().find(|erasure| done && erasure.done.is_none());
        match running.map(|erasure| erasure.job.to_bytes()) {
            Some(job) => Command::EraseDone(internal::EraseDone { job, rows: 1, ..Default::default() }),
            None => {
                let job = Bytes::copy_from_slice(Uuid::from_u128(self.new_id()).as_bytes());
                let (topic, predicate) = (TOPICS[topic].to_bytes(), "a = 1".to_owned());
                Command::Erase(internal::Erase { job, topic, predicate, columns: Vec::new() })
            }
        }
    }

    fn roll(&mut self, back: u64, packed: bool) -> Command {
        let (expect, next) = (self.state.replay_frontier(), RaftIndex((self.index - 1).saturating_sub(back)));
        let batches = self.state.batches_between(expect, next);
        let files: Vec<_> = batches.chunk_by(|a, b| packed || a.0 == b.0).map(<[_]>::to_vec).collect();
        roll(expect.0, next.0, files.iter().map(|file| rec_of(self.new_id(), expect.0, next.0, file)).collect())
    }

    /// Leaves out of a segment what log start has passed.
    fn repack(&mut self, which: usize) -> Option<Command> {
        let live = self.state.manifest().recs().get(which)?.clone();
        let mut part: RecMeta = (*live).clone();
        for of in &mut part.topics {
            let keeps = |partition| self.state.partition(of.topic, partition).map(|state| state.log_start());
            of.ranges.retain(|range| keeps(range.partition).is_some_and(|start| range.next > start));
        }
        part.topics.retain(|of| !of.ranges.is_empty());
        let mut add = internal::RecMeta::from(&part);
        add.id = SegmentId(Uuid::from_u128(self.new_id())).to_bytes();
        Some(Command::Repack(internal::Repack { remove: live.id.to_bytes(), add: Some(add), erased: Vec::new() }))
    }

    /// What has to hold of every state.
    fn check(&self) {
        let frontier = self.state.replay_frontier();
        for (topic, hosted) in self.state.topics() {
            assert_eq!(self.state.unaccounted(topic), 0, "S1");
            for (partition, state) in hosted.partitions() {
                assert!(state.log_start().max(state.sealed()) <= state.high_watermark(), "S1");
                assert!(state.batches().all(|slot| slot.index > frontier), "L4");
                let recs = self.state.manifest().recs_of(topic).iter();
                let ranges = recs.filter_map(|meta| meta.range(topic, partition));
                let live: Vec<_> = ranges.filter(|range| range.next > state.log_start()).collect();
                let slots = state.batches_from(state.log_start()).map(|slot| u64::from(slot.len)).sum::<u64>();
                assert_eq!(state.bytes(), slots + live.iter().map(|range| range.bytes).sum::<u64>());
                let mut next = live.first().map_or(state.log_start().min(state.rolled()), |range| range.first);
                assert!(next <= state.log_start(), "L1: log start can be read");
                for range in live {
                    assert_eq!(range.first, next, "L2: replay segments have no holes above log start");
                    next = range.next;
                }
                let rolled = state.rolled();
                assert!(next == rolled || rolled <= state.log_start(), "L2: what is not rolled is in the log");
            }
        }
    }

    /// Every accepted batch is in the state or was handed over once.
    fn check_batches(&self) {
        let rolled = self.effects.iter().flat_map(|effects| &effects.rolled).filter(|rec| rec.replaces.is_none());
        let mut held: Vec<Accepted> = rolled.flat_map(|PendingRec { batches, .. }| batches).map(accepted).collect();
        held.extend(self.state.batches_between(RaftIndex(0), RaftIndex(u64::MAX)).iter().map(accepted));
        held.sort_unstable();
        assert!(held.windows(2).all(|pair| pair[0] != pair[1]), "S2: no batch is rolled twice");
        let known: std::collections::BTreeSet<_> = self.accepted.iter().copied().collect();
        assert!(held.iter().all(|batch| known.contains(batch)));
    }
}

fn accepted((topic, partition, slot): &(TopicId, PartitionId, crate::shard::BatchSlot)) -> Accepted {
    (*topic, partition.0, slot.index.0, slot.next_offset().0)
}

/// Applies what a leader wrote after its entry number `from` to another state; what each did.
fn replay(state: &mut ShardState, leader: &Leader, from: usize, indexes: &[u64]) -> Vec<Effects> {
    let rest = leader.log.iter().zip(indexes).skip(from);
    rest.map(|((term, time_ns, commands), index)| apply_in(state, *term, *index, *time_ns, commands).unwrap()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// A1: a replica that begins from a snapshot ends in the same state, and does the same on the way there, as one that
    /// applied everything; and the snapshot is the state.
    #[test]
    fn a1_a_snapshot_and_the_rest_are_the_whole(rounds in prop::collection::vec(round(), 1..40), at in any::<prop::sample::Index>()) {
        let mut leader = Leader::new();
        let at = at.index(rounds.len());
        let (mut indexes, mut image) = (vec![leader.index], Vec::new());
        for (number, round) in rounds.iter().enumerate() {
            if number == at {
                image = leader.state.encode();
                let decoded = ShardState::decode(image.clone().into()).unwrap();
                prop_assert_eq!(&decoded, &leader.state);
                prop_assert_eq!(decoded.digest(), leader.state.digest());
                prop_assert_eq!(&decoded.encode(), &image);
            }
            leader.round(round);
            indexes.push(leader.index);
            leader.check();
        }
        leader.check_batches();

        let mut late = ShardState::decode(image.into()).unwrap();
        let effects = replay(&mut late, &leader, at + 1, &indexes);
        prop_assert_eq!(&effects[..], &leader.effects[at + 1..]);
        prop_assert_eq!(late.digest(), leader.state.digest());
        prop_assert_eq!(&late, &leader.state);

        let mut whole = ShardState::new();
        prop_assert_eq!(&replay(&mut whole, &leader, 0, &indexes)[..], &leader.effects[..]);
        prop_assert_eq!(&whole, &leader.state);
    }
}
