//! The coordinators of a node: one for each shard that it leads, driven by one task.
//!
//! Requests run under a short lock, and wait for their answers without it. Each command that they cause is proposed in a task
//! of its own, in the term in which it was decided: who asked may go away.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use stratalog_proto::entry::Command;
use stratalog_proto::{ShardId, Term, internal};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::api::{Described, Listed, Refusal};
use super::coordinator::Coordinator;
use super::machine::{Answer, Ask, Limits, Millis};
use super::options::GroupOptions;
use crate::idle::tick;
use crate::shard::{Group, Shard};
use crate::shards::Shards;

/// How often it is looked for shards that this node has begun to lead, or leads no more.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The coordinators of a node.
pub(crate) struct Coordinators {
    shards: Arc<Shards>,
    options: GroupOptions,
    /// Zero of the clock that machines are told.
    begin: Instant,
    /// `None` once the node stops.
    led: Mutex<Option<BTreeMap<ShardId, Coordinator>>>,
    /// Until when the task sleeps, and what wakes it before.
    sleeps_until: AtomicU64,
    earlier: Arc<Notify>,
}

impl Coordinators {
    /// Of no shard yet.
    pub(crate) fn new(shards: Arc<Shards>, options: GroupOptions) -> Arc<Self> {
        Arc::new(Self {
            shards,
            options,
            begin: Instant::now(),
            led: Mutex::new(Some(BTreeMap::new())),
            sleeps_until: AtomicU64::new(0),
            earlier: Arc::default(),
        })
    }

    /// How groups are coordinated.
    pub(crate) fn options(&self) -> &GroupOptions {
        &self.options
    }

    /// Runs until the node stops; then everyone who waits is sent away. A node that is dropped ends it, too.
    pub(crate) async fn run(coordinators: Weak<Self>, stop: CancellationToken) {
        while let Some(running) = coordinators.upgrade() {
            if stop.is_cancelled() {
                let led = running.led.lock().take();
                led.into_iter().flatten().for_each(|(_, coordinator)| coordinator.end());
                return;
            }
            let wake = running.begin + Duration::from_millis(running.look());
            let earlier = Arc::clone(&running.earlier);
            drop(running);
            tokio::select! {
                () = sleep_until(wake) => {}
                () = tick(LOOK_EVERY) => {}
                () = earlier.notified() => {}
                () = stop.cancelled() => {}
            }
        }
    }

    /// Asks the coordinator of a group, and waits for its answer.
    ///
    /// # Errors
    /// [`Refusal::NotCoordinator`], [`Refusal::Loading`] if it is not here; its own.
    pub(super) async fn ask(self: &Arc<Self>, id: ShardId, group: &str, ask: Ask) -> Result<Answer, Refusal> {
        let pending = self.with(id, |coordinator, shard, now| {
            let known = known(shard, group);
            coordinator.ask(now, group, known.as_ref(), ask)
        })?;
        // Without an answer: the node stops, or leads the shard no more.
        pending.await.unwrap_or(Err(Refusal::NotCoordinator))
    }

    /// Whether a member may commit; the shard to commit to, and the only term in which that may be.
    ///
    /// # Errors
    /// As [`ask`](Self::ask).
    pub(super) fn may_commit(
        self: &Arc<Self>,
        id: ShardId,
        group: &str,
        member: (i32, &str, Option<&str>),
    ) -> Result<(Arc<Shard>, Term), Refusal> {
        self.with(id, |coordinator, shard, now| {
            let known = known(shard, group);
            coordinator.may_commit(now, group, known.as_ref(), member)?;
            Ok((Arc::clone(shard), coordinator.term()))
        })?
    }

    /// The shard of a group that nobody is in, or about to be, as far as memory says; and the only term in which it may be
    /// changed on these grounds.
    ///
    /// # Errors
    /// [`Refusal::NonEmpty`]; as [`ask`](Self::ask).
    pub(super) fn unused(self: &Arc<Self>, id: ShardId, group: &str) -> Result<(Arc<Shard>, Term), Refusal> {
        self.with(id, |coordinator, shard, _| match coordinator.is_used(group) {
            true => Err(Refusal::NonEmpty),
            false => Ok((Arc::clone(shard), coordinator.term())),
        })?
    }

    /// A group as it is in memory; `None` if the state says all.
    ///
    /// # Errors
    /// As [`ask`](Self::ask).
    pub(super) fn describe(self: &Arc<Self>, id: ShardId, group: &str) -> Result<Option<Described>, Refusal> {
        self.with(id, |coordinator, _, _| coordinator.describe(group))
    }

    /// The groups that are coordinated here, in the order of ids.
    pub(super) fn list(self: &Arc<Self>) -> Vec<Listed> {
        let of_shard = |shard: Arc<Shard>| {
            let listed =
                self.with(shard.id(), |coordinator, shard, _| shard.read(|state| coordinator.list(state.groups())));
            listed.unwrap_or_default()
        };
        let mut all: Vec<Listed> = self.shards.all().into_iter().flat_map(of_shard).collect();
        all.sort_unstable_by(|a, b| a.group.cmp(&b.group));
        all
    }

    /// The shards that are led here, each in which term, with those of these groups that are not in memory.
    pub(super) fn at_rest(
        self: &Arc<Self>,
        of: impl Fn(&Shard) -> Vec<String>,
    ) -> Vec<(Arc<Shard>, Term, Vec<String>)> {
        let of_shard = |shard: Arc<Shard>| {
            let at_rest = self.with(shard.id(), |coordinator, shard, _| {
                let groups = of(shard).into_iter().filter(|group| !coordinator.has(group)).collect();
                (Arc::clone(shard), coordinator.term(), groups)
            });
            at_rest.ok()
        };
        self.shards.all().into_iter().filter_map(of_shard).collect()
    }

    /// Does what is due everywhere, and gives when something is due next.
    fn look(self: &Arc<Self>) -> Millis {
        // Whatever becomes due meanwhile wakes the task that looks.
        self.sleeps_until.store(Millis::MAX, Ordering::Release);
        let shards = self.shards.all();
        let gone: Vec<_> = match self.led.lock().as_mut() {
            Some(led) => led.extract_if(.., |id, _| shards.iter().all(|shard| shard.id() != *id)).collect(),
            None => Vec::new(),
        };
        gone.into_iter().for_each(|(_, coordinator)| coordinator.end());
        let wakes = shards.iter().filter_map(|shard| {
            let looked = self.quietly_with(shard.id(), |coordinator, _, now| coordinator.tick(now));
            looked.ok().and_then(|((), wake)| wake)
        });
        let wake = wakes.min().unwrap_or(self.now() + LOOK_EVERY.as_millis() as Millis);
        self.sleeps_until.store(wake, Ordering::Release);
        wake
    }

    /// Runs something with the coordinator of a shard, which begins or ends with this node's leadership, and proposes what
    /// comes of it.
    ///
    /// # Errors
    /// [`Refusal::NotCoordinator`], [`Refusal::Loading`].
    fn with<R>(
        self: &Arc<Self>,
        id: ShardId,
        run: impl FnOnce(&mut Coordinator, &Arc<Shard>, Millis) -> R,
    ) -> Result<R, Refusal> {
        let (result, wake) = self.quietly_with(id, run)?;
        if wake.is_some_and(|wake| wake < self.sleeps_until.load(Ordering::Acquire)) {
            self.earlier.notify_one();
        }
        Ok(result)
    }

    /// As [`with`](Self::with), of the task itself: when something is due next, too, which wakes nobody.
    fn quietly_with<R>(
        self: &Arc<Self>,
        id: ShardId,
        run: impl FnOnce(&mut Coordinator, &Arc<Shard>, Millis) -> R,
    ) -> Result<(R, Option<Millis>), Refusal> {
        let shard = self.shards.get(id).ok_or(Refusal::NotCoordinator)?;
        let now = self.now();
        let mut led = self.led.lock();
        let coordinators = led.as_mut().ok_or(Refusal::NotCoordinator)?;
        let role = *shard.watch_role().borrow();
        if coordinators.get(&id).is_some_and(|coordinator| !role.leads || coordinator.term() != role.term)
            && let Some(ended) = coordinators.remove(&id)
        {
            ended.end();
        }
        if !role.leads {
            let is_about_to = role.is_about_to_lead(shard.group().log().replica());
            return Err(if is_about_to { Refusal::Loading } else { Refusal::NotCoordinator });
        }
        let limits = self.limits();
        let begin = || shard.read(|state| Coordinator::new(role.term, limits, state.groups(), now));
        let coordinator = coordinators.entry(id).or_insert_with(begin);
        let result = run(coordinator, &shard, now);
        let (proposals, wake) = (coordinator.take_proposals(), coordinator.wake());
        drop(led);
        proposals.into_iter().for_each(|change| self.propose(&shard, role.term, change));
        Ok((result, wake))
    }

    /// Proposes a change, and tells the coordinator what became of it.
    fn propose(self: &Arc<Self>, shard: &Arc<Shard>, term: Term, change: internal::GroupState) {
        let (coordinators, shard) = (Arc::clone(self), Arc::clone(shard));
        tokio::spawn(async move {
            let outcome = shard.submit_in(term, Command::GroupState(change.clone())).await.map(drop);
            let told = coordinators.with(shard.id(), |coordinator, shard, now| {
                if coordinator.term() == term {
                    let known = known(shard, &change.group);
                    coordinator.settled(now, &change, outcome, known.as_ref());
                }
            });
            // Whoever leads now finds what became of it in the state.
            drop(told);
        });
    }

    fn limits(&self) -> Limits {
        let delay = self.options.initial_rebalance_delay.as_millis();
        Limits { initial_delay: Millis::try_from(delay).unwrap_or(Millis::MAX), max_members: self.options.max_members }
    }

    fn now(&self) -> Millis {
        self.begin.elapsed().as_millis() as Millis
    }
}

/// A group as the state says.
fn known(shard: &Shard, group: &str) -> Option<Arc<Group>> {
    shard.read(|state| state.groups().get(group).cloned())
}
