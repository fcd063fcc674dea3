//! The protocol of a group, over the state of a shard as it is.

mod failover;
mod instances;
mod random;
mod rounds;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use stratalog_proto::entry::{Command, Entry, EntryBuilder};
use stratalog_proto::{Error, RaftIndex, Term, internal};

use super::*;
use crate::outcome::CommandResult;
use crate::shard::ShardState;

const GROUP: &str = "g";
const SESSION: Millis = 10_000;
const REBALANCE: Millis = 60_000;
const LIMITS: Limits = Limits { initial_delay: 500, max_members: 4 };

/// A group with its shard's state, and what clients were answered.
struct Bench {
    state: ShardState,
    index: u64,
    machine: Machine,
    now: Millis,
    next: Ticket,
    answers: BTreeMap<Ticket, Result<Answer, Refusal>>,
    flying: Option<internal::GroupState>,
}

impl Bench {
    fn new() -> Self {
        let machine = Machine::load(GROUP, &Membership::default(), LIMITS, 0);
        Self { state: ShardState::new(), index: 0, machine, now: 0, next: 0, answers: BTreeMap::new(), flying: None }
    }

    /// With one member that the others join after: its id.
    fn begun() -> (Self, String) {
        let mut bench = Self::new();
        let first = bench.join("", |join| join);
        bench.pass(LIMITS.initial_delay);
        bench.land();
        let joined = bench.joined(first);
        (bench, joined.member_id)
    }

    /// Stable, with so many members: their ids, the leader first.
    fn stable(members: usize) -> (Self, Vec<String>) {
        let mut bench = Self::new();
        let tickets: Vec<_> = (0..members).map(|_| bench.join("", |join| join)).collect();
        bench.pass(2 * LIMITS.initial_delay);
        bench.land();
        let ids: Vec<_> = tickets.into_iter().map(|ticket| bench.joined(ticket).member_id).collect();
        assert_eq!(bench.membership().leader, ids[0]);
        let synced: Vec<_> = ids.iter().map(|id| bench.sync(id)).collect();
        bench.land();
        synced.into_iter().for_each(|ticket| _ = bench.synced(ticket));
        (bench, ids)
    }

    fn ask(&mut self, ask: Ask) -> Ticket {
        let ticket = self.next;
        self.next += 1;
        let effects = self.machine.handle(self.now, ticket, ask);
        self.carry_out(effects);
        ticket
    }

    fn join(&mut self, member: &str, change: impl FnOnce(Join) -> Join) -> Ticket {
        let join = change(plain_join(member));
        let new_id = format!("m{}", self.next);
        self.ask(Ask::Join { join, new_id })
    }

    /// Asks for the assignment in the generation of the state; the leader assigns its own id to each member.
    fn sync(&mut self, member: &str) -> Ticket {
        let of = self.membership();
        let assigned = |id: &String| (id.clone(), Bytes::from(id.clone()));
        let assignments = if of.leader == member { of.members.keys().map(assigned).collect() } else { Vec::new() };
        self.ask(Ask::Sync(Sync {
            group: GROUP.to_owned(),
            generation: of.generation,
            member_id: member.to_owned(),
            instance: None,
            protocol_type: Some("consumer".to_owned()),
            protocol: Some(of.protocol),
            assignments,
        }))
    }

    fn heartbeat(&mut self, member: &str) -> Result<(), Refusal> {
        let generation = self.membership().generation;
        let (group, member_id) = (GROUP.to_owned(), member.to_owned());
        let ticket = self.ask(Ask::Heartbeat(Heartbeat { group, generation, member_id, instance: None }));
        self.answers.remove(&ticket).expect("heartbeats are answered at once").map(drop)
    }

    fn leave(&mut self, members: &[&str]) -> Vec<Result<(), Refusal>> {
        let leaving = |id: &&str| Leaving { member_id: (*id).to_owned(), instance: None };
        let ticket = self.ask(Ask::Leave(members.iter().map(leaving).collect()));
        match self.answers.remove(&ticket) {
            Some(Ok(Answer::Left(left))) => left,
            other => panic!("{other:?}"),
        }
    }

    /// Time passes, and what is due is done on time.
    fn pass(&mut self, time: Millis) {
        let until = self.now + time;
        while let Some(wake) = self.machine.wake().filter(|wake| *wake <= until) {
            self.now = self.now.max(wake);
            let effects = self.machine.tick(self.now);
            self.carry_out(effects);
        }
        self.now = until;
    }

    /// The command that was proposed is applied.
    fn land(&mut self) {
        let change = self.flying.take().expect("a command is under way");
        assert_eq!(self.apply(Command::GroupState(change)), Ok(CommandResult::Done));
        let effects = self.machine.applied(self.now);
        self.carry_out(effects);
    }

    fn apply(&mut self, command: Command) -> Result<CommandResult, Error> {
        let mut entry = EntryBuilder::with_capacity(0);
        entry.push(&command);
        self.index += 1;
        let entry = Entry::parse(entry.finish(self.now as i64)).unwrap();
        let effects = self.state.apply(RaftIndex(self.index), Term(1), &entry).unwrap();
        effects.results.into_iter().next().unwrap()
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Answer(ticket, answer) => {
                    let before = self.answers.insert(ticket, answer);
                    assert_eq!(before, None, "one answer each");
                }
                Effect::Propose(change) => {
                    assert_eq!(self.flying.replace(change), None, "one command at a time");
                }
            }
        }
    }

    fn membership(&self) -> Membership {
        self.state.groups().get(GROUP).map(|group| group.membership().clone()).unwrap_or_default()
    }

    fn joined(&mut self, ticket: Ticket) -> Joined {
        match self.answers.remove(&ticket) {
            Some(Ok(Answer::Joined(joined))) => joined,
            other => panic!("{other:?}"),
        }
    }

    fn synced(&mut self, ticket: Ticket) -> Bytes {
        match self.answers.remove(&ticket) {
            Some(Ok(Answer::Synced(synced))) => synced.assignment,
            other => panic!("{other:?}"),
        }
    }

    fn refused(&mut self, ticket: Ticket) -> Refusal {
        match self.answers.remove(&ticket) {
            Some(Err(refusal)) => refusal,
            other => panic!("{other:?}"),
        }
    }

    fn waits(&self, ticket: Ticket) -> bool {
        !self.answers.contains_key(&ticket)
    }
}

fn plain_join(member: &str) -> Join {
    Join {
        group: GROUP.to_owned(),
        member_id: member.to_owned(),
        instance: None,
        client_id: "app".to_owned(),
        host: "here".to_owned(),
        protocol_type: "consumer".to_owned(),
        protocols: vec![("range".to_owned(), Bytes::from_static(b"t"))],
        session_timeout: Duration::from_millis(SESSION),
        rebalance_timeout: Duration::from_millis(REBALANCE),
        needs_member_id: false,
        knows_skipping: false,
    }
}

fn knowing(protocols: &[&str]) -> impl FnOnce(Join) -> Join {
    let protocols = protocols.iter().map(|name| ((*name).to_owned(), Bytes::from_static(b"t"))).collect();
    move |join| Join { protocols, ..join }
}

fn as_instance(instance: &str) -> impl FnOnce(Join) -> Join {
    move |join| Join { instance: Some(instance.to_owned()), ..join }
}
