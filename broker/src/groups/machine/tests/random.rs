//! G1 under whatever clients do: random members join, leave, stay silent and commit, and coordinators change.

use proptest::prelude::*;
use stratalog_proto::{Offset, PartitionId, TopicId};
use uuid::Uuid;

use super::*;

const TOPIC: TopicId = TopicId(Uuid::from_u128(3));

#[derive(Clone, Debug)]
enum Step {
    Join {
        client: usize,
        anew: bool,
        protocols: usize,
    },
    Sync {
        client: usize,
    },
    Heartbeat {
        client: usize,
    },
    Leave {
        client: usize,
    },
    Commit {
        client: usize,
        generations_back: i32,
    },
    Pass {
        time: Millis,
    },
    Land,
    /// The coordinator goes; whether its command was written all the same.
    FailOver {
        was_written: bool,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let client = || 0..5usize;
    let step = prop_oneof![
        4 => (client(), prop::bool::weighted(0.3), 0..3usize)
            .prop_map(|(client, anew, protocols)| Step::Join { client, anew, protocols }),
        4 => client().prop_map(|client| Step::Sync { client }),
        3 => client().prop_map(|client| Step::Heartbeat { client }),
        1 => client().prop_map(|client| Step::Leave { client }),
        3 => (client(), 0..3i32).prop_map(|(client, generations_back)| Step::Commit { client, generations_back }),
        3 => prop_oneof![Just(100), Just(600), Just(SESSION / 2), Just(SESSION), Just(REBALANCE)]
            .prop_map(|time| Step::Pass { time }),
        6 => Just(Step::Land),
        1 => any::<bool>().prop_map(|was_written| Step::FailOver { was_written }),
    ];
    prop::collection::vec(step, 1..120)
}

/// A client: the first two are static members, the others have their ids given before they join.
#[derive(Clone, Debug, Default)]
struct Client {
    member: String,
    generation: i32,
    joining: Option<Ticket>,
    /// With the member and the generation that asks.
    syncing: Option<(Ticket, String, i32)>,
}

struct Run {
    bench: Bench,
    clients: Vec<Client>,
    generation: i32,
    /// Who leads each generation, as all that joined it were told.
    leaders: BTreeMap<i32, String>,
    committed: Option<u64>,
    commits: u64,
}

fn instance_of(client: usize) -> Option<String> {
    (client < 2).then(|| format!("i{client}"))
}

impl Run {
    fn new() -> Self {
        let (clients, leaders) = (vec![Client::default(); 5], BTreeMap::new());
        Self { bench: Bench::new(), clients, generation: 0, leaders, committed: None, commits: 0 }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Join { client, anew, protocols } => self.join(*client, *anew, *protocols),
            Step::Sync { client } => self.sync(*client),
            Step::Heartbeat { client } => self.heartbeat(*client),
            Step::Leave { client } => self.leave(*client),
            Step::Commit { client, generations_back } => self.commit(*client, *generations_back),
            Step::Pass { time } => self.bench.pass(*time),
            Step::Land => self.land(),
            Step::FailOver { was_written } => self.fail_over(*was_written),
        }
        self.hear();
        self.check();
    }

    fn join(&mut self, client: usize, anew: bool, protocols: usize) {
        let protocols: &[&str] = [&["a", "b"][..], &["b", "a"], &["b"]][protocols];
        let member = if anew { String::new() } else { self.clients[client].member.clone() };
        let instance = instance_of(client);
        let needs_member_id = instance.is_none();
        let join = |join| Join { instance, needs_member_id, knows_skipping: true, ..knowing(protocols)(join) };
        self.clients[client].joining = Some(self.bench.join(&member, join));
    }

    fn sync(&mut self, client: usize) {
        let Client { member, generation, .. } = self.clients[client].clone();
        let of = self.bench.membership();
        let assignments = of.members.keys().map(|id| (id.clone(), Bytes::from(format!("{id}@{generation}"))));
        let ask = Ask::Sync(Sync {
            group: GROUP.to_owned(),
            generation,
            member_id: member.clone(),
            instance: instance_of(client),
            protocol_type: None,
            protocol: None,
            assignments: if of.leader == member { assignments.collect() } else { Vec::new() },
        });
        self.clients[client].syncing = Some((self.bench.ask(ask), member, generation));
    }

    fn heartbeat(&mut self, client: usize) {
        let Client { member, generation, .. } = self.clients[client].clone();
        let (group, instance) = (GROUP.to_owned(), instance_of(client));
        self.bench.ask(Ask::Heartbeat(Heartbeat { group, generation, member_id: member, instance }));
    }

    fn leave(&mut self, client: usize) {
        let leaving = Leaving { member_id: self.clients[client].member.clone(), instance: instance_of(client) };
        self.bench.ask(Ask::Leave(vec![leaving]));
    }

    fn commit(&mut self, client: usize, back: i32) {
        let Client { member, generation, .. } = self.clients[client].clone();
        let generation = generation - back;
        let instance = instance_of(client);
        if self.bench.machine.may_commit(self.bench.now, generation, &member, instance.as_deref()).is_err() {
            return;
        }
        self.commits += 1;
        let offset = internal::CommittedOffset {
            topic: TOPIC.to_bytes(),
            offset: self.commits,
            ..internal::CommittedOffset::default()
        };
        let before = self.bench.membership();
        let done = self.bench.apply(Command::CommitOffsets(internal::CommitOffsets {
            group: GROUP.to_owned(),
            generation,
            member: member.clone(),
            instance: instance.unwrap_or_default(),
            offsets: vec![offset],
        }));
        if done.is_ok() {
            let is_of_nobody = generation < 0 && before.phase == Phase::Empty;
            let is_of_member = before.generation == generation && before.members.contains_key(&member);
            assert!(is_of_nobody || is_of_member && before.phase == Phase::Stable, "G1: {before:?}");
            self.committed = Some(self.commits);
        }
    }

    fn land(&mut self) {
        if self.bench.flying.is_some() {
            self.bench.land();
        }
    }

    fn fail_over(&mut self, was_written: bool) {
        if let Some(change) = self.bench.flying.take().filter(|_| was_written) {
            assert_eq!(self.bench.apply(Command::GroupState(change)), Ok(CommandResult::Done));
        }
        let next = Machine::load(GROUP, &self.bench.membership(), LIMITS, self.bench.now);
        let effects = std::mem::replace(&mut self.bench.machine, next).fail(&Refusal::NotCoordinator);
        self.bench.flying = None;
        self.bench.carry_out(effects);
    }

    /// Clients hear their answers, which have to be what the state says.
    fn hear(&mut self) {
        let answers: Vec<_> = std::mem::take(&mut self.bench.answers).into_iter().collect();
        let of = self.bench.membership();
        for (ticket, answer) in answers {
            let asked = |client: &&mut Client| {
                client.joining == Some(ticket) || client.syncing.as_ref().is_some_and(|(of, ..)| *of == ticket)
            };
            let Some(client) = self.clients.iter_mut().find(asked) else { continue };
            match answer {
                Ok(Answer::Joined(joined)) => {
                    assert_eq!(joined.generation, of.generation, "nobody hears of what is not applied");
                    assert!(of.members.contains_key(&joined.member_id) && of.phase != Phase::Empty);
                    assert_eq!((&joined.leader, &joined.protocol), (&of.leader, &of.protocol));
                    if !joined.members.is_empty() {
                        assert_eq!(joined.leader, joined.member_id, "the leader alone assigns");
                        assert_eq!(joined.members.len(), of.members.len());
                    }
                    (client.member, client.generation) = (joined.member_id, joined.generation);
                }
                Ok(Answer::Synced(synced)) => {
                    let (_, member, generation) = client.syncing.as_ref().expect("it asked");
                    assert_eq!((of.phase, of.generation), (Phase::Stable, *generation));
                    assert_eq!(synced.assignment, of.members[member].assignment);
                }
                Err(Refusal::MemberIdRequired(id)) => client.member = id,
                _ => {}
            }
        }
    }

    /// What has to hold at any time.
    fn check(&mut self) {
        let of = self.bench.membership();
        assert!(of.generation >= self.generation, "G1: {} after {}", of.generation, self.generation);
        self.generation = of.generation;
        if of.phase == Phase::Completing {
            let leader = self.leaders.entry(of.generation).or_insert_with(|| of.leader.clone());
            assert_eq!(*leader, of.leader, "a generation has one leader");
        }
        if of.phase == Phase::Stable {
            let is_assigned = |member: &Member| member.assignment.ends_with(format!("@{}", of.generation).as_bytes());
            assert!(of.members.values().all(is_assigned), "every member has its assignment of this generation");
        }
        let place = (TOPIC, PartitionId(0));
        let committed = self.bench.state.groups().get(GROUP).and_then(|group| group.offsets().get(&place).cloned());
        assert_eq!(committed.map(|committed| committed.offset), self.committed.map(Offset));
        let image = self.bench.state.encode();
        assert_eq!(ShardState::decode(image.into()).as_ref(), Ok(&self.bench.state));
        assert_eq!(self.bench.flying.is_some(), self.bench.machine.revision().is_none());
    }

    /// Everyone falls silent: in the end nobody waits, and nobody is in the group.
    fn end(mut self) {
        for _ in 0..20 {
            self.land();
            self.bench.pass(10 * REBALANCE);
        }
        let unanswered = (0..self.bench.next).filter(|ticket| !self.bench.answers.contains_key(ticket)).count();
        assert!(self.bench.machine.is_idle() && self.bench.machine.wake().is_none());
        assert_eq!(self.bench.membership().members.len(), 0, "{unanswered}");
        assert!(self.bench.machine.fail(&Refusal::NotCoordinator).is_empty(), "everyone was answered");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn g1_whatever_members_do(steps in steps()) {
        let mut run = Run::new();
        steps.iter().for_each(|step| run.step(step));
        run.end();
    }
}
