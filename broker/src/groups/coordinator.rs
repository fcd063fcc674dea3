//! The groups of one shard, for as long as this node leads it in one term.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use stratalog_proto::{Code, Error, Term, internal};
use tokio::sync::oneshot;

use super::api::{Described, GroupState, Listed, Refusal};
use super::machine::{Answer, Ask, Effect, Limits, Machine, Millis, Ticket};
use crate::shard::{Group, GroupTable, Membership, Phase};

/// Groups of a shard that are in memory, at most: all that it has, and as many that are about to come.
const MAX_LOADED: usize = 20_000;
/// What members of all of them say of themselves, at most.
const MAX_BYTES: usize = 128 << 20;

/// The answer to come.
pub(super) type Pending = oneshot::Receiver<Result<Answer, Refusal>>;
/// What is to be proposed.
pub(super) type Proposals = Vec<internal::GroupState>;

/// A group in memory.
struct Loaded {
    machine: Machine,
    /// As it is in the list of what is due.
    wake: Option<Millis>,
    bytes: usize,
}

/// The groups that have members, or are about to.
pub(super) struct Coordinator {
    term: Term,
    limits: Limits,
    loaded: BTreeMap<String, Loaded>,
    due: BTreeSet<(Millis, String)>,
    bytes: usize,
    waiting: HashMap<Ticket, oneshot::Sender<Result<Answer, Refusal>>>,
    next: Ticket,
    proposals: Proposals,
}

impl Coordinator {
    /// Takes over the groups of a shard whose state has all that was acknowledged before.
    pub(super) fn new(term: Term, limits: Limits, groups: &GroupTable, now: Millis) -> Self {
        let mut coordinator = Self {
            term,
            limits,
            loaded: BTreeMap::new(),
            due: BTreeSet::new(),
            bytes: 0,
            waiting: HashMap::new(),
            next: 0,
            proposals: Vec::new(),
        };
        let begun = groups.iter().filter(|(_, group)| group.membership().phase != Phase::Empty);
        begun.for_each(|(id, group)| coordinator.load(id, group.membership(), now));
        coordinator
    }

    /// The term in which this node leads.
    pub(super) fn term(&self) -> Term {
        self.term
    }

    /// A client asks.
    pub(super) fn ask(&mut self, now: Millis, group: &str, known: Option<&Arc<Group>>, ask: Ask) -> Pending {
        let (sender, pending) = oneshot::channel();
        self.stand_on(now, group, known);
        let is_join = matches!(ask, Ask::Join { .. });
        let is_too_much = self.bytes > MAX_BYTES || self.loaded.len() >= MAX_LOADED;
        if is_join && is_too_much {
            let message = "this node coordinates as many members as it can; join again later";
            let _ = sender.send(Err(Refusal::Other(Error::new(Code::Overloaded, message))));
            return pending;
        }
        if !self.loaded.contains_key(group) {
            let membership = known.map(|group| group.membership().clone()).unwrap_or_default();
            self.load(group, &membership, now);
        }
        let ticket = self.next;
        self.next += 1;
        self.waiting.insert(ticket, sender);
        self.run(group, |machine| machine.handle(now, ticket, ask));
        pending
    }

    /// Whether a member may commit, as far as its coordinator knows; the state judges, too.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn may_commit(
        &mut self,
        now: Millis,
        group: &str,
        known: Option<&Arc<Group>>,
        (generation, member, instance): (i32, &str, Option<&str>),
    ) -> Result<(), Refusal> {
        self.stand_on(now, group, known);
        let mut judged = Ok(());
        self.run(group, |machine| {
            judged = machine.may_commit(now, generation, member, instance);
            Vec::new()
        });
        judged
    }

    /// Does what is due.
    pub(super) fn tick(&mut self, now: Millis) {
        while let Some((_, group)) = self.due.first().filter(|(at, _)| *at <= now).cloned() {
            self.run(&group, |machine| machine.tick(now));
        }
    }

    /// When something is due next.
    pub(super) fn wake(&self) -> Option<Millis> {
        self.due.first().map(|(at, _)| *at)
    }

    /// A command has its outcome.
    pub(super) fn settled(
        &mut self,
        now: Millis,
        change: &internal::GroupState,
        outcome: Result<(), Error>,
        known: Option<&Arc<Group>>,
    ) {
        let group = change.group.as_str();
        if !self.loaded.get(group).is_some_and(|loaded| loaded.machine.awaits(change.expect)) {
            return;
        }
        match outcome {
            Ok(()) => self.run(group, |machine| machine.applied(now)),
            Err(error) => {
                tracing::warn!(group, %error, "the members of a group were not written; they ask again");
                self.reload(now, group, known, &refusal_of(error));
            }
        }
    }

    /// What is to be proposed since the last call.
    pub(super) fn take_proposals(&mut self) -> Proposals {
        std::mem::take(&mut self.proposals)
    }

    /// Ends it: this node coordinates these groups no more.
    pub(super) fn end(mut self) {
        for (_, loaded) in std::mem::take(&mut self.loaded) {
            let effects = loaded.machine.fail(&Refusal::NotCoordinator);
            self.carry_out(effects);
        }
    }

    /// A group as it is in memory; `None` if the state says all.
    pub(super) fn describe(&self, group: &str) -> Option<Described> {
        self.loaded.get(group).map(|loaded| loaded.machine.describe())
    }

    /// Whether somebody is in a group, or about to be, as far as memory says.
    pub(super) fn is_used(&self, group: &str) -> bool {
        self.loaded.get(group).is_some_and(|loaded| !loaded.machine.has_nobody())
    }

    /// Whether a group is in memory.
    pub(super) fn has(&self, group: &str) -> bool {
        self.loaded.contains_key(group)
    }

    /// All groups: those in memory, and of the state those that have no members.
    pub(super) fn list(&self, groups: &GroupTable) -> Vec<Listed> {
        let in_memory = self.loaded.iter().map(|(group, loaded)| Listed {
            group: group.clone(),
            protocol_type: loaded.machine.protocol_type().to_owned(),
            state: loaded.machine.state(),
        });
        let at_rest = groups.iter().filter(|(group, _)| !self.has(group)).map(|(group, state)| Listed {
            group: group.clone(),
            protocol_type: state.membership().protocol_type.clone(),
            state: GroupState::Empty,
        });
        in_memory.chain(at_rest).collect()
    }

    /// Begins anew with a group that was changed otherwise than from here.
    fn stand_on(&mut self, now: Millis, group: &str, known: Option<&Arc<Group>>) {
        let revision = known.map_or(0, |group| group.membership().revision);
        let stands_on = self.loaded.get(group).and_then(|loaded| loaded.machine.revision());
        if stands_on.is_some_and(|stands_on| stands_on != revision) {
            self.reload(now, group, known, &Refusal::NotCoordinator);
        }
    }

    fn reload(&mut self, now: Millis, group: &str, known: Option<&Arc<Group>>, why: &Refusal) {
        if let Some(loaded) = self.unload(group) {
            let effects = loaded.machine.fail(why);
            self.carry_out(effects);
        }
        if let Some(known) = known.filter(|known| known.membership().phase != Phase::Empty) {
            self.load(group, known.membership(), now);
        }
    }

    fn load(&mut self, group: &str, membership: &Membership, now: Millis) {
        let machine = Machine::load(group, membership, self.limits, now);
        self.loaded.insert(group.to_owned(), Loaded { machine, wake: None, bytes: 0 });
        self.note(group);
    }

    fn unload(&mut self, group: &str) -> Option<Loaded> {
        let loaded = self.loaded.remove(group)?;
        self.bytes -= loaded.bytes;
        if let Some(wake) = loaded.wake {
            self.due.remove(&(wake, group.to_owned()));
        }
        Some(loaded)
    }

    /// Has a group that is in memory do something, and lets go of it if it has nobody.
    fn run(&mut self, group: &str, step: impl FnOnce(&mut Machine) -> Vec<Effect>) {
        let Some(loaded) = self.loaded.get_mut(group) else { return };
        let effects = step(&mut loaded.machine);
        let is_idle = loaded.machine.is_idle();
        self.carry_out(effects);
        if is_idle {
            self.unload(group);
        } else {
            self.note(group);
        }
    }

    /// Notes when a group is due, and what it takes.
    fn note(&mut self, group: &str) {
        let Some(loaded) = self.loaded.get_mut(group) else { return };
        let (wake, bytes) = (loaded.machine.wake(), loaded.machine.bytes());
        self.bytes = self.bytes - loaded.bytes + bytes;
        loaded.bytes = bytes;
        let before = std::mem::replace(&mut loaded.wake, wake);
        if before != wake {
            if let Some(at) = before {
                self.due.remove(&(at, group.to_owned()));
            }
            if let Some(at) = wake {
                self.due.insert((at, group.to_owned()));
            }
        }
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Answer(ticket, answer) => {
                    if let Some(sender) = self.waiting.remove(&ticket) {
                        // Who went away does not want it.
                        let _ = sender.send(answer);
                    }
                }
                Effect::Propose(change) => self.proposals.push(change),
            }
        }
    }
}

/// What members are told of a command that failed. If that is not known to be for ever they come back, and find what became
/// of it.
fn refusal_of(error: Error) -> Refusal {
    match error.code {
        Code::Overloaded | Code::StorageFull => Refusal::Loading,
        code if code.is_retriable() => Refusal::NotCoordinator,
        _ => Refusal::Other(error),
    }
}
