//! A network between the replicas of one group in one process: it delays, loses, and cuts in either direction.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt};
use futures::stream::{self, BoxStream, StreamExt};
use parking_lot::Mutex;
use stratalog_proto::{Error, ReplicaId};
use stratalog_storage::simulation::Dice;
use tokio::time::sleep;

use crate::raft::Group;
use crate::raft::peers::{Message, NoAnswer, Peers, Route};

/// How long who sends waits for what was lost.
const LOST_WAIT: Duration = Duration::from_millis(200);
/// How soon what was held arrives, once it is not.
const HELD_STEP: Duration = Duration::from_millis(1);

/// An end of the network; clones are the same one.
#[derive(Clone)]
pub(super) struct ChannelNetwork {
    wires: Arc<Mutex<Wires>>,
    /// Whether it is plugged in: nothing leaves a replica that crashed.
    plugged: Arc<AtomicBool>,
}

/// A replica that can be reached.
type Reached = (Arc<Group>, Arc<AtomicBool>);

struct Wires {
    groups: BTreeMap<ReplicaId, (Weak<Group>, Arc<AtomicBool>)>,
    /// From, to.
    cut: BTreeSet<(ReplicaId, ReplicaId)>,
    /// From, to: what is on its way stays there.
    held: BTreeSet<(ReplicaId, ReplicaId)>,
    delay: Duration,
    /// Of a thousand messages, this many are lost.
    lost: u64,
    /// Whose ends refuse connections, and how many streams of entries were refused.
    down: BTreeSet<ReplicaId>,
    refused: u64,
    dice: Dice,
}

impl ChannelNetwork {
    pub(super) fn new(seed: u64) -> Self {
        let (groups, cut) = (BTreeMap::new(), BTreeSet::new());
        let (down, refused) = (BTreeSet::new(), 0);
        let delay = Duration::from_millis(1);
        let wires = Wires { groups, cut, held: BTreeSet::new(), delay, lost: 0, down, refused, dice: Dice::new(seed) };
        Self { wires: Arc::new(Mutex::new(wires)), plugged: Arc::new(AtomicBool::new(true)) }
    }

    /// Another end.
    pub(super) fn end(&self) -> Self {
        Self { wires: Arc::clone(&self.wires), plugged: Arc::new(AtomicBool::new(true)) }
    }

    /// Makes a group reachable at this end.
    pub(super) fn attach(&self, replica: ReplicaId, group: &Arc<Group>) {
        self.wires.lock().groups.insert(replica, (Arc::downgrade(group), Arc::clone(&self.plugged)));
    }

    /// From now on nothing leaves or reaches this end, what is on its way included.
    pub(super) fn unplug(&self) {
        self.plugged.store(false, Ordering::SeqCst);
    }

    /// From now on nothing goes from the one to the other.
    pub(super) fn cut(&self, from: u64, to: u64) {
        self.wires.lock().cut.insert((ReplicaId(from), ReplicaId(to)));
    }

    /// Cuts a replica off from all others, in both directions.
    pub(super) fn isolate(&self, replica: u64) {
        let all: Vec<u64> = self.wires.lock().groups.keys().map(|id| id.0).collect();
        all.into_iter().filter(|other| *other != replica).for_each(|other| {
            self.cut(replica, other);
            self.cut(other, replica);
        });
    }

    /// From now on nothing arrives that goes from the one to the other, and nothing of it is lost.
    pub(super) fn hold(&self, from: u64, to: u64) {
        self.wires.lock().held.insert((ReplicaId(from), ReplicaId(to)));
    }

    /// What was held arrives.
    pub(super) fn release(&self, from: u64, to: u64) {
        self.wires.lock().held.remove(&(ReplicaId(from), ReplicaId(to)));
    }

    /// From now on whoever sends entries to a replica hears at once that it is not there.
    pub(super) fn take_down(&self, replica: u64) {
        self.isolate(replica);
        self.wires.lock().down.insert(ReplicaId(replica));
    }

    /// Streams of entries that were refused so far.
    pub(super) fn refused(&self) -> u64 {
        self.wires.lock().refused
    }

    /// Whether a stream to it is refused at once. After very many, time passes, so that a test that fails comes to its end.
    fn refuses(&self, to: ReplicaId) -> bool {
        let mut wires = self.wires.lock();
        let refuses = wires.down.contains(&to) && wires.refused < 10_000;
        wires.refused += u64::from(refuses);
        refuses
    }

    pub(super) fn heal(&self) {
        let mut wires = self.wires.lock();
        wires.down.clear();
        wires.cut.clear();
        wires.held.clear();
        wires.lost = 0;
        wires.delay = Duration::from_millis(1);
    }

    pub(super) fn slow_down(&self, delay: Duration, lost_of_a_thousand: u64) {
        let mut wires = self.wires.lock();
        (wires.delay, wires.lost) = (delay, lost_of_a_thousand);
    }

    /// Who gets a message, after its delay; nobody if it is lost on the way.
    async fn carry(&self, from: ReplicaId, to: ReplicaId) -> Result<Reached, NoAnswer> {
        let (delay, lost) = {
            let mut wires = self.wires.lock();
            let (lost, delay) = (wires.lost, wires.delay);
            (delay, wires.dice.chance(lost, 1_000))
        };
        sleep(delay).await;
        while self.wires.lock().held.contains(&(from, to)) {
            sleep(HELD_STEP).await;
        }
        let reached = {
            let wires = self.wires.lock();
            let open = !lost && !wires.cut.contains(&(from, to)) && self.plugged.load(Ordering::SeqCst);
            let (group, plugged) = wires.groups.get(&to).cloned().unzip();
            group
                .as_ref()
                .and_then(Weak::upgrade)
                .zip(plugged)
                .filter(|(_, plugged)| open && plugged.load(Ordering::SeqCst))
        };
        match reached {
            Some(reached) => Ok(reached),
            None => {
                sleep(LOST_WAIT).await;
                Err(NoAnswer(format!("nothing goes from {from} to {to}")))
            }
        }
    }

    /// Carries an answer back from a replica that has not crashed meanwhile.
    async fn answer(
        &self,
        route: Route,
        from: Arc<AtomicBool>,
        answer: Result<Bytes, Error>,
    ) -> Result<Bytes, NoAnswer> {
        let answer = answer.map_err(|error| NoAnswer(error.to_string()))?;
        let crashed = || NoAnswer(format!("replica {} crashed", route.to));
        Some(()).filter(|()| from.load(Ordering::SeqCst)).ok_or_else(crashed)?;
        self.carry(route.to, route.from).await.map(|_| answer)
    }
}

impl Peers for ChannelNetwork {
    fn ask(&self, route: Route, message: Message, timeout: Duration) -> BoxFuture<'static, Result<Bytes, NoAnswer>> {
        let network = self.clone();
        let asked = async move {
            let (group, plugged) = network.carry(route.from, route.to).await?;
            network.answer(route, plugged, group.answer(message).await).await
        };
        async move { tokio::time::timeout(timeout, asked).await.map_err(|_| NoAnswer("late".to_owned()))? }.boxed()
    }

    fn replicate(
        &self,
        route: Route,
        messages: BoxStream<'static, Message>,
    ) -> BoxStream<'static, Result<Bytes, NoAnswer>> {
        if self.refuses(route.to) {
            let refused = NoAnswer(format!("{} refuses connections", route.to));
            return stream::once(async move { Err(refused) }).boxed();
        }
        let network = self.clone();
        let started = async move {
            match network.carry(route.from, route.to).await {
                Ok(reached) => network.stream(route, reached, messages),
                Err(error) => stream::once(async move { Err(error) }).boxed(),
            }
        };
        stream::once(started).flatten().boxed()
    }

    fn send_state(
        &self,
        route: Route,
        messages: BoxStream<'static, Result<Message, Error>>,
    ) -> BoxFuture<'static, Result<Bytes, NoAnswer>> {
        let network = self.clone();
        async move {
            let (group, plugged) = network.carry(route.from, route.to).await?;
            let carrier = network.clone();
            let arriving = messages.then(move |message| {
                let carrier = carrier.clone();
                async move {
                    carrier.carry(route.from, route.to).await?;
                    message.map_err(|error| NoAnswer(error.to_string()))
                }
            });
            network.answer(route, plugged, group.receive_state(arriving.boxed()).await).await
        }
        .boxed()
    }
}

impl ChannelNetwork {
    /// A stream of requests and answers, which breaks at the first that is lost.
    fn stream(
        &self,
        route: Route,
        (group, plugged): Reached,
        messages: BoxStream<'static, Message>,
    ) -> BoxStream<'static, Result<Bytes, NoAnswer>> {
        let (there, back) = (self.clone(), self.clone());
        let lost = Arc::new(AtomicBool::new(false));
        let losing = Arc::clone(&lost);
        let arriving = messages.then(move |message| {
            let (there, losing) = (there.clone(), Arc::clone(&losing));
            async move {
                let carried = there.carry(route.from, route.to).await;
                losing.fetch_or(carried.is_err(), Ordering::SeqCst);
                carried.ok().map(|_| message)
            }
        });
        let arriving = arriving.take_while(|message| std::future::ready(message.is_some()));
        let answers = group.answer_all(arriving.filter_map(std::future::ready).boxed());
        let answers = answers.then(move |answer| {
            let (back, plugged) = (back.clone(), Arc::clone(&plugged));
            async move { back.answer(route, plugged, answer).await }
        });
        let broken = stream::once(async move { lost.load(Ordering::SeqCst) });
        let broken = broken.filter(|broken| std::future::ready(*broken));
        answers.chain(broken.map(|_| Err(NoAnswer("the stream broke".to_owned())))).boxed()
    }
}
